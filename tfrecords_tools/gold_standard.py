"""Six raters to one gold standard, the AVEC 2016 way (Valstar et al., 2016; Ringeval et al., 2015).

Raters agree on when an emotion rises more than on its absolute level. So each rater's own mean is taken off
before averaging, and one common mean is put back in which raters count by how well they agree with the others:

    w_i  = mean over j != i of CCC(rating_i, rating_j), negative values counting as 0
    gold = mean_i(rating_i - mean(rating_i)) + sum_i(w_i mean(rating_i)) / sum_i(w_i)
"""

import numpy as np

from affect.metrics import concordance_cc


def gold_standard(ratings: np.ndarray) -> np.ndarray:
    """Combines the ratings of one recording and one dimension.

    Args:
      ratings: [frames, raters], each in [-1, 1].

    Returns:
      float64 [frames]. One rater is returned as is. Where nobody agrees with anybody (all weights 0, as with
      constant raters) the rater means count equally.

    Raises:
      ValueError: not two-dimensional, empty, or not finite.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    if ratings.ndim != 2 or ratings.size == 0:
        raise ValueError(f"ratings must be [frames, raters] and not empty, got shape {ratings.shape}")
    if not np.all(np.isfinite(ratings)):
        raise ValueError("ratings hold NaN or infinity")

    means = ratings.mean(axis=0)
    weights = _agreement(ratings)
    if weights.sum() == 0.0:
        weights = np.ones_like(weights)
    return (ratings - means).mean(axis=1) + np.average(means, weights=weights)


def _agreement(ratings: np.ndarray) -> np.ndarray:
    """Mean CCC of each rater with the others, [raters]; a disagreeing rater (negative mean) weighs nothing."""
    raters = ratings.shape[1]
    agreement = np.zeros((raters, raters))
    for i in range(raters):
        for j in range(i):
            agreement[i, j] = agreement[j, i] = concordance_cc(ratings[:, i], ratings[:, j])
    return np.maximum(agreement.sum(axis=1) / max(raters - 1, 1), 0.0)
