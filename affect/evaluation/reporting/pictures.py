"""The pictures of the report: evaluated systems flow in, SVG elements with captions flow out."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from affect import figures
from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.reporting.answer import Answer
from affect.evaluation.reporting.comparison import Comparison
from affect.evaluation.reporting.sections import CHAIN_NAMES
from affect.evaluation.scores import CURVE_OF
from affect.storage import read_json

OPEN_CURVES = 2
# RECOLA's largest partition has 15 recordings. Curves of that many recordings fit into a mail, hundreds do not.
MAX_CURVES = 20


@dataclass(frozen=True)
class Picture:
    """A figure as an SVG element, with its caption."""

    svg: str
    caption: str


class _Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the report shows of `environment.json`; all fields are optional, because older files lack some."""

    python: str | None = None
    packages: dict[str, str] = {}
    git_commit: str | None = None
    machine: str | None = None
    replicas: int | None = None
    workers: int | None = None
    seed: int | None = None
    initial_runs: dict[str, str] = {}
    data_fingerprint: str | None = None
    changes: list[dict] = []


class Pictures:
    """Draws figures for one page, with ids that are unique in the page."""

    def __init__(self):
        self._numbers = count(1)

    def draw(self, figure: figures.Figure, caption: str, description: str | None = None) -> Picture:
        """Returns a figure with its caption; `description`, or else the caption, serves as its text alternative."""
        return Picture(figures.to_svg(figure, description or caption, f"figure-{next(self._numbers)}"), caption)


def forest(answer: Answer, pictures: Pictures) -> Picture | None:
    """Draws the differences of the answer; None where there are none."""
    if not answer.differences:
        return None
    figure = figures.differences(
        [f"{contest.modality}, {contest.dimension}" for contest, _ in answer.differences],
        [pooled.difference for _, pooled in answer.differences],
        [pooled.ci95 for _, pooled in answer.differences],
    )
    return pictures.draw(
        figure,
        f"Difference of the pooled CCCs on {answer.partition}, with 95 % intervals over recordings. "
        "Right of 0, end-to-end is better.",
    )


def best_section(comparison: Comparison, pictures: Pictures) -> dict | None:
    """Returns curves and scatter of the end-to-end system that is best on dev; None where no curves are stored."""
    partition = comparison.partition
    best = comparison.best("end-to-end", partition=partition)
    if best is None or partition not in best.curves:
        return None
    stored = best.curves[partition]
    key = CURVE_OF[best.scores[partition].chosen]
    drawn = []
    for raw, chosen in zip(stored.curves["raw"][:MAX_CURVES], stored.curves[key], strict=False):
        figure = figures.prediction_over_gold(
            chosen.predicted, chosen.gold, stored.frame_rate_hz, DIMENSIONS, raw=None if key == "raw" else raw.predicted
        )
        description = f"{best.name}, {partition}, {raw.recording}: prediction and gold standard over time"
        drawn.append((raw.recording, pictures.draw(figure, "", description)))
    labelled = best.headline(partition)
    gold, predicted = (np.concatenate([getattr(one, name) for one in labelled]) for name in ("gold", "predicted"))
    return {
        "name": best.name,
        "partition": partition,
        "chain": CHAIN_NAMES[key],
        "curves": drawn,
        "open": OPEN_CURVES,
        "omitted": max(0, len(stored.curves["raw"]) - MAX_CURVES),
        "scatter": pictures.draw(
            figures.predicted_against_gold(predicted, gold, DIMENSIONS),
            f"{best.name}, {partition}: {len(gold)} frames; darker means more frames (logarithmic). The line marks "
            "perfect agreement.",
        ),
    }


def training_section(comparison: Comparison, pictures: Pictures) -> list[dict]:
    """Returns training curves and environment of each run; anything that its folder lacks is left out."""
    runs = []
    for system in comparison.shown:
        if system.kind != "end-to-end":
            continue
        log, environment = system.folder.training_log, system.folder.environment
        curves = figures.training_curves(_read_log(log)) if log.is_file() else None
        runs.append(
            {
                "name": system.name,
                "modality": system.modality,
                "curves": curves and pictures.draw(curves, f"{system.name}: loss and CCC of train and dev per epoch"),
                "environment": read_json(environment, _Environment) if environment.is_file() else _Environment(),
            }
        )
    return runs


def _read_log(path: Path) -> dict[str, list[float]]:
    """Reads the columns of a run's training.csv.

    Raises:
      UserError: the file is damaged.
    """
    try:
        log = pd.read_csv(path)
        names = ("loss", "ccc_arousal", "ccc_valence")
        return {column: log[column].astype(float).to_list() for name in names for column in (name, f"val_{name}")}
    except (ValueError, KeyError) as error:  # pandas' ParserError is a ValueError
        raise UserError(f"{path} is not a training log ({error}); remove it to leave it out of the report") from error
