"""The post-processing chain of the paper (section 4.3): median filter, centring, scaling, time shift.

The chain is fitted on the development set, for one dimension at a time, and then applied unchanged to test. The steps
are fitted in that order, and each is kept only if it raises the pooled development CCC.
"""

import itertools
import math
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace
from scipy.ndimage import median_filter

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.metrics import concordance_cc
from affect.storage import decode_json, read_json

MEDIAN_SECS = (0.4, 20.0)
MEDIAN_STEP_SECS = 0.4
MAX_SHIFT_SECS = 10.0
_ROUNDING = 1e-9


class PostProcessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fitted chain; the default values change nothing.

    Attributes:
      frame_rate: frame rate in Hz of the signals that the chain was fitted on.
      median_frames: window of the median filter, odd; 1 means no filter.
      offset: added to every value (centring).
      gain: factor on the distance from `centre`, at least 0 (scaling).
      centre: mean of the development predictions after centring.
      shift_frames: number of frames by which the prediction is delayed; its first value fills the gap.

    Raises:
      ValueError: a value outside these ranges, or one that is not finite.
    """

    frame_rate: float
    median_frames: int = 1
    offset: float = 0.0
    gain: float = 1.0
    centre: float = 0.0
    shift_frames: int = 0

    def __post_init__(self):
        for name in ("frame_rate", "offset", "gain", "centre"):
            _require(math.isfinite(getattr(self, name)), name, getattr(self, name), "finite")
        _require(self.frame_rate > 0.0, "frame_rate", self.frame_rate, "positive")
        odd = self.median_frames >= 1 and self.median_frames % 2 == 1
        _require(odd, "median_frames", self.median_frames, "odd and at least 1")
        _require(self.gain >= 0.0, "gain", self.gain, "at least 0")
        _require(self.shift_frames >= 0, "shift_frames", self.shift_frames, "at least 0")

    def apply(self, predicted: np.ndarray) -> np.ndarray:
        """Post-processes one recording's prediction of one dimension, [frames] to [frames]."""
        smooth = _median(np.asarray(predicted, dtype=np.float64), self.median_frames)
        scaled = (smooth + self.offset - self.centre) * self.gain + self.centre
        return delay(scaled, self.shift_frames)

    def to_json(self) -> str:
        """Returns the chain as one JSON object; `from_json` gives back an equal chain."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "PostProcessing":
        """Reads the output of `to_json`.

        Raises:
          UserError: the text is not JSON, or a field is missing, unknown or out of range.
        """
        return decode_json(text, cls, "post-processing chain")


def read_chains(path: str | Path) -> dict[str, PostProcessing]:
    """Reads a run's `eval/postprocessing.json`: one chain per dimension.

    Raises:
      UserError: the file or a dimension is missing, or a chain is invalid; names the file and the field.
    """
    chains = read_json(path, dict[str, PostProcessing], hint="was the run evaluated by eval.py?")
    if set(chains) != set(DIMENSIONS):
        wanted, got = " and ".join(DIMENSIONS), ", ".join(chains) or "none"
        raise UserError(f"{path}: expected the chains of {wanted}, got {got}; run eval.py again")
    return chains


def fit(gold: list[np.ndarray], predicted: list[np.ndarray], frame_rate: float) -> PostProcessing:
    """Fits the chain on the development set.

    A purely greedy chain goes wrong where a prediction is early: before the shift is known, a median filter may win by
    blurring, and scaling may lose because the correlation is still negative. The values of the steps are therefore
    fitted one after the other, as in the paper, but which steps are kept is decided by the CCC at the end of the chain.

    Args:
      gold: one [frames] array per recording, one dimension.
      predicted: arrays of the same shapes.
      frame_rate: frame rate of both, in Hz.

    Returns:
      The chain. Its pooled CCC on these recordings is never below that of the raw prediction or of the greedy chain.

    Raises:
      ValueError: there are no recordings, or the two lists do not match.
    """
    if not gold or [np.shape(signal) for signal in gold] != [np.shape(signal) for signal in predicted]:
        raise ValueError("gold and predicted must be two lists of equally long signals, and not empty")
    gold = [np.asarray(signal, dtype=np.float64) for signal in gold]
    predicted = [np.asarray(signal, dtype=np.float64) for signal in predicted]
    unchanged = PostProcessing(frame_rate)
    filtered = _best([unchanged, *_median_candidates(unchanged, gold)], gold, predicted)
    chains = [
        _fit_rest(start, gold, predicted, centring, scaling)
        for start in (unchanged, filtered)
        for centring, scaling in itertools.product((False, True), repeat=2)
    ]
    return _best([unchanged, *chains], gold, predicted)


def pooled_ccc(chain: PostProcessing, gold: list[np.ndarray], predicted: list[np.ndarray]) -> float:
    """Returns the CCC over all recordings concatenated, after applying the chain to the predictions."""
    return concordance_cc(np.concatenate(gold), np.concatenate([chain.apply(signal) for signal in predicted]))


def delay(signal: np.ndarray, frames: int) -> np.ndarray:
    """Delays a signal [frames] or [frames, dimensions]; its first value fills the gap."""
    if frames == 0:
        return signal
    return np.concatenate([np.repeat(signal[:1], min(frames, len(signal)), axis=0), signal[:-frames]])


def _fit_rest(
    chain: PostProcessing, gold: list[np.ndarray], predicted: list[np.ndarray], centring: bool, scaling: bool
) -> PostProcessing:
    """Adds the requested steps and the best shift to a chain that has at most a median filter."""
    smooth = [_median(signal, chain.median_frames) for signal in predicted]
    gold_all, smooth_all = np.concatenate(gold), np.concatenate(smooth)
    if centring:
        chain = replace(chain, offset=float(gold_all.mean() - smooth_all.mean()))
    if scaling and smooth_all.max() > smooth_all.min():  # rounding gives a constant a standard deviation above 0
        centre = float(smooth_all.mean() + chain.offset)
        chain = replace(chain, centre=centre, gain=float(gold_all.std() / smooth_all.std()))
    return _best_shift(chain, gold, smooth)


def _best_shift(chain: PostProcessing, gold: list[np.ndarray], smooth: list[np.ndarray]) -> PostProcessing:
    """Tries every shift, one frame apart, on signals that are already median-filtered."""
    values_only = replace(chain, median_frames=1)
    longest = round(MAX_SHIFT_SECS * chain.frame_rate)
    shifts = [replace(values_only, shift_frames=frames) for frames in range(longest + 1)]
    return replace(chain, shift_frames=_best(shifts, gold, smooth).shift_frames)


def _median_candidates(chain: PostProcessing, gold: list[np.ndarray]) -> list[PostProcessing]:
    shortest, longest = (round(secs * chain.frame_rate) for secs in MEDIAN_SECS)
    step = max(1, round(MEDIAN_STEP_SECS * chain.frame_rate))
    windows = range(shortest, min(longest, max(len(signal) for signal in gold)) + 1, step)
    return [replace(chain, median_frames=window | 1) for window in windows]


def _best(chains: list[PostProcessing], gold: list[np.ndarray], predicted: list[np.ndarray]) -> PostProcessing:
    """Returns the chain with the highest pooled CCC; ties, up to rounding, go to the earliest in the list."""
    best, best_ccc = chains[0], pooled_ccc(chains[0], gold, predicted)
    for chain in chains[1:]:
        ccc = pooled_ccc(chain, gold, predicted)
        if ccc > best_ccc + _ROUNDING:
            best, best_ccc = chain, ccc
    return best


def _median(signal: np.ndarray, frames: int) -> np.ndarray:
    return signal if frames <= 1 else median_filter(signal, size=frames, mode="nearest")


def _require(fulfilled: bool, name: str, value: float, expected: str) -> None:
    if not fulfilled:
        raise ValueError(f"{name} is {value}; it must be {expected}")
