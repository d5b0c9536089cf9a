"""Moments per recording give the pooled CCC of concatenated, transformed and delayed signals."""

import weakref

import numpy as np
import pytest

from affect.evaluation.chain import delay
from affect.evaluation.moments import Moments
from affect.metrics import concordance_cc

LENGTHS = (40, 75, 3)


def recordings(seed=0, level=0.0):
    rng = np.random.default_rng(seed)
    gold = [np.cumsum(rng.normal(size=frames)) + rng.normal() + level for frames in LENGTHS]
    return gold, [0.4 * signal + rng.normal(size=signal.size) + 0.7 + level for signal in gold]


@pytest.mark.parametrize("level", [0.0, 1e6], ids=["around 0", "around a million"])
def test_the_pooled_ccc_is_that_of_the_concatenated_signals(level):
    gold, predicted = recordings(level=level)
    moments = Moments.stacked([Moments.of(one, [signal]) for one, signal in zip(gold, predicted, strict=True)])
    expected = concordance_cc(np.concatenate(gold), np.concatenate(predicted))
    np.testing.assert_allclose(moments.ccc(), [expected], rtol=0, atol=1e-9)
    expected = concordance_cc(np.concatenate(gold[1:]), np.concatenate(predicted[1:]))
    np.testing.assert_allclose(moments.rows([1, 2]).ccc(), [expected], rtol=0, atol=1e-9)


def test_only_one_version_of_a_prediction_is_held_at_a_time():
    gold = np.arange(50.0)
    alive = []

    def versions():
        for scale in (1.0, 2.0, 3.0):
            version = scale * gold
            alive.append(weakref.ref(version))
            assert sum(reference() is not None for reference in alive) <= 2  # the last one, until it is replaced
            yield version

    np.testing.assert_allclose(Moments.of(gold, versions()).covariance, [np.var(gold) * np.array([1.0, 2.0, 3.0])])


def test_every_delay_is_that_of_the_delayed_signal_even_beyond_the_end_of_a_recording():
    gold, predicted = recordings()
    moments = [Moments.of_delays(one, signal, 60) for one, signal in zip(gold, predicted, strict=True)]
    for frames in range(61):
        delayed = [delay(signal, frames) for signal in predicted]
        for part, one, signal in zip(moments, gold, delayed, strict=True):
            assert part.mean[0, frames] == pytest.approx(signal.mean(), abs=1e-12)
            assert part.variance[0, frames] == pytest.approx(signal.var(), abs=1e-12)
            assert part.covariance[0, frames] == pytest.approx(np.mean((one - one.mean()) * signal), abs=1e-12)
        expected = concordance_cc(np.concatenate(gold), np.concatenate(delayed))
        assert Moments.stacked(moments).ccc()[frames] == pytest.approx(expected, abs=1e-9)


def test_centring_and_scaling_of_each_recording_need_no_signal():
    gold, predicted = recordings()
    slope, intercept = np.array([[2.0], [0.5], [1.0]]), np.array([[0.1], [-0.3], [0.0]])
    moments = Moments.stacked([Moments.of(one, [signal]) for one, signal in zip(gold, predicted, strict=True)])
    changed = [s * signal + i for s, i, signal in zip(slope, intercept, predicted, strict=True)]
    expected = concordance_cc(np.concatenate(gold), np.concatenate(changed))
    np.testing.assert_allclose(moments.affine(slope, intercept).ccc(), [expected], rtol=0, atol=1e-9)


@pytest.mark.parametrize("constant", ["gold", "predicted", "both"])
def test_constants_score_0_although_a_tenth_is_not_exact(constant):
    gold, predicted = recordings()
    flat = [np.full(frames, 0.1) for frames in LENGTHS]
    gold = gold if constant == "predicted" else flat
    predicted = predicted if constant == "gold" else flat
    plain = Moments.stacked([Moments.of(*pair) for pair in zip(gold, [[p] for p in predicted], strict=True)])
    assert plain.ccc() == [0.0]
    delays = Moments.stacked([Moments.of_delays(*pair, 5) for pair in zip(gold, predicted, strict=True)])
    np.testing.assert_allclose(delays.ccc(), np.zeros(6), rtol=0, atol=1e-12)
