r"""Compares evaluated systems in one HTML page, and prints their scores.

The page first answers the paper's question: is end-to-end learning better than handcrafted features? Then come the
scores of all systems after every post-processing, each recording, the curves of the best system, the post-processing
step by step, and training curves and environment of the runs. It needs no network, no other file and no script.

Example:
  python -m affect.evaluation.report --run_dirs=runs/audio,runs/video,runs/audiovisual --baseline=runs/baseline \
    --output=runs/report.html
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from absl import flags

from affect import cli
from affect.config import DIMENSIONS
from affect.data.faceless import NOTEWORTHY_SHARE
from affect.errors import UserError
from affect.evaluation.reporting import pictures as report_pictures
from affect.evaluation.reporting import sections as report_sections
from affect.evaluation.reporting.answer import Answer, answer
from affect.evaluation.reporting.comparison import Comparison, compare, which_are_synthetic
from affect.evaluation.scores import Metrics
from affect.storage import check_output_file, local_folder, write_bytes


def write_report(comparison: Comparison, output: str | Path, title: str = "Affect") -> None:
    """Writes the HTML page.

    Args:
      comparison: the scores, from `compare`.
      output: HTML file to write.
      title: heading of the page.

    Raises:
      UserError: there are no scores, or a file of a run is damaged.
    """
    if not comparison.tables:
        paths = ", ".join(str(one.folder.path) for one in comparison.systems if one.kind == "end-to-end")
        reason = "; ".join(comparison.remarks) or "no partition has been evaluated yet; run eval.py first"
        raise UserError(f"{paths}: {reason}")
    pictures, found = report_pictures.Pictures(), answer(comparison)
    page = _templates().render(
        title=title,
        corpus=report_sections.corpus_line(comparison),
        synthetic=comparison.synthetic,
        remarks=comparison.remarks,
        dimensions=DIMENSIONS,
        noteworthy_share=NOTEWORTHY_SHARE,
        answer=found,
        forest=report_pictures.forest(found, pictures),
        partitions=[report_sections.partition_section(comparison, partition) for partition in comparison.tables],
        seeds=report_sections.seeds_section(comparison),
        recordings=report_sections.recordings_section(comparison),
        best=report_pictures.best_section(comparison, pictures),
        chains=report_sections.chain_section(comparison),
        baseline=report_sections.baseline_section(comparison),
        runs=report_pictures.training_section(comparison, pictures),
    )
    write_bytes(str(output), page.encode())


def as_text(table: dict[str, Metrics], partition: str) -> str:
    """Returns a plain-text table of one partition's pooled CCCs with intervals, and the faceless shares."""
    synthetic = which_are_synthetic(list(table.values()))
    corpus = "SYNTHETIC corpus, " if synthetic == "all" else ""
    recordings = max(metrics.recordings for metrics in table.values())
    lines = [
        f"{corpus}{partition}: pooled CCC with the post-processing fitted on dev (raw in brackets), "
        f"95 % interval over {recordings} recordings"
    ]
    width = max(18, *(len(system) + 2 for system in table))
    lines.append(f"  {'system':<{width}}" + "".join(f"{name:<34}" for name in DIMENSIONS).rstrip())
    for system, metrics in table.items():
        cells = [
            f"{_shown(scores.ccc_pooled, scores.ccc_pooled_ci95)} ({metrics.raw[name].ccc_pooled:.3f})"
            for name, scores in metrics.headline().items()
        ]
        marks = [] if metrics.chosen == "paper" else [f"postprocess={metrics.chosen}"]
        marks += ["SYNTHETIC"] if synthetic == "some" and metrics.synthetic else []
        lines.append(f"  {system:<{width}}" + "".join(f"{cell:<34}" for cell in [*cells, ", ".join(marks)]).rstrip())
    for systems, shares in report_sections.faceless(table):
        lines += [f"  {line}" for line in shares.lines(systems)]
    return "\n".join(lines)


def answer_as_text(found: Answer) -> str:
    """Returns end-to-end against handcrafted as plain text, ending with the sentence."""
    lines = []
    if found.differences:
        corpus = "SYNTHETIC corpus, " if found.synthetic == "all" else ""
        test = "exact sign-flip test" if found.exact else "sign-flip test"
        lines.append(f"{corpus}{found.partition}: pooled CCC, end-to-end minus handcrafted, 95 % interval, p by {test}")
    for contest, pooled in found.differences:
        shown = _shown(pooled.difference, pooled.ci95, "+")
        lines.append(f"  {contest.modality:<14}{contest.dimension:<10}{shown:<26}p {_p_value(pooled.p_value)}")
    return "\n".join([*lines, *found.refusals, found.sentence])


def _shown(value: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    ends = f" [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]" if interval else ""
    return f"{value:{sign}.3f}{ends}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _templates() -> jinja2.Template:
    """Returns the page's template, with the filters that it uses."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("affect.evaluation.reporting", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ccc": lambda value: f"{value:.3f}".replace("-", "−"),
        "signed": lambda value: f"{value:+.3f}".replace("-", "−"),
        "p": _p_value,
        "percent": lambda share: f"{100.0 * share:.1f} %",
        "grouped": _grouped,
    }
    environment.tests["all_present"] = lambda values: None not in values
    return environment.get_template("report.html.j2")


def _grouped(rows: Iterable[Any], key: str) -> list[tuple[str, list[Any]]]:
    """Returns rows by the value of a key or attribute, in order of appearance; Jinja's groupby would sort them."""
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row[key] if isinstance(row, dict) else getattr(row, key), []).append(row)
    return list(groups.items())


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_list("run_dirs", None, "Evaluated run folders, comma-separated, in table order.", required=True)
    flags.DEFINE_string("output", None, "HTML file to write.", required=True)
    flags.DEFINE_string("baseline", None, "Output folder of affect.evaluation.baseline; compares with its systems.")
    flags.DEFINE_string("title", "Affect", "Heading of the page.")


def main() -> None:
    """Writes the page that the flags describe, and prints its scores, answer and remarks."""
    args = flags.FLAGS
    check_output_file(args.output, "output")
    baseline = local_folder(args.baseline, "baseline") if args.baseline else None
    comparison = compare([local_folder(path, "run_dirs") for path in args.run_dirs], baseline)
    write_report(comparison, args.output, args.title)
    for partition, table in comparison.tables.items():
        print(as_text(table, partition))
    print(answer_as_text(answer(comparison)))
    for remark in comparison.remarks:
        print(remark)
    print(f"report: {args.output}")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
