"""Intervals of the CCC over recordings, and the paired comparison of two systems on the same recordings.

The recordings of a partition are the sample: nine other speakers would have given another score. Frames of one
recording are not independent, so intervals are never taken over frames.

Intervals are bootstrap intervals (`scipy.stats.bootstrap`): recordings are drawn with replacement, and the CCC of each
draw follows from the moments of its recordings. The plain percentile interval is too short for few recordings; it is
widened as Hesterberg (2015, "What teachers should know about the bootstrap", section 3.2) proposes: percentiles are
taken where a t-interval would end. `benchmarks/bench_coverage.py` prints how often the intervals cover the true value.

The test of a difference swaps the two systems in some of the recordings. If neither is better, all 2^n ways to do so
were equally likely, and p is the share of them with a difference at least as large as the observed one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from scipy import stats

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.curves import Prediction
from affect.evaluation.moments import Moments
from affect.metrics import concordance_cc

Interval = tuple[float, float]
Signals = Sequence[np.ndarray]
RESAMPLES = 10_000
MIN_RECORDINGS = 5  # intervals over 4 cover the true value in about 87 % of all samples, over 5 in 92 %
MAX_EXACT = 20
_SEED = 0
_CHUNK = 1 << 14  # ways to swap that are computed together
_BATCH_VALUES = 1_000_000  # bounds the memory of a large partition
_ROUNDING = 1e-12


class CCCIntervals(NamedTuple):
    """95 % intervals of the pooled CCC and of the mean CCC per recording; None with too few recordings."""

    pooled: Interval | None
    per_recording: Interval | None


class PairedDifference(msgspec.Struct, frozen=True):
    """Difference of two systems in one score, first minus second.

    Attributes:
      difference: of the two CCCs.
      ci95: its 95 % interval over recordings; None with fewer than `MIN_RECORDINGS`.
      p_value: two-sided sign-flip test over recordings. It cannot be below 2 / 2^recordings.
      recordings: number of recordings.
      exact: whether all sign flips were counted; otherwise `RESAMPLES` random ones were drawn.
    """

    difference: float
    ci95: Interval | None
    p_value: float
    recordings: int
    exact: bool = True


class PairedComparison(msgspec.Struct, frozen=True):
    """Differences of two systems in one dimension: in the pooled CCC, and in the mean CCC per recording."""

    pooled: PairedDifference
    per_recording: PairedDifference


def ccc_intervals(gold: Signals, predicted: Signals) -> CCCIntervals:
    """Returns the intervals of the CCC of one dimension.

    Args:
      gold: one [frames] array per recording.
      predicted: arrays of the same shapes.

    Returns:
      Intervals within [-1, 1]; None with fewer than `MIN_RECORDINGS` recordings, because they would cover the true
      value too rarely. Equal signals give equal intervals.
    """
    sums, cccs = moment_sums(gold, predicted), _own_cccs(gold, predicted)
    return CCCIntervals(
        interval_over_recordings(lambda drawn: ccc_of_sums(sums[drawn].sum(axis=-2)), len(gold), 1.0),
        interval_over_recordings(lambda drawn: cccs[drawn].mean(axis=-1), len(gold), 1.0),
    )


def paired_difference(gold: Signals, first: Signals, second: Signals) -> PairedComparison:
    """Compares two systems on the same recordings in one dimension.

    Args:
      gold: one [frames] array per recording, one recording or more.
      first: predictions of the first system, of the same shapes.
      second: predictions of the second system, of the same shapes.
    """
    count = len(gold)
    sums, other_sums = moment_sums(gold, first), moment_sums(gold, second)
    cccs, other_cccs = _own_cccs(gold, first), _own_cccs(gold, second)

    def pooled(drawn: np.ndarray) -> np.ndarray:
        return ccc_of_sums(sums[drawn].sum(axis=-2)) - ccc_of_sums(other_sums[drawn].sum(axis=-2))

    def pooled_swapped(swaps: np.ndarray) -> np.ndarray:
        moved = swaps @ (other_sums - sums)
        return ccc_of_sums(sums.sum(axis=0) + moved) - ccc_of_sums(other_sums.sum(axis=0) - moved)

    differences = cccs - other_cccs
    return PairedComparison(
        pooled=_difference(pooled, pooled_swapped, count),
        per_recording=_difference(
            lambda drawn: differences[drawn].mean(axis=-1),
            lambda swaps: (1.0 - 2.0 * swaps) @ differences / count,
            count,
        ),
    )


def compare_predictions(first: Sequence[Prediction], second: Sequence[Prediction]) -> dict[str, PairedComparison]:
    """Compares two systems on the labelled recordings that both have predicted; returns the result by dimension.

    Raises:
      UserError: no labelled recording is in both, or their gold standards differ.
    """
    others = {prediction.recording: prediction for prediction in second}
    pairs = []
    for prediction in first:
        other = others.get(prediction.recording)
        if other is None or prediction.gold is None or other.gold is None:
            continue
        # Gold standards come from files with 32-bit values.
        if prediction.gold.shape != other.gold.shape or not np.allclose(prediction.gold, other.gold, rtol=0, atol=1e-6):
            raise UserError(
                f"recording {prediction.recording}: the two systems were scored on different gold standards"
            )
        pairs.append((prediction.gold, prediction.predicted, other.predicted))
    if not pairs:
        raise UserError("the two systems have no recording with a gold standard in common")
    return {
        name: paired_difference(*([signal[:, axis] for signal in signals] for signals in zip(*pairs, strict=True)))
        for axis, name in enumerate(DIMENSIONS)
    }


def interval_over_recordings(
    statistic: Callable[[np.ndarray], np.ndarray], recordings: int, limit: float, resamples: int = RESAMPLES
) -> Interval | None:
    """Returns the 95 % interval of a statistic of a sample of recordings.

    Args:
      statistic: takes indices of recordings, [..., recordings], and returns the values of these samples, [...].
      recordings: how many there are.
      limit: bound of the statistic's absolute value.
      resamples: number of bootstrap samples.

    Returns:
      The ends of the interval, clipped to the limit; None with fewer than `MIN_RECORDINGS`.
    """
    if recordings < MIN_RECORDINGS:
        return None
    # The ends of the t-interval in standard errors; as normal quantiles, they give the level that `bootstrap` takes.
    ends = np.sqrt(recordings / (recordings - 1)) * stats.t.ppf(0.975, recordings - 1)
    result = stats.bootstrap(
        (np.arange(recordings),),
        lambda drawn, axis: statistic(np.moveaxis(drawn, axis, -1)),
        confidence_level=1.0 - 2.0 * stats.norm.cdf(-ends),
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // recordings),
        method="percentile",
        random_state=np.random.default_rng(_SEED),
    )
    low, high = np.clip(result.confidence_interval, -limit, limit)
    return float(low), float(high)


def sign_flip_p_value(swapped: Callable[[np.ndarray], np.ndarray], recordings: int) -> tuple[float, bool]:
    """Returns the two-sided p-value of a difference, and whether it is exact.

    Args:
      swapped: takes float64 [flips, recordings], 1 where a recording's systems are swapped and else 0, and returns the
        differences, [flips].
      recordings: their number; up to `MAX_EXACT`, all ways to swap are counted.
    """
    observed = abs(float(swapped(np.zeros((1, recordings)))[0])) - _ROUNDING
    if recordings > MAX_EXACT:
        swaps = np.random.default_rng(_SEED).integers(0, 2, (RESAMPLES, recordings)).astype(np.float64)
        larger = int(np.count_nonzero(np.abs(swapped(swaps)) >= observed))
        return float((larger + 1) / (RESAMPLES + 1)), False  # the observed assignment counts as one of the draws
    # Half of all ways suffice: swapping exactly the other recordings gives the same difference with the opposite sign.
    total, larger = 1 << (recordings - 1), 0
    for start in range(0, total, _CHUNK):
        ways = np.arange(start, min(start + _CHUNK, total))
        swaps = ((ways[:, None] >> np.arange(recordings)) & 1).astype(np.float64)
        larger += int(np.count_nonzero(np.abs(swapped(swaps)) >= observed))
    return larger / total, True


def moment_sums(gold: Signals, predicted: Signals) -> np.ndarray:
    """Returns sums that add up over recordings, [recordings, 6]: frames, x, y, x^2, y^2 and xy.

    x is the gold standard and y the prediction, both as distances from the mean of the gold standard over all
    recordings; without that, differences of sums would lose the digits of signals that vary little.
    """
    moments = _moments(gold, predicted)
    origin = moments.pooled().gold_mean
    x, y = moments.gold_mean - origin, moments.mean - origin
    products = (moments.gold_variance + x**2, moments.variance + y**2, moments.covariance + x * y)
    return moments.frames * np.concatenate([np.ones_like(x), x, y, *products], axis=1)


def ccc_of_sums(sums: np.ndarray) -> np.ndarray:
    """Returns the pooled CCC, [...], of sums of moments, [..., 6]; 0 where a signal is constant."""
    _, x, y, xx, yy, xy = np.moveaxis(sums / sums[..., :1], -1, 0)
    variances = xx - x**2, yy - y**2
    # Rounding gives constants a variance of about 1e-16 times their square.
    constant = (variances[0] <= _ROUNDING * xx) | (variances[1] <= _ROUNDING * yy)
    denominator = variances[0] + variances[1] + (x - y) ** 2
    return np.where(constant, 0.0, 2.0 * (xy - x * y) / np.where(constant, 1.0, denominator))


def _moments(gold: Signals, predicted: Signals) -> Moments:
    pairs = zip(gold, predicted, strict=True)
    return Moments.stacked([Moments.of(np.asarray(x, np.float64), [np.asarray(y, np.float64)]) for x, y in pairs])


def _own_cccs(gold: Signals, predicted: Signals) -> np.ndarray:
    """Returns the CCC of each recording, [recordings]."""
    return np.array([concordance_cc(*pair) for pair in zip(gold, predicted, strict=True)])


def _difference(
    drawn: Callable[[np.ndarray], np.ndarray], swapped: Callable[[np.ndarray], np.ndarray], recordings: int
) -> PairedDifference:
    p_value, exact = sign_flip_p_value(swapped, recordings)
    return PairedDifference(
        difference=float(drawn(np.arange(recordings))),
        ci95=interval_over_recordings(drawn, recordings, 2.0),
        p_value=p_value,
        recordings=recordings,
        exact=exact,
    )
