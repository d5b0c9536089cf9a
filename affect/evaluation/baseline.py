r"""The trivial baseline: linear regression on loudness and brightness, for scale beside a network's scores.

Per frame the logarithm of the sound's RMS and the crop's mean pixel value, each standardised per recording; one
linear regression per dimension, fitted on train. The same post-processing chain is fitted on dev and scored like a
network's predictions. A network that learns no more than "loud is aroused, bright is pleasant" scores no better.

Example:
  python -m affect.evaluation.baseline --data_dir=data/demo/records --output=runs/demo/baseline.json
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags
from sklearn.linear_model import LinearRegression

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS, DataConfig, Experiment, ModelConfig
from affect.data.dataset import evaluation_dataset, labelled_recordings, open_data
from affect.data.manifest import Manifest, read_manifest
from affect.data.windows import evaluation_windows
from affect.evaluation.evaluate import apply_chains, fit_chains, score
from affect.evaluation.predictions import Prediction
from affect.storage import atomic_write

_WINDOW_FRAMES = 250
_SILENCE = 1e-6  # below 16-bit resolution; keeps the logarithm finite


def trivial_baseline(data_dir: str | Path) -> dict[str, dict]:
    """Fits on train, post-processes on dev, scores dev and test.

    Returns:
      `metrics.json` content per partition that has labels.

    Raises:
      UserError: no readable data, or no labelled train or dev recordings.
    """
    manifest = read_manifest(data_dir)
    experiment = Experiment(
        model=ModelConfig(frame_samples=manifest.frame_samples, crop_size=manifest.crop_size),
        data=DataConfig(str(data_dir), eval_window_frames=_WINDOW_FRAMES, standardise="none"),
    )
    open_data(experiment, PARTITIONS)
    features, gold = _read("train", experiment, manifest)
    regression = LinearRegression().fit(np.concatenate(features), np.concatenate(gold))

    predictions = {}
    for partition in ("dev", "test"):
        if partition == "dev" or any(entry.has_labels for entry in manifest.partition(partition)):
            features, gold = _read(partition, experiment, manifest)
            predictions[partition] = [
                Prediction("", regression.predict(x), y) for x, y in zip(features, gold, strict=True)
            ]
    chains = fit_chains(predictions["dev"], manifest.frame_rate_hz)
    return {
        partition: {
            "raw": score(raw),
            "postprocessed": score([apply_chains(prediction, chains) for prediction in raw]),
            "recordings": len(raw),
            "frames": sum(len(prediction.predicted) for prediction in raw),
        }
        for partition, raw in predictions.items()
    }


def _read(partition: str, experiment: Experiment, manifest: Manifest) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features [frames, 2], standardised, and gold [frames, 2] per recording."""
    entries = labelled_recordings(manifest, partition, experiment.data.data_dir)
    rows, labels = ({entry.name: [] for entry in entries} for _ in range(2))
    windows = evaluation_windows(entries, _WINDOW_FRAMES)
    batches = evaluation_dataset(experiment, manifest, entries, batch_size=1)
    for window, (inputs, label, mask) in zip(windows, batches, strict=True):
        rms = tf.sqrt(tf.reduce_mean(tf.square(inputs["audio"]), axis=-1))
        brightness = inputs["video"].numpy().mean(axis=(2, 3, 4), dtype=np.float32)
        rows[window.recording].append(
            tf.stack([tf.math.log(rms + _SILENCE), brightness], axis=-1).numpy()[mask.numpy()]
        )
        labels[window.recording].append(label.numpy()[mask.numpy()])
    return [_standardised(np.concatenate(parts)) for parts in rows.values()], [
        np.concatenate(parts) for parts in labels.values()
    ]


def _standardised(values: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 per column; a constant column is 0."""
    deviation = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(deviation > 0.0, deviation, 1.0)


def _main() -> None:
    args = flags.FLAGS
    metrics = trivial_baseline(args.data_dir)
    with atomic_write(Path(args.output)) as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    for partition, content in metrics.items():
        cccs = ", ".join(f"{name} {content['postprocessed'][name]['ccc_pooled']:.3f}" for name in DIMENSIONS)
        print(f"trivial baseline, {partition}, pooled CCC after post-processing: {cccs}")


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the shards and their manifest.", required=True)
    flags.DEFINE_string("output", None, "JSON file to write.", required=True)
    cli.run(_main)
