"""The field's agreement measures between a gold standard and a prediction, in NumPy only.

Moments are population moments (divide by N), as in the paper's objective and in AVEC's scoring. "Pooled" scores
concatenate all recordings of a partition before calling these; "per recording" scores average over calls.
"""

import numpy as np


def concordance_cc(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Concordance correlation coefficient (Lin, 1989; paper section 3, equation of the objective).

        ccc = 2 cov(gold, predicted) / (var(gold) + var(predicted) + (mean(gold) - mean(predicted))^2)

    Args:
      gold: [frames] gold standard.
      predicted: [frames] prediction.

    Returns:
      A float in [-1, 1]; 1 is perfect agreement in shape, scale and level. Where either signal is constant the
      covariance is 0 and so is the result, also for two equal constants (0 / 0 by the formula): agreement on a
      constant is no evidence of concordance. A single frame is such a constant.

    Raises:
      ValueError: empty, not one-dimensional, of different lengths, or not finite.

    Example:
      >>> concordance_cc([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
      1.0
    """
    gold, predicted = _checked_pair(gold, predicted)
    gold_deviation, predicted_deviation = gold - gold.mean(), predicted - predicted.mean()
    covariance = np.mean(gold_deviation * predicted_deviation)
    denominator = np.mean(gold_deviation**2) + np.mean(predicted_deviation**2) + (gold.mean() - predicted.mean()) ** 2
    return float(2.0 * covariance / denominator) if denominator > 0.0 else 0.0


def pearson_cc(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson correlation; 0 where either signal is constant. Arguments and errors as `concordance_cc`."""
    gold, predicted = _checked_pair(gold, predicted)
    gold_deviation, predicted_deviation = gold - gold.mean(), predicted - predicted.mean()
    denominator = np.sqrt(np.mean(gold_deviation**2) * np.mean(predicted_deviation**2))
    return float(np.mean(gold_deviation * predicted_deviation) / denominator) if denominator > 0.0 else 0.0


def rmse(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean squared error, in the labels' own unit. Arguments and errors as `concordance_cc`."""
    gold, predicted = _checked_pair(gold, predicted)
    return float(np.sqrt(np.mean((gold - predicted) ** 2)))


def _checked_pair(gold: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gold, predicted = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if gold.ndim != 1 or gold.shape != predicted.shape:
        raise ValueError(f"need two 1-D signals of one length, got shapes {gold.shape} and {predicted.shape}")
    if gold.size == 0:
        raise ValueError("no agreement measure is defined for empty signals")
    for name, signal in (("gold", gold), ("predicted", predicted)):
        if not np.all(np.isfinite(signal)):
            raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(signal))} NaN or infinite values")
    return gold, predicted
