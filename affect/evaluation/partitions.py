"""Raw predictions of a partition flow in, its chains, curves and files flow out; for networks and handcrafted systems.

EVAL_DIR/{train,dev,test}/metrics.json     `affect.evaluation.scores.Metrics`; absent without labels
EVAL_DIR/{train,dev,test}/predictions...   see `affect.evaluation.prediction_files`
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from affect.config import DIMENSIONS
from affect.data.faceless import FacelessShares
from affect.data.manifest import RecordingEntry
from affect.evaluation.cautious import fit_dimension
from affect.evaluation.chain import FittedChains, PostProcessing, Statistics
from affect.evaluation.curves import Curves, Prediction
from affect.evaluation.prediction_files import write_curves
from affect.evaluation.scores import CURVE_OF, METRICS_NAME, Chosen, Metrics
from affect.evaluation.scoring import labelled, signals
from affect.storage import atomic_write, write_json


def fit_chains(
    dev: Sequence[Prediction], frame_rate_hz: float, chosen: Chosen = "paper", statistics: Statistics = "partition"
) -> FittedChains:
    """Fits the paper's and the cautious chain of each dimension on those development predictions that have labels."""
    fits = {
        name: fit_dimension(*signals(labelled(dev), name), frame_rate_hz, statistics=statistics) for name in DIMENSIONS
    }
    return FittedChains(
        chosen=chosen,
        statistics=statistics,
        paper={name: fit.paper for name, fit in fits.items()},
        cautious={name: fit.cautious for name, fit in fits.items()},
        leave_one_out={name: fit.leave_one_out for name, fit in fits.items()},
    )


def curves_of(raw: Sequence[Prediction], fitted: FittedChains) -> Curves:
    """Returns the raw predictions, and the predictions after the paper's and after the cautious chain."""
    return {
        "raw": list(raw),
        "postprocessed": [apply_chains(prediction, fitted.paper) for prediction in raw],
        "cautious": [apply_chains(prediction, fitted.cautious) for prediction in raw],
    }


def apply_chains(prediction: Prediction, chains: Mapping[str, PostProcessing]) -> Prediction:
    """Returns the post-processed prediction."""
    columns = [chains[name].apply(prediction.predicted[:, axis]) for axis, name in enumerate(DIMENSIONS)]
    return Prediction(prediction.recording, np.stack(columns, axis=1), prediction.gold)


def with_faceless_shares(metrics: Metrics, entries: Sequence[RecordingEntry]) -> Metrics:
    """Adds to the scores of a partition the share of frames without a face in its labelled recordings."""
    shares = FacelessShares.of([entry for entry in entries if entry.has_labels])
    return replace(metrics, faceless_share=shares.share, faceless_share_per_recording=shares.per_recording)


def write_partition(
    folder: Path,
    curves: Curves,
    metrics: Metrics | None,
    frame_rate_hz: float,
    chosen: Chosen = "paper",
    formats: Collection[str] = (),
) -> None:
    """Writes the folder of one partition, completely or not at all.

    Args:
      folder: replaced if it exists; check beforehand with `affect.storage.check_replaceable`.
      curves: what was predicted, see `curves_of`.
      metrics: the scores; None without labels.
      frame_rate_hz: frame rate of the curves.
      chosen: the post-processing whose curves go into the CSV and ARFF files.
      formats: formats besides CSV and HDF5, see `write_curves`.
    """
    with atomic_write(folder) as temporary:
        temporary.mkdir(parents=True, exist_ok=True)
        write_curves(temporary, curves, CURVE_OF[chosen], frame_rate_hz, formats)
        if metrics is not None:
            write_json(temporary / METRICS_NAME, metrics)
