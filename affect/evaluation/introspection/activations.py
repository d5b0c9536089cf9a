"""Gate and cell activations of a network's LSTMs, recomputed from the inputs and outputs of each layer.

Keras' LSTM gives only its outputs h. With x and h known, the gates of all frames are one matrix product,

    z(t) = x(t) W + h(t - 1) U + b

whose four quarters are, in Keras' order, the input gate i, the forget gate f, the candidate g and the output gate o.
The cell then follows frame by frame: c(t) = f(t) c(t - 1) + i(t) g(t).

Recordings are processed in chunks, with the state carried along (see `affect.models.stepping`), so the memory needed
does not depend on their length. Activations are written as

    <recording>/<layer>/{input,forget,candidate,output,cell}     float32 [frames, units]
"""

import math
from collections.abc import Callable, Iterator

import h5py
import keras
import numpy as np
from scipy.special import expit

from affect.config import Experiment
from affect.data.dataset import stream_dataset
from affect.data.manifest import Manifest, RecordingEntry
from affect.evaluation.whole_recording import CHUNK_FRAMES
from affect.models.stepping import build_stepping_network, copy_weights, delay_frames, start_state

GATES = ("input", "forget", "candidate", "output", "cell")

# The activations of one layer, float32 [frames, units], by name of the gate.
Activations = dict[str, np.ndarray]


def gate_activations(
    weights: list[np.ndarray], inputs: np.ndarray, outputs: np.ndarray, hidden: np.ndarray, cell: np.ndarray
) -> Activations:
    """Returns the gate and cell activations of a Keras LSTM with sigmoid gates and tanh, the defaults.

    Args:
      weights: kernel [features, 4 * units], recurrent kernel [units, 4 * units] and bias [4 * units].
      inputs: [frames, features], the layer's inputs; at least one frame.
      outputs: [frames, units], the layer's outputs for these inputs.
      hidden: [units], the output before the first frame.
      cell: [units], the cell before the first frame.
    """
    kernel, recurrent_kernel, bias = weights
    before = np.concatenate([hidden[None], outputs[:-1]])
    # In float64, because the cells add up the rounding errors of all earlier frames.
    z = inputs.astype(np.float64) @ kernel + before.astype(np.float64) @ recurrent_kernel + bias
    i, f, g, o = np.split(z, 4, axis=1)
    i, f, g, o = expit(i), expit(f), np.tanh(g), expit(o)
    added = i * g
    cells = np.empty_like(added)
    for frame in range(len(cells)):
        cells[frame] = cell = f[frame] * cell + added[frame]
    values = {"input": i, "forget": f, "candidate": g, "output": o, "cell": cells}
    return {gate: values[gate].astype(np.float32) for gate in GATES}


def activation_recorder(
    network: keras.Model, experiment: Experiment, manifest: Manifest
) -> Callable[[RecordingEntry], Iterator[dict[str, Activations]]]:
    """Returns a function that yields the activations of a recording by layer, one chunk of frames after the other.

    Args:
      network: built by `build_network` for `experiment`.
      experiment: gives modality and standardisation.
      manifest: manifest of the data folder.
    """
    import tensorflow as tf

    stepping = build_stepping_network(experiment.model, experiment.modality)
    copy_weights(network, stepping)
    layers = {layer.name: layer for layer in stepping.layers if isinstance(layer, keras.layers.LSTM)}
    # A layer takes (inputs, two states, mask) and returns (outputs, two states).
    signals = {name: (layer.input[0], layer.output[0]) for name, layer in layers.items()}
    probe = keras.Model(stepping.input, {"signals": signals, "stepping": stepping.output})
    run = tf.function(lambda inputs: probe(inputs, training=False), reduce_retracing=True)
    flush = delay_frames(experiment.model, experiment.modality)

    def record(entry: RecordingEntry) -> Iterator[dict[str, Activations]]:
        state = start_state(stepping, 1)
        chunks = math.ceil((entry.frames + flush) / CHUNK_FRAMES)
        for frames, _, present in stream_dataset(experiment, manifest, [[entry]], [chunks], CHUNK_FRAMES):
            computed = run(frames | {"present": present} | state)
            valid = computed["stepping"]["valid"].numpy()[0]
            if valid.any():
                yield {
                    name: gate_activations(
                        layer.get_weights(),
                        *(signal.numpy()[0][valid] for signal in computed["signals"][name]),
                        *(np.asarray(state[f"state_{name}_{part}"])[0] for part in ("hidden", "cell")),
                    )
                    for name, layer in layers.items()
                }
            state = {name: computed["stepping"][name] for name in state}

    return record


def written(
    chunks: Iterator[dict[str, Activations]], group: h5py.Group, frames: int
) -> Iterator[dict[str, Activations]]:
    """Writes the activations of one recording and passes them on; equal activations give equal bytes.

    Args:
      chunks: from `activation_recorder`.
      group: the recording's group in the HDF5 file.
      frames: number of frames of the recording.

    Yields:
      The chunks, unchanged, each after it has been written.
    """
    start = 0
    for chunk in chunks:
        for layer, activations in chunk.items():
            for gate, values in activations.items():
                name, end = f"{layer}/{gate}", start + len(values)
                if name not in group:
                    group.create_dataset(name, (frames, values.shape[1]), np.float32, track_times=False)
                group[name][start:end] = values
        start = end
        yield chunk
