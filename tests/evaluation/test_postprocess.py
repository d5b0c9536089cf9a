"""The post-processing chain: planted delay, gain and offset are found again; nothing ever gets worse on dev."""

import numpy as np
import pytest

from affect.errors import UserError
from affect.evaluation.postprocess import PostProcessing, fit, pooled_ccc

FRAME_RATE = 25


def curve(seed, frames=1500):
    """A smooth noise-free curve that is still at both ends, so that a shift loses nothing."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / FRAME_RATE
    waves = sum(rng.normal() * np.sin(2 * np.pi * rng.uniform(0.03, 0.3) * t + rng.uniform(0, 6)) for _ in range(6))
    fade = np.clip(np.minimum(t - 11, t[-1] - 11 - t) / 2, 0, 1)
    return 0.2 * waves * fade


@pytest.mark.parametrize(("delay", "gain", "offset"), [(7, 2.5, 0.2), (45, 0.4, -0.3), (0, 3.0, 0.0), (250, 1.0, 0.1)])
def test_planted_delay_gain_and_offset_are_recovered(delay, gain, offset):
    predicted = [curve(seed) for seed in range(3)]
    gold = [gain * np.roll(signal, delay) + offset for signal in predicted]
    chain = fit(gold, predicted, FRAME_RATE)
    assert chain.shift_frames == delay
    assert chain.gain == pytest.approx(gain, rel=1e-6)
    np.testing.assert_allclose(chain.apply(np.zeros(10)), offset, atol=1e-6)
    assert pooled_ccc(chain, gold, predicted) == pytest.approx(1.0, abs=1e-9)


def test_noise_on_a_slow_curve_is_taken_off_by_the_median():
    gold = [curve(seed) for seed in range(3)]
    rng = np.random.default_rng(0)
    noisy = [signal + rng.normal(0, 0.2, signal.size) for signal in gold]
    chain = fit(gold, noisy, FRAME_RATE)
    assert chain.median_frames > 1
    assert pooled_ccc(chain, gold, noisy) > pooled_ccc(PostProcessing(FRAME_RATE), gold, noisy) + 0.05


def test_a_perfect_prediction_is_left_alone():
    gold = [curve(seed) for seed in range(2)]
    assert fit(gold, gold, FRAME_RATE) == PostProcessing(FRAME_RATE)


@pytest.mark.parametrize("seed", range(5))
def test_development_ccc_never_falls_even_for_unrelated_or_mirrored_predictions(seed):
    rng = np.random.default_rng(seed)
    gold = [curve(seed, 700) for _ in range(2)]
    predicted = [-signal + rng.normal(0.3, 0.3, signal.size) for signal in gold]
    chain = fit(gold, predicted, FRAME_RATE)
    assert pooled_ccc(chain, gold, predicted) >= pooled_ccc(PostProcessing(FRAME_RATE), gold, predicted)


def test_apply_runs_median_centring_scaling_shift_in_this_order():
    chain = PostProcessing(FRAME_RATE, median_frames=3, offset=1.0, gain=2.0, centre=0.5, shift_frames=1)
    # median of 3: the spike goes; then (x + 1 - 0.5) * 2 + 0.5; then one frame later, the first value held
    np.testing.assert_allclose(chain.apply(np.array([0.0, 9.0, 0.0, 0.0, 1.0, 1.0])), [1.5, 1.5, 1.5, 1.5, 1.5, 3.5])


def test_json_round_trip_gives_an_equal_chain():
    chain = PostProcessing(25.0, 11, 0.125, 1.5, -0.25, 17)
    assert PostProcessing.from_json(chain.to_json()) == chain
    with pytest.raises(UserError, match="not a post-processing chain"):
        PostProcessing.from_json('{"gain": 1}')


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        fit([np.zeros(5)], [np.zeros(4)], FRAME_RATE)
    with pytest.raises(ValueError, match="not empty"):
        fit([], [], FRAME_RATE)
