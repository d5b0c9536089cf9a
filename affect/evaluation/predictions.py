"""Predictions of a trained network: one curve per recording.

The network sees either a window at a time or the whole recording with its state carried along.
"""

import keras
import numpy as np

from affect.config import Experiment
from affect.data.dataset import evaluation_dataset, label_delay_frames
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.shard_check import shard_errors
from affect.data.windows import Window, evaluation_windows
from affect.evaluation.curves import Prediction
from affect.evaluation.postprocess import delay
from affect.evaluation.scores import Context
from affect.evaluation.whole_recording import predict_whole
from affect.models.masking import frame_masks

_BATCH_SIZE = 2


def predict(
    network: keras.Model,
    experiment: Experiment,
    manifest: Manifest,
    entries: list[RecordingEntry],
    context: Context = "window",
) -> list[Prediction]:
    """Predicts every frame of every recording.

    The network is traced once per call, so several partitions are best predicted in one call.

    Args:
      network: built by `build_network` for `experiment`.
      experiment: gives modality, windows, standardisation and label delay.
      manifest: manifest of the data folder.
      entries: the recordings, of any partitions.
      context: "window" predicts windows of `data.eval_window_frames` frames independently: the network hears no sound
        outside the window, and the LSTMs start anew in each. "recording" predicts each recording as one long window,
        in memory that does not grow with the length of the recordings.

    Returns:
      One `Prediction` per entry, in the order of the entries.

    Raises:
      UserError: a shard cannot be read.
    """
    by_context = {"window": _predict_windows, "recording": predict_whole}
    with shard_errors(experiment.data.data_dir, manifest, {entry.partition for entry in entries}):
        curves = by_context[context](network, experiment, manifest, entries)
    # A network trained on delayed labels predicts early by that delay.
    delay_frames = label_delay_frames(experiment, manifest)
    return [
        Prediction(entry.name, delay(predicted, delay_frames), gold if entry.has_labels else None)
        for entry, (predicted, gold) in zip(entries, curves, strict=True)
    ]


def _predict_windows(
    network: keras.Model, experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (predictions, labels) of each recording, one window after the other.

    The padding of the last window of a recording does not affect the result.
    """
    import tensorflow as tf

    run = tf.function(
        lambda inputs, mask: network(inputs, training=False, mask=frame_masks(network, mask)), reduce_retracing=True
    )
    predicted, gold = [], []
    for inputs, labels, mask in evaluation_dataset(experiment, manifest, entries, _BATCH_SIZE):
        batch = run(inputs, mask).numpy()
        for window, window_gold, counts in zip(batch, labels.numpy(), mask.numpy(), strict=True):
            predicted.append(window[counts])
            gold.append(window_gold[counts])
    windows = evaluation_windows(entries, experiment.data.eval_window_frames)
    return [
        (_join_windows(predicted, windows, entry.name), _join_windows(gold, windows, entry.name)) for entry in entries
    ]


def _join_windows(parts: list[np.ndarray], windows: list[Window], recording: str) -> np.ndarray:
    """Concatenates the windows of one recording."""
    return np.concatenate([part for part, window in zip(parts, windows, strict=True) if window.recording == recording])
