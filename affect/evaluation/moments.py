"""Moments of gold standards and predictions per recording, from which the pooled CCC of any selection follows.

The pooled CCC (section 3 of the paper; population moments) needs five moments. Those of a partition follow from those
of its recordings, those of a centred and scaled prediction from those of the original one, and those of all delays of a
prediction from one correlation and two cumulative sums. A search over windows, shifts and subsets of the recordings
therefore reads the signals only once per window.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Population moments of `recordings` recordings, each with `columns` versions of its prediction.

    Constant signals have a variance and a covariance of exactly 0.

    Attributes:
      frames: [recordings, 1].
      gold_mean: [recordings, 1].
      gold_variance: [recordings, 1].
      mean: of the predictions, [recordings, columns].
      variance: of the predictions, [recordings, columns].
      covariance: of gold and prediction, [recordings, columns].
    """

    frames: np.ndarray
    gold_mean: np.ndarray
    gold_variance: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, gold: np.ndarray, versions: Iterable[np.ndarray]) -> "Moments":
        """Returns the moments of one recording: its gold standard and versions of its prediction, each [frames].

        Only one version at a time is held.
        """
        gold_mean, gold_centred = _centred(gold)
        moments = []
        for version in versions:
            mean, centred = _centred(version)
            moments.append((mean, np.mean(centred**2), np.mean(gold_centred * centred)))
        return cls._of_one(gold_mean, gold_centred, *np.array(moments).T)

    @classmethod
    def of_delays(cls, gold: np.ndarray, predicted: np.ndarray, longest: int) -> "Moments":
        """Returns the moments of one recording and its prediction delayed by 0, 1, ..., `longest` frames.

        The first value fills the gap, as in `affect.evaluation.chain.delay`.
        """
        frames = len(gold)
        gold_mean, gold_centred = _centred(gold)
        mean, centred = _centred(predicted)
        # The delay by k frames is padded[longest - k :][:frames].
        padded = np.concatenate([np.full(longest, centred[0]), centred])
        delayed_mean = _window_sums(padded, frames)[::-1] / frames
        variance = _window_sums(padded**2, frames)[::-1] / frames - delayed_mean**2
        covariance = np.correlate(padded, gold_centred, mode="valid")[::-1] / frames
        return cls._of_one(gold_mean, gold_centred, mean + delayed_mean, np.maximum(variance, 0.0), covariance)

    @classmethod
    def stacked(cls, parts: Sequence["Moments"]) -> "Moments":
        """Joins recordings with the same columns."""
        return cls(*(np.concatenate(rows) for rows in zip(*map(_fields, parts), strict=True)))

    @classmethod
    def side_by_side(cls, parts: Sequence["Moments"]) -> "Moments":
        """Joins the columns of the same recordings."""
        first = parts[0]
        columns = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in _OF_PREDICTIONS)
        return cls(first.frames, first.gold_mean, first.gold_variance, *columns)

    def rows(self, recordings: Sequence[int]) -> "Moments":
        """Returns the moments of some of the recordings."""
        return Moments(*(field[list(recordings)] for field in _fields(self)))

    def column(self, index: int) -> "Moments":
        """Returns the moments of one version of the predictions."""
        columns = (getattr(self, name)[:, index : index + 1] for name in _OF_PREDICTIONS)
        return Moments(self.frames, self.gold_mean, self.gold_variance, *columns)

    def affine(self, slope: np.ndarray, intercept: np.ndarray) -> "Moments":
        """Returns the moments of `slope * prediction + intercept`, both [recordings, 1]."""
        predictions = (slope * self.mean + intercept, slope**2 * self.variance, slope * self.covariance)
        return Moments(self.frames, self.gold_mean, self.gold_variance, *predictions)

    def pooled(self) -> "Moments":
        """Returns the moments of all recordings concatenated, as one row."""
        weights = self.frames / self.frames.sum()
        gold_mean, gold_distance = _centred_rows(self.gold_mean, weights)
        mean, distance = _centred_rows(self.mean, weights)

        def total(within: np.ndarray, between: np.ndarray) -> np.ndarray:
            return np.sum(weights * (within + between), axis=0, keepdims=True)

        return Moments(
            self.frames.sum(keepdims=True),
            gold_mean,
            total(self.gold_variance, gold_distance**2),
            mean,
            total(self.variance, distance**2),
            total(self.covariance, gold_distance * distance),
        )

    def ccc(self) -> np.ndarray:
        """Returns the pooled CCC of every column, [columns]; 0 where a signal is constant (see `concordance_cc`)."""
        pooled = self.pooled()
        denominator = pooled.gold_variance + pooled.variance + (pooled.gold_mean - pooled.mean) ** 2
        constant = (pooled.gold_variance == 0.0) | (pooled.variance == 0.0)
        return np.where(constant, 0.0, 2.0 * pooled.covariance / np.where(constant, 1.0, denominator))[0]

    @classmethod
    def _of_one(
        cls, gold_mean: float, gold_centred: np.ndarray, mean: np.ndarray, variance: np.ndarray, covariance: np.ndarray
    ) -> "Moments":
        return cls(
            np.array([[float(len(gold_centred))]]),
            np.array([[gold_mean]]),
            np.array([[np.mean(gold_centred**2)]]),
            mean[None],
            variance[None],
            covariance[None],
        )


_OF_PREDICTIONS = ("mean", "variance", "covariance")


def _fields(moments: Moments) -> tuple[np.ndarray, ...]:
    return (moments.frames, moments.gold_mean, moments.gold_variance, *(getattr(moments, n) for n in _OF_PREDICTIONS))


def _centred(signal: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns mean and deviations; a mean relative to the first value keeps the deviations of constants exactly 0."""
    mean = float(signal[0] + np.mean(signal - signal[0]))
    return mean, signal - mean


def _centred_rows(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weighted mean of the rows, [1, columns], and the distances from it; equal rows give exactly 0."""
    mean = values[:1] + np.sum(weights * (values - values[:1]), axis=0, keepdims=True)
    return mean, values - mean


def _window_sums(signal: np.ndarray, frames: int) -> np.ndarray:
    """Returns the sums over all windows of `frames` frames."""
    sums = np.concatenate([[0.0], np.cumsum(signal)])
    return sums[frames:] - sums[:-frames]
