"""The network prepared for inference gives the predictions of the trained network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from msgspec.structs import replace

from affect.models.fixed_long_conv import FixedLongConv1D
from affect.models.inference import inference_network
from affect.models.network import build_network
from affect.models.stepping import absent_frames, build_stepping_network, delay_frames, start_state
from affect.presets import get_preset
from tests.models.test_long_conv import assert_close, convolve
from tests.models.test_stepping import WHOLE, chunks, frames_of, stepped

# Conv 2 is long enough for an FFT. A frame has 32 steps; the long FFT of 512 gives 293 outputs, 9 frames.
LONG = replace(WHOLE, frame_samples=64, audio_filters=(8, 8), audio_taps=(9, 220))
# Each frame on its own, padded to itself.
FRAMED = replace(LONG, audio_framed=True)
RESNET50 = replace(WHOLE, video_net="resnet50", video_scaling="imagenet")


def trained_network(config, modality):
    """A network whose weights, batch norm's included, are as random as after training."""
    keras.utils.set_random_seed(1)
    network, rng = build_network(config, modality), np.random.default_rng(2)
    planted = {
        # Variances so small that batch norm's epsilon matters.
        "gamma": lambda shape: rng.uniform(0.02, 0.05, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.0005, 0.002, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
    }
    for weight in network.weights:
        if weight.name in planted:
            weight.assign(planted[weight.name](weight.shape))
    return network


@pytest.mark.parametrize(
    ("config", "modality", "long_filters"),
    [
        (LONG, "audio", "fft"),
        (LONG, "audio", "direct"),
        (FRAMED, "audio", "fft"),
        (LONG, "audiovisual", "fft"),
        (RESNET50, "video", "fft"),
    ],
    ids=["long", "direct", "framed", "audiovisual", "resnet50"],
)
def test_the_predictions_are_those_of_the_trained_network(config, modality, long_filters):
    network = trained_network(config, modality)
    prepared = inference_network(network, config, modality, long_filters)
    inputs = frames_of(config, modality, batch=2, frames=27)
    flush = absent_frames(prepared, 2, delay_frames(config, modality))
    streams, _ = stepped(prepared, [*chunks(inputs, [1, 3, 1, 22]), flush], start_state(prepared, 2))
    expected = np.array(network(inputs))
    assert np.std(expected) > 0.03
    np.testing.assert_allclose(streams, expected, atol=1e-5)


@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
def test_inputs_and_outputs_are_those_of_the_stepping_network(modality):
    prepared = inference_network(trained_network(LONG, modality), LONG, modality)
    stepping = build_stepping_network(LONG, modality)
    for got, expected in ((prepared.input, stepping.input), (prepared.output, stepping.output)):
        described = [[(name, t.shape, t.dtype) for name, t in tensors.items()] for tensors in (got, expected)]
        assert described[0] == described[1]


def test_no_lstm_chooses_a_kernel_of_cudnn():
    prepared = inference_network(trained_network(LONG, "audio"), LONG, "audio")
    assert [prepared.get_layer(f"lstm{index}").use_cudnn for index in (1, 2)] == [False, False]


def operations(network):
    """Names of the kinds of operations in the network's graph, those of its branches included."""
    signature = {
        name: tf.TensorSpec([None if n is None else n for n in t.shape], t.dtype) for name, t in network.input.items()
    }
    graph = tf.function(network, input_signature=[signature]).get_concrete_function().graph.as_graph_def()
    return {node.op for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for node in nodes}


def test_batch_norm_is_gone_and_direct_filters_need_no_fft():
    network = trained_network(LONG, "audiovisual")
    with_fft, direct = (operations(inference_network(network, LONG, "audiovisual", how)) for how in ("fft", "direct"))
    assert "RFFT" in with_fft
    assert "RFFT" not in direct
    # Batch norm would take the square root of a variance.
    assert {"Rsqrt", "FusedBatchNormV3"} & operations(build_stepping_network(LONG, "audiovisual"))
    assert not {"Rsqrt", "FusedBatchNormV3"} & (with_fft | direct)


def test_a_frame_of_the_papers_audio_takes_an_fft_of_4320():
    config = get_preset("paper", "audio").model
    prepared = inference_network(build_network(config, "audio"), config, "audio")
    # 320 steps of the frame and 3999 before them are 4319; 4320 = 2^5 * 3^3 * 5.
    assert prepared.get_layer("audio_net").get_layer("conv2").sizes == (4320, 8192)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("how", ["eager", "function"])
@pytest.mark.parametrize("outputs", [20, 32, 400])
def test_fixed_filters_equal_a_float64_convolution_for_short_and_long_signals(outputs, how, padding):
    rng = np.random.default_rng(0)
    layer = FixedLongConv1D(4, taps=50, short=30, activation="relu", padding=padding)
    layer.build((None, None, 3))
    kernel, bias = rng.normal(size=(50, 3, 4)), rng.normal(size=4)
    layer.set_filters(kernel.astype(np.float32), bias)
    signal = rng.normal(size=(2, outputs if padding == "same" else outputs + 49, 3)).astype(np.float32)
    run = layer if how == "eager" else tf.function(layer, input_signature=[tf.TensorSpec((None, None, 3))])
    assert_close(run(signal), np.maximum(convolve(signal, kernel, padding) + bias, 0))


def test_a_saved_and_reloaded_inference_network_gives_equal_outputs(tmp_path):
    prepared = inference_network(trained_network(LONG, "audio"), LONG, "audio")
    prepared.save(tmp_path / "prepared.keras")
    reloaded = keras.saving.load_model(tmp_path / "prepared.keras")
    pieces = [*chunks(frames_of(LONG, "audio", 1, frames=9), [1, 8])]
    [expected], _ = stepped(prepared, pieces, start_state(prepared, 1))
    [stream], _ = stepped(reloaded, pieces, start_state(reloaded, 1))
    np.testing.assert_array_equal(stream, expected)
