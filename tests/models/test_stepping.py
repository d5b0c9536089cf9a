"""A stream gives the predictions of the whole-window network, however it is cut into chunks."""

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from affect.config import ModelConfig, modalities_of
from affect.errors import UserError
from affect.models.network import build_network
from affect.models.stepping import absent_frames, build_stepping_network, copy_weights, delay_frames, start_state, step
from affect.presets import get_preset

FRAMES = 27
# Odd and even taps whose reach ends within a frame. Conv 1 needs 4 samples ahead and conv 2 12 pooled steps, 28 samples
# in all, so the delay is two frames of 16 samples.
WHOLE = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(9, 24), audio_pool=2, audio_channel_pool=2, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="unit", lstm_units=(5, 6), dropout=0.0,
)  # fmt: skip
FRAMED = replace(WHOLE, audio_framed=True)
ODD = replace(WHOLE, audio_taps=(6, 31), frame_samples=18, audio_pool=3)


def both_networks(config, modality):
    keras.utils.set_random_seed(1)
    whole, stepping = build_network(config, modality), build_stepping_network(config, modality)
    # Biases other than zero, so that a response of conv 1 to silence in the padding would show.
    rng = np.random.default_rng(2)
    whole.set_weights([weight + 0.1 * rng.normal(size=weight.shape) ** 2 for weight in whole.get_weights()])
    copy_weights(whole, stepping)
    return whole, stepping


def frames_of(config, modality, batch, frames=FRAMES, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {}
    if "audio" in modalities_of(modality):
        inputs["audio"] = rng.normal(size=(batch, frames, config.frame_samples)).astype(np.float32)
    if "video" in modalities_of(modality):
        shape = (batch, frames, config.crop_size, config.crop_size, 3)
        inputs["video"] = rng.integers(0, 256, size=shape).astype(np.uint8)
    return inputs


def chunks(inputs, sizes):
    """Yields consecutive chunks of the given numbers of frames, all present."""
    start = 0
    for size in sizes:
        piece = {name: values[:, start : start + size] for name, values in inputs.items()}
        batch = next(iter(piece.values())).shape[0]
        yield piece | {"present": np.ones((batch, size), bool)}
        start += size


def stepped(network, pieces, state):
    """Runs all pieces; returns the valid predictions [frames, 2] of each stream, and the last state."""
    predictions, valid = [], []
    for piece in pieces:
        predicted, counted, state = step(network, piece, state)
        predictions.append(predicted)
        valid.append(counted)
    valid = np.concatenate(valid, axis=1)
    return [p[v] for p, v in zip(np.concatenate(predictions, axis=1), valid, strict=True)], state


def random_sizes(total, seed=5):
    rng, sizes = np.random.default_rng(seed), []
    while total:
        sizes.append(min(total, int(rng.integers(1, 9))))
        total -= sizes[-1]
    return sizes


@pytest.mark.parametrize(
    "sizes", [[1] * FRAMES, [3] * 9, [25, 2], random_sizes(FRAMES)], ids=["1", "3", "25", "random"]
)
@pytest.mark.parametrize(
    ("config", "modality"),
    [(WHOLE, "audio"), (ODD, "audio"), (FRAMED, "audio"), (WHOLE, "video"), (WHOLE, "audiovisual")],
    ids=["whole", "odd", "framed", "video", "audiovisual"],
)  # fmt: skip
def test_a_stream_equals_the_whole_window_whatever_the_chunks(config, modality, sizes):
    whole, stepping = both_networks(config, modality)
    inputs = frames_of(config, modality, batch=2)
    flush = absent_frames(stepping, 2, delay_frames(config, modality))
    streams, _ = stepped(stepping, [*chunks(inputs, sizes), flush], start_state(stepping, 2))
    expected = np.array(whole(inputs))
    for stream, wanted in zip(streams, expected, strict=True):
        np.testing.assert_allclose(stream, wanted, atol=1e-4)
    # The outputs vary, so the comparison can fail.
    assert expected.std() > 1e-3


def test_two_interleaved_streams_do_not_affect_each_other():
    _, stepping = both_networks(WHOLE, "audiovisual")
    recordings = [frames_of(WHOLE, "audiovisual", 1, seed=seed) for seed in (0, 1)]
    alone = [stepped(stepping, chunks(r, [9] * 3), start_state(stepping, 1))[0][0] for r in recordings]
    states, together = [start_state(stepping, 1), start_state(stepping, 1)], [[], []]
    for pieces in zip(*(chunks(r, [9] * 3) for r in recordings), strict=True):
        for stream, piece in enumerate(pieces):
            [predictions], states[stream] = stepped(stepping, [piece], states[stream])
            together[stream].append(predictions)
    for stream in (0, 1):
        np.testing.assert_array_equal(np.concatenate(together[stream]), alone[stream])


def test_streams_of_different_lengths_share_a_batch():
    whole, stepping = both_networks(WHOLE, "audiovisual")
    inputs = frames_of(WHOLE, "audiovisual", batch=2, frames=30)
    delay = delay_frames(WHOLE, "audiovisual")
    present = np.ones((2, 30), bool)
    present[1, 17:] = False  # the second stream ends earlier; its later frames must not matter
    inputs["audio"][1, 17:] = np.nan
    pieces = [inputs | {"present": present}, absent_frames(stepping, 2, delay)]
    streams, _ = stepped(stepping, pieces, start_state(stepping, 2))
    np.testing.assert_allclose(streams[0], np.array(whole({n: v[:1] for n, v in inputs.items()}))[0], atol=1e-4)
    shorter = {name: values[1:, :17] for name, values in inputs.items()}
    np.testing.assert_allclose(streams[1], np.array(whole(shorter))[0], atol=1e-4)


def test_the_papers_stream_has_a_delay_of_seven_frames_and_the_papers_weights():
    config = get_preset("paper", "audio").model
    # 2000 steps at 8 kHz and 40 samples at 16 kHz ahead: 252.5 ms, in frames of 40 ms rounded up.
    assert delay_frames(config, "audio") == 7
    assert delay_frames(config, "video") == 0
    assert delay_frames(get_preset("demo", "audio").model, "audiovisual") == 0
    whole, stepping = build_network(config, "audiovisual"), build_stepping_network(config, "audiovisual")
    assert sorted((w.path, w.shape) for w in stepping.weights) == sorted((w.path, w.shape) for w in whole.weights)


def test_the_papers_audio_network_gives_the_same_predictions_as_a_stream():
    config = get_preset("paper", "audio").model
    whole, stepping = both_networks(config, "audio")
    inputs = frames_of(config, "audio", batch=1, frames=23)
    pieces = [*chunks(inputs, [1, 9, 13]), absent_frames(stepping, 1, 7)]
    [stream], _ = stepped(stepping, pieces, start_state(stepping, 1))
    np.testing.assert_allclose(stream, np.array(whole(inputs))[0], atol=1e-4)


def test_a_saved_and_reloaded_stepping_network_gives_equal_outputs(tmp_path):
    _, stepping = both_networks(WHOLE, "audiovisual")
    stepping.save(tmp_path / "stepping.keras")
    reloaded = keras.saving.load_model(tmp_path / "stepping.keras")
    pieces = [*chunks(frames_of(WHOLE, "audiovisual", 1, frames=9), [4, 5])]
    [expected], _ = stepped(stepping, pieces, start_state(stepping, 1))
    [stream], _ = stepped(reloaded, pieces, start_state(reloaded, 1))
    np.testing.assert_array_equal(stream, expected)


def test_an_unknown_modality_is_refused():
    with pytest.raises(UserError, match="unknown modality 'smell'"):
        build_stepping_network(WHOLE, "smell")
