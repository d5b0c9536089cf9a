"""Predicts recordings as one long window each, in constant memory: in chunks, with the network's state carried along.

The stepping network (`affect.models.stepping`, prepared by `affect.models.inference`) continues from one chunk to the
next. Several recordings run side by side, because the LSTMs take about the same time for one as for several. All
chunks have the same length, so the network is traced once. The frames after the end of a recording are marked as
absent; they also flush out the last predictions of a network that looks ahead.
"""

import math
from collections.abc import Callable, Iterator

import keras
import numpy as np

from affect.config import Experiment
from affect.data.dataset import stream_dataset
from affect.data.manifest import Manifest, RecordingEntry
from affect.models.inference import inference_network
from affect.models.stepping import delay_frames, start_state, step

CHUNK_FRAMES = 150
SIDE_BY_SIDE = 4


def predict_whole(
    network: keras.Model, experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (predictions, labels), float32 [frames, 2] each, of every recording, in the order of the entries.

    Raises:
      tf.errors.OpError: a shard cannot be read.
    """
    stepping = inference_network(network, experiment.model, experiment.modality)
    traced, flush = _traced(stepping), delay_frames(experiment.model, experiment.modality)

    # Recordings of similar length run together, so that few frames are absent. The last group may be smaller.
    by_length = sorted(entries, key=lambda entry: entry.frames)
    groups = [by_length[start : start + SIDE_BY_SIDE] for start in range(0, len(by_length), SIDE_BY_SIDE)]
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for equal in (groups[:-1], groups[-1:]):
        if not equal:
            continue
        chunks = [math.ceil((group[-1].frames + flush) / CHUNK_FRAMES) for group in equal]
        batches = iter(stream_dataset(experiment, manifest, equal, chunks, CHUNK_FRAMES))
        for group, count in zip(equal, chunks, strict=True):
            state = start_state(stepping, len(group))
            predicted = _predict_group(traced, state, (next(batches) for _ in range(count)))
            curves.update(zip([entry.name for entry in group], predicted, strict=True))
    return [curves[entry.name] for entry in entries]


def _predict_group(
    traced: Callable[[dict], dict], state: dict, batches: Iterator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (predictions, labels) of recordings that run side by side through the given chunks."""
    chunks = []
    for frames, labels, present in batches:
        predictions, valid, state = step(traced, frames | {"present": present}, state)
        chunks.append((predictions, valid, labels.numpy(), present.numpy()))
    predictions, valid, labels, present = (np.concatenate(parts, axis=1) for parts in zip(*chunks, strict=True))
    return [(predictions[i][valid[i]], labels[i][present[i]]) for i in range(len(valid))]


def _traced(stepping: keras.Model) -> Callable[[dict], dict]:
    """Returns the stepping network as a compiled function of chunks of `CHUNK_FRAMES` frames, for any batch size."""
    import tensorflow as tf

    states = start_state(stepping, 1)
    shapes = {
        name: (None, *tensor.shape[1:]) if name in states else (None, CHUNK_FRAMES, *tensor.shape[2:])
        for name, tensor in stepping.input.items()
    }
    signature = {name: tf.TensorSpec(shapes[name], tensor.dtype) for name, tensor in stepping.input.items()}
    return tf.function(lambda inputs: stepping(inputs, training=False), input_signature=[signature])
