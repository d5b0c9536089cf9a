"""The regressor of the AVEC 2016 baseline: LIBLINEAR's L2-regularised L2-loss support vector regression (`-s 12 -B 1`).

Features [frames, columns] and a gold standard [frames] flow in, a line flows out: weights [columns] and a bias that is
regularised like the weights. scikit-learn's `LinearSVR` contains LIBLINEAR. Its defaults for epsilon (0) and tolerance
(1e-4) differ from those of LIBLINEAR (both 0.1), so all options are given here.

The solver visits the frames in a random order, and a tolerance of 0.1 stops it early, so another seed changes the
weights by several per cent. The seed is fixed, so that equal data give equal weights.
"""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVR

EPSILON = 0.1
TOLERANCE = 0.1
_BIAS = 1.0
_SEED = 0
# The limit of LIBLINEAR in 2016 and of scikit-learn. LIBLINEAR 2.50 switches to a primal solver after 300.
_MAX_PASSES = 1000


class SupportVectorRegression(NamedTuple):
    """A fitted regression.

    Attributes:
      weights: float64 [columns].
      bias: added to every prediction.
      converged: False if the solver stopped after 1000 passes over the data, before its tolerance was reached.
    """

    weights: np.ndarray
    bias: float
    converged: bool

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns the prediction, float64 [frames], for features [frames, columns]."""
        return features @ self.weights + self.bias


def fit_svr(
    features: np.ndarray, gold: np.ndarray, complexity: float, tolerance: float = TOLERANCE
) -> SupportVectorRegression:
    """Fits the regression.

    Args:
      features: standardised, float64 [frames, columns]; other types are copied.
      gold: [frames], one dimension.
      complexity: C, the weight of the errors relative to the regularisation.
      tolerance: the solver stops when the violation of its conditions has fallen to this share of its initial value.
    """
    regression = LinearSVR(
        loss="squared_epsilon_insensitive", dual=True, epsilon=EPSILON, tol=tolerance, intercept_scaling=_BIAS,
        C=complexity, max_iter=_MAX_PASSES, random_state=_SEED,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` reports it
        regression.fit(features, gold)
    return SupportVectorRegression(regression.coef_, float(regression.intercept_[0]), regression.n_iter_ < _MAX_PASSES)
