"""Evaluates a run: predicts, fits the post-processing on dev, and writes curves and `metrics.json`.

RUN_DIR/eval/
  postprocessing.json                         the chain of each dimension, fitted on dev
  {train,dev,test}/metrics.json               `affect.evaluation.scores.Metrics`; absent without labels
  {train,dev,test}/predictions/               one CSV per recording, the network's output
  {train,dev,test}/predictions_postprocessed/ the same after the chain
"""

from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from affect.config import DIMENSIONS
from affect.data.dataset import labelled_recordings, open_data
from affect.data.faceless import FacelessShares, sees
from affect.data.manifest import RecordingEntry
from affect.errors import UserError
from affect.evaluation import postprocess
from affect.evaluation.postprocess import PostProcessing
from affect.evaluation.predictions import Prediction, predict, write_csv
from affect.evaluation.scores import METRICS_NAME, Digests, DimensionScores, Metrics
from affect.metrics import concordance_cc, pearson_cc, rmse
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder
from affect.storage import atomic_write, check_replaceable, read_json, remove_leftovers, write_json


class _TrainingData(msgspec.Struct):
    """What `environment.json` says about the data that a run was trained on."""

    data_fingerprint: str
    synthetic_data: bool


def evaluate(run_dir: Path, partitions: list[str], data_dir: str | None = None) -> dict[str, Metrics | None]:
    """Evaluates a trained run; says so if the data are not those of its training.

    Args:
      run_dir: the run folder; results are written into its `eval/`.
      partitions: any of "train", "dev" and "test". Dev is evaluated in any case, because the post-processing is fitted
        on it.
      data_dir: folder of the shards, if it is not that of the training.

    Returns:
      The content of `metrics.json` for each of `partitions`; None if no recording has labels.

    Raises:
      UserError: the run or its data does not exist, or a partition is empty.
    """
    # The digest is taken first: if training replaces the weights meanwhile, the scores count as outdated.
    weights = RunFolder(run_dir).best_weights_digest()
    trained = TrainedNetwork.load(run_dir)
    run, experiment = trained.run, trained.run.read_config(data_dir)
    names = dict.fromkeys(["dev", *partitions])
    manifest = open_data(experiment, names)
    for name in names:
        if not manifest.partition(name):
            raise UserError(f"{experiment.data.data_dir} has no recordings in partition {name}")
        check_replaceable(run.evaluation(name), "predictions_postprocessed")
    labelled_recordings(manifest, "dev", experiment.data.data_dir)

    training_data = read_json(run.environment, _TrainingData, hint="was the run trained by train.py?")
    fingerprint = manifest.fingerprint()
    same_data = manifest.has_fingerprint(training_data.data_fingerprint)
    if not same_data:
        print(
            f"{experiment.data.data_dir} holds other data than {run_dir} was trained on; the scores are of these data"
        )

    predictions = {"dev": predict(trained.network, experiment, manifest, manifest.partition("dev"))}
    chains = fit_chains([one for one in predictions["dev"] if one.gold is not None], manifest.frame_rate_hz)
    remove_leftovers(run.postprocessing.parent)
    write_json(run.postprocessing, chains)
    digests = Digests(weights=weights, data=fingerprint, chain=run.postprocessing_digest())

    evaluated = {}
    for name in names:
        raw = predictions.get(name) or predict(trained.network, experiment, manifest, manifest.partition(name))
        postprocessed = [apply_chains(prediction, chains) for prediction in raw]
        metrics = compute_metrics(raw, postprocessed)
        if metrics is not None:
            synthetic = training_data.synthetic_data or manifest.synthetic
            metrics = replace(metrics, synthetic=synthetic, same_data_as_training=same_data, digests=digests)
            if sees(experiment):
                metrics = with_faceless_shares(metrics, manifest.partition(name))
        if sees(experiment):
            _say_faceless_without_labels(manifest.partition(name))
        _write_partition(run.evaluation(name), manifest.frame_rate_hz, raw, postprocessed, metrics)
        evaluated[name] = metrics
    return {name: evaluated[name] for name in names if name in partitions}


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


def score(predictions: list[Prediction]) -> dict[str, DimensionScores]:
    """Scores labelled predictions: pooled over all recordings, and as the mean of the recordings' own CCCs."""
    scores = {}
    for axis, name in enumerate(DIMENSIONS):
        pairs = [(_gold(one)[:, axis], one.predicted[:, axis]) for one in predictions]
        gold, predicted = (np.concatenate(signals) for signals in zip(*pairs, strict=True))
        scores[name] = DimensionScores(
            ccc_pooled=concordance_cc(gold, predicted),
            ccc_per_recording=float(np.mean([concordance_cc(*pair) for pair in pairs])),
            pearson_pooled=pearson_cc(gold, predicted),
            rmse_pooled=rmse(gold, predicted),
        )
    return scores


def compute_metrics(raw: list[Prediction], postprocessed: list[Prediction]) -> Metrics | None:
    """Returns the scores of one partition, without their origin; None if no recording has gold labels.

    Args:
      raw: the network's predictions.
      postprocessed: the same recordings after the chain, in the same order.
    """
    labelled = [[one for one in predictions if one.gold is not None] for predictions in (raw, postprocessed)]
    if not labelled[0]:
        return None
    return Metrics(
        raw=score(labelled[0]),
        postprocessed=score(labelled[1]),
        recordings=len(labelled[0]),
        frames=sum(len(prediction.predicted) for prediction in labelled[0]),
    )


def with_faceless_shares(metrics: Metrics, entries: list[RecordingEntry]) -> Metrics:
    """Adds to the scores of a partition in how many frames of its labelled recordings no face was found."""
    shares = FacelessShares.of([entry for entry in entries if entry.has_labels])
    return replace(metrics, faceless_share=shares.share, faceless_share_per_recording=shares.per_recording)


def _say_faceless_without_labels(entries: list[RecordingEntry]) -> None:
    """Prints the shares of frames without a face of the recordings that are predicted and have no scores to say it."""
    withheld = [entry for entry in entries if not entry.has_labels]
    if withheld:
        print(*FacelessShares.of(withheld).lines(f"{withheld[0].partition}, without labels"), sep="\n")


def _gold(prediction: Prediction) -> np.ndarray:
    if prediction.gold is None:
        raise ValueError(f"recording {prediction.recording} has no gold standard to fit or score on")
    return prediction.gold


def _write_partition(
    folder: Path, frame_rate_hz: float, raw: list[Prediction], postprocessed: list[Prediction], metrics: Metrics | None
) -> None:
    """Writes the folder of one partition, completely or not at all."""
    with atomic_write(folder) as temporary:
        for subfolder, curves in (("predictions", raw), ("predictions_postprocessed", postprocessed)):
            (temporary / subfolder).mkdir(parents=True)
            for prediction in curves:
                write_csv(prediction, frame_rate_hz, temporary / subfolder / f"{prediction.recording}.csv")
        if metrics is not None:
            write_json(temporary / METRICS_NAME, metrics)
