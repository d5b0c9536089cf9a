"""The post-processing chain: planted delay, gain and offset are recovered; the score on dev never gets worse."""

import json

import numpy as np
import pytest

from affect.errors import UserError
from affect.evaluation import postprocess
from affect.evaluation.postprocess import PostProcessing, delay, fit, pooled_ccc, read_chains

FRAME_RATE = 25


def curve(seed, frames=1500):
    """A smooth noise-free curve that is 0 at both ends, so that a shift loses nothing."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / FRAME_RATE
    waves = sum(rng.normal() * np.sin(2 * np.pi * rng.uniform(0.03, 0.3) * t + rng.uniform(0, 6)) for _ in range(6))
    fade = np.clip(np.minimum(t - 11, t[-1] - 11 - t) / 2, 0, 1)
    return 0.2 * waves * fade


@pytest.mark.parametrize(
    ("delay_frames", "gain", "offset"), [(7, 2.5, 0.2), (45, 0.4, -0.3), (0, 3.0, 0.0), (250, 1.0, 0.1)]
)
def test_planted_delay_gain_and_offset_are_recovered(delay_frames, gain, offset):
    predicted = [curve(seed) for seed in range(3)]
    gold = [gain * np.roll(signal, delay_frames) + offset for signal in predicted]
    chain = fit(gold, predicted, FRAME_RATE)
    assert chain.shift_frames == delay_frames
    assert chain.gain == pytest.approx(gain, rel=1e-6)
    np.testing.assert_allclose(chain.apply(np.zeros(10)), offset, atol=1e-6)
    assert pooled_ccc(chain, gold, predicted) == pytest.approx(1.0, abs=1e-9)


def test_float32_predictions_give_the_chain_of_their_float64_values():
    predicted = [(curve(seed) + 1000.0).astype(np.float32) for seed in range(3)]
    gold = [0.5 * signal.astype(np.float64) + 0.1 for signal in predicted]
    assert fit(gold, predicted, FRAME_RATE) == fit(
        gold, [signal.astype(np.float64) for signal in predicted], FRAME_RATE
    )


@pytest.mark.parametrize(
    ("frames", "windows"), [(19, [11]), (20, [11, 21]), (10_000, list(range(11, 502, 10)))], ids=["19", "20", "10000"]
)
def test_median_windows_go_from_0_4_to_20_seconds_or_to_the_length_of_the_longest_recording(frames, windows):
    chains = postprocess._median_candidates(PostProcessing(25.0), [np.zeros(5), np.zeros(frames)])
    assert [chain.median_frames for chain in chains] == windows


def test_the_median_filter_removes_noise_from_a_slow_curve():
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
    # The median of 3 removes the spike; then (x + 1 - 0.5) * 2 + 0.5; then a delay of one frame, the first value held.
    np.testing.assert_allclose(chain.apply(np.array([0.0, 9.0, 0.0, 0.0, 1.0, 1.0])), [1.5, 1.5, 1.5, 1.5, 1.5, 3.5])


def test_json_round_trip_gives_an_equal_chain():
    chain = PostProcessing(25.0, 11, 0.125, 1.5, -0.25, 17)
    assert PostProcessing.from_json(chain.to_json()) == chain


VALUES = {"frame_rate": 25, "median_frames": 11, "offset": 0.125, "gain": 1.5, "centre": -0.25, "shift_frames": 17}


def test_chains_written_by_version_0_1_0_are_read(tmp_path):
    path = tmp_path / "postprocessing.json"
    path.write_text(json.dumps({"arousal": VALUES, "valence": {"frame_rate": 25}}, indent=2) + "\n")
    assert read_chains(path) == {
        "arousal": PostProcessing(25.0, 11, 0.125, 1.5, -0.25, 17),
        "valence": PostProcessing(25.0),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_rate": 0}, "frame_rate is 0.0; it must be positive"),
        ({"median_frames": 0}, "median_frames is 0; it must be odd and at least 1"),
        ({"median_frames": 10}, "median_frames is 10; it must be odd and at least 1"),
        ({"gain": -0.5}, "gain is -0.5; it must be at least 0"),
        ({"shift_frames": -1}, "shift_frames is -1; it must be at least 0"),
        ({"offset": "0.1"}, r"Expected `float`, got `str` - at `\$.offset`"),
        ({"gain": None}, r"Expected `float`, got `null` - at `\$.gain`"),
        ({"delay": 3}, "unknown field `delay`"),
    ],
)
def test_chains_with_impossible_values_are_refused_by_name(change, message):
    with pytest.raises(UserError, match=f"post-processing chain: .*{message}"):
        PostProcessing.from_json(json.dumps(VALUES | change))


def test_chains_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="gain is nan; it must be finite"):
        PostProcessing(25.0, gain=float("nan"))
    with pytest.raises(UserError, match="post-processing chain: gain is inf; it must be finite"):
        PostProcessing.from_json(json.dumps(VALUES | {"gain": float("inf")}))


def test_a_chain_without_frame_rate_is_refused():
    with pytest.raises(UserError, match="missing required field `frame_rate`"):
        PostProcessing.from_json('{"gain": 1}')


def test_a_chain_file_without_valence_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "postprocessing.json"
    path.write_text(json.dumps({"arousal": VALUES}))
    with pytest.raises(UserError) as refused:
        read_chains(path)
    assert str(refused.value) == f"{path}: expected the chains of arousal and valence, got arousal; run eval.py again"


def test_delay_holds_the_first_value_and_keeps_the_length():
    signal = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
    np.testing.assert_array_equal(delay(signal, 2), [[1, 5], [1, 5], [1, 5]])
    np.testing.assert_array_equal(delay(signal[:, 0], 1), [1, 1, 2])
    np.testing.assert_array_equal(delay(signal[:, 0], 7), [1, 1, 1])
    assert delay(signal, 0) is signal


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        fit([np.zeros(5)], [np.zeros(4)], FRAME_RATE)
    with pytest.raises(ValueError, match="not empty"):
        fit([], [], FRAME_RATE)
