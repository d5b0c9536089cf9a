"""The networks: shapes of any batch and time, sizes worked out by hand, a NumPy forward pass, fusion."""

import keras
import numpy as np
import pytest

from affect.config import ModelConfig, get_preset
from affect.errors import UserError
from affect.models.audio_net import build_audio_net
from affect.models.network import build_network, fuse
from affect.models.video_net import PixelScaling, build_video_net

TINY = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(5, 4), audio_pool=2, audio_channel_pool=2, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="unit", lstm_units=(5, 6), dropout=0.0,
)  # fmt: skip
FRAMED = ModelConfig(**{**TINY.__dict__, "audio_framed": True})


def correlate_same(signal, kernel, bias):
    """[steps, in] with [taps, in, out], zero padding as TensorFlow's SAME: the shorter half before."""
    taps = kernel.shape[0]
    padded = np.pad(signal, (((taps - 1) // 2, taps - 1 - (taps - 1) // 2), (0, 0)))
    return np.array([np.einsum("ti,tio->o", padded[k : k + taps], kernel) for k in range(len(signal))]) + bias


def audio_forward(signal, weights, pool, group):
    """One signal [samples] through the audio net as the paper tells it, to [steps, channels]."""
    x = np.maximum(correlate_same(signal[:, None], weights[0], weights[1]), 0)
    x = x.reshape(-1, pool, x.shape[1]).max(axis=1)
    x = np.maximum(correlate_same(x, weights[2], weights[3]), 0)
    return x.reshape(len(x), -1, group).max(axis=2)


@pytest.mark.parametrize("config", [TINY, FRAMED])
def test_audio_net_equals_a_numpy_forward_pass(config):
    keras.utils.set_random_seed(0)
    net = build_audio_net(config)
    weights = [np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(net.get_weights())]
    net.set_weights(weights)
    audio = np.random.default_rng(9).normal(size=(2, 3, 16)).astype(np.float32)
    if config.audio_framed:
        expected = [[audio_forward(frame, weights, 2, 2).ravel() for frame in window] for window in audio]
    else:
        expected = [audio_forward(window.ravel(), weights, 2, 2).reshape(3, -1) for window in audio]
    np.testing.assert_allclose(net(audio), np.array(expected), rtol=1e-4, atol=1e-4)


def test_paper_network_has_the_papers_sizes():
    config = get_preset("paper").model
    network = build_network(config, "audiovisual")
    audio, video = network.get_layer("audio_net"), network.get_layer("video_net")
    assert audio.output_shape[-1] == 320 * 4
    assert video.output_shape[-1] == 2048
    assert audio.count_params() == (80 * 1 * 20 + 20) + (4000 * 20 * 40 + 40)
    assert network.get_layer("lstm1").count_params() == 4 * 256 * (3328 + 256 + 1)
    assert network.get_layer("lstm2").count_params() == 4 * 256 * (256 + 256 + 1)
    assert network.get_layer("predictions").count_params() == 256 * 2 + 2
    assert video.count_params() == 23_587_712  # Keras' ResNet-50 without its top, biases included
    assert network.output_shape == (None, None, 2)


@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
@pytest.mark.parametrize(("batch", "time"), [(1, 4), (3, 7)])
def test_any_batch_and_time_and_permuted_batches_permute_the_output(modality, batch, time):
    network = build_network(FRAMED, modality)
    rng = np.random.default_rng(0)
    inputs = {}
    if modality != "video":
        inputs["audio"] = rng.normal(size=(batch, time, 16)).astype(np.float32)
    if modality != "audio":
        inputs["video"] = rng.integers(0, 255, size=(batch, time, 32, 32, 3)).astype(np.uint8)
    output = np.array(network(inputs))
    assert output.shape == (batch, time, 2)
    reversed_output = np.array(network({name: value[::-1] for name, value in inputs.items()}))
    np.testing.assert_allclose(reversed_output[::-1], output, atol=1e-5)


def test_framed_network_is_causal_and_window_network_is_not():
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(1, 6, 16)).astype(np.float32)
    changed = audio.copy()
    changed[0, 4] += 1.0
    framed, whole = build_network(FRAMED, "audio"), build_network(TINY, "audio")
    np.testing.assert_array_equal(
        np.array(framed({"audio": audio}))[0, :4], np.array(framed({"audio": changed}))[0, :4]
    )
    assert not np.allclose(np.array(whole({"audio": audio}))[0, 3], np.array(whole({"audio": changed}))[0, 3])


def test_pixels_are_scaled_inside_without_wrapping_around():
    pixels = np.full((1, 2, 2, 3), 200, np.uint8)
    np.testing.assert_allclose(PixelScaling("unit")(pixels), 200 / 255, rtol=1e-6)
    # Keras' convention: BGR order, ImageNet's mean taken off.
    np.testing.assert_allclose(np.array(PixelScaling("imagenet")(pixels))[0, 0, 0], [96.061, 83.221, 76.32], rtol=1e-5)


def test_narrow_and_full_resnet_share_the_interface():
    narrow = build_video_net(FRAMED)
    assert narrow.output_shape == (None, None, 32 * FRAMED.video_width)
    full = build_video_net(ModelConfig(crop_size=32))
    assert full.output_shape == (None, None, 2048)


def test_fusion_keeps_the_nets_and_starts_new_lstms():
    unimodal = {modality: build_network(FRAMED, modality) for modality in ("audio", "video")}
    network = build_network(FRAMED, "audiovisual")
    before = network.get_layer("lstm1").get_weights()
    report = fuse(network, unimodal)
    for modality, trained in unimodal.items():
        pairs = zip(
            network.get_layer(f"{modality}_net").get_weights(),
            trained.get_layer(f"{modality}_net").get_weights(),
            strict=True,
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert all(np.array_equal(a, b) for a, b in zip(network.get_layer("lstm1").get_weights(), before, strict=True))
    assert [line.split(":")[0] for line in report] == ["audio_net", "video_net", "lstm1", "lstm2", "predictions"]
    with pytest.raises(UserError, match="trained audio net has other sizes"):
        fuse(network, {"audio": build_network(get_preset("demo").model, "audio")})


def test_saved_and_reloaded_networks_give_equal_outputs(tmp_path):
    network = build_network(FRAMED, "audiovisual")
    network.save(tmp_path / "network.keras")
    reloaded = keras.saving.load_model(tmp_path / "network.keras")
    rng = np.random.default_rng(1)
    inputs = {
        "audio": rng.normal(size=(2, 3, 16)).astype(np.float32),
        "video": rng.integers(0, 255, size=(2, 3, 32, 32, 3)).astype(np.uint8),
    }
    np.testing.assert_allclose(reloaded(inputs), network(inputs), atol=1e-6)


def test_mixed_precision_still_puts_out_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build_network(FRAMED, "audiovisual")
        inputs = {"audio": np.zeros((1, 2, 16), np.float32), "video": np.zeros((1, 2, 32, 32, 3), np.uint8)}
        assert keras.backend.standardize_dtype(network(inputs).dtype) == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_unknown_modality_is_refused():
    with pytest.raises(UserError, match="unknown modality 'smell'"):
        build_network(FRAMED, "smell")
