r"""Compares evaluated runs in a self-contained HTML page, and prints a table of their scores.

The page holds the CCCs of all systems side by side, the fitted post-processing, training curves, and predictions
drawn over the gold standard. It loads no external files.

Example:
  python -m affect.evaluation.report --run_dirs=runs/audio,runs/video,runs/audiovisual --output=runs/report.html
"""

from dataclasses import dataclass
from pathlib import Path

import jinja2
import msgspec
import pandas as pd
from absl import flags
from matplotlib.figure import Figure

from affect import cli, figures
from affect.config import DIMENSIONS, PARTITIONS
from affect.data.faceless import NOTEWORTHY_SHARE, FacelessShares
from affect.errors import UserError
from affect.evaluation.postprocess import read_chains
from affect.evaluation.scores import Metrics, scores_that_belong_together
from affect.runs import RunFolder
from affect.storage import check_output_file, local_folder, read_json, write_bytes

BASELINE_NAME = "trivial baseline"
_CURVES_PER_RUN = 4


@dataclass(frozen=True)
class Comparison:
    """Evaluated runs side by side.

    Attributes:
      runs: the run folders, by the name that the tables give them.
      tables: the scores by partition and system, for the partitions that have any.
      remarks: what was left out because it does not belong together, and what a reader of the scores should know.
    """

    runs: dict[str, RunFolder]
    tables: dict[str, dict[str, Metrics]]
    remarks: list[str]


def compare(run_dirs: list[Path], baseline: str | Path | None = None) -> Comparison:
    """Reads the scores of runs, and of each only those that belong together.

    Args:
      run_dirs: evaluated run folders, in the order in which the tables list them.
      baseline: JSON file that `affect.evaluation.baseline` wrote; its scores are added to the tables.

    Raises:
      UserError: a `metrics.json` is damaged, or the baseline file does not exist.
    """
    runs = {name: RunFolder(path) for name, path in zip(_names(run_dirs), run_dirs, strict=True)}
    tables: dict[str, dict[str, Metrics]] = {partition: {} for partition in PARTITIONS}
    remarks = []
    for name, run in runs.items():
        scores, own_remarks = scores_that_belong_together(run)
        remarks += [f"{name}: {remark}" for remark in own_remarks]
        for partition, metrics in scores.items():
            if metrics.synthetic is None:
                metrics = msgspec.structs.replace(metrics, synthetic=run.uses_synthetic_data())
            tables[partition][name] = metrics
    if baseline is not None:
        for partition, metrics in read_json(baseline, dict[str, Metrics]).items():
            if tables.get(partition):
                tables[partition][BASELINE_NAME] = metrics
    tables = {partition: table for partition, table in tables.items() if table}
    return Comparison(runs, tables, remarks + _remarks_on_data(tables))


def write_report(comparison: Comparison, output: str | Path, title: str = "Affect") -> None:
    """Writes the HTML page.

    Args:
      comparison: the scores, from `compare`.
      output: HTML file to write.
      title: heading of the page.

    Raises:
      UserError: there are no scores, or a folder is not a run.
    """
    if not comparison.tables:
        paths = ", ".join(str(run.path) for run in comparison.runs.values())
        reason = "; ".join(comparison.remarks) or "no partition has been evaluated yet; run eval.py first"
        raise UserError(f"{paths}: {reason}")
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("affect.evaluation", ""), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html.j2")
    shown = {
        name: run for name, run in comparison.runs.items() if any(name in table for table in comparison.tables.values())
    }
    page = template.render(
        title=title,
        synthetic=_synthetic([metrics for table in comparison.tables.values() for metrics in table.values()]),
        remarks=comparison.remarks,
        dimensions=DIMENSIONS,
        noteworthy_share=NOTEWORTHY_SHARE,
        partitions=[_partition(name, table, shown) for name, table in comparison.tables.items()],
        chains=[row for name, run in shown.items() for row in _chain_rows(name, run)],
        runs=[_run_pictures(name, run, comparison.tables) for name, run in comparison.runs.items()],
    )
    write_bytes(str(output), page.encode())


def as_text(table: dict[str, Metrics], partition: str) -> str:
    """Returns a plain-text table of one partition's pooled CCCs, post-processed and raw, and the faceless shares."""
    synthetic = _synthetic(list(table.values()))
    corpus = "SYNTHETIC corpus, " if synthetic == "all" else ""
    lines = [f"{corpus}{partition}: pooled CCC with the post-processing fitted on dev (raw in brackets)"]
    lines.append(f"  {'system':<18}" + "".join(f"{name:>18}" for name in DIMENSIONS))
    for system, metrics in table.items():
        cells = [
            f"{metrics.postprocessed[name].ccc_pooled:.3f} ({metrics.raw[name].ccc_pooled:.3f})" for name in DIMENSIONS
        ]
        mark = "  SYNTHETIC" if synthetic == "some" and metrics.synthetic else ""
        lines.append(f"  {system:<18}" + "".join(f"{cell:>18}" for cell in cells) + mark)
    for systems, shares in _faceless(table):
        lines += [f"  {line}" for line in shares.lines(systems)]
    return "\n".join(lines)


def _names(run_dirs: list[Path]) -> list[str]:
    """Returns the name of each run folder; its whole path if another folder has the same name."""
    names = [path.resolve().name for path in run_dirs]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, run_dirs, strict=True)]


def _remarks_on_data(tables: dict[str, dict[str, Metrics]]) -> list[str]:
    """Says which scores are of other data than the network was trained on, or than the table's first system."""
    remarks = {}  # a dict, because the partitions of one system mostly give the same remark
    for table in tables.values():
        data = {system: metrics.digests.data for system, metrics in table.items() if metrics.digests}
        for system, metrics in table.items():
            if metrics.same_data_as_training is False:
                remarks[f"{system}: scored on other data than the network was trained on"] = None
            for first in list(data)[:1]:
                if data.get(system, data[first]) != data[first]:
                    remarks[f"{system}: scored on other data than {first}"] = None
    return list(remarks)


def _synthetic(scores: list[Metrics]) -> str:
    """Returns whether "all", "some" or "none" of the scores come from synthetic data; unknown ones do not count."""
    known = [metrics.synthetic for metrics in scores if metrics.synthetic is not None]
    return "none" if not any(known) else "all" if all(known) else "some"


def _partition(name: str, table: dict[str, Metrics], runs: dict[str, RunFolder]) -> dict:
    first = next(iter(table))
    synthetic = _synthetic(list(table.values()))
    return {
        "name": name,
        "synthetic": synthetic,
        "recordings": table[first].recordings,
        "minutes": table[first].frames / _frame_rate_hz(runs[first]) / 60.0,
        "systems": [{"name": system, "metrics": metrics} for system, metrics in table.items()],
        "faceless": _faceless(table),
    }


def _faceless(table: dict[str, Metrics]) -> list[tuple[str, FacelessShares]]:
    """Returns the shares of frames without a face, once for all systems that saw the same, with the systems' names."""
    groups: list[tuple[list[str], FacelessShares]] = []
    for system, metrics in table.items():
        shares = metrics.faceless_shares()
        if shares is None:
            continue
        for systems, known in groups:
            if known == shares:
                systems.append(system)
                break
        else:
            groups.append(([system], shares))
    return [(", ".join(systems), shares) for systems, shares in groups]


def _frame_rate_hz(run: RunFolder) -> float:
    return read_chains(run.postprocessing)[DIMENSIONS[0]].frame_rate


def _chain_rows(name: str, run: RunFolder) -> list[dict]:
    return [
        {
            "system": name,
            "dimension": dimension,
            "median_secs": chain.median_frames / chain.frame_rate if chain.median_frames > 1 else None,
            "offset": chain.offset,
            "gain": chain.gain,
            "shift_secs": chain.shift_frames / chain.frame_rate,
        }
        for dimension, chain in read_chains(run.postprocessing).items()
    ]


def _run_pictures(name: str, run: RunFolder, tables: dict[str, dict[str, Metrics]]) -> dict:
    """Draws the training curves, and predictions over gold for the last partition in the tables."""
    log = pd.read_csv(run.training_log)
    curves = []
    for partition in [partition for partition, table in tables.items() if name in table][-1:]:
        for path in sorted((run.evaluation(partition) / "predictions_postprocessed").glob("*.csv"))[:_CURVES_PER_RUN]:
            curves.append(figures.to_svg(_prediction(path, f"{name}, {path.stem}, post-processed", run)))
    training = figures.to_svg(figures.training_curves(log.to_dict("list"), name))
    return {"name": name, "training": training, "curves": curves}


def _prediction(path: Path, title: str, run: RunFolder) -> Figure:
    """Draws one recording's predictions, over the gold standard where it is known."""
    table = pd.read_csv(path)
    gold_columns = [f"{name}_gold" for name in DIMENSIONS]
    gold = table[gold_columns].to_numpy() if set(gold_columns) <= set(table.columns) else None
    predicted = table[list(DIMENSIONS)].to_numpy()
    return figures.prediction_over_gold(predicted, gold, _frame_rate_hz(run), DIMENSIONS, title)


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_list("run_dirs", None, "Evaluated run folders, comma-separated, in table order.", required=True)
    flags.DEFINE_string("output", None, "HTML file to write.", required=True)
    flags.DEFINE_string("baseline", None, "JSON file from affect.evaluation.baseline; adds its scores to the table.")
    flags.DEFINE_string("title", "Affect", "Heading of the page.")


def main() -> None:
    """Writes the page that the flags describe, and prints its tables and remarks."""
    args = flags.FLAGS
    check_output_file(args.output, "output")
    comparison = compare([local_folder(path, "run_dirs") for path in args.run_dirs], args.baseline or None)
    write_report(comparison, args.output, args.title)
    for partition, table in comparison.tables.items():
        print(as_text(table, partition))
    for remark in comparison.remarks:
        print(remark)
    print(f"report: {args.output}")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
