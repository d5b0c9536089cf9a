"""The cautious chain keeps what helps on recordings that it was not fitted on, and refuses what fits noise."""

import numpy as np
import pytest

from affect.evaluation.cautious import fit_cautious, fit_dimension, leave_one_out
from affect.evaluation.chain import LeaveOneOut, PostProcessing
from affect.evaluation.postprocess import DevelopmentSet, fit, pooled_ccc
from affect.metrics import concordance_cc
from tests.helpers import plain_chain

FRAME_RATE = 25
RAW = PostProcessing(FRAME_RATE)


def curve(seed, frames=1000):
    """40 s of smooth noise, 0 at both ends for longer than the longest shift."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / FRAME_RATE
    waves = sum(rng.normal() * np.sin(2 * np.pi * rng.uniform(0.05, 0.3) * t + rng.uniform(0, 6)) for _ in range(6))
    return 0.15 * waves * np.clip(np.minimum(t - 11, t[-1] - 11 - t) / 2, 0, 1)


def walks(seed, lengths, gain=0.5, offset=0.3, shift=2):
    """Short random curves and noisy, early predictions of them."""
    rng = np.random.default_rng(seed)
    gold = [np.cumsum(rng.normal(size=frames)) * 0.1 + rng.normal() * 0.1 for frames in lengths]
    return gold, [
        gain * np.roll(signal, -shift) + offset + 0.1 * rng.normal(size=signal.size) + 0.1 * rng.normal()
        for signal in gold
    ]


def test_one_outlying_dev_recording_makes_the_paper_centre_and_hurt_test_but_not_the_cautious_chain():
    dev, test = ([curve(seed) for seed in seeds] for seeds in (range(5), range(5, 10)))
    # The offset of one recording is noise: it says nothing about the others, nor about test.
    predicted = [dev[0] + 0.8, *dev[1:]]
    paper, cautious = fit(dev, predicted, FRAME_RATE), fit_cautious(dev, predicted, FRAME_RATE)
    assert paper.offset == pytest.approx(-0.16, abs=0.01)
    assert pooled_ccc(paper, dev, predicted) > pooled_ccc(RAW, dev, predicted) + 0.02
    assert pooled_ccc(paper, test, test) < 0.9
    assert cautious == RAW
    assert pooled_ccc(cautious, test, test) == pytest.approx(1.0)
    estimate = leave_one_out(dev, predicted, FRAME_RATE)
    assert estimate.paper < estimate.raw == estimate.cautious


def test_a_window_and_a_shift_that_only_fit_noise_are_refused():
    gold, predicted = [curve(seed) for seed in range(5)], [curve(seed) for seed in range(20, 25)]
    paper = fit(gold, predicted, FRAME_RATE)
    assert paper.shift_frames > 0
    assert pooled_ccc(paper, gold, predicted) > pooled_ccc(RAW, gold, predicted) + 0.15
    assert fit_cautious(gold, predicted, FRAME_RATE) == RAW
    estimate = leave_one_out(gold, predicted, FRAME_RATE)
    assert estimate.paper < estimate.raw - 0.1  # the predictions have nothing to do with the gold standard


def test_a_real_gain_offset_and_delay_are_kept_and_a_useless_median_filter_is_not():
    gold = [curve(seed) for seed in range(5)]
    predicted = [0.4 * np.roll(signal, -50) + 0.2 for signal in gold]
    chain = fit_cautious(gold, predicted, FRAME_RATE)
    assert (chain.median_frames, chain.shift_frames) == (1, 50)
    assert chain.gain == pytest.approx(2.5, abs=1e-6)
    assert pooled_ccc(chain, gold, predicted) == pytest.approx(1.0, abs=1e-9)
    estimate = leave_one_out(gold, predicted, FRAME_RATE)
    assert (estimate.paper, estimate.cautious) == pytest.approx((1.0, 1.0), abs=1e-9)
    assert estimate.raw < 0.3


def test_a_real_gain_and_offset_are_kept_under_noise_that_the_median_filter_removes():
    gold = [curve(seed) for seed in range(5)]
    rng = np.random.default_rng(0)
    predicted = [0.4 * signal + 0.2 + rng.normal(0, 0.05, signal.size) for signal in gold]
    chain = fit_cautious(gold, predicted, FRAME_RATE)
    assert chain.median_frames > 1
    assert chain.gain == pytest.approx(2.5, rel=0.2)
    assert chain.apply(np.full(3, 0.2)) == pytest.approx([0.0] * 3, abs=0.05)


def test_gains_of_each_recording_are_kept_where_statistics_are_of_the_recording():
    gold = [(signal - signal.mean()) / signal.std() * 0.2 + 0.1 for signal in map(curve, range(5))]
    gains, offsets = (0.2, 1.0, 5.0, 0.5, 2.0), (0.3, -0.2, 0.0, 0.5, -0.5)
    predicted = [gain * signal + offset for gain, signal, offset in zip(gains, gold, offsets, strict=True)]
    chain = fit_cautious(gold, predicted, FRAME_RATE, statistics="recording")
    assert (chain.recording_mean, chain.recording_deviation) == pytest.approx((0.1, 0.2), abs=1e-9)
    assert leave_one_out(gold, predicted, FRAME_RATE, "recording").cautious == pytest.approx(1.0, abs=1e-9)
    assert leave_one_out(gold, predicted, FRAME_RATE).cautious < 0.6


def plain_left_out(gold, predicted, frame_rate, steps, statistics):
    """The left-out predictions of a choice of steps by plain loops."""
    result = []
    for index in range(len(gold)):
        others = [[signal for i, signal in enumerate(signals) if i != index] for signals in (gold, predicted)]
        chain = plain_chain.fit_steps(*others, frame_rate, steps, statistics)
        result.append(plain_chain.apply(chain, predicted[index]))
    return result


def plain_choice(gold, left_out):
    """The rule of the module's docstring, word for word, with signals instead of moments."""

    def worth_it(larger, smaller):
        parts = [[i for i in range(len(gold)) if i != without] for without in range(len(gold))]
        differences = np.array(
            [
                plain_chain.ccc([gold[i] for i in part], [left_out[larger][i] for i in part])
                - plain_chain.ccc([gold[i] for i in part], [left_out[smaller][i] for i in part])
                for part in parts
            ]
        )
        n = len(gold)
        error = np.sqrt((n - 1) / n * np.sum((differences - differences.mean()) ** 2))
        return plain_chain.ccc(gold, left_out[larger]) - plain_chain.ccc(gold, left_out[smaller]) > error + 1e-9

    qualifying = [
        steps for steps in left_out if all(worth_it(steps, fewer) for fewer in left_out if set(fewer) < set(steps))
    ]
    return max(qualifying, key=lambda steps: plain_chain.ccc(gold, left_out[steps]))


@pytest.mark.parametrize("statistics", ["partition", "recording"])
def test_the_choice_of_steps_equals_plain_loops(statistics):
    chosen = set()
    for seed, gain, offset, shift in ((0, 0.5, 0.3, 2), (1, 1.0, 0.0, 0), (2, 0.4, 0.0, 4)):
        gold, predicted = walks(seed, (30, 40, 45, 50), gain, offset, shift)
        left_out = {steps: plain_left_out(gold, predicted, 2, steps, statistics) for steps in plain_chain.choices()}
        steps = plain_choice(gold, left_out)
        expected = plain_chain.fit_steps(gold, predicted, 2, steps, statistics)
        chain = fit_cautious(gold, predicted, 2, statistics)
        for signal in predicted:
            np.testing.assert_allclose(chain.apply(signal), plain_chain.apply(expected, signal), rtol=0, atol=1e-9)
        chosen.add(steps)
    assert len(chosen) > 1


@pytest.mark.parametrize("statistics", ["partition", "recording"])
def test_the_estimate_is_the_ccc_of_recordings_that_nothing_was_fitted_on_the_choice_of_steps_included(statistics):
    gold, predicted = walks(3, (60, 90, 80, 120, 70))
    processed = {"paper": [], "cautious": []}
    for index in range(len(gold)):
        others = [[signal for i, signal in enumerate(signals) if i != index] for signals in (gold, predicted)]
        for name, fitted in (("paper", fit), ("cautious", fit_cautious)):
            processed[name].append(fitted(*others, 5, statistics).apply(predicted[index]))
    estimate = leave_one_out(gold, predicted, 5, statistics)
    assert estimate.raw == pytest.approx(plain_chain.ccc(gold, predicted), abs=1e-9)
    for name, curves in processed.items():
        expected = concordance_cc(np.concatenate(gold), np.concatenate(curves))
        assert getattr(estimate, name) == pytest.approx(expected, abs=1e-9)


def test_changing_the_gold_of_a_recording_changes_no_prediction_that_is_made_of_it():
    gold, predicted = walks(4, (60, 90, 80, 120))
    development = DevelopmentSet(gold, predicted, 5)
    poisoned = DevelopmentSet([*gold[:3], -5.0 * gold[3]], predicted, 5)
    assert development.fit([0, 1, 2]) == poisoned.fit([0, 1, 2]) == fit(gold[:3], predicted[:3], 5)
    assert development.fit() != poisoned.fit()


def test_with_fewer_than_three_recordings_there_is_no_estimate_and_no_step_is_kept():
    gold = [curve(seed) for seed in range(2)]
    predicted = [0.4 * signal + 0.2 for signal in gold]
    for count in (1, 2):
        assert leave_one_out(gold[:count], predicted[:count], FRAME_RATE) is None
        assert fit_cautious(gold[:count], predicted[:count], FRAME_RATE) == RAW


def test_with_three_recordings_steps_are_kept_but_the_estimate_of_the_cautious_chain_is_the_raw_one():
    gold = [curve(seed) for seed in range(3)]
    predicted = [0.4 * signal + 0.2 for signal in gold]
    assert fit_cautious(gold, predicted, FRAME_RATE).gain == pytest.approx(2.5, abs=1e-6)
    estimate = leave_one_out(gold, predicted, FRAME_RATE)
    assert estimate == LeaveOneOut(estimate.raw, pytest.approx(1.0, abs=1e-9), estimate.raw)


@pytest.mark.parametrize("statistics", ["partition", "recording"])
def test_everything_that_is_fitted_at_once_is_what_the_single_functions_fit(statistics):
    data = (*walks(5, (60, 90, 80, 120)), 5, statistics)
    assert fit_dimension(*data) == (fit(*data), fit_cautious(*data), leave_one_out(*data))
