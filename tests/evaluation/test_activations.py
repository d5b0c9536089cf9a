"""Gate and cell activations are what the LSTMs compute."""

import keras
import numpy as np
import pytest

from affect.config import ModelConfig, override
from affect.data.dataset import open_data
from affect.evaluation.introspection.activations import GATES, activation_recorder, gate_activations
from affect.evaluation.whole_recording import CHUNK_FRAMES
from affect.models.network import build_network
from affect.presets import get_preset
from tests.helpers.commands import read_recording

# Both look ahead: 60 pooled steps of 20 samples are almost two frames. The LSTMs differ in size.
WHOLE = ["model.audio_filters=3,4", "model.audio_taps=9,120", "model.audio_pool=20", "model.audio_channel_pool=2",
         "model.audio_framed=false", "model.lstm_units=5,7,3"]  # fmt: skip


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def lstm_by_hand(weights, inputs, hidden, cell):
    """Every gate, frame by frame, from the equations; and the outputs."""
    kernel, recurrent, bias = weights
    units = len(hidden)
    rows = {gate: [] for gate in (*GATES, "outputs")}
    for x in inputs:
        z = np.array([x @ kernel[:, k] + hidden @ recurrent[:, k] + bias[k] for k in range(4 * units)])
        i, f, o = sigmoid(z[:units]), sigmoid(z[units : 2 * units]), sigmoid(z[3 * units :])
        g = np.tanh(z[2 * units : 3 * units])
        cell = f * cell + i * g
        hidden = o * np.tanh(cell)
        for gate, values in zip((*GATES, "outputs"), (i, f, g, o, cell, hidden), strict=True):
            rows[gate].append(values)
    return {gate: np.array(values) for gate, values in rows.items()}


def test_gates_equal_a_loop_over_frames():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((6, 16), (4, 16), (16,))]
    inputs, hidden, cell = rng.normal(size=(40, 6)), rng.uniform(-1, 1, 4), rng.normal(size=4)
    expected = lstm_by_hand(weights, inputs, hidden, cell)
    computed = gate_activations(weights, inputs, expected["outputs"], hidden, cell)
    assert tuple(computed) == GATES
    for gate in GATES:
        np.testing.assert_allclose(computed[gate], expected[gate], atol=1e-6, err_msg=gate)


@pytest.mark.parametrize("settings", [WHOLE, []], ids=["whole", "framed"])
def test_outputs_recomputed_from_the_gates_are_those_of_the_network_on_the_whole_recording(data_dir, settings):
    experiment = override(get_preset("demo", "audio"), [f"data.data_dir={data_dir}", *settings])
    manifest = open_data(experiment, ["dev"])
    keras.utils.set_random_seed(1)
    network = build_network(experiment.model, "audio")
    rng = np.random.default_rng(2)
    network.set_weights([weight + 0.05 * rng.normal(size=weight.shape) for weight in network.get_weights()])
    entry = manifest.partition("dev")[1]
    assert entry.frames > CHUNK_FRAMES  # the state is carried from one chunk to the next

    audio = (read_recording(data_dir, entry.name)["pcm"] / 32_768 - entry.audio_mean) / entry.audio_std
    layers = [layer for layer in network.layers if layer.name.startswith("lstm")]
    whole = keras.Model(network.input, {layer.name: layer.output for layer in layers})
    expected = whole({"audio": audio[None].astype(np.float32)})

    chunks = list(activation_recorder(network, experiment, manifest)(entry))
    assert len(chunks) > 1
    assert list(chunks[0]) == [layer.name for layer in layers]
    for name, outputs in expected.items():
        output, cell = (np.concatenate([chunk[name][gate] for chunk in chunks]) for gate in ("output", "cell"))
        assert np.std(outputs) > 1e-2
        np.testing.assert_allclose(output * np.tanh(cell), np.array(outputs)[0], atol=1e-5)


def test_config_of_this_test_looks_ahead():
    from affect.models.stepping import delay_frames

    model = override(get_preset("demo", "audio"), WHOLE).model
    assert isinstance(model, ModelConfig)
    assert delay_frames(model, "audio") == 2
