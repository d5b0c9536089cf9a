"""The post-processing chain of the paper (section 4.3): median filter, centring, scaling, time shift.

A chain belongs to one dimension. It takes the prediction of one recording, [frames], and returns the post-processed
one. Its values come from the development set (`affect.evaluation.postprocess.fit`); applying it needs no gold standard.

Edges: the median filter repeats the first and the last value beyond the recording, and the shift fills the gap at the
start with the first value. Every recording is processed on its own.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from scipy.ndimage import median_filter

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.storage import decode_json, read_json

STEPS = ("median", "centring", "scaling", "shift")
Statistics = Literal["partition", "recording"]


class PostProcessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fitted chain; the default values change nothing.

    The paper does not say over which frames centring and scaling take the mean and the deviation. There are two
    readings, and a chain holds the values of one of them:

    - the partition: the development set's `offset`, `gain` and `centre` are constants for every recording;
    - each recording: its own mean and deviation are replaced by those of the development set's gold standard,
      `recording_mean` and `recording_deviation`. This needs the whole recording, but not its gold standard.

    Attributes:
      frame_rate: frame rate in Hz of the signals that the chain was fitted on.
      median_frames: window of the median filter, odd; 1 means no filter.
      offset: added to every value (centring).
      gain: factor on the distance from `centre`, at least 0 (scaling).
      centre: mean of the development predictions after centring.
      shift_frames: number of frames by which the prediction is delayed; its first value fills the gap.
      recording_mean: the mean that every recording gets (centring per recording); None if not used.
      recording_deviation: the standard deviation that every recording gets, at least 0 (scaling per recording); None
        if not used. A constant prediction stays constant.

    Raises:
      ValueError: a value outside these ranges, one that is not finite, or values of both readings.
    """

    frame_rate: float
    median_frames: int = 1
    offset: float = 0.0
    gain: float = 1.0
    centre: float = 0.0
    shift_frames: int = 0
    recording_mean: float | None = None
    recording_deviation: float | None = None

    def __post_init__(self):
        for name in ("frame_rate", "offset", "gain", "centre", "recording_mean", "recording_deviation"):
            value = getattr(self, name)
            _require(value is None or math.isfinite(value), name, value, "finite")
        _require(self.frame_rate > 0.0, "frame_rate", self.frame_rate, "positive")
        odd = self.median_frames >= 1 and self.median_frames % 2 == 1
        _require(odd, "median_frames", self.median_frames, "odd and at least 1")
        _require(self.gain >= 0.0, "gain", self.gain, "at least 0")
        _require(self.shift_frames >= 0, "shift_frames", self.shift_frames, "at least 0")
        if self.recording_deviation is not None:
            _require(self.recording_deviation >= 0.0, "recording_deviation", self.recording_deviation, "at least 0")
        if self.recording_mean is not None or self.recording_deviation is not None:
            for name, neutral in (("offset", 0.0), ("gain", 1.0), ("centre", 0.0)):
                value = getattr(self, name)
                _require(value == neutral, name, value, f"{neutral} in a chain with statistics of each recording")

    def apply(self, predicted: np.ndarray) -> np.ndarray:
        """Post-processes one recording's prediction of one dimension, [frames] to float64 [frames]."""
        return self.after_steps(predicted)["shift"]

    def after_steps(self, predicted: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the prediction before the chain ("raw") and after each of `STEPS`, each float64 [frames].

        A step that the chain leaves out repeats the signal before it.
        """
        raw = np.asarray(predicted, dtype=np.float64)
        smooth = median(raw, self.median_frames)
        if self.recording_mean is None:
            centred = smooth + self.offset
        else:
            centred = smooth - smooth.mean() + self.recording_mean
        if self.recording_deviation is None:
            scaled = (centred - self.centre) * self.gain + self.centre
        else:
            centre = centred.mean()
            scaled = (centred - centre) * recording_gain(smooth, self.recording_deviation) + centre
        shifted = delay(scaled, self.shift_frames)
        return {"raw": raw, "median": smooth, "centring": centred, "scaling": scaled, "shift": shifted}

    def to_json(self) -> str:
        """Returns the chain as one JSON object; `from_json` gives back an equal chain."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "PostProcessing":
        """Reads the output of `to_json`, even of versions without the statistics of each recording.

        Raises:
          UserError: the text is not JSON, or a field is missing, unknown or out of range.
        """
        return decode_json(text, cls, "post-processing chain")


class LeaveOneOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to expect on unseen recordings: pooled CCC of one dimension, each recording left out of the fit in turn.

    Each development recording is post-processed by a chain that was fitted on the others
    (`affect.evaluation.cautious.leave_one_out`).

    Attributes:
      raw: without a chain.
      paper: with the chain of `affect.evaluation.postprocess.fit`.
      cautious: with the chain of `affect.evaluation.cautious.fit_cautious`, its choice of steps included.
    """

    raw: float
    paper: float
    cautious: float


class FittedChains(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a run's `eval/chains.json`: every chain that was fitted on dev, by dimension.

    Attributes:
      chosen: which chain post-processes the predictions; "none" leaves them as they are.
      statistics: over which frames centring and scaling take mean and deviation, see `PostProcessing`.
      paper: the chains of `affect.evaluation.postprocess.fit`.
      cautious: the chains of `affect.evaluation.cautious.fit_cautious`.
      leave_one_out: what to expect on unseen recordings; None with fewer than 3 recordings.
    """

    chosen: Literal["paper", "cautious", "none"] = "paper"
    statistics: Statistics = "partition"
    paper: dict[str, PostProcessing]
    cautious: dict[str, PostProcessing]
    leave_one_out: dict[str, LeaveOneOut | None]

    def chosen_chains(self) -> dict[str, PostProcessing]:
        """Returns the chain of each dimension that post-processes the predictions."""
        if self.chosen == "none":
            return {name: PostProcessing(chain.frame_rate) for name, chain in self.paper.items()}
        return self.paper if self.chosen == "paper" else self.cautious


def read_chains(path: str | Path) -> dict[str, PostProcessing]:
    """Reads a run's `eval/postprocessing.json`: the chosen chain of each dimension.

    Raises:
      UserError: the file or a dimension is missing, or a chain is invalid; names the file and the field.
    """
    chains = read_json(path, dict[str, PostProcessing], hint="was the run evaluated by eval.py?")
    _require_dimensions(path, "the chains", chains)
    return chains


def read_fitted_chains(path: str | Path) -> FittedChains:
    """Reads a run's `eval/chains.json`.

    Raises:
      UserError: the file or a dimension is missing, or a chain is invalid; names the file and the field.
    """
    fitted = read_json(path, FittedChains, hint="was the run evaluated by eval.py?")
    for name in ("paper", "cautious", "leave_one_out"):
        _require_dimensions(path, f"'{name}'", getattr(fitted, name))
    return fitted


def delay(signal: np.ndarray, frames: int) -> np.ndarray:
    """Delays a signal [frames] or [frames, dimensions]; its first value fills the gap."""
    if frames == 0:
        return signal
    return np.concatenate([np.repeat(signal[:1], min(frames, len(signal)), axis=0), signal[:-frames]])


def median(signal: np.ndarray, frames: int) -> np.ndarray:
    """Filters a signal [frames] by the median over an odd number of frames; the first and last values are repeated."""
    return signal if frames <= 1 else median_filter(signal, size=frames, mode="nearest")


def recording_gain(smooth: np.ndarray, deviation: float) -> float:
    """Returns the factor that gives a recording's prediction [frames] this standard deviation; 1 if it is constant."""
    return float(deviation / smooth.std()) if smooth.max() > smooth.min() else 1.0


def _require_dimensions(path: str | Path, what: str, found: Iterable[str]) -> None:
    if set(found) != set(DIMENSIONS):
        wanted, got = " and ".join(DIMENSIONS), ", ".join(found) or "none"
        raise UserError(f"{path}: expected {what} of {wanted}, got {got}; run eval.py again")


def _require(fulfilled: bool, name: str, value: float | None, expected: str) -> None:
    if not fulfilled:
        raise ValueError(f"{name} is {value}; it must be {expected}")
