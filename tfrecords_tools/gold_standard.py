"""Combines the ratings of several raters into one gold standard as AVEC 2016 does (Valstar et al., 2016).

Raters agree on when an emotion rises more than on its absolute level (Ringeval et al., 2015). So each rater's own mean
is subtracted before averaging. One common mean is then added back, in which each rater weighs as much as the rater
agrees with the others:

    w_i  = max(0, mean over j != i of CCC(rating_i, rating_j))
    gold = mean_i(rating_i - mean(rating_i)) + sum_i(w_i mean(rating_i)) / sum_i(w_i)
"""

import numpy as np

from affect.metrics import concordance_cc


def gold_standard(ratings: np.ndarray) -> np.ndarray:
    """Combines the ratings of one recording and one dimension.

    Args:
      ratings: [frames, raters], each in [-1, 1].

    Returns:
      float64 [frames]. The rating of a single rater is returned as it is. If no rater agrees with the others (all
      weights are 0, as with constant ratings), the raters' means count equally.

    Raises:
      ValueError: the ratings are not two-dimensional, empty, or not finite.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    if ratings.ndim != 2 or ratings.size == 0:
        raise ValueError(f"ratings must be [frames, raters] and not empty, got shape {ratings.shape}")
    if not np.all(np.isfinite(ratings)):
        raise ValueError("ratings contain NaN or infinity")

    means = ratings.mean(axis=0)
    weights = _agreement(ratings)
    if weights.sum() == 0.0:
        weights = np.ones_like(weights)
    return (ratings - means).mean(axis=1) + np.average(means, weights=weights)


def _agreement(ratings: np.ndarray) -> np.ndarray:
    """Returns the mean CCC of each rater with the others, [raters]; negative means are replaced by 0."""
    raters = ratings.shape[1]
    ccc = np.zeros((raters, raters))  # the diagonal stays 0, so that it adds nothing to the sums
    for i in range(raters):
        for j in range(i):
            ccc[i, j] = ccc[j, i] = concordance_cc(ratings[:, i], ratings[:, j])
    return np.maximum(ccc.sum(axis=1) / max(raters - 1, 1), 0.0)
