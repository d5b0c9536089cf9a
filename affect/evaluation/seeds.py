"""Scores of several trainings that differ only in their seed: `train.py --seeds=N` makes one run folder for each.

RUN_DIR/seed0/ seed1/ ...       run folders; with --pretrain, each holds one run folder per modality
RUN_DIR/eval/seeds.json         `SeedScores`: mean and standard deviation of every score
"""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from affect.config import DIMENSIONS, MODALITIES
from affect.evaluation.scores import CURVE_OF, Metrics
from affect.runs import RunFolder

_SCORES = (
    "ccc_pooled", "ccc_per_recording", "pearson_pooled", "pearson_per_recording", "rmse_pooled", "rmse_per_recording",
)  # fmt: skip


class Spread(msgspec.Struct, frozen=True):
    """Mean and sample standard deviation (n - 1) of a score over seeds; `std` is 0 for a single seed."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Returns the spread of one value or more."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


class PartitionSpread(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one partition over seeds.

    Attributes:
      raw, postprocessed, cautious: by dimension and score, as in `affect.evaluation.scores.Metrics`.
      chosen: which of them is the system's own.
      synthetic: whether the scores come from a synthetic corpus.
    """

    raw: dict[str, dict[str, Spread]]
    postprocessed: dict[str, dict[str, Spread]]
    cautious: dict[str, dict[str, Spread]]
    chosen: str
    synthetic: bool | None

    @classmethod
    def of(cls, scores: Sequence[Metrics]) -> "PartitionSpread":
        """Returns the spread of the scores of one partition; `scores` has one element per seed."""

        def over_seeds(kind: str) -> dict[str, dict[str, Spread]]:
            return {
                dimension: {
                    score: Spread.of([getattr(getattr(one, kind)[dimension], score) for one in scores])
                    for score in _SCORES
                }
                for dimension in DIMENSIONS
            }

        kinds = {kind: over_seeds(kind) for kind in ("raw", "postprocessed", "cautious")}
        return cls(**kinds, chosen=scores[0].chosen, synthetic=scores[0].synthetic)

    def line(self, name: str) -> str:
        """Returns one line: the pooled CCC of the chosen post-processing, mean and standard deviation."""
        chosen = getattr(self, CURVE_OF[self.chosen])
        cccs = [f"{dimension} {_text(chosen[dimension]['ccc_pooled'])}" for dimension in DIMENSIONS]
        return f"{'SYNTHETIC corpus, ' if self.synthetic else ''}{name}: pooled CCC {', '.join(cccs)}"


class SeedScores(msgspec.Struct, frozen=True):
    """The content of `seeds.json`.

    Attributes:
      seeds: names of the folders.
      systems: by modality and partition; partitions without labels are left out.
    """

    seeds: list[str]
    systems: dict[str, dict[str, PartitionSpread]]


def seed_runs(run_dir: Path) -> dict[str, list[Path]]:
    """Returns the run folders of several seeds, by modality and in the order of the seeds; empty for any other folder.

    Raises:
      UserError: a folder is not a run folder, or its config is damaged.
    """
    seeds = [path for path in run_dir.glob("seed*") if path.is_dir() and re.fullmatch(r"seed\d+", path.name)]
    runs: dict[str, list[Path]] = {}
    if (run_dir / "config.json").exists():
        return runs
    for seed in sorted(seeds, key=lambda path: int(path.name.removeprefix("seed"))):
        of_modality = [seed / name for name in MODALITIES if (seed / name / "config.json").exists()]
        for folder in of_modality or [seed]:
            runs.setdefault(RunFolder(folder).read_config().modality, []).append(folder)
    return runs


def _text(spread: Spread) -> str:
    return f"{spread.mean:.3f} +- {spread.std:.3f}"
