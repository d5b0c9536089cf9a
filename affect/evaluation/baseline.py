r"""Scores the trivial baseline: linear regression on loudness and brightness, to put a network's scores in proportion.

The features of a frame are the logarithm of the sound's RMS and the mean pixel value of the crop, both standardised
per recording. One linear regression per dimension is fitted on train; the same post-processing chain is fitted on dev
and scored like a network's predictions. A network that has learnt no more than "loud means aroused, bright means
pleasant" scores no better.

Example:
  python -m affect.evaluation.baseline --data_dir=data/demo/records --output=runs/demo/baseline.json
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags
from msgspec.structs import replace
from sklearn.linear_model import LinearRegression

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS, DataConfig, Experiment, ModelConfig
from affect.data.dataset import evaluation_dataset, labelled_recordings, open_data
from affect.data.manifest import Manifest, read_manifest
from affect.data.shard_check import shard_errors
from affect.data.windows import evaluation_windows
from affect.evaluation.evaluate import apply_chains, compute_metrics, fit_chains, with_faceless_shares
from affect.evaluation.predictions import Prediction
from affect.evaluation.scores import Digests, Metrics
from affect.storage import check_output_file, write_json

_WINDOW_FRAMES = 250
_SILENCE = 1e-6  # below 16-bit resolution; keeps the logarithm finite


def trivial_baseline(data_dir: str | Path) -> dict[str, Metrics]:
    """Fits the regression on train and the post-processing on dev; scores dev and test.

    Returns:
      The content of `metrics.json` per partition that has labels.

    Raises:
      UserError: the data cannot be read, or train or dev has no labelled recordings.
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
    metrics = {
        partition: compute_metrics(raw, [apply_chains(prediction, chains) for prediction in raw])
        for partition, raw in predictions.items()
    }
    digests = Digests(data=manifest.fingerprint())
    return {
        partition: with_faceless_shares(
            replace(scores, synthetic=manifest.synthetic, digests=digests), manifest.partition(partition)
        )
        for partition, scores in metrics.items()
        if scores is not None
    }


def _read(partition: str, experiment: Experiment, manifest: Manifest) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns standardised features [frames, 2] and gold [frames, 2], one of each per recording."""
    entries = labelled_recordings(manifest, partition, experiment.data.data_dir)
    features, gold = ({entry.name: [] for entry in entries} for _ in range(2))
    windows = evaluation_windows(entries, _WINDOW_FRAMES)
    with shard_errors(experiment.data.data_dir, manifest, {partition}):
        batches = evaluation_dataset(experiment, manifest, entries, batch_size=1)
        for window, (inputs, labels, mask) in zip(windows, batches, strict=True):
            rms = tf.sqrt(tf.reduce_mean(tf.square(inputs["audio"]), axis=-1))
            brightness = inputs["video"].numpy().mean(axis=(2, 3, 4), dtype=np.float32)
            both = tf.stack([tf.math.log(rms + _SILENCE), brightness], axis=-1).numpy()  # (1, time, 2)
            features[window.recording].append(both[mask.numpy()])
            gold[window.recording].append(labels.numpy()[mask.numpy()])
    standardised = [_standardise(np.concatenate(parts)) for parts in features.values()]
    return standardised, [np.concatenate(parts) for parts in gold.values()]


def _standardise(values: np.ndarray) -> np.ndarray:
    """Returns columns of mean 0 and standard deviation 1; a constant column becomes 0."""
    std = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(std > 0.0, std, 1.0)


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Folder of the shards and their manifest.", required=True)
    flags.DEFINE_string("output", None, "JSON file to write; may be s3:// or gs://.", required=True)


def main() -> None:
    """Passes the flags to `trivial_baseline`, and writes its scores."""
    args = flags.FLAGS
    check_output_file(args.output, "output")
    metrics = trivial_baseline(args.data_dir)
    write_json(args.output, metrics)
    for partition, content in metrics.items():
        cccs = ", ".join(f"{name} {content.postprocessed[name].ccc_pooled:.3f}" for name in DIMENSIONS)
        print(f"trivial baseline, {partition}, pooled CCC after post-processing: {cccs}")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
