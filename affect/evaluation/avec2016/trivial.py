"""A trivial system as a lower reference for the others: linear regression on loudness and brightness.

The features of a frame are the logarithm of the sound's RMS and the mean pixel value of the crop, both standardised
per recording. One linear regression per dimension is fitted on train. A network that has learnt no more than "loud
means aroused, bright means pleasant" scores no better.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LinearRegression

from affect.config import DIMENSIONS, DataConfig, Experiment, ModelConfig
from affect.data.dataset import evaluation_dataset
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.shard_check import shard_errors
from affect.data.windows import evaluation_windows
from affect.evaluation.avec2016.systems import PREDICTED, TRIVIAL, DimensionSummary, FittedDimension, System

_WINDOW_FRAMES = 250
_SILENCE = 1e-6  # below 16-bit resolution; keeps the logarithm finite


def trivial_system(data_dir: str | Path, manifest: Manifest, gold: dict[str, np.ndarray]) -> System:
    """Fits the regression on train, and predicts dev and test.

    Args:
      data_dir: folder of the shards; all recordings have sound and video.
      manifest: its manifest.
      gold: [frames, 2] by recording; recordings without labels are missing.

    Raises:
      UserError: the shards cannot be read.
    """
    labelled = [entry for entry in manifest.partition("train") if entry.name in gold]
    train = _read(data_dir, manifest, labelled)
    regression = LinearRegression().fit(
        np.concatenate([train[entry.name] for entry in labelled]),
        np.concatenate([gold[entry.name] for entry in labelled]),
    )
    features = _read(data_dir, manifest, [entry for name in PREDICTED for entry in manifest.partition(name)])
    predicted = {name: regression.predict(values) for name, values in features.items()}
    dimensions = {
        dimension: FittedDimension(
            DimensionSummary(), {name: both[:, axis] for name, both in predicted.items()}, None, {}
        )
        for axis, dimension in enumerate(DIMENSIONS)
    }
    return System(TRIVIAL, (), {}, True, dimensions)


def _read(data_dir: str | Path, manifest: Manifest, entries: list[RecordingEntry]) -> dict[str, np.ndarray]:
    """Returns the standardised features [frames, 2] of one recording or more, by name."""
    experiment = Experiment(
        model=ModelConfig(frame_samples=manifest.frame_samples, crop_size=manifest.crop_size),
        data=DataConfig(str(data_dir), eval_window_frames=_WINDOW_FRAMES, standardise="none"),
    )
    features = {entry.name: [] for entry in entries}
    windows = evaluation_windows(entries, _WINDOW_FRAMES)
    with shard_errors(data_dir, manifest, {entry.partition for entry in entries}):
        batches = evaluation_dataset(experiment, manifest, entries, batch_size=1)
        for window, (inputs, _, mask) in zip(windows, batches, strict=True):
            rms = tf.sqrt(tf.reduce_mean(tf.square(inputs["audio"]), axis=-1))
            brightness = inputs["video"].numpy().mean(axis=(2, 3, 4), dtype=np.float32)
            both = tf.stack([tf.math.log(rms + _SILENCE), brightness], axis=-1).numpy()  # (1, time, 2)
            features[window.recording].append(both[mask.numpy()])
    return {name: _standardise(np.concatenate(parts)) for name, parts in features.items()}


def _standardise(values: np.ndarray) -> np.ndarray:
    """Returns columns of mean 0 and standard deviation 1; a constant column becomes 0."""
    std = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(std > 0.0, std, 1.0)
