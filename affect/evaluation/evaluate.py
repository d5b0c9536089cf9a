"""A run folder to scores: predicts, fits the post-processing on dev, writes curves and `metrics.json`.

RUN_DIR/eval/
  postprocessing.json                     the chain per dimension, fitted on dev
  {dev,test}/metrics.json                 {"raw", "postprocessed", "recordings", "frames"}
  {dev,test}/predictions/                 one CSV per recording, as the network gives them
  {dev,test}/predictions_postprocessed/   the same after the chain
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from affect.config import DIMENSIONS
from affect.data.dataset import labelled_recordings, open_data
from affect.data.manifest import Manifest, RecordingEntry
from affect.errors import UserError
from affect.evaluation import postprocess
from affect.evaluation.postprocess import PostProcessing
from affect.evaluation.predictions import Prediction, predict, write_csv
from affect.metrics import concordance_cc, pearson_cc, rmse
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder
from affect.storage import atomic_write

Scores = dict[str, dict[str, float]]


def evaluate(run_dir: Path, partitions: list[str], data_dir: str | None = None) -> dict[str, dict | None]:
    """Evaluates a trained run.

    Args:
      run_dir: the run folder; results are written into its `eval/`.
      partitions: of "train", "dev" and "test"; dev is predicted in any case, to fit the post-processing.
      data_dir: the shards, if they have moved since training.

    Returns:
      The content of `metrics.json` per partition; None where no recording has labels.

    Raises:
      UserError: no such run or data, an unknown or empty partition.
    """
    trained = TrainedNetwork.load(run_dir)
    experiment = trained.run.read_config(data_dir)
    manifest = open_data(experiment, {"dev", *partitions})
    for name in partitions:
        if not manifest.partition(name):
            raise UserError(f"{experiment.data.data_dir}: there is no {name} partition")

    def predictions(entries: list[RecordingEntry]) -> list[Prediction]:
        return predict(trained.network, experiment, manifest, entries)

    dev = predictions(labelled_recordings(manifest, "dev", experiment.data.data_dir))
    chains = fit_chains(dev, manifest.frame_rate_hz)
    with atomic_write(trained.run.postprocessing) as temporary:
        content = {name: json.loads(chain.to_json()) for name, chain in chains.items()}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return {name: _evaluate_partition(trained.run, name, manifest, chains, predictions) for name in partitions}


def fit_chains(dev: list[Prediction], frame_rate_hz: float) -> dict[str, PostProcessing]:
    """One chain per dimension."""
    return {
        name: postprocess.fit(
            [one.gold[:, axis] for one in dev], [one.predicted[:, axis] for one in dev], frame_rate_hz
        )
        for axis, name in enumerate(DIMENSIONS)
    }


def apply_chains(prediction: Prediction, chains: dict[str, PostProcessing]) -> Prediction:
    """The post-processed prediction."""
    columns = [chains[name].apply(prediction.predicted[:, axis]) for axis, name in enumerate(DIMENSIONS)]
    return Prediction(prediction.recording, np.stack(columns, axis=1), prediction.gold)


def score(predictions: list[Prediction]) -> Scores:
    """Scores labelled predictions: pooled over all recordings, and the mean over recordings of their own CCC."""
    scores = {}
    for axis, name in enumerate(DIMENSIONS):
        pairs = [(one.gold[:, axis], one.predicted[:, axis]) for one in predictions]
        gold, predicted = (np.concatenate(signals) for signals in zip(*pairs, strict=True))
        scores[name] = {
            "ccc_pooled": concordance_cc(gold, predicted),
            "ccc_per_recording": float(np.mean([concordance_cc(*pair) for pair in pairs])),
            "pearson_pooled": pearson_cc(gold, predicted),
            "rmse_pooled": rmse(gold, predicted),
        }
    return scores


def _evaluate_partition(
    run: RunFolder,
    partition: str,
    manifest: Manifest,
    chains: dict[str, PostProcessing],
    predictions: Callable[[list[RecordingEntry]], list[Prediction]],
) -> dict | None:
    """Writes one partition's folder, complete or not at all."""
    raw = predictions(manifest.partition(partition))
    final = [apply_chains(prediction, chains) for prediction in raw]
    labelled = [index for index, prediction in enumerate(raw) if prediction.gold is not None]
    metrics = None
    if labelled:
        metrics = {
            "raw": score([raw[index] for index in labelled]),
            "postprocessed": score([final[index] for index in labelled]),
            "recordings": len(labelled),
            "frames": sum(len(raw[index].predicted) for index in labelled),
        }
    folder = run.evaluation(partition)
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    for subfolder, curves in (("predictions", raw), ("predictions_postprocessed", final)):
        (beside / subfolder).mkdir(parents=True)
        for prediction in curves:
            write_csv(prediction, manifest.frame_rate_hz, beside / subfolder / f"{prediction.recording}.csv")
    if metrics is not None:
        (beside / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)
    return metrics
