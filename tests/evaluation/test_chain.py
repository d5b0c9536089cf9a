"""Applying a post-processing chain, and its JSON."""

import json

import numpy as np
import pytest

from affect.errors import UserError
from affect.evaluation.chain import (
    FittedChains,
    LeaveOneOut,
    PostProcessing,
    delay,
    read_chains,
    read_fitted_chains,
)
from affect.storage import write_json
from tests.helpers import plain_chain

VALUES = {"frame_rate": 25, "median_frames": 11, "offset": 0.125, "gain": 1.5, "centre": -0.25, "shift_frames": 17}
OF_PARTITION = PostProcessing(25.0, 11, 0.125, 1.5, -0.25, 17)
OF_RECORDING = PostProcessing(25.0, 11, shift_frames=17, recording_mean=0.1, recording_deviation=0.2)


def test_the_steps_are_median_centring_scaling_shift_in_this_order():
    chain = PostProcessing(25.0, median_frames=3, offset=1.0, gain=2.0, centre=0.5, shift_frames=1)
    predicted = np.array([0.0, 9.0, 0.0, 0.0, 1.0, 1.0], dtype=np.float32)
    steps = chain.after_steps(predicted)
    assert list(steps) == ["raw", "median", "centring", "scaling", "shift"]
    np.testing.assert_array_equal(steps["raw"], predicted)
    np.testing.assert_allclose(steps["median"], [0, 0, 0, 0, 1, 1])  # the spike is gone
    np.testing.assert_allclose(steps["centring"], [1, 1, 1, 1, 2, 2])
    np.testing.assert_allclose(steps["scaling"], [1.5, 1.5, 1.5, 1.5, 3.5, 3.5])  # (x - 0.5) * 2 + 0.5
    np.testing.assert_allclose(steps["shift"], [1.5, 1.5, 1.5, 1.5, 1.5, 3.5])  # the first value is held
    np.testing.assert_array_equal(chain.apply(predicted), steps["shift"])


def test_per_recording_every_recording_gets_the_same_mean_and_deviation():
    chain = PostProcessing(25.0, recording_mean=0.5, recording_deviation=2.0)
    np.testing.assert_allclose(chain.apply(np.array([1.0, 3.0, 1.0, 3.0])), [-1.5, 2.5, -1.5, 2.5])
    np.testing.assert_allclose(chain.apply(np.array([7.0, 7.2, 7.0, 7.2])), [-1.5, 2.5, -1.5, 2.5])
    np.testing.assert_array_equal(chain.apply(np.full(4, 0.1)), np.full(4, 0.5))  # a constant has no deviation


def test_per_recording_scaling_alone_keeps_the_mean_and_centring_alone_the_deviation():
    predicted = np.array([1.0, 3.0, 1.0, 3.0])
    np.testing.assert_allclose(PostProcessing(25.0, recording_deviation=2.0).apply(predicted), [0, 4, 0, 4])
    np.testing.assert_allclose(PostProcessing(25.0, recording_mean=0.5).apply(predicted), [-0.5, 1.5, -0.5, 1.5])


@pytest.mark.parametrize("frames", [1, 9, 60])
@pytest.mark.parametrize("chain", [OF_PARTITION, OF_RECORDING], ids=["partition", "recording"])
def test_a_chain_equals_plain_loops_on_recordings_longer_and_shorter_than_its_window(chain, frames):
    predicted = np.random.default_rng(frames).normal(size=frames)
    names = ("median_frames", "recording_mean", "recording_deviation", "shift_frames")
    plain = {name.removeprefix("recording_").removesuffix("_frames"): getattr(chain, name) for name in names}
    plain |= {"offset": chain.offset, "gain": chain.gain, "centre": chain.centre}
    np.testing.assert_allclose(chain.apply(predicted), plain_chain.apply(plain, predicted), rtol=0, atol=1e-9)


def test_delay_holds_the_first_value_and_keeps_the_length():
    signal = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
    np.testing.assert_array_equal(delay(signal, 2), [[1, 5], [1, 5], [1, 5]])
    np.testing.assert_array_equal(delay(signal[:, 0], 1), [1, 1, 2])
    np.testing.assert_array_equal(delay(signal[:, 0], 7), [1, 1, 1])
    assert delay(signal, 0) is signal


@pytest.mark.parametrize("chain", [OF_PARTITION, OF_RECORDING], ids=["partition", "recording"])
def test_json_round_trip_gives_an_equal_chain(chain):
    assert PostProcessing.from_json(chain.to_json()) == chain


def test_chains_written_by_version_0_1_0_are_read(tmp_path):
    path = tmp_path / "postprocessing.json"
    path.write_text(json.dumps({"arousal": VALUES, "valence": {"frame_rate": 25}}, indent=2) + "\n")
    assert read_chains(path) == {"arousal": OF_PARTITION, "valence": PostProcessing(25.0)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_rate": 0}, "frame_rate is 0.0; it must be positive"),
        ({"median_frames": 0}, "median_frames is 0; it must be odd and at least 1"),
        ({"median_frames": 10}, "median_frames is 10; it must be odd and at least 1"),
        ({"gain": -0.5}, "gain is -0.5; it must be at least 0"),
        ({"shift_frames": -1}, "shift_frames is -1; it must be at least 0"),
        ({"recording_deviation": -1}, "recording_deviation is -1.0; it must be at least 0"),
        ({"offset": "0.1"}, r"Expected `float`, got `str` - at `\$.offset`"),
        ({"gain": None}, r"Expected `float`, got `null` - at `\$.gain`"),
        ({"delay": 3}, "unknown field `delay`"),
    ],
)
def test_chains_with_impossible_values_are_refused_by_name(change, message):
    with pytest.raises(UserError, match=f"post-processing chain: .*{message}"):
        PostProcessing.from_json(json.dumps(VALUES | change))


@pytest.mark.parametrize("field", ["recording_mean", "recording_deviation"])
def test_a_chain_with_values_of_the_partition_and_of_each_recording_is_refused(field):
    for name, value, expected in (("offset", 0.1, 0.0), ("gain", 2.0, 1.0), ("centre", 0.1, 0.0)):
        message = f"{name} is {value}; it must be {expected} in a chain with statistics of each recording"
        with pytest.raises(ValueError, match=message):
            PostProcessing(25.0, **{name: value, field: 0.2})


def test_chains_that_are_not_finite_are_refused():
    for name in ("gain", "recording_mean"):
        with pytest.raises(ValueError, match=f"{name} is nan; it must be finite"):
            PostProcessing(25.0, **{name: float("nan")})
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


def fitted(**fields):
    chains = {"arousal": OF_PARTITION, "valence": PostProcessing(25.0)}
    estimates = {"arousal": LeaveOneOut(0.5, 0.4, 0.5), "valence": None}
    return FittedChains(paper=chains, cautious=dict.fromkeys(chains, OF_RECORDING), leave_one_out=estimates, **fields)


def test_all_fitted_chains_are_read_as_they_were_written(tmp_path):
    path, content = tmp_path / "chains.json", fitted(chosen="cautious", statistics="recording")
    write_json(path, content)
    assert read_fitted_chains(path) == content


def test_the_chosen_chains_are_the_papers_the_cautious_ones_or_none():
    assert fitted().chosen_chains() == fitted().paper
    assert fitted(chosen="cautious").chosen_chains() == fitted().cautious
    assert fitted(chosen="none").chosen_chains() == dict.fromkeys(("arousal", "valence"), PostProcessing(25.0))


def test_a_file_of_fitted_chains_without_a_dimension_or_with_unknown_fields_is_refused(tmp_path):
    path = tmp_path / "chains.json"
    with pytest.raises(UserError, match=r"chains\.json does not exist; was the run evaluated by eval\.py\?"):
        read_fitted_chains(path)
    content = json.loads(json.dumps({"paper": {"arousal": VALUES}, "cautious": {}, "leave_one_out": {}}))
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="expected 'paper' of arousal and valence, got arousal; run eval.py again"):
        read_fitted_chains(path)
    path.write_text(json.dumps(content | {"best": 1}))
    with pytest.raises(UserError, match="unknown field `best`"):
        read_fitted_chains(path)
