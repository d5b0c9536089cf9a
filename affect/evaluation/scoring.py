"""From predicted curves to scores: what `metrics.json` says about one partition.

Curves of a partition are a mapping from "raw", "postprocessed" (the paper's chain), "cautious" and, for handcrafted
systems, "avec" to one `Prediction` per recording, with the same recordings in the same order under every key.

The literature mixes two conventions: "pooled" scores are computed on the concatenated recordings (AVEC 2016, the
authors' code), scores "per recording" are the mean over the recordings (AVEC 2018). Both are given, by name.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from affect.config import DIMENSIONS
from affect.evaluation.curves import Prediction
from affect.evaluation.intervals import ccc_intervals
from affect.evaluation.postprocess import PostProcessing
from affect.evaluation.scores import CURVE_OF, Chosen, Context, DimensionScores, Metrics
from affect.metrics import concordance_cc, pearson_cc, rmse


def score(predictions: Sequence[Prediction]) -> dict[str, DimensionScores]:
    """Scores predictions of one recording or more, all with gold standard; returns the scores by dimension."""
    return {name: _score_dimension(*signals(predictions, name)) for name in DIMENSIONS}


def compute_metrics(
    curves: Mapping[str, Sequence[Prediction]],
    chains: Mapping[str, PostProcessing] | None = None,
    *,
    chosen: Chosen = "paper",
    context: Context | None = None,
) -> Metrics | None:
    """Returns the scores of one partition, without their origin; None if no recording has a gold standard.

    Args:
      curves: the partition's curves; "raw" and "postprocessed" must be among them.
      chains: the paper's chain of each dimension, for the CCC after each of its steps; None leaves that out.
      chosen: the post-processing by which the system is judged.
      context: how the network predicted; None for other systems.

    Raises:
      ValueError: curves are missing, or do not hold the same recordings in the same order.
    """
    names = [prediction.recording for prediction in curves["raw"]]
    missing = {"raw", "postprocessed", CURVE_OF[chosen]} - set(curves)
    if missing or any([prediction.recording for prediction in curve] != names for curve in curves.values()):
        raise ValueError(f"curves {', '.join(curves)}: some are missing, or their recordings differ")
    scored = {key: labelled(curve) for key, curve in curves.items()}
    if not scored["raw"]:
        return None
    scores = {key: score(predictions) for key, predictions in scored.items()}
    return Metrics(
        raw=scores["raw"],
        postprocessed=scores["postprocessed"],
        cautious=scores.get("cautious"),
        avec=scores.get("avec"),
        chosen=chosen,
        context=context,
        ccc_after_steps=None if chains is None else _ccc_after_steps(scored["raw"], chains),
        recordings=len(scored["raw"]),
        frames=sum(len(prediction.predicted) for prediction in scored["raw"]),
        unlabelled_recordings=len(names) - len(scored["raw"]),
    )


def labelled(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Returns the predictions whose gold standard is known."""
    return [prediction for prediction in predictions if prediction.gold is not None]


def signals(predictions: Sequence[Prediction], dimension: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns gold standard and prediction of one dimension, a [frames] array of each per recording.

    Raises:
      ValueError: a recording has no gold standard.
    """
    axis = DIMENSIONS.index(dimension)
    gold, predicted = [], []
    for prediction in predictions:
        if prediction.gold is None:
            raise ValueError(f"recording {prediction.recording} has no gold standard to fit or score on")
        gold.append(prediction.gold[:, axis])
        predicted.append(prediction.predicted[:, axis])
    return gold, predicted


def _score_dimension(gold: list[np.ndarray], predicted: list[np.ndarray]) -> DimensionScores:
    pairs = list(zip(gold, predicted, strict=True))
    pooled = np.concatenate(gold), np.concatenate(predicted)
    intervals = ccc_intervals(gold, predicted)
    return DimensionScores(
        ccc_pooled=concordance_cc(*pooled),
        ccc_per_recording=float(np.mean([concordance_cc(*pair) for pair in pairs])),
        pearson_pooled=pearson_cc(*pooled),
        rmse_pooled=rmse(*pooled),
        ccc_pooled_ci95=intervals.pooled,
        ccc_per_recording_ci95=intervals.per_recording,
        pearson_per_recording=float(np.mean([pearson_cc(*pair) for pair in pairs])),
        rmse_per_recording=float(np.mean([rmse(*pair) for pair in pairs])),
    )


def _ccc_after_steps(raw: Sequence[Prediction], chains: Mapping[str, PostProcessing]) -> dict[str, dict[str, float]]:
    """Returns the pooled CCC of each dimension after each step of its chain."""
    cccs = {}
    for name in DIMENSIONS:
        gold, predicted = signals(raw, name)
        steps = [chains[name].after_steps(signal) for signal in predicted]
        cccs[name] = {
            step: concordance_cc(np.concatenate(gold), np.concatenate([curves[step] for curves in steps]))
            for step in steps[0]
        }
    return cccs
