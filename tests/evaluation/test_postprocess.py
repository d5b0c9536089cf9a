"""Fitting the chain: planted delay, gain and offset are recovered; the score on dev never gets worse."""

import numpy as np
import pytest

from affect.evaluation.chain import PostProcessing
from affect.evaluation.postprocess import fit, median_windows, pooled_ccc
from affect.metrics import concordance_cc
from tests.helpers import plain_chain

FRAME_RATE = 25


def curve(seed, frames=1500):
    """A smooth noise-free curve that is 0 at both ends, so that a shift loses nothing."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / FRAME_RATE
    waves = sum(rng.normal() * np.sin(2 * np.pi * rng.uniform(0.03, 0.3) * t + rng.uniform(0, 6)) for _ in range(6))
    fade = np.clip(np.minimum(t - 11, t[-1] - 11 - t) / 2, 0, 1)
    return 0.2 * waves * fade


@pytest.mark.parametrize(
    ("delay_frames", "gain", "offset"),
    [(7, 2.5, 0.2), (45, 0.4, -0.3), (0, 3.0, 0.0), (250, 1.0, 0.1), (75, 1.0, 0.0), (130, 2.5, 0.3)],
)
def test_planted_delay_gain_and_offset_are_recovered(delay_frames, gain, offset):
    predicted = [curve(seed) for seed in range(3)]
    gold = [gain * np.roll(signal, delay_frames) + offset for signal in predicted]
    chain = fit(gold, predicted, FRAME_RATE)
    assert chain.shift_frames == delay_frames
    assert chain.gain == pytest.approx(gain, rel=1e-6)
    np.testing.assert_allclose(chain.apply(np.zeros(10)), offset, atol=1e-6)
    assert pooled_ccc(chain, gold, predicted) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("delay_frames", [0, 60])
def test_gain_and_offset_of_each_recording_are_recovered_without_its_gold(delay_frames):
    gold = [(signal - signal.mean()) / signal.std() * 0.2 + 0.1 for signal in map(curve, range(3))]
    predicted = [
        gain * np.roll(signal, -delay_frames) + offset
        for signal, gain, offset in zip(gold, (0.5, 2.0, 0.1), (0.3, -0.2, 0.0), strict=True)
    ]
    chain = fit(gold, predicted, FRAME_RATE, statistics="recording")
    assert (chain.shift_frames, chain.offset, chain.gain) == (delay_frames, 0.0, 1.0)
    assert chain.recording_mean == pytest.approx(0.1, abs=1e-9)
    assert chain.recording_deviation == pytest.approx(0.2, abs=1e-9)
    assert pooled_ccc(chain, gold, predicted) == pytest.approx(1.0, abs=1e-9)
    assert pooled_ccc(fit(gold, predicted, FRAME_RATE), gold, predicted) < 0.8


@pytest.mark.parametrize("statistics", ["partition", "recording"])
@pytest.mark.parametrize("seed", range(3))
def test_the_fitted_chain_equals_plain_loops(seed, statistics):
    # At 3 frames a second, windows are 3 to 59 frames and shifts 0 to 30: longer than the first recording.
    rng = np.random.default_rng(seed)
    clean = [np.cumsum(rng.normal(size=frames)) * 0.1 for frames in (25, 60, 80)]
    gold = [signal + rng.normal() * 0.2 for signal in clean]
    predicted = [0.5 * np.roll(signal, -4) + 0.2 * rng.normal(size=signal.size) + 0.3 for signal in clean]
    expected = plain_chain.fit(gold, predicted, 3, statistics)
    chain = fit(gold, predicted, 3, statistics)
    assert (chain.median_frames, chain.shift_frames) == (expected["median"], expected["shift"])
    for name in ("offset", "gain", "centre"):
        assert getattr(chain, name) == pytest.approx(expected[name], abs=1e-9)
    assert chain.recording_mean == (None if expected["mean"] is None else pytest.approx(expected["mean"], abs=1e-9))
    deviation = expected["deviation"]
    assert chain.recording_deviation == (None if deviation is None else pytest.approx(deviation, abs=1e-9))
    plain = plain_chain.ccc(gold, [plain_chain.apply(expected, signal) for signal in predicted])
    assert pooled_ccc(chain, gold, predicted) == pytest.approx(plain, abs=1e-9)


def test_float32_predictions_give_the_chain_of_their_float64_values():
    predicted = [(curve(seed) + 1000.0).astype(np.float32) for seed in range(3)]
    gold = [0.5 * signal.astype(np.float64) + 0.1 for signal in predicted]
    assert fit(gold, predicted, FRAME_RATE) == fit(
        gold, [signal.astype(np.float64) for signal in predicted], FRAME_RATE
    )


@pytest.mark.parametrize(
    ("frame_rate", "frames", "windows"),
    [
        (25.0, 9, []),
        (25.0, 20, [11, 13, 15, 17, 19]),
        (25.0, 10_000, list(range(11, 500, 2))),
        (30.0, 10_000, list(range(13, 600, 2))),
        (1.0, 10_000, list(range(3, 20, 2))),
    ],
)
def test_median_windows_are_all_odd_ones_from_0_4_to_20_seconds_up_to_the_longest_recording(
    frame_rate, frames, windows
):
    assert median_windows(frame_rate, frames) == windows


def test_the_median_filter_removes_noise_from_a_slow_curve():
    gold = [curve(seed) for seed in range(3)]
    rng = np.random.default_rng(0)
    noisy = [signal + rng.normal(0, 0.2, signal.size) for signal in gold]
    chain = fit(gold, noisy, FRAME_RATE)
    assert chain.median_frames > 1
    assert pooled_ccc(chain, gold, noisy) > pooled_ccc(PostProcessing(FRAME_RATE), gold, noisy) + 0.05


@pytest.mark.parametrize("statistics", ["partition", "recording"])
def test_a_perfect_prediction_is_left_alone(statistics):
    gold = [curve(seed) for seed in range(2)]
    assert fit(gold, gold, FRAME_RATE, statistics) == PostProcessing(FRAME_RATE)


@pytest.mark.parametrize("statistics", ["partition", "recording"])
@pytest.mark.parametrize("seed", range(4))
def test_development_ccc_never_falls_even_for_unrelated_or_mirrored_predictions(seed, statistics):
    rng = np.random.default_rng(seed)
    gold = [curve(seed, 700) for _ in range(2)]
    predicted = [-signal + rng.normal(0.3, 0.3, signal.size) for signal in gold]
    chain = fit(gold, predicted, FRAME_RATE, statistics)
    assert pooled_ccc(chain, gold, predicted) >= concordance_cc(np.concatenate(gold), np.concatenate(predicted))


def test_constant_predictions_are_left_alone():
    gold = [curve(seed, 700) for seed in range(2)]
    for statistics in ("partition", "recording"):
        assert fit(gold, [np.full(700, 0.1)] * 2, FRAME_RATE, statistics) == PostProcessing(FRAME_RATE)
        assert fit([np.full(700, 0.1)] * 2, gold, FRAME_RATE, statistics) == PostProcessing(FRAME_RATE)


def test_per_recording_a_constant_recording_gets_the_mean_and_spoils_no_other():
    gold = [0.2 * signal / signal.std() for signal in (curve(seed, 700) for seed in range(3))]
    predicted = [0.5 * gold[0] + 0.3, np.full(700, 0.1), 3.0 * gold[2] - 0.4]
    chain = fit(gold, predicted, FRAME_RATE, "recording")
    gold_all = np.concatenate(gold)
    expected = (gold_all.mean(), gold_all.std(), 0)
    assert (chain.recording_mean, chain.recording_deviation, chain.shift_frames) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(chain.apply(predicted[1]), np.full(700, gold_all.mean()), rtol=0, atol=1e-9)


def test_lists_that_cannot_be_fitted_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        fit([np.zeros(5)], [np.zeros(4)], FRAME_RATE)
    for nothing in ([], [np.zeros(0)]):
        with pytest.raises(ValueError, match="not empty"):
            fit(nothing, nothing, FRAME_RATE)
    with pytest.raises(ValueError, match="gold and predicted must be finite"):
        fit([np.zeros(2)], [np.array([0.0, np.nan])], FRAME_RATE)
    with pytest.raises(ValueError, match="statistics is 'subject'; it must be one of partition, recording"):
        fit([np.zeros(2)], [np.zeros(2)], FRAME_RATE, "subject")
