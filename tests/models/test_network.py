"""The networks against a NumPy forward pass and sizes worked out by hand, for any batch and time."""

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from affect.config import ModelConfig
from affect.errors import UserError
from affect.models.audio_net import build_audio_net
from affect.models.network import build_network
from affect.models.video_net import PixelScaling, build_video_net
from affect.presets import get_preset

TINY = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(5, 4), audio_pool=2, audio_channel_pool=2, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="unit", lstm_units=(5, 6), dropout=0.0,
)  # fmt: skip
FRAMED = replace(TINY, audio_framed=True)


def correlate_same(signal, kernel, bias):
    """Correlates [steps, in] with [taps, in, out] in float64, zero-padded like TensorFlow's SAME: less in front."""
    taps, steps = kernel.shape[0], len(signal)
    padded = np.pad(signal, (((taps - 1) // 2, taps // 2), (0, 0)))
    return sum(padded[tap : tap + steps] @ kernel[tap] for tap in range(taps)) + bias


def audio_forward(signal, weights, pool, group):
    """Runs one signal [samples] through the audio net as the paper describes it; returns [steps, channels]."""
    x = np.maximum(correlate_same(signal[:, None], weights[0], weights[1]), 0)
    x = x.reshape(-1, pool, x.shape[1]).max(axis=1)
    x = np.maximum(correlate_same(x, weights[2], weights[3]), 0)
    return x.reshape(len(x), -1, group).max(axis=2)


@pytest.mark.parametrize(
    "config",
    [TINY, FRAMED, *(get_preset(name, "audio").model for name in ("paper", "adieu2016", "demo"))],
    ids=["tiny", "framed", "paper", "adieu2016", "demo"],
)
def test_audio_net_equals_a_numpy_forward_pass(config):
    net, frames = build_audio_net(config), 3
    rng = np.random.default_rng(9)
    # Standard deviations that preserve the signal's scale through both convolutions.
    weights = [rng.normal(size=w.shape) / np.sqrt(np.prod(w.shape[:-1])) for w in net.get_weights()]
    net.set_weights(weights)
    audio = rng.normal(size=(2, frames, config.frame_samples)).astype(np.float32)
    pool, group = config.audio_pool, config.audio_channel_pool
    if config.audio_framed:
        expected = [[audio_forward(frame, weights, pool, group).ravel() for frame in window] for window in audio]
    else:
        expected = [audio_forward(window.ravel(), weights, pool, group).reshape(frames, -1) for window in audio]
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(net(audio), np.array(expected), atol=1e-4)


@pytest.mark.parametrize(
    ("preset", "audio", "features"),
    [
        ("paper", (80 * 1 * 20 + 20) + (4000 * 20 * 40 + 40), 320 * 40 // 10),
        ("adieu2016", (80 * 1 * 40 + 40) + (4000 * 40 * 40 + 40), 320 * 40 // 20),
        ("demo", (80 * 1 * 12 + 12) + (16 * 12 * 24 + 24), 80 * 24 // 4),
    ],
)
def test_audio_presets_have_the_sizes_worked_out_by_hand(preset, audio, features):
    config = get_preset(preset, "audio").model
    network = build_network(config, "audio")
    net = network.get_layer("audio_net")
    assert net.count_params() == audio
    assert net.output_shape == (None, None, features)
    first, second = config.lstm_units
    recurrent = 4 * first * (features + first + 1) + 4 * second * (first + second + 1)
    assert network.count_params() == audio + recurrent + second * 2 + 2


def test_the_demos_resnet_has_the_size_worked_out_by_hand():
    # The stem, then per stage of inner width w (12, 24, 48, 96): shortcut, 1x1, 3x3, 1x1. Convolutions have no bias,
    # but 4 batch-norm parameters per filter.
    def conv(size, inputs, filters):
        return size * size * inputs * filters + 4 * filters

    expected, inputs = conv(7, 3, 12), 12
    for width in (12, 24, 48, 96):
        expected += conv(1, inputs, 4 * width)
        expected += conv(1, inputs, width) + conv(3, width, width) + conv(1, width, 4 * width)
        inputs = 4 * width
    assert build_video_net(get_preset("demo").model).count_params() == expected


def test_the_papers_network_has_the_papers_sizes():
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


def inputs_of(modality, batch, time, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {
        "audio": rng.normal(size=(batch, time, 16)).astype(np.float32),
        "video": rng.integers(0, 256, size=(batch, time, 32, 32, 3)).astype(np.uint8),
    }
    return inputs if modality == "audiovisual" else {modality: inputs[modality]}


EVERY_NETWORK = [(FRAMED, "audio"), (TINY, "audio"), (TINY, "video"), (FRAMED, "audiovisual"), (TINY, "audiovisual")]
EVERY_NAME = ["framed_audio", "audio", "video", "framed_audiovisual", "audiovisual"]


@pytest.mark.parametrize(("config", "modality"), EVERY_NETWORK, ids=EVERY_NAME)
@pytest.mark.parametrize(("batch", "time"), [(1, 4), (3, 7)])
def test_batch_and_time_may_vary_and_a_permuted_batch_permutes_the_output(config, modality, batch, time):
    network, inputs = build_network(config, modality), inputs_of(modality, batch, time)
    output = np.array(network(inputs))
    assert output.shape == (batch, time, 2)
    reversed_output = np.array(network({name: value[::-1] for name, value in inputs.items()}))
    np.testing.assert_allclose(reversed_output[::-1], output, atol=1e-5)


def test_a_framed_network_is_causal_and_a_whole_signal_network_is_not():
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
    # Keras' convention: BGR order, minus ImageNet's mean.
    np.testing.assert_allclose(np.array(PixelScaling("imagenet")(pixels))[0, 0, 0], [96.061, 83.221, 76.32], rtol=1e-5)


def test_narrow_resnet_and_resnet50_share_the_interface():
    narrow = build_video_net(FRAMED)
    assert narrow.output_shape == (None, None, 32 * FRAMED.video_width)
    full = build_video_net(ModelConfig(crop_size=32))
    assert full.output_shape == (None, None, 2048)


@pytest.mark.parametrize(("config", "modality"), EVERY_NETWORK, ids=EVERY_NAME)
def test_saved_and_reloaded_networks_give_equal_outputs(config, modality, tmp_path):
    network, inputs = build_network(config, modality), inputs_of(modality, 2, 3)
    network.save(tmp_path / "network.keras")
    reloaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(reloaded(inputs), network(inputs), atol=1e-6)


@pytest.mark.parametrize(("config", "modality"), EVERY_NETWORK, ids=EVERY_NAME)
def test_mixed_precision_outputs_float32_close_to_the_full_precision_result(config, modality):
    inputs = inputs_of(modality, 2, 5)
    network = build_network(config, modality)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_network(config, modality)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(network.get_weights())
    output = mixed(inputs)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert mixed.get_layer("lstm1").compute_dtype == "bfloat16"
    np.testing.assert_allclose(output, network(inputs), atol=0.05)


@pytest.mark.parametrize("preset", ["paper", "adieu2016"])
def test_the_papers_audio_features_depend_on_252_5_ms_after_their_frame(preset):
    config = get_preset(preset, "audio").model
    net = build_audio_net(config)
    # With positive weights and samples, every change passes through ReLU and max-pooling.
    rng = np.random.default_rng(0)
    net.set_weights([rng.uniform(0.5, 1.0, w.shape) / np.prod(w.shape[:-1]) for w in net.get_weights()])
    audio = np.ones((1, 10, 640), np.float32)
    before = np.array(net(audio))[0]
    frame = 1
    last_sample = 640 * (frame + 1) - 1 + int(0.2525 * 16_000)

    def change_of_frame(sample):
        changed = audio.copy().reshape(1, -1)
        changed[0, sample] += 1000.0
        return np.abs(np.array(net(changed.reshape(audio.shape)))[0] - before)[frame].max()

    assert change_of_frame(last_sample) > 1e-3
    assert change_of_frame(last_sample + 1) < 1e-5


def test_weight_decay_adds_half_the_rate_times_the_squares_of_all_convolution_kernels():
    config = replace(TINY, weight_decay=0.01)
    network = build_network(config, "audiovisual")
    kernels = [w.numpy() for w in network.weights if w.name == "kernel"]
    convolutions = [kernel for kernel in kernels if kernel.ndim in (3, 4)]  # those of LSTMs and head have 2 dimensions
    assert sum(float(loss) for loss in network.losses) == pytest.approx(
        0.01 / 2 * sum(np.sum(kernel**2) for kernel in convolutions), rel=1e-5
    )
    assert not build_network(TINY, "audiovisual").losses


def test_resnet50_gets_momentum_decay_and_frozen_statistics_as_configured():
    config = ModelConfig(crop_size=32, weight_decay=0.02, video_batch_norm="frozen", video_batch_norm_momentum=0.8)
    backbone = build_video_net(config).get_layer("resnet50")
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    convolutions = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    assert (len(norms), len(convolutions)) == (53, 53)
    assert {layer.momentum for layer in norms} == {0.8}
    expected = 0.01 * sum(np.sum(layer.kernel.numpy() ** 2) for layer in convolutions)
    assert sum(float(loss) for loss in backbone.losses) == pytest.approx(expected, rel=1e-4)
    pixels = np.random.default_rng(0).uniform(-100, 100, size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(backbone(pixels, training=True), backbone(pixels, training=False))


def test_input_dropout_changes_the_audio_features_only_in_training():
    config = replace(FRAMED, audio_input_dropout=0.5)
    net, plain = build_audio_net(config), build_audio_net(FRAMED)
    net.set_weights(plain.get_weights())
    audio = inputs_of("audio", 1, 20)["audio"]
    np.testing.assert_array_equal(net(audio, training=False), plain(audio))
    assert not np.allclose(net(audio, training=True), plain(audio))


def test_the_papers_lstms_are_initialised_by_glorot_and_meet_the_conditions_of_cudnn():
    network = build_network(get_preset("paper", "audio").model, "audio")
    for name, inputs in (("lstm1", 1280), ("lstm2", 256)):
        layer = network.get_layer(name)
        for kernel, rows in ((layer.cell.kernel, inputs), (layer.cell.recurrent_kernel, 256)):
            limit = np.sqrt(6 / (rows + 4 * 256))
            assert 0.99 * limit < np.abs(kernel.numpy()).max() <= 1.0001 * limit
        # The conditions of Keras' cuDNN path.
        assert (layer.activation, layer.recurrent_activation) == (keras.activations.tanh, keras.activations.sigmoid)
        assert layer.recurrent_dropout == 0 and not layer.unroll and layer.use_bias


def test_an_unknown_modality_is_refused():
    with pytest.raises(UserError, match="unknown modality 'smell'"):
        build_network(FRAMED, "smell")
