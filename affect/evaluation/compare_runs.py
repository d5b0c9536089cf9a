"""Paired comparison of an evaluated run with other runs or with handcrafted systems, on the same recordings.

RUN_DIR/eval/{train,dev,test}/comparison_{name}.json   `RunComparison`, for each system that the run is compared with
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.curves import Prediction
from affect.evaluation.intervals import RESAMPLES, PairedComparison, PairedDifference, compare_predictions
from affect.evaluation.prediction_files import HDF5_NAME, read_curves
from affect.evaluation.scores import CURVE_OF, METRICS_NAME, Metrics, scores_that_belong_together
from affect.runs import RunFolder
from affect.storage import write_json

_LABELS = {"pooled": "pooled", "per_recording": "per recording"}


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `comparison_{name}.json`: the first system minus the second.

    Attributes:
      first, second: the two systems.
      partition: "train", "dev" or "test".
      synthetic: whether the scores of either system come from a synthetic corpus.
      ccc: the differences by dimension, each system with its chosen post-processing.
      evaluated: how each system was evaluated: post-processing, context, recordings, share of frames without a face.
    """

    first: str
    second: str
    partition: str
    synthetic: bool
    ccc: dict[str, PairedComparison]
    evaluated: tuple[str, str]

    def lines(self) -> list[str]:
        """Returns the comparison as a plain-text table."""
        differences = [getattr(self.ccc[name], key) for name in DIMENSIONS for key in _LABELS]
        corpus = "SYNTHETIC corpus, " if self.synthetic else ""
        recordings = differences[0].recordings
        lines = [
            f"{corpus}{self.partition}, {recordings} recordings: CCC of {self.first} minus CCC of {self.second}",
            *(f"  {name}: {how}" for name, how in zip((self.first, self.second), self.evaluated, strict=True)),
            f"  {'':<24}{'difference':>12}{'95 % interval':>20}{'p (sign flips)':>16}",
        ]
        labels = [f"{name}, {label}" for name in DIMENSIONS for label in _LABELS.values()]
        lines += [_line(*pair) for pair in zip(labels, differences, strict=True)]
        if differences[0].exact:
            lines.append(
                f"  all {2**recordings} sign flips counted; the smallest possible p is {2 / 2**recordings:.2g}"
            )
        else:
            lines.append(f"  p from {RESAMPLES} random sign flips with a fixed seed")
        return lines


@dataclass(frozen=True)
class ScoredSystem:
    """The scores and the curves of one partition of a run, or of a handcrafted system.

    Attributes:
      name: the system's name in tables.
      metrics: its scores.
      predictions: its curves, with the post-processing that was chosen.
    """

    name: str
    metrics: Metrics
    predictions: list[Prediction]


def read_system(folder: Path, partition: str, name: str = "") -> ScoredSystem:
    """Reads scores and curves of one partition.

    Args:
      folder: a run folder, or a folder of a system that `affect.evaluation.baseline` wrote.
      partition: "train", "dev" or "test".
      name: name of the system; empty takes that of the folder.

    Raises:
      UserError: the partition is not scored, or its scores are outdated or damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; compare with an evaluated run, or with a system of the baseline")
    run = RunFolder(folder)
    scores, remarks = scores_that_belong_together(run)
    if partition not in scores:
        outdated = [remark for remark in remarks if remark.startswith(f"{partition} ")]
        reason = outdated[0] if outdated else f"{partition} is not scored; run eval.py on it first"
        raise UserError(f"{folder}: {reason}")
    metrics = scores[partition]
    if metrics.digests is None:
        raise UserError(f"{run.evaluation(partition) / METRICS_NAME} does not name its data; run eval.py again")
    path = run.evaluation(partition) / HDF5_NAME
    curves, kind = read_curves(path), CURVE_OF[metrics.chosen]
    if kind not in curves:
        raise UserError(f"{path} has no {kind} curves; run eval.py again")
    return ScoredSystem(name or folder.resolve().name, metrics, curves[kind])


def check_same_data(first: str, second: ScoredSystem, fingerprint: str, partition: str) -> None:
    """Refuses to compare scores of different data.

    Args:
      first: name of the first system.
      second: the second system.
      fingerprint: `Manifest.fingerprint` of the data of the first one.
      partition: the partition that is to be compared.

    Raises:
      UserError: the second system was scored on other data.
    """
    assert second.metrics.digests is not None  # `read_system` has checked it
    if second.metrics.digests.data != fingerprint:
        raise UserError(
            f"{second.name} cannot be compared with {first}: its {partition} was scored on other data; evaluate both "
            "on the same shards (--data_dir)"
        )


def compare_systems(first: ScoredSystem, second: ScoredSystem, partition: str) -> RunComparison:
    """Compares two systems on the labelled recordings of a partition that both have predicted.

    Raises:
      UserError: the two were scored on different data or gold standards, or have no recording in common.
    """
    assert first.metrics.digests is not None
    check_same_data(first.name, second, first.metrics.digests.data, partition)
    try:
        differences = compare_predictions(first.predictions, second.predictions)
    except UserError as error:
        raise UserError(f"{first.name} and {second.name}, {partition}: {error}") from error
    synthetic = bool(first.metrics.synthetic or second.metrics.synthetic)
    return RunComparison(
        first=first.name,
        second=second.name,
        partition=partition,
        synthetic=synthetic,
        ccc=differences,
        evaluated=(_how_evaluated(first.metrics), _how_evaluated(second.metrics)),
    )


def write_comparison(run: RunFolder, comparison: RunComparison) -> Path:
    """Writes a comparison beside the scores of the first run; returns the file."""
    name = comparison.second.replace("/", "_")
    path = run.evaluation(comparison.partition) / f"comparison_{name}.json"
    write_json(path, comparison)
    return path


def distinct_names(folders: list[Path]) -> list[str]:
    """Returns the shortest ends of the paths that tell the folders apart: "audio", or "demo/audio".

    Raises:
      UserError: a folder is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path} cannot be compared with itself; name each folder once")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]).lstrip("/") for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _how_evaluated(metrics: Metrics) -> str:
    """Returns for instance "post-processing paper, context window, 9 recordings, no face in 1.2% of the frames"."""
    parts = [f"post-processing {metrics.chosen}"]
    if metrics.context is not None:
        parts.append(f"context {metrics.context}")
    parts.append(f"{metrics.recordings} recordings")
    if metrics.faceless_share is not None:
        parts.append(f"no face in {metrics.faceless_share:.1%} of the frames")
    return ", ".join(parts)


def _line(label: str, difference: PairedDifference) -> str:
    interval = "too few recordings" if difference.ci95 is None else "[{:+.3f}, {:+.3f}]".format(*difference.ci95)
    return f"  {label:<24}{difference.difference:>+12.3f}{interval:>20}{difference.p_value:>16.2g}"
