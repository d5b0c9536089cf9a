r"""Compares evaluated runs in a self-contained HTML page, and prints a table of their scores.

The page holds the CCCs of all systems side by side, the fitted post-processing, training curves, and predictions
drawn over the gold standard. It loads no external files.

Example:
  python -m affect.evaluation.report --run_dirs=runs/audio,runs/video,runs/audiovisual --output=runs/report.html
"""

from pathlib import Path

import jinja2
import pandas as pd
from absl import flags

from affect import cli, figures
from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.postprocess import read_chains
from affect.runs import RunFolder
from affect.storage import atomic_write, read_json

REPORTED_PARTITIONS = ("dev", "test")
BASELINE_NAME = "trivial baseline"
_CURVES_PER_RUN = 4


def write_report(run_dirs: list[Path], output: Path, baseline: Path | None = None, title: str = "Affect") -> None:
    """Writes the HTML page.

    Args:
      run_dirs: evaluated run folders, in the order in which the table lists them.
      output: HTML file to write.
      baseline: JSON file that `affect.evaluation.baseline` wrote; its scores are added to the table.
      title: heading of the page.

    Raises:
      UserError: a folder is not a run, or was never evaluated.
    """
    runs = [RunFolder(path) for path in run_dirs]
    frame_rate_hz = read_chains(runs[0].postprocessing)[DIMENSIONS[0]].frame_rate
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("affect.evaluation", ""), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html.j2")
    page = template.render(
        title=title,
        synthetic=any(run.uses_synthetic_data() for run in runs),
        dimensions=DIMENSIONS,
        partitions=[_partition(name, table, frame_rate_hz) for name, table in tables(run_dirs, baseline).items()],
        chains=[row for run in runs for row in _chain_rows(run)],
        runs=[_run_pictures(run, frame_rate_hz) for run in runs],
    )
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def tables(run_dirs: list[Path], baseline: Path | None = None) -> dict[str, dict[str, dict]]:
    """Returns the content of `metrics.json` by partition and system, for the partitions that were evaluated.

    Raises:
      UserError: no partition of any run was evaluated.
    """
    evaluated: dict[str, dict[str, dict]] = {}
    for partition in REPORTED_PARTITIONS:
        metrics = {}
        for path in run_dirs:
            file = RunFolder(path).evaluation(partition) / "metrics.json"
            if file.is_file():
                metrics[path.name] = read_json(file)
        if metrics and baseline is not None:
            metrics |= {BASELINE_NAME: content} if (content := read_json(baseline).get(partition)) else {}
        if metrics:
            evaluated[partition] = metrics
    if not evaluated:
        raise UserError(f"{', '.join(map(str, run_dirs))}: no partition has been evaluated yet; run eval.py first")
    return evaluated


def as_text(metrics: dict[str, dict], partition: str, synthetic: bool) -> str:
    """Returns a plain-text table of one partition's pooled CCCs, post-processed and raw."""
    corpus = "SYNTHETIC corpus, " if synthetic else ""
    lines = [f"{corpus}{partition}: pooled CCC with the post-processing fitted on dev (raw in brackets)"]
    lines.append(f"  {'system':<18}" + "".join(f"{name:>18}" for name in DIMENSIONS))
    for system, content in metrics.items():
        cells = [
            f"{content['postprocessed'][name]['ccc_pooled']:.3f} ({content['raw'][name]['ccc_pooled']:.3f})"
            for name in DIMENSIONS
        ]
        lines.append(f"  {system:<18}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def _partition(name: str, metrics: dict[str, dict], frame_rate_hz: float) -> dict:
    first = next(iter(metrics.values()))
    return {
        "name": name,
        "recordings": first["recordings"],
        "minutes": first["frames"] / frame_rate_hz / 60.0,
        "systems": [{"name": system, "metrics": content} for system, content in metrics.items()],
    }


def _chain_rows(run: RunFolder) -> list[dict]:
    return [
        {
            "system": run.path.name,
            "dimension": name,
            "median_secs": chain.median_frames / chain.frame_rate if chain.median_frames > 1 else None,
            "offset": chain.offset,
            "gain": chain.gain,
            "shift_secs": chain.shift_frames / chain.frame_rate,
        }
        for name, chain in read_chains(run.postprocessing).items()
    ]


def _run_pictures(run: RunFolder, frame_rate_hz: float) -> dict:
    """Draws the training curves, and predictions over gold for the last evaluated partition."""
    log = pd.read_csv(run.training_log)
    last = [name for name in REPORTED_PARTITIONS if run.evaluation(name).is_dir()][-1]
    curves = []
    for path in sorted((run.evaluation(last) / "predictions_postprocessed").glob("*.csv"))[:_CURVES_PER_RUN]:
        table = pd.read_csv(path)
        gold_columns = [f"{name}_gold" for name in DIMENSIONS]
        gold = table[gold_columns].to_numpy() if set(gold_columns) <= set(table.columns) else None
        title = f"{run.path.name}, {path.stem}, post-processed"
        figure = figures.prediction_over_gold(
            table[list(DIMENSIONS)].to_numpy(), gold, frame_rate_hz, DIMENSIONS, title
        )
        curves.append(figures.to_svg(figure))
    training = figures.to_svg(figures.training_curves(log.to_dict("list"), run.path.name))
    return {"name": run.path.name, "training": training, "curves": curves}


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_list("run_dirs", None, "Evaluated run folders, comma-separated, in table order.", required=True)
    flags.DEFINE_string("output", None, "HTML file to write.", required=True)
    flags.DEFINE_string("baseline", None, "JSON file from affect.evaluation.baseline; adds its scores to the table.")
    flags.DEFINE_string("title", "Affect", "Heading of the page.")


def main() -> None:
    """Writes the page that the flags describe, and prints the table."""
    args = flags.FLAGS
    run_dirs = [Path(path) for path in args.run_dirs]
    baseline = Path(args.baseline) if args.baseline else None
    write_report(run_dirs, Path(args.output), baseline, args.title)
    synthetic = any(RunFolder(path).uses_synthetic_data() for path in run_dirs)
    for partition, metrics in tables(run_dirs, baseline).items():
        print(as_text(metrics, partition, synthetic))
    print(f"report: {args.output}")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
