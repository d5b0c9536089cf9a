"""A trained network and a partition to one prediction curve per recording, in memory and as CSV."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from affect.config import DIMENSIONS, Experiment
from affect.data.dataset import evaluation_dataset, label_delay_frames
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.windows import evaluation_windows
from affect.evaluation.postprocess import later

_BATCH_SIZE = 2


@dataclass(frozen=True)
class Prediction:
    """One recording: predicted [frames, 2], gold [frames, 2] or None where it is withheld."""

    recording: str
    predicted: np.ndarray
    gold: np.ndarray | None


def predict(
    network: keras.Model, experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry]
) -> list[Prediction]:
    """Predicts every frame of every recording, window after window.

    Returns:
      One `Prediction` per entry, in their order.
    """
    predicted, gold = [], []
    for inputs, labels, mask in evaluation_dataset(experiment, manifest, entries, _BATCH_SIZE):
        batch = network.predict_on_batch(inputs)
        for one, label, counts in zip(batch, labels.numpy(), mask.numpy(), strict=True):
            predicted.append(one[counts])
            gold.append(label[counts])
    windows = evaluation_windows(entries, experiment.data.eval_window_frames)
    # A network that learnt delayed labels is early by that much.
    delay = label_delay_frames(experiment, manifest)
    return [
        Prediction(
            entry.name,
            later(_joined(predicted, windows, entry.name), delay),
            _joined(gold, windows, entry.name) if entry.has_labels else None,
        )
        for entry in entries
    ]


def write_csv(prediction: Prediction, frame_rate_hz: float, path: Path) -> None:
    """Writes `time,arousal,valence` and, where known, `arousal_gold,valence_gold`; time is each frame's end."""
    times = (np.arange(len(prediction.predicted)) + 1) / frame_rate_hz
    columns = {"time": times} | dict(zip(DIMENSIONS, prediction.predicted.T, strict=True))
    if prediction.gold is not None:
        columns |= dict(zip((f"{name}_gold" for name in DIMENSIONS), prediction.gold.T, strict=True))
    pd.DataFrame(columns).to_csv(path, index=False, float_format="%.6g")


def _joined(pieces: list[np.ndarray], windows: list, recording: str) -> np.ndarray:
    return np.concatenate(
        [piece for piece, window in zip(pieces, windows, strict=True) if window.recording == recording]
    )
