"""Late fusion of the AVEC 2016 baseline: a linear regression of unimodal predictions, fitted on the development set.

The predictions of several systems flow in, frame by frame, and one prediction flows out. In some frames a system may
have no prediction (there is no video, for instance). For these, AVEC has a second model, without video; here every
combination of systems has its own model, fitted on the development frames in which all of them predict.

As in AVEC, the regression is fitted on the development frames on which the delays, the complexities and the chains were
chosen, so its development scores are optimistic.
"""

import itertools
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from sklearn.linear_model import Ridge

from affect.errors import UserError

RIDGE = 1e-8


class FusionModel(msgspec.Struct, frozen=True):
    """One linear regression.

    Attributes:
      systems: the systems whose predictions it takes.
      weights: one per system.
      bias: added to the weighted sum.
      frames: number of development frames that it was fitted on.
    """

    systems: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    frames: int


class LateFusion(msgspec.Struct, frozen=True):
    """The models of one dimension; models of more systems come first.

    Attributes:
      systems: all systems, in the order of the columns of `predicted` (see `apply`).
      models: in the order in which they are tried; every single system has one.
    """

    systems: tuple[str, ...]
    models: tuple[FusionModel, ...]

    def apply(self, predicted: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Fuses one recording.

        Args:
          predicted: [frames, systems]; values where a system is not present are not used.
          present: bool [frames, systems].

        Returns:
          float64 [frames]: in every frame the prediction of the first model whose systems are all present.

        Raises:
          ValueError: no system is present in some frame.
        """
        fused, open_frames = np.zeros(len(predicted)), np.ones(len(predicted), dtype=bool)
        for model in self.models:
            columns = [self.systems.index(name) for name in model.systems]
            chosen = open_frames & present[:, columns].all(axis=1)
            fused[chosen] = predicted[np.ix_(chosen, columns)] @ np.array(model.weights) + model.bias
            open_frames &= ~chosen
        if open_frames.any():
            raise ValueError(f"no system is present in {np.count_nonzero(open_frames)} frames")
        return fused


def fit_fusion(systems: Sequence[str], predicted: np.ndarray, present: np.ndarray, gold: np.ndarray) -> LateFusion:
    """Fits a model for every combination of systems that are all present in some development frame.

    Args:
      systems: names, one per column.
      predicted: post-processed predictions of all development recordings concatenated, [frames, systems].
      present: where a system predicts, bool [frames, systems].
      gold: [frames], one dimension.

    Raises:
      UserError: a system predicts no development frame.
    """
    models = []
    for size in range(len(systems), 0, -1):
        for columns in itertools.combinations(range(len(systems)), size):
            frames = present[:, columns].all(axis=1)
            if frames.any():
                line = Ridge(alpha=RIDGE).fit(predicted[np.ix_(frames, columns)], gold[frames])
                names = tuple(systems[column] for column in columns)
                weights = tuple(float(weight) for weight in line.coef_)
                models.append(FusionModel(names, weights, float(line.intercept_), int(np.count_nonzero(frames))))
            elif size == 1:
                raise UserError(f"{systems[columns[0]]}: its features are missing in every frame of dev with labels")
    return LateFusion(tuple(systems), tuple(models))


def side_by_side(
    curves: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray], systems: Sequence[str], frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns one recording as `LateFusion` takes it: predictions and presence, both [frames, systems].

    In frames where no system is present, all systems that predict the recording count as present, because a prediction
    from interpolated features is better than none.

    Args:
      curves: the prediction [frames] of each system; a system that does not predict the recording is missing.
      present: in which frames a system's features were measured, bool [frames], with the same keys.
      systems: the order of the columns.
      frames: number of frames of the recording.
    """
    predicted = np.stack([curves.get(name, np.zeros(frames)) for name in systems], axis=1)
    measured = np.stack([present.get(name, np.zeros(frames, dtype=bool)) for name in systems], axis=1)
    predicts = np.array([name in curves for name in systems])
    return predicted, np.where(measured.any(axis=1, keepdims=True), measured, predicts)
