r"""Evaluated run folders to one self-contained HTML page and a table on the terminal.

The page holds the CCCs of all systems side by side, the fitted post-processing, training curves, and predictions
drawn over the gold standard. It loads nothing from anywhere.

Example:
  python -m affect.evaluation.report --run_dirs=runs/audio,runs/video,runs/audiovisual --output=runs/report.html
"""

import json
from pathlib import Path

import jinja2
import pandas as pd
from absl import flags

from affect import cli, figures
from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.postprocess import PostProcessing
from affect.runs import RunFolder
from affect.storage import atomic_write, read_json

PARTITIONS = ("dev", "test")
BASELINE_NAME = "trivial baseline"
_CURVES_PER_RUN = 4


def write_report(run_dirs: list[Path], output: Path, baseline: Path | None = None, title: str = "Affect") -> None:
    """Writes the page.

    Args:
      run_dirs: evaluated run folders, in the order of the table.
      output: HTML file.
      baseline: JSON of `affect.evaluation.baseline`, shown in the same table.
      title: heading of the page.

    Raises:
      UserError: a folder without a run, or one that was never evaluated.
    """
    runs = [RunFolder(path) for path in run_dirs]
    frame_rates = [chain.frame_rate for run in runs for chain in _chains(run).values()]
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("affect.evaluation", ""), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html.j2")
    page = template.render(
        title=title,
        synthetic=any(run.uses_synthetic_data() for run in runs),
        dimensions=DIMENSIONS,
        partitions=[_partition(name, table, frame_rates[0]) for name, table in tables(run_dirs, baseline).items()],
        chains=[row for run in runs for row in _chain_rows(run)],
        runs=[_run_pictures(run, frame_rates[0]) for run in runs],
    )
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def tables(run_dirs: list[Path], baseline: Path | None = None) -> dict[str, dict[str, dict]]:
    """`metrics.json` content by partition and system, for partitions that were evaluated."""
    found: dict[str, dict[str, dict]] = {}
    for partition in PARTITIONS:
        metrics = {}
        for path in run_dirs:
            file = RunFolder(path).evaluation(partition) / "metrics.json"
            if file.is_file():
                metrics[path.name] = read_json(file)
        if metrics and baseline is not None:
            metrics |= {BASELINE_NAME: content} if (content := read_json(baseline).get(partition)) else {}
        if metrics:
            found[partition] = metrics
    if not found:
        raise UserError(f"nothing evaluated in {', '.join(map(str, run_dirs))}; run eval.py first")
    return found


def as_text(metrics: dict[str, dict], partition: str, synthetic: bool) -> str:
    """One partition's post-processed pooled CCCs as a plain table."""
    corpus = "SYNTHETIC corpus, " if synthetic else ""
    lines = [f"{corpus}{partition}: pooled CCC, post-processed on dev (raw in brackets)"]
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


def _chains(run: RunFolder) -> dict[str, PostProcessing]:
    content = read_json(run.postprocessing)
    return {name: PostProcessing.from_json(json.dumps(content[name])) for name in DIMENSIONS}


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
        for name, chain in _chains(run).items()
    ]


def _run_pictures(run: RunFolder, frame_rate_hz: float) -> dict:
    """Training curves, and predictions over gold of the last evaluated partition."""
    log = pd.read_csv(run.training_log)
    last = [name for name in PARTITIONS if run.evaluation(name).is_dir()][-1]
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


def _main() -> None:
    args = flags.FLAGS
    run_dirs = [Path(path) for path in args.run_dirs]
    baseline = Path(args.baseline) if args.baseline else None
    write_report(run_dirs, Path(args.output), baseline, args.title)
    synthetic = any(RunFolder(path).uses_synthetic_data() for path in run_dirs)
    for partition, metrics in tables(run_dirs, baseline).items():
        print(as_text(metrics, partition, synthetic))
    print(f"report: {args.output}")


if __name__ == "__main__":
    flags.DEFINE_list(
        "run_dirs", None, "Evaluated run folders, comma separated, in the order of the table.", required=True
    )
    flags.DEFINE_string("output", None, "HTML file to write.", required=True)
    flags.DEFINE_string("baseline", None, "JSON of affect.evaluation.baseline, to show beside.")
    flags.DEFINE_string("title", "Affect", "Heading of the page.")
    cli.run(_main)
