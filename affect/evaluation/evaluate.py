"""Evaluates a run: predicts, fits the post-processing on dev, and writes curves and `metrics.json`.

RUN_DIR/eval/
  postprocessing.json                     the chain of each dimension, fitted on dev
  {dev,test}/metrics.json                 {"raw", "postprocessed", "recordings", "frames"}
  {dev,test}/predictions/                 one CSV per recording, the network's output
  {dev,test}/predictions_postprocessed/   the same after the chain
"""

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
from affect.storage import atomic_write, remove_leftovers, write_json

Scores = dict[str, dict[str, float]]


def evaluate(run_dir: Path, partitions: list[str], data_dir: str | None = None) -> dict[str, dict | None]:
    """Evaluates a trained run.

    Args:
      run_dir: the run folder; results are written into its `eval/`.
      partitions: any of "train", "dev" and "test"; dev is always predicted, to fit the post-processing.
      data_dir: folder of the shards, if it has moved since training.

    Returns:
      The content of `metrics.json` per partition; None for a partition in which no recording has labels.

    Raises:
      UserError: the run or its data does not exist, or a partition is empty.
    """
    trained = TrainedNetwork.load(run_dir)
    experiment = trained.run.read_config(data_dir)
    manifest = open_data(experiment, {"dev", *partitions})
    for name in partitions:
        if not manifest.partition(name):
            raise UserError(f"{experiment.data.data_dir} has no recordings in partition {name}")

    def predictions(entries: list[RecordingEntry]) -> list[Prediction]:
        return predict(trained.network, experiment, manifest, entries)

    dev = predictions(labelled_recordings(manifest, "dev", experiment.data.data_dir))
    chains = fit_chains(dev, manifest.frame_rate_hz)
    remove_leftovers(trained.run.postprocessing.parent)
    write_json(trained.run.postprocessing, chains)
    return {name: _evaluate_partition(trained.run, name, manifest, chains, predictions) for name in partitions}


def fit_chains(dev: list[Prediction], frame_rate_hz: float) -> dict[str, PostProcessing]:
    """Fits one chain per dimension on the development predictions."""
    return {
        name: postprocess.fit(
            [_gold(one)[:, axis] for one in dev], [one.predicted[:, axis] for one in dev], frame_rate_hz
        )
        for axis, name in enumerate(DIMENSIONS)
    }


def apply_chains(prediction: Prediction, chains: dict[str, PostProcessing]) -> Prediction:
    """Returns the post-processed prediction."""
    columns = [chains[name].apply(prediction.predicted[:, axis]) for axis, name in enumerate(DIMENSIONS)]
    return Prediction(prediction.recording, np.stack(columns, axis=1), prediction.gold)


def score(predictions: list[Prediction]) -> Scores:
    """Scores labelled predictions: pooled over all recordings, and as the mean of the recordings' own CCCs."""
    scores = {}
    for axis, name in enumerate(DIMENSIONS):
        pairs = [(_gold(one)[:, axis], one.predicted[:, axis]) for one in predictions]
        gold, predicted = (np.concatenate(signals) for signals in zip(*pairs, strict=True))
        scores[name] = {
            "ccc_pooled": concordance_cc(gold, predicted),
            "ccc_per_recording": float(np.mean([concordance_cc(*pair) for pair in pairs])),
            "pearson_pooled": pearson_cc(gold, predicted),
            "rmse_pooled": rmse(gold, predicted),
        }
    return scores


def compute_metrics(raw: list[Prediction], postprocessed: list[Prediction]) -> dict | None:
    """Returns the content of `metrics.json` for one partition; None if no recording has gold labels.

    Args:
      raw: the network's predictions.
      postprocessed: the same recordings after the chain, in the same order.
    """
    labelled = [[one for one in predictions if one.gold is not None] for predictions in (raw, postprocessed)]
    if not labelled[0]:
        return None
    return {
        "raw": score(labelled[0]),
        "postprocessed": score(labelled[1]),
        "recordings": len(labelled[0]),
        "frames": sum(len(prediction.predicted) for prediction in labelled[0]),
    }


def _gold(prediction: Prediction) -> np.ndarray:
    if prediction.gold is None:
        raise ValueError(f"recording {prediction.recording} has no gold standard to fit or score on")
    return prediction.gold


def _evaluate_partition(
    run: RunFolder,
    partition: str,
    manifest: Manifest,
    chains: dict[str, PostProcessing],
    predictions: Callable[[list[RecordingEntry]], list[Prediction]],
) -> dict | None:
    """Writes the folder of one partition and returns its metrics."""
    raw = predictions(manifest.partition(partition))
    postprocessed = [apply_chains(prediction, chains) for prediction in raw]
    metrics = compute_metrics(raw, postprocessed)
    with atomic_write(run.evaluation(partition)) as folder:
        for subfolder, curves in (("predictions", raw), ("predictions_postprocessed", postprocessed)):
            (folder / subfolder).mkdir(parents=True)
            for prediction in curves:
                write_csv(prediction, manifest.frame_rate_hz, folder / subfolder / f"{prediction.recording}.csv")
        if metrics is not None:
            write_json(folder / "metrics.json", metrics)
    return metrics
