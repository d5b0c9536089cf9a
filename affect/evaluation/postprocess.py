"""The post-processing chain of the paper (section 4.3): median filter, centring, scaling, time shift.

Fitted on the development set for one dimension at a time and then applied unchanged to test. Steps are fitted in that
order, and each is kept only where that raises the pooled development CCC.
"""

import dataclasses
import itertools
import json
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from affect.errors import UserError
from affect.metrics import concordance_cc

MEDIAN_SECS = (0.4, 20.0)
MEDIAN_STEP_SECS = 0.4
LONGEST_SHIFT_SECS = 10.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PostProcessing:
    """A fitted chain; the defaults change nothing.

    Attributes:
      frame_rate: of the signals it was fitted on, in Hz.
      median_frames: window of the median filter, odd; 1 for none.
      offset: added to every value (centring).
      gain: multiplies deviations from `centre` (scaling).
      centre: the development mean after centring.
      shift_frames: how many frames later the prediction is moved; its first value fills the gap.
    """

    frame_rate: float
    median_frames: int = 1
    offset: float = 0.0
    gain: float = 1.0
    centre: float = 0.0
    shift_frames: int = 0

    def apply(self, predicted: np.ndarray) -> np.ndarray:
        """Processes one recording's prediction of one dimension, [frames] to [frames]."""
        smooth = _median(np.asarray(predicted, dtype=np.float64), self.median_frames)
        scaled = (smooth + self.offset - self.centre) * self.gain + self.centre
        return later(scaled, self.shift_frames)

    def to_json(self) -> str:
        """One JSON object; `from_json` gives an equal chain."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PostProcessing":
        """Reads `to_json`'s output.

        Raises:
          UserError: not that.
        """
        try:
            return cls(**json.loads(text))
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"not a post-processing chain: {error}") from error


def fit(gold: list[np.ndarray], predicted: list[np.ndarray], frame_rate: float) -> PostProcessing:
    """Fits the chain on the development set.

    A purely greedy chain goes wrong where a prediction is early: before the shift is known a median filter may win by
    blurring, and scaling may lose because the correlation is still negative. So the steps' values are fitted one after
    the other as in the paper, but which of them are kept is decided by the CCC at the end of the chain.

    Args:
      gold: one [frames] array per recording, one dimension.
      predicted: the same shapes.
      frame_rate: in Hz.

    Returns:
      The chain; its pooled CCC on these recordings is never below that of the raw prediction, nor of the greedy chain.

    Raises:
      ValueError: no recordings, or lists that do not match.
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
    """CCC over all recordings concatenated, after the chain."""
    return concordance_cc(np.concatenate(gold), np.concatenate([chain.apply(signal) for signal in predicted]))


def _fit_rest(
    chain: PostProcessing, gold: list[np.ndarray], predicted: list[np.ndarray], centring: bool, scaling: bool
) -> PostProcessing:
    """The asked steps and the best shift, on top of a chain that has at most a median filter."""
    smooth = [_median(signal, chain.median_frames) for signal in predicted]
    gold_all, smooth_all = np.concatenate(gold), np.concatenate(smooth)
    if centring:
        chain = dataclasses.replace(chain, offset=gold_all.mean() - smooth_all.mean())
    if scaling and smooth_all.std() > 0.0:
        centre = smooth_all.mean() + chain.offset
        chain = dataclasses.replace(chain, centre=centre, gain=gold_all.std() / smooth_all.std())
    return _best_shift(chain, gold, smooth)


def _best_shift(chain: PostProcessing, gold: list[np.ndarray], smooth: list[np.ndarray]) -> PostProcessing:
    """Tries every shift, one frame apart; the median filter is not run again for each."""
    values_only = dataclasses.replace(chain, median_frames=1)
    longest = round(LONGEST_SHIFT_SECS * chain.frame_rate)
    shifts = [dataclasses.replace(values_only, shift_frames=frames) for frames in range(longest + 1)]
    return dataclasses.replace(chain, shift_frames=_best(shifts, gold, smooth).shift_frames)


def _median_candidates(chain: PostProcessing, gold: list[np.ndarray]) -> list[PostProcessing]:
    shortest, longest = (round(secs * chain.frame_rate) for secs in MEDIAN_SECS)
    step = max(1, round(MEDIAN_STEP_SECS * chain.frame_rate))
    windows = range(shortest, min(longest, max(len(signal) for signal in gold)) + 1, step)
    return [dataclasses.replace(chain, median_frames=window | 1) for window in windows]


def _best(chains: list[PostProcessing], gold: list[np.ndarray], predicted: list[np.ndarray]) -> PostProcessing:
    """The chain with the highest pooled CCC; a later one must be better by more than rounding."""
    best, best_ccc = chains[0], pooled_ccc(chains[0], gold, predicted)
    for chain in chains[1:]:
        ccc = pooled_ccc(chain, gold, predicted)
        if ccc > best_ccc + _ROUNDING:
            best, best_ccc = chain, ccc
    return best


def _median(signal: np.ndarray, frames: int) -> np.ndarray:
    return signal if frames <= 1 else median_filter(signal, size=frames, mode="nearest")


def later(signal: np.ndarray, frames: int) -> np.ndarray:
    """A signal [frames] or [frames, dimensions] moved back in time; its first value fills the gap."""
    if frames == 0:
        return signal
    return np.concatenate([np.repeat(signal[:1], min(frames, len(signal)), axis=0), signal[:-frames]])
