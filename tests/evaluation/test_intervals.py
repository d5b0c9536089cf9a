"""Intervals over recordings and the sign-flip test, compared with direct computations on the signals."""

import itertools
import runpy

import numpy as np
import pytest
from scipy import stats

from affect.errors import UserError
from affect.evaluation import intervals
from affect.evaluation.curves import Prediction
from affect.evaluation.intervals import ccc_intervals, compare_predictions, paired_difference
from affect.metrics import concordance_cc
from tests.helpers.commands import REPOSITORY


def draw(recordings, seed=0, noise=(0.4, 0.6)):
    """Gold standard and two predictions; recordings differ in length, level and difficulty."""
    rng = np.random.default_rng(seed)
    gold, first, second = [], [], []
    for _ in range(recordings):
        signal = rng.normal(rng.normal(), 1.0, rng.integers(30, 60))
        gold.append(signal)
        for predictions, level in ((first, noise[0]), (second, noise[1])):
            predictions.append(0.7 * signal + rng.normal(rng.normal(0, 0.2), level, len(signal)))
    return gold, first, second


def pooled_ccc(gold, predicted, drawn):
    return concordance_cc(np.concatenate([gold[i] for i in drawn]), np.concatenate([predicted[i] for i in drawn]))


def test_the_pooled_ccc_of_a_resample_follows_from_the_moments_of_its_recordings():
    gold, predicted, _ = draw(6)
    sums = intervals.moment_sums(gold, predicted)
    for drawn in ([0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5], [5, 5, 2, 1, 1, 0]):
        expected = pooled_ccc(gold, predicted, drawn)
        assert intervals.ccc_of_sums(sums[drawn].sum(axis=0)) == pytest.approx(expected, abs=1e-12)


def test_signals_that_hardly_vary_keep_their_digits():
    gold = [1000.0 + 1e-4 * signal for signal in draw(5)[0]]
    predicted = [signal + 1e-5 for signal in gold]
    value = intervals.ccc_of_sums(intervals.moment_sums(gold, predicted).sum(axis=0))
    assert value == pytest.approx(pooled_ccc(gold, predicted, range(5)), rel=1e-6)


def test_a_constant_prediction_has_the_interval_from_zero_to_zero():
    gold = draw(6)[0]
    found = ccc_intervals(gold, [np.full_like(signal, 0.1) for signal in gold])
    assert found == ((0.0, 0.0), (0.0, 0.0))


def test_the_interval_of_a_mean_is_as_wide_as_hesterberg_says():
    # For a mean, the bootstrap distribution is nearly normal with s sqrt((n - 1) / n) / sqrt(n), and the widened
    # percentiles are at t sqrt(n / (n - 1)) of it: the ends of a t-interval. Hesterberg (2015), section 3.2.
    values = 0.2 * stats.norm.ppf((np.arange(12) + 0.5) / 12)
    low, high = intervals.interval_over_recordings(lambda drawn: values[drawn].mean(axis=-1), 12, 1.0)
    half = stats.t.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
    np.testing.assert_allclose([low, high], values.mean() + np.array([-half, half]), atol=0.06 * half)
    plain = stats.bootstrap((values,), np.mean, method="percentile", random_state=0).confidence_interval
    assert high - low > 1.15 * (plain.high - plain.low)


def test_intervals_are_over_recordings_and_not_over_frames():
    gold, predicted, _ = draw(8)
    once = ccc_intervals(gold, predicted)
    fifty_times = ccc_intervals([np.tile(x, 50) for x in gold], [np.tile(x, 50) for x in predicted])
    for kind in ("pooled", "per_recording"):
        np.testing.assert_allclose(getattr(fifty_times, kind), getattr(once, kind), atol=1e-9)


def test_equal_signals_give_equal_intervals_which_hold_the_score_and_stay_within_the_possible():
    gold, predicted, _ = draw(5, seed=2)
    found = ccc_intervals(gold, predicted)
    assert found == ccc_intervals(gold, predicted)
    low, high = found.pooled
    assert -1.0 <= low < pooled_ccc(gold, predicted, range(5)) < high <= 1.0
    assert ccc_intervals(gold, gold).pooled[1] <= 1.0


@pytest.mark.parametrize(("recordings", "known"), [(1, False), (4, False), (5, True)])
def test_too_few_recordings_have_no_interval(recordings, known):
    gold, first, second = draw(recordings)
    found = [*ccc_intervals(gold, first), paired_difference(gold, first, second).pooled.ci95]
    assert [one is not None for one in found] == [known] * 3


@pytest.mark.parametrize("seed", [0, 2])
def test_the_sign_flip_test_counts_all_ways_to_swap_the_systems(seed):
    gold, first, second = draw(7, seed, noise=(0.5, 0.52))
    count, differences = len(gold), {"pooled": [], "per_recording": []}
    for swaps in itertools.product((False, True), repeat=count):
        a = [y if swap else x for swap, x, y in zip(swaps, first, second, strict=True)]
        b = [x if swap else y for swap, x, y in zip(swaps, first, second, strict=True)]
        differences["pooled"].append(pooled_ccc(gold, a, range(count)) - pooled_ccc(gold, b, range(count)))
        cccs = [concordance_cc(g, x) - concordance_cc(g, y) for g, x, y in zip(gold, a, b, strict=True)]
        differences["per_recording"].append(np.mean(cccs))
    comparison = paired_difference(gold, first, second)
    for kind, all_ways in differences.items():
        found, all_ways = getattr(comparison, kind), np.abs(all_ways)
        assert found.difference == pytest.approx(differences[kind][0], abs=1e-12)
        assert found.p_value == pytest.approx(np.mean(all_ways >= all_ways[0] - 1e-12))
        assert 2 / 2**count < found.p_value < 1.0  # neither of the two values that little can break
        assert (found.recordings, found.exact) == (count, True)


def test_a_system_that_is_better_in_every_recording_has_the_smallest_possible_p():
    gold, first, _ = draw(9)
    comparison = paired_difference(gold, first, [-x for x in first])
    assert comparison.per_recording.p_value == 2 / 2**9
    assert comparison.per_recording.ci95[0] > 0.0


def test_equal_systems_do_not_differ():
    gold, first, _ = draw(9)
    for found in (paired_difference(gold, first, first).pooled, paired_difference(gold, first, first).per_recording):
        assert (found.difference, found.ci95, found.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_many_recordings_get_random_flips_near_the_exact_p(monkeypatch):
    gold, first, second = draw(16, noise=(0.5, 0.55))
    exact = paired_difference(gold, first, second)
    monkeypatch.setattr(intervals, "MAX_EXACT", 15)
    random = paired_difference(gold, first, second)
    assert exact.pooled.exact and not random.pooled.exact
    for kind in ("pooled", "per_recording"):
        p = getattr(exact, kind).p_value
        assert getattr(random, kind).p_value == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 10_000) + 1e-4)
        assert 0.001 < p < 0.999


def test_systems_are_compared_on_the_labelled_recordings_that_both_have():
    gold, first, second = ([np.stack([x, -x], axis=1) for x in signals] for signals in draw(7))
    names = [f"r{index}" for index in range(7)]
    a = [Prediction(*one) for one in zip(names, first, gold, strict=True)]
    b = [Prediction(*one) for one in zip(names, second, gold, strict=True)][::-1]
    b[0] = Prediction(b[0].recording, b[0].predicted, None)
    found = compare_predictions(a[1:], b)
    expected = paired_difference(*([x[:, 0] for x in signals[1:6]] for signals in (gold, first, second)))
    assert found["arousal"] == expected
    assert found["arousal"].pooled.recordings == 5
    with pytest.raises(UserError, match="no recording with a gold standard in common"):
        compare_predictions(a[:1], b[:3])


def test_another_gold_standard_is_refused():
    gold, first, second = ([np.stack([x, x], axis=1) for x in signals] for signals in draw(2))
    a = [Prediction(*one) for one in zip("xy", first, gold, strict=True)]
    b = [Prediction(*one) for one in zip("xy", second, [gold[0], gold[1] + 0.01], strict=True)]
    with pytest.raises(UserError, match="recording y: the two systems were scored on different gold standards"):
        compare_predictions(a, b)


@pytest.fixture(scope="module")
def bench():
    return runpy.run_path(str(REPOSITORY / "benchmarks/bench_coverage.py"))


def test_printed_intervals_of_nine_recordings_cover_the_true_value_and_plain_ones_too_rarely(bench):
    table = bench["coverage"]("valence-like", 9, 300, 300, ("printed", "percentile"))
    for name in ("pooled", "per recording", "difference, pooled", "difference, per recording"):
        assert 0.91 <= table["printed"][name][0] <= 0.98, name  # 95 % within three standard errors
        assert table["percentile"][name][0] < table["printed"][name][0] - 0.02, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arousal-like", "valence-like", "excellent", "weak"])
def test_printed_intervals_of_nine_recordings_cover_90_to_97_percent(bench, name):
    table = bench["coverage"](name, 9, 1000, 1000, ("printed",))
    for statistic, (covered, _) in table["printed"].items():
        assert 0.90 <= covered <= 0.97, statistic
