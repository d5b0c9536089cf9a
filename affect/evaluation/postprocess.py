"""Fits the post-processing chain of the paper (section 4.3) on the development set, for one dimension at a time.

Gold standards and predictions of the development recordings flow in; a chain (`affect.evaluation.chain`) flows out,
which is applied unchanged to test. The values of the steps are fitted one after the other: the median window, the mean,
the deviation, the shift. Deciding greedily which steps to keep goes wrong where a prediction is early: before the shift
is known, a median filter may win by blurring, and scaling may lose because the correlation is still negative. Which
steps are kept is therefore decided by the pooled CCC at the end of the chain.
"""

import itertools
import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
from msgspec.structs import replace

from affect.evaluation.chain import STEPS, Statistics, median
from affect.evaluation.chain import PostProcessing as PostProcessing
from affect.evaluation.chain import delay as delay
from affect.evaluation.chain import read_chains as read_chains
from affect.evaluation.moments import Moments
from affect.metrics import concordance_cc

MEDIAN_SECS = (0.4, 20.0)
MAX_SHIFT_SECS = 10.0
_ROUNDING = 1e-9


def fit(
    gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], frame_rate: float, statistics: Statistics = "partition"
) -> PostProcessing:
    """Fits the chain on the development set.

    Args:
      gold: one [frames] array per recording, one dimension.
      predicted: arrays of the same shapes.
      frame_rate: frame rate of both, in Hz.
      statistics: over which frames centring and scaling take mean and deviation of the predictions. "partition": over
        the development set; the result is an offset and a gain, which are constants for every later recording.
        "recording": over each recording, so that all of them get the mean and the deviation of the development set's
        gold standard. The second reading removes errors in the level of a whole recording, and with them the true
        differences between recordings.

    Returns:
      The chain. Its pooled CCC on these recordings is never below that of the raw prediction or of the greedy chain.

    Raises:
      ValueError: there are no recordings, the two lists do not match, or a value is not finite.
    """
    return DevelopmentSet(gold, predicted, frame_rate, statistics).fit()


def pooled_ccc(chain: PostProcessing, gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> float:
    """Returns the CCC over all recordings concatenated, after applying the chain to the predictions."""
    return concordance_cc(np.concatenate(gold), np.concatenate([chain.apply(signal) for signal in predicted]))


def median_windows(frame_rate: float, frames: int) -> list[int]:
    """Returns all odd median windows of `MEDIAN_SECS`, in frames, up to the length of the longest recording."""
    shortest, longest = math.ceil(MEDIAN_SECS[0] * frame_rate), math.floor(MEDIAN_SECS[1] * frame_rate)
    return list(range(max(3, shortest | 1), min(longest, frames) + 1, 2))


class DevelopmentSet:
    """Development recordings of one dimension; fits and scores chains quickly on any selection of them.

    Every median filter is computed once, and chains are scored by the moments of the recordings. Arguments and errors
    are those of `fit`.
    """

    def __init__(
        self,
        gold: Sequence[np.ndarray],
        predicted: Sequence[np.ndarray],
        frame_rate: float,
        statistics: Statistics = "partition",
    ):
        _check(gold, predicted, statistics)
        self._gold = [np.asarray(signal, dtype=np.float64) for signal in gold]
        self._predicted = [np.asarray(signal, dtype=np.float64) for signal in predicted]
        self._unchanged, self._per_recording = PostProcessing(frame_rate), statistics == "recording"
        self._windows = [1, *median_windows(frame_rate, max(len(signal) for signal in gold))]
        self._longest_shift = round(MAX_SHIFT_SECS * frame_rate)
        self._filtered = Moments.stacked(
            [
                Moments.of(one, (median(signal, window) for window in self._windows))
                for one, signal in zip(self._gold, self._predicted, strict=True)
            ]
        )
        self._delayed: dict[int, Moments] = {}  # by median window

    def __len__(self) -> int:
        return len(self._gold)

    def fit(self, recordings: Sequence[int] | None = None) -> PostProcessing:
        """Returns the chain of the paper, fitted on some of the recordings (default: all)."""
        recordings = range(len(self)) if recordings is None else recordings
        chains = list(self.fit_every_choice(recordings).values())
        cccs = [self.moments(chain, recordings).ccc()[0] for chain in chains]
        return chains[_first_of_best(np.array(cccs))]

    def fit_every_choice(self, recordings: Sequence[int]) -> dict[tuple[str, ...], PostProcessing]:
        """Fits the values of every choice of steps, one step after the other.

        Args:
          recordings: indices of the recordings to fit on.

        Returns:
          The chain of each of the 16 subsets of `STEPS`; those without shift come first, among these those without
          median, and so on for centring and scaling.
        """
        chains = {}
        for choice in itertools.product((False, True), repeat=4):
            shifting, filtering, centring, scaling = choice
            chain = self._with_median(recordings) if filtering else self._unchanged
            chain = self._with_mean_and_deviation(chain, recordings, centring, scaling)
            chain = self._with_shift(chain, recordings) if shifting else chain
            kept = (filtering, centring, scaling, shifting)
            chains[tuple(step for step, keep in zip(STEPS, kept, strict=True) if keep)] = chain
        return chains

    def moments(self, chain: PostProcessing, recordings: Sequence[int]) -> Moments:
        """Returns the moments of some recordings after a chain: one column."""
        return self._after_scaling(chain, recordings).column(chain.shift_frames)

    def _with_median(self, recordings: Sequence[int]) -> PostProcessing:
        best = _first_of_best(self._filtered.rows(recordings).ccc())
        return replace(self._unchanged, median_frames=self._windows[best])

    def _with_mean_and_deviation(
        self, chain: PostProcessing, recordings: Sequence[int], centring: bool, scaling: bool
    ) -> PostProcessing:
        pooled = self._smooth(chain, recordings).pooled()
        gold_mean, gold_deviation = pooled.gold_mean.item(), math.sqrt(pooled.gold_variance.item())
        if self._per_recording:
            return replace(
                chain,
                recording_mean=gold_mean if centring else None,
                recording_deviation=gold_deviation if scaling else None,
            )
        offset = gold_mean - pooled.mean.item() if centring else 0.0
        if not scaling or pooled.variance.item() == 0.0:
            return replace(chain, offset=offset)
        gain = gold_deviation / math.sqrt(pooled.variance.item())
        return replace(chain, offset=offset, centre=pooled.mean.item() + offset, gain=gain)

    def _with_shift(self, chain: PostProcessing, recordings: Sequence[int]) -> PostProcessing:
        return replace(chain, shift_frames=_first_of_best(self._after_scaling(chain, recordings).ccc()))

    def _smooth(self, chain: PostProcessing, recordings: Sequence[int]) -> Moments:
        """Returns the moments after the median filter: one column."""
        return self._filtered.column(self._windows.index(chain.median_frames)).rows(recordings)

    def _after_scaling(self, chain: PostProcessing, recordings: Sequence[int]) -> Moments:
        """Returns the moments after median filter, centring and scaling: one column per shift, from 0 on."""
        smooth = self._smooth(chain, recordings)
        if chain.recording_deviation is None:
            slope = np.full_like(smooth.mean, chain.gain)
        else:
            constant = smooth.variance == 0.0
            deviation = np.sqrt(np.where(constant, 1.0, smooth.variance))
            slope = np.where(constant, 1.0, chain.recording_deviation / deviation)
        if chain.recording_mean is None and chain.recording_deviation is None:
            intercept = np.full_like(slope, (chain.offset - chain.centre) * chain.gain + chain.centre)
        else:
            intercept = (smooth.mean if chain.recording_mean is None else chain.recording_mean) - slope * smooth.mean
        return self._delays(chain.median_frames).rows(recordings).affine(slope, intercept)

    def _delays(self, window: int) -> Moments:
        """Returns the moments of all recordings after a median filter: one column per shift, from 0 on."""
        if window not in self._delayed:
            self._delayed[window] = Moments.stacked(
                [
                    Moments.of_delays(gold, median(signal, window), self._longest_shift)
                    for gold, signal in zip(self._gold, self._predicted, strict=True)
                ]
            )
        return self._delayed[window]


def _first_of_best(cccs: np.ndarray) -> int:
    """Returns the index of the highest CCC; ties, up to rounding, go to the earliest."""
    best = 0
    for index, ccc in enumerate(cccs):
        if ccc > cccs[best] + _ROUNDING:
            best = index
    return best


def _check(gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], statistics: str) -> None:
    if statistics not in get_args(Statistics):
        raise ValueError(f"statistics is {statistics!r}; it must be one of {', '.join(get_args(Statistics))}")
    shapes = [np.shape(signal) for signal in gold]
    if not shapes or shapes != [np.shape(signal) for signal in predicted] or (0,) in shapes:
        raise ValueError("gold and predicted must be two lists of equally long signals, and not empty")
    if not all(np.all(np.isfinite(signal)) for signal in (*gold, *predicted)):
        raise ValueError("gold and predicted must be finite")
