"""Combines the ratings of several raters into one gold standard as AVEC 2016 does (Valstar et al., 2016).

Raters agree on when an emotion rises more than on its absolute level (Ringeval et al., 2015). So each rater's own mean
is subtracted before averaging. One common mean is then added back, in which each rater weighs as much as the rater
agrees with the others:

    w_i  = mean over j != i of CCC(rating_i, rating_j)
    gold = mean_i(rating_i - mean(rating_i)) + sum_i(w_i mean(rating_i)) / sum_i(w_i)

AVEC's own script uses negative weights as they are, and so does this module: a rater who contradicts the others pushes
the common mean away from the rater's own.
"""

import numpy as np

from affect.metrics import concordance_cc

# Weights are mean CCCs, in [-1, 1]. If they sum to less than this, the raters do not agree at all, and the quotient
# above would magnify the differences between their means a thousandfold or invert them.
_MIN_SUM_OF_WEIGHTS = 1e-3


def gold_standard(ratings: np.ndarray) -> np.ndarray:
    """Combines the ratings of one recording and one dimension by the formula above.

    Args:
      ratings: [frames, raters], each in [-1, 1].

    Returns:
      float64 [frames]. The rating of a single rater is returned as it is. If the raters do not agree (see
      `has_agreement`), their means count equally.

    Raises:
      ValueError: the ratings are not two-dimensional, empty, or not finite.
    """
    weights = mean_agreement(ratings)
    if not has_agreement(weights):
        weights = np.ones_like(weights)
    ratings = np.asarray(ratings, dtype=np.float64)
    means = ratings.mean(axis=0)
    return (ratings - means).mean(axis=1) + np.average(means, weights=weights)


def mean_agreement(ratings: np.ndarray) -> np.ndarray:
    """Returns each rater's mean CCC with the others, float64 [raters]; 0 for a single rater.

    Arguments and errors as in `gold_standard`.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    if ratings.ndim != 2 or ratings.size == 0:
        raise ValueError(f"ratings must be [frames, raters] and not empty, got shape {ratings.shape}")
    if not np.all(np.isfinite(ratings)):
        raise ValueError("ratings contain NaN or infinity")
    raters = ratings.shape[1]
    ccc = np.zeros((raters, raters))  # the diagonal stays 0, so that it adds nothing to the sums
    for i in range(raters):
        for j in range(i):
            ccc[i, j] = ccc[j, i] = concordance_cc(ratings[:, i], ratings[:, j])
    return ccc.sum(axis=1) / max(raters - 1, 1)


def has_agreement(weights: np.ndarray) -> bool:
    """Returns whether the raters agree enough to be weighted by it: not if the weights sum to less than 0.001."""
    return float(weights.sum()) >= _MIN_SUM_OF_WEIGHTS
