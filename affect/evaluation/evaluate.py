"""Evaluates a run: predicts, fits the post-processing on dev, and writes curves and `metrics.json`.

RUN_DIR/eval/
  postprocessing.json   the chosen chain of each dimension, fitted on dev
  chains.json           `affect.evaluation.chain.FittedChains`: all chains, and what to expect on unseen recordings
  {train,dev,test}/     scores and curves, see `affect.evaluation.partitions`
"""

from pathlib import Path

import keras
from msgspec.structs import replace

from affect.config import Experiment
from affect.data.dataset import labelled_recordings, open_data
from affect.data.faceless import FacelessShares, sees
from affect.data.manifest import Manifest, RecordingEntry
from affect.errors import UserError
from affect.evaluation.curves import Prediction
from affect.evaluation.options import EvaluationOptions
from affect.evaluation.partitions import curves_of, fit_chains, with_faceless_shares, write_partition
from affect.evaluation.predictions import predict
from affect.evaluation.scores import Context, Digests, Metrics
from affect.evaluation.scoring import compute_metrics
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder, TrainingOrigin
from affect.storage import check_replaceable, read_json, remove_leftovers, write_json


def evaluate(
    run_dir: Path, partitions: list[str], data_dir: str | None = None, options: EvaluationOptions | None = None
) -> dict[str, Metrics | None]:
    """Evaluates a trained run; prints a remark if the data are not those of its training.

    Args:
      run_dir: the run folder; results are written into its `eval/`.
      partitions: any of "train", "dev" and "test". Dev is evaluated in any case, because the post-processing is fitted
        on it.
      data_dir: folder of the shards; None takes that of the training.
      options: how to evaluate; None takes the defaults.

    Returns:
      The content of `metrics.json` for each of `partitions`; None if no recording has labels.

    Raises:
      UserError: the run or its data does not exist, or a partition is empty.
    """
    options = options or EvaluationOptions()
    # The digest is taken first: if training replaces the weights meanwhile, the scores count as outdated.
    weights = RunFolder(run_dir).best_weights_digest()
    trained = TrainedNetwork.load(run_dir)
    run, experiment = trained.run, trained.run.read_config(data_dir)
    names = list(dict.fromkeys(["dev", *partitions]))
    manifest = open_data(experiment, names)
    for name in names:
        if not manifest.partition(name):
            raise UserError(f"{experiment.data.data_dir} has no recordings in partition {name}")
        check_replaceable(run.evaluation(name), "predictions_postprocessed")
    labelled_recordings(manifest, "dev", experiment.data.data_dir)

    training_data = read_json(run.environment, TrainingOrigin, hint="was the run trained by train.py?")
    same_data = manifest.has_fingerprint(training_data.data_fingerprint)
    if not same_data:
        print(
            f"{experiment.data.data_dir} holds other data than {run_dir} was trained on; the scores are of these data"
        )

    predictions = _predict_partitions(trained.network, experiment, manifest, names, options.context)
    fitted = fit_chains(predictions["dev"], manifest.frame_rate_hz, options.postprocess, options.statistics)
    remove_leftovers(run.postprocessing.parent)
    write_json(run.postprocessing, fitted.chosen_chains())
    write_json(run.chains, fitted)
    origin = {
        "layout": manifest.layout,
        "synthetic": training_data.synthetic_data or manifest.synthetic,
        "same_data_as_training": same_data,
        "digests": Digests(weights=weights, data=manifest.fingerprint(), chain=run.postprocessing_digest()),
    }

    evaluated = {}
    for name in names:
        curves = curves_of(predictions[name], fitted)
        metrics = compute_metrics(curves, fitted.paper, chosen=options.postprocess, context=options.context)
        if metrics is not None:
            metrics = replace(metrics, **origin)
            if sees(experiment):
                metrics = with_faceless_shares(metrics, manifest.partition(name))
        if sees(experiment):
            _say_faceless_without_labels(manifest.partition(name))
        write_partition(
            run.evaluation(name), curves, metrics, manifest.frame_rate_hz, options.postprocess, options.formats
        )
        evaluated[name] = metrics
    return {name: evaluated[name] for name in names if name in partitions}


def _predict_partitions(
    network: keras.Model, experiment: Experiment, manifest: Manifest, names: list[str], context: Context
) -> dict[str, list[Prediction]]:
    """Predicts several partitions in one call, because the network is traced once per call."""
    entries = [entry for name in names for entry in manifest.partition(name)]
    predicted = predict(network, experiment, manifest, entries, context)
    of_partition: dict[str, list[Prediction]] = {name: [] for name in names}
    for entry, prediction in zip(entries, predicted, strict=True):
        of_partition[entry.partition].append(prediction)
    return of_partition


def _say_faceless_without_labels(entries: list[RecordingEntry]) -> None:
    """Prints the shares of frames without a face for recordings without labels; for others, the scores hold them."""
    withheld = [entry for entry in entries if not entry.has_labels]
    if withheld:
        print(*FacelessShares.of(withheld).lines(f"{withheld[0].partition}, without labels"), sep="\n")
