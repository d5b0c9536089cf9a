"""Predictions of a trained network: one curve per recording of a partition, in memory and as CSV."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from affect.config import DIMENSIONS, Experiment
from affect.data.dataset import evaluation_dataset, label_delay_frames
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.shard_check import shard_errors
from affect.data.windows import Window, evaluation_windows
from affect.evaluation.postprocess import delay
from affect.models.masking import frame_masks

_BATCH_SIZE = 2


@dataclass(frozen=True)
class Prediction:
    """Prediction of one recording.

    Attributes:
      recording: its name.
      predicted: [frames, 2], arousal and valence.
      gold: [frames, 2], or None if the labels are withheld.
    """

    recording: str
    predicted: np.ndarray
    gold: np.ndarray | None


def predict(
    network: keras.Model, experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry]
) -> list[Prediction]:
    """Predicts every frame of every recording, one window after the other.

    Windows are independent: the sound before and after one is not heard in it. The padding of the last window of a
    recording changes nothing.

    Returns:
      One `Prediction` per entry, in the order of the entries.

    Raises:
      UserError: a shard cannot be read.
    """
    import tensorflow as tf

    run = tf.function(
        lambda inputs, mask: network(inputs, training=False, mask=frame_masks(network, mask)), reduce_retracing=True
    )
    predicted, gold = [], []
    with shard_errors(experiment.data.data_dir, manifest, {entry.partition for entry in entries}):
        for inputs, labels, mask in evaluation_dataset(experiment, manifest, entries, _BATCH_SIZE):
            batch = run(inputs, mask).numpy()
            for window, window_gold, counts in zip(batch, labels.numpy(), mask.numpy(), strict=True):
                predicted.append(window[counts])
                gold.append(window_gold[counts])
    windows = evaluation_windows(entries, experiment.data.eval_window_frames)
    # A network trained on delayed labels predicts early by that delay.
    delay_frames = label_delay_frames(experiment, manifest)
    return [
        Prediction(
            entry.name,
            delay(_join_windows(predicted, windows, entry.name), delay_frames),
            _join_windows(gold, windows, entry.name) if entry.has_labels else None,
        )
        for entry in entries
    ]


def write_csv(prediction: Prediction, frame_rate_hz: float, path: Path) -> None:
    """Writes `time,arousal,valence` and, where known, `arousal_gold,valence_gold`.

    Time is the end of the frame in seconds, with three decimals; values have six significant digits.
    """
    times = (np.arange(len(prediction.predicted)) + 1) / frame_rate_hz
    columns: dict[str, Any] = {"time": [f"{time:.3f}" for time in times]}
    columns |= dict(zip(DIMENSIONS, prediction.predicted.T, strict=True))
    if prediction.gold is not None:
        columns |= dict(zip((f"{name}_gold" for name in DIMENSIONS), prediction.gold.T, strict=True))
    pd.DataFrame(columns).to_csv(path, index=False, float_format="%.6g")


def _join_windows(parts: list[np.ndarray], windows: list[Window], recording: str) -> np.ndarray:
    """Concatenates the windows of one recording."""
    return np.concatenate([part for part, window in zip(parts, windows, strict=True) if window.recording == recording])
