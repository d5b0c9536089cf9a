"""The scores of an evaluation: the content of `metrics.json`, and which scores of a run belong together.

`eval.py` may score one partition today and another one after more training. Every `metrics.json` therefore holds the
digests of what it was computed from, and scores are compared only if these agree.
"""

from typing import Literal

import msgspec

from affect.config import PARTITIONS
from affect.data.faceless import FacelessShares
from affect.runs import RunFolder
from affect.storage import read_json

METRICS_NAME = "metrics.json"
Chosen = Literal["paper", "cautious", "none"]
Context = Literal["window", "recording"]
RECOLA_LAYOUTS = ("avec2016", "recola", "tzirakis")
CURVE_OF = {"paper": "postprocessed", "cautious": "cautious", "none": "raw"}  # the key in `Metrics` and in curves
_WORDS = {"weights": "with other weights", "data": "on other data", "chain": "with other post-processing"}


class DimensionScores(msgspec.Struct, frozen=True):
    """Scores of one dimension over all recordings of a partition.

    Attributes:
      ccc_pooled: CCC of all recordings concatenated, as AVEC 2016 scores.
      ccc_per_recording: mean of the recordings' own CCCs, as AVEC 2018 scores.
      pearson_pooled: Pearson correlation of all recordings concatenated.
      rmse_pooled: root mean squared error over all frames.
      ccc_pooled_ci95: 95 % interval of `ccc_pooled` over recordings, see `affect.evaluation.intervals`; None with
        too few recordings, and in files of earlier versions.
      ccc_per_recording_ci95: the same for `ccc_per_recording`.
      pearson_per_recording: mean of the recordings' own Pearson correlations; None in files of earlier versions.
      rmse_per_recording: mean of the recordings' own root mean squared errors; None in files of earlier versions.
    """

    ccc_pooled: float
    ccc_per_recording: float
    pearson_pooled: float
    rmse_pooled: float
    ccc_pooled_ci95: tuple[float, float] | None = None
    ccc_per_recording_ci95: tuple[float, float] | None = None
    pearson_per_recording: float | None = None
    rmse_per_recording: float | None = None


class Digests(msgspec.Struct, frozen=True, kw_only=True):
    """What scores were computed from.

    Attributes:
      weights: SHA-256 of `best.weights.h5`; None for handcrafted systems.
      data: `Manifest.fingerprint` of the data that was evaluated.
      chain: `RunFolder.postprocessing_digest`, the SHA-256 of the files of the chains.
    """

    weights: str | None = None
    data: str
    chain: str | None = None


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `metrics.json`: the scores of one partition.

    Attributes:
      raw: scores of the system's output, by dimension.
      postprocessed: scores after the paper's post-processing chain.
      cautious: scores after the cautious chain, see `affect.evaluation.cautious`; None in files of earlier versions.
      avec: scores after the chain of AVEC 2016; handcrafted systems only.
      chosen: which of these are the system's own: "paper" (`postprocessed`), "cautious", or "none" (`raw`).
      context: whether the network predicted each "window" on its own, or the whole "recording" with carried state; None
        where no network predicts, and in files of earlier versions.
      ccc_after_steps: pooled CCC after each step of the paper's chain ("raw", "median", "centring", "scaling",
        "shift"), by dimension.
      recordings: number of recordings with labels, which are scored.
      frames: number of their frames.
      unlabelled_recordings: number of recordings of the partition that are predicted but not scored, because their
        labels are not known.
      layout: layout of the evaluated corpus, see `Manifest.layout`.
      synthetic: whether the corpus of the training or of the evaluation is synthetic; None in files of version 0.1.0.
      same_data_as_training: whether the evaluated shards, all partitions included, are those of the training; None for
        handcrafted systems and in files of version 0.1.0.
      digests: what the scores were computed from; None in files of version 0.1.0.
      faceless_share: share of `frames` in which no face was found; None if the system does not take video, and in files
        of version 0.1.0.
      faceless_share_per_recording: the same for each recording with labels, by name.
    """

    raw: dict[str, DimensionScores]
    postprocessed: dict[str, DimensionScores]
    cautious: dict[str, DimensionScores] | None = None
    avec: dict[str, DimensionScores] | None = None
    chosen: Chosen = "paper"
    context: Context | None = None
    ccc_after_steps: dict[str, dict[str, float]] | None = None
    recordings: int
    frames: int
    unlabelled_recordings: int = 0
    layout: str | None = None
    synthetic: bool | None = None
    same_data_as_training: bool | None = None
    digests: Digests | None = None
    faceless_share: float | None = None
    faceless_share_per_recording: dict[str, float] | None = None

    def __post_init__(self):
        if self.chosen == "cautious" and self.cautious is None:
            raise ValueError("chosen is cautious, but there are no scores of the cautious chain")

    def headline(self) -> dict[str, DimensionScores]:
        """Returns the scores by which the system is judged: those after the chosen post-processing."""
        return getattr(self, CURVE_OF[self.chosen])

    def faceless_shares(self) -> FacelessShares | None:
        """Returns the shares of frames without a face; None where there are none, see `faceless_share`."""
        if self.faceless_share is None or self.faceless_share_per_recording is None:
            return None
        return FacelessShares(self.faceless_share, self.faceless_share_per_recording)


def scores_that_belong_together(run: RunFolder) -> tuple[dict[str, Metrics], list[str]]:
    """Reads the scores of a run that come from its present weights, its present chains, and the same data.

    Every evaluation includes dev, so the scores of dev say which data come with the present chains. Scores of version
    0.1.0 cannot be checked: they are returned, unless a newer evaluation has replaced the chains since.

    Returns:
      The metrics by partition, in the order of `PARTITIONS`, and a remark on everything that is left out or unchecked.

    Raises:
      UserError: a `metrics.json` is damaged.
    """
    files = {name: run.evaluation(name) / METRICS_NAME for name in PARTITIONS}
    stored = {name: read_json(file, Metrics) for name, file in files.items() if file.is_file()}
    if stored and not any(metrics.digests for metrics in stored.values()):
        return stored, ["the scores do not tell their weights and data (affect 0.1.0); run eval.py again to be sure"]

    expected = {"weights": run.best_weights_digest(), "data": None, "chain": run.postprocessing_digest()}
    current, remarks = {}, []
    for name in sorted(stored, key=lambda name: name != "dev"):  # dev first
        digests = stored[name].digests
        if digests is None:
            differing = ["by affect 0.1.0, before the present post-processing was fitted"]
        else:
            differing = [_WORDS[key] for key, value in expected.items() if value not in (None, getattr(digests, key))]
        if digests is None or differing:
            remarks.append(f"{name} is left out: it was scored {' and '.join(differing)}; run eval.py again on {name}")
            continue
        current[name] = stored[name]
        # Where a file is missing, for instance weights that were not copied, partitions are compared with each other.
        expected = {key: value or getattr(digests, key) for key, value in expected.items()}
    return {name: current[name] for name in PARTITIONS if name in current}, remarks
