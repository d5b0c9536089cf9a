"""The regression of the AVEC 2016 baseline for one feature set and one dimension (Valstar et al., 2016).

Feature tables and gold standards of all recordings flow in; a regression with its delay and its complexity flows out,
and then predictions on the unshifted time axis. Step by step, as in AVEC's own scripts:

1. Features are standardised, either with the mean and the deviation of train (on all partitions) or with those of each
   recording. Missing values become 0.
2. Raters react late, so the gold standard is shifted back by a delay, its last value repeated.
3. A support vector regression (`svr`) is fitted on train for every complexity, and its dev predictions go through the
   chain of `chain`. The delay and the complexity with the highest CCC after the chain, against the shifted gold
   standard, win. The search over delays stops after three in a row without improvement.
4. The final prediction is moved forward by the delay, its first value repeated.

Test has no part in any choice.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import joblib
import msgspec
import numpy as np
from sklearn.preprocessing import StandardScaler

from affect.evaluation.avec2016.chain import AvecChain, fit_avec_chain
from affect.evaluation.avec2016.svr import SupportVectorRegression, fit_svr

Protocol = Literal["avec", "quick"]
Standardisation = Literal["train", "recording"]
_PATIENCE = 3


class Grid(msgspec.Struct, frozen=True):
    """The values that are tried.

    Attributes:
      delays_secs: delays of the gold standard, in the order of the search.
      complexities: C of the regression.
    """

    delays_secs: tuple[float, ...]
    complexities: tuple[float, ...]


GRIDS: dict[str, Grid] = {
    "avec": Grid(
        tuple(round(0.4 * index, 1) for index in range(21)),
        (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0),
    ),
    "quick": Grid((0.0, 0.8, 1.6, 2.8), (1e-4, 1e-3, 1e-2, 1e-1)),
}


class Choice(msgspec.Struct, frozen=True):
    """What dev chose for one feature set and one dimension.

    Attributes:
      delay_secs: delay of the gold standard.
      delay_frames: the same in frames.
      complexity: C of the regression.
      converged: whether the solver reached its tolerance.
      chain: AVEC's chain, fitted on the dev predictions of the regression.
      dev_ccc: pooled CCC of dev after the chain, against the shifted gold standard.
      delays_tried_secs: the delays that were tried before the search stopped.
    """

    delay_secs: float
    delay_frames: int
    complexity: float
    converged: bool
    chain: AvecChain
    dev_ccc: float
    delays_tried_secs: tuple[float, ...]


class _Trial(NamedTuple):
    regression: SupportVectorRegression
    complexity: float
    chain: AvecChain
    ccc: float


def standardise(
    tables: Mapping[str, np.ndarray], train: Sequence[str], standardisation: Standardisation
) -> dict[str, np.ndarray]:
    """Returns the standardised tables, with 0 for missing values.

    Args:
      tables: float32 [frames, columns] by recording; NaN where a value is missing.
      train: the recordings of train.
      standardisation: "train": mean and deviation of train for all partitions ("online" in AVEC's terms, because it
        also works on live input); "recording": those of each recording ("per subject").
    """
    with np.errstate(invalid="ignore"):  # a column of a recording may have no value at all
        if standardisation == "train":
            scaler = StandardScaler().fit(np.concatenate([tables[name] for name in train]))
            standardised = {name: scaler.transform(table) for name, table in tables.items()}
        else:
            standardised = {name: StandardScaler().fit_transform(table) for name, table in tables.items()}
    return {name: np.nan_to_num(table, copy=False, nan=0.0) for name, table in standardised.items()}


def advance(gold: np.ndarray, frames: int) -> np.ndarray:
    """Shifts a gold standard [frames] back in time; its last value fills the end."""
    return np.concatenate([gold[frames:], np.repeat(gold[-1:], min(frames, len(gold)))])


def fit_regression(
    features: Mapping[str, Sequence[np.ndarray]],
    gold: Mapping[str, Sequence[np.ndarray]],
    grid: Grid,
    frame_rate: float,
    processes: int = 1,
) -> tuple[SupportVectorRegression, Choice]:
    """Searches delay and complexity.

    Args:
      features: "train" and "dev": standardised tables [frames, columns], one per recording with a gold standard.
      gold: the same keys: [frames] of one dimension per recording.
      grid: the values to try.
      frame_rate: of both, in Hz.
      processes: number of complexities to try at the same time; each process needs twice the memory of the train
        table. The result does not depend on it.

    Returns:
      The regression that was trained with the best delay and complexity, and the choice.
    """
    train = np.concatenate(features["train"]).astype(np.float64)
    best, best_delay, tried = None, 0.0, []
    with joblib.Parallel(n_jobs=processes) as parallel:
        for delay_secs in grid.delays_secs:
            frames = round(delay_secs * frame_rate)
            train_gold = np.concatenate([advance(signal, frames) for signal in gold["train"]]).astype(np.float64)
            dev_gold = [advance(signal, frames).astype(np.float64) for signal in gold["dev"]]
            trials = parallel(
                joblib.delayed(_try)(train, train_gold, features["dev"], dev_gold, complexity, frame_rate)
                for complexity in grid.complexities
            )
            tried.append(delay_secs)
            for trial in trials:
                if best is None or trial.ccc > best.ccc:
                    best, best_delay = trial, delay_secs
            if len(tried) - 1 - tried.index(best_delay) >= _PATIENCE:
                break
    assert best is not None  # a grid has at least one value of each kind
    choice = Choice(
        best_delay, round(best_delay * frame_rate), best.complexity, best.regression.converged, best.chain, best.ccc,
        tuple(tried),
    )  # fmt: skip
    return best.regression, choice


def _try(
    train: np.ndarray,
    train_gold: np.ndarray,
    dev: Sequence[np.ndarray],
    dev_gold: Sequence[np.ndarray],
    complexity: float,
    frame_rate: float,
) -> _Trial:
    """Fits one regression on train and its chain on dev."""
    regression = fit_svr(train, train_gold, complexity)
    chain, ccc = fit_avec_chain(dev_gold, [regression.predict(table) for table in dev], frame_rate)
    return _Trial(regression, complexity, chain, ccc)
