"""Scores of trained variants, compared with the first one, as JSON and as Markdown.

All scores are pooled CCCs after the chosen post-processing, with the intervals of `affect.evaluation.intervals`.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.curves import Prediction
from affect.evaluation.intervals import Interval, PairedDifference, compare_predictions
from affect.evaluation.prediction_files import HDF5_NAME, read_curves
from affect.evaluation.scores import CURVE_OF, Metrics, scores_that_belong_together
from affect.evaluation.scoring import labelled
from affect.runs import RunFolder


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one dimension.

    Attributes:
      ccc_pooled: CCC of all recordings concatenated.
      ccc_pooled_ci95: its 95 % interval; None with too few recordings, see `affect.evaluation.intervals`.
      difference: this CCC minus that of the first variant with the same seed, over the same recordings; None in the
        rows of the first variant.
    """

    ccc_pooled: float
    ccc_pooled_ci95: Interval | None
    difference: PairedDifference | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
      value: value of the setting.
      seed: `train.seed` of the run.
      run: its run folder, relative to the folder of the tables.
      updates: number of weight updates in the whole training.
      scores: by partition and dimension; partitions without labels are left out.
    """

    value: str
    seed: int
    run: str
    updates: int
    scores: dict[str, dict[str, Score]]


class AblationTable(msgspec.Struct, frozen=True):
    """One ablation: the setting that was changed, and a row for each of its values and seeds, the reference first."""

    setting: str
    rows: list[Row]


@dataclass(frozen=True)
class Trained:
    """A trained and evaluated run: its scores and, by partition, the predictions that were scored."""

    run: str
    seed: int
    updates: int
    metrics: dict[str, Metrics]
    predictions: dict[str, list[Prediction]]

    @classmethod
    def read(cls, run: RunFolder, seed: int, partitions: list[str], relative_to: Path) -> "Trained":
        """Reads what training and evaluation have left in a run folder.

        Args:
          run: the run folder.
          seed: its `train.seed`.
          partitions: the partitions with scores.
          relative_to: folder above the run folder; the attribute `run` is relative to it.

        Raises:
          UserError: a partition has no scores of the run's current weights, or a file is damaged.
        """
        current, remarks = scores_that_belong_together(run)
        if not set(partitions) <= current.keys():
            raise UserError(f"{run.path}: {'; '.join(remarks)}")
        metrics = {name: current[name] for name in partitions}
        predictions = {
            name: labelled(read_curves(run.evaluation(name) / HDF5_NAME)[CURVE_OF[scores.chosen]])
            for name, scores in metrics.items()
        }
        updates = max(int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*"))
        return cls(str(run.path.relative_to(relative_to)), seed, updates, metrics, predictions)


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `ablations.json`.

    Attributes:
      preset, modality: what was trained.
      epochs, batch_size: of every run.
      synthetic: whether the corpus is synthetic.
      recordings: number of scored recordings by partition.
      faceless_shares: share of their frames in which no face was found, by partition; empty for an audio network.
      ablations: the tables by the name of the ablation.
      left_out: the reason for each ablation that was not done, by its name.
    """

    preset: str
    modality: str
    epochs: int
    batch_size: int
    synthetic: bool
    recordings: dict[str, int]
    faceless_shares: dict[str, float] = {}
    ablations: dict[str, AblationTable]
    left_out: dict[str, str] = {}

    def to_markdown(self) -> str:
        """Returns the tables, and what a reader must know about their numbers."""
        recordings = ", ".join(f"{count} {name}" for name, count in self.recordings.items())
        lines = ["# Ablations", ""]
        if self.synthetic:
            lines += ["**Synthetic corpus**: these numbers say nothing about recordings of people.", ""]
        lines += [
            f"Preset {self.preset}, {self.modality}; epochs: {self.epochs}; windows per update: {self.batch_size}, "
            "whatever their length, so longer windows get fewer updates. "
            "All networks are evaluated in the same windows.",
            "",
            f"CCC pooled over recordings ({recordings}), after post-processing, with 95 % intervals over recordings. "
            "Differences are to the first value with the same seed; p is from the sign-flip test over recordings.",
        ]
        for name, table in self.ablations.items():
            lines += ["", f"## {name}", "", *_markdown_rows(table)]
        if self.faceless_shares:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in self.faceless_shares.items())
            lines += ["", f"Frames without a face: {shares}."]
        lines += ["", *(f"{name} is left out: {reason}." for name, reason in self.left_out.items())]
        return "\n".join(lines).rstrip() + "\n"


def compare(variants: list[tuple[str, list[Trained]]]) -> list[Row]:
    """Returns a row for each run.

    Args:
      variants: for each value of the setting, the value and one run per seed, in the same order of seeds; the first
        variant is the reference.
    """
    (_, references), *_ = variants
    return [
        Row(
            value=value,
            seed=trained.seed,
            run=trained.run,
            updates=trained.updates,
            scores={
                partition: _scores(trained, None if trained is reference else reference, partition)
                for partition in trained.metrics
            },
        )
        for value, of_value in variants
        for trained, reference in zip(of_value, references, strict=True)
    ]


def _scores(trained: Trained, reference: Trained | None, partition: str) -> dict[str, Score]:
    differences = {}
    if reference is not None:
        compared = compare_predictions(trained.predictions[partition], reference.predictions[partition])
        differences = {name: comparison.pooled for name, comparison in compared.items()}
    return {
        name: Score(
            ccc_pooled=score.ccc_pooled,
            ccc_pooled_ci95=score.ccc_pooled_ci95,
            difference=differences.get(name),
        )
        for name, score in trained.metrics[partition].headline().items()
    }


def _markdown_rows(table: AblationTable) -> list[str]:
    columns = [table.setting, "seed", "updates", "partition"]
    columns += [f"{dimension} {column}" for dimension in DIMENSIONS for column in ("CCC", "difference")]
    rows = [columns, ["---"] * len(columns)]
    for partition in dict.fromkeys(partition for row in table.rows for partition in row.scores):
        for value in dict.fromkeys(row.value for row in table.rows):
            of_value = [row for row in table.rows if row.value == value]
            for row in of_value:
                cells = [cell for name in DIMENSIONS for cell in _cells(row.scores[partition][name])]
                rows.append([value, str(row.seed), str(row.updates), partition, *cells])
            if len(of_value) > 1:
                cells = [cell for name in DIMENSIONS for cell in _over_seeds(of_value, partition, name)]
                rows.append([value, "mean ± std", "", partition, *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cells(score: Score) -> list[str]:
    """Returns the cells of a CCC and of its difference."""
    difference = ""
    if score.difference is not None:
        found = score.difference
        difference = f"{found.difference:+.3f}{_interval(found.ci95, '+.3f')}, p {found.p_value:.3f}"
    return [f"{score.ccc_pooled:.3f}{_interval(score.ccc_pooled_ci95, '.3f')}", difference]


def _over_seeds(rows: list[Row], partition: str, dimension: str) -> list[str]:
    """Returns mean and sample standard deviation over seeds, of the CCC and of the difference."""
    scores = [row.scores[partition][dimension] for row in rows]
    differences = [score.difference.difference for score in scores if score.difference is not None]
    cccs = [score.ccc_pooled for score in scores]
    spread = f"{np.mean(differences):+.3f} ± {np.std(differences, ddof=1):.3f}" if differences else ""
    return [f"{np.mean(cccs):.3f} ± {np.std(cccs, ddof=1):.3f}", spread]


def _interval(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"
