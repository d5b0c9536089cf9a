"""Measures of agreement between a gold standard and a prediction: CCC, Pearson correlation and RMSE, in NumPy.

Moments are population moments (divided by N), as in the paper's objective and in the scoring of AVEC. A "pooled" score
is computed on the concatenated recordings of a partition; a score "per recording" is the mean over the recordings.
"""

import numpy as np


def concordance_cc(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the concordance correlation coefficient (Lin, 1989; the objective in section 3 of the paper).

        ccc = 2 cov(gold, predicted) / (var(gold) + var(predicted) + (mean(gold) - mean(predicted))^2)

    Args:
      gold: [frames] gold standard.
      predicted: [frames] prediction.

    Returns:
      A float in [-1, 1]; 1 is perfect agreement in shape, scale and level. If either signal is constant, the
      covariance is 0 and so is the result. This includes two equal constants (0 / 0 by the formula), because agreement
      on a constant is not evidence of concordance, and signals of a single frame.

    Raises:
      ValueError: the signals are empty, not one-dimensional, of different lengths, or contain NaN or infinity.

    Example:
      >>> concordance_cc([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
      1.0
    """
    gold, predicted = _checked_pair(gold, predicted)
    if _is_constant(gold) or _is_constant(predicted):
        return 0.0
    gold_centred, predicted_centred = gold - gold.mean(), predicted - predicted.mean()
    covariance = np.mean(gold_centred * predicted_centred)
    denominator = np.mean(gold_centred**2) + np.mean(predicted_centred**2) + (gold.mean() - predicted.mean()) ** 2
    return float(2.0 * covariance / denominator) if denominator > 0.0 else 0.0


def pearson_cc(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the Pearson correlation; 0 if either signal is constant. Arguments and errors as in `concordance_cc`."""
    gold, predicted = _checked_pair(gold, predicted)
    if _is_constant(gold) or _is_constant(predicted):
        return 0.0
    gold_centred, predicted_centred = gold - gold.mean(), predicted - predicted.mean()
    denominator = np.sqrt(np.mean(gold_centred**2) * np.mean(predicted_centred**2))
    return float(np.mean(gold_centred * predicted_centred) / denominator) if denominator > 0.0 else 0.0


def rmse(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the root mean squared error, in the unit of the labels. Arguments and errors as in `concordance_cc`."""
    gold, predicted = _checked_pair(gold, predicted)
    return float(np.sqrt(np.mean((gold - predicted) ** 2)))


def _is_constant(signal: np.ndarray) -> bool:
    """Compares the values themselves: rounding of the mean gives a constant like 0.1 a variance above 0."""
    return signal.min() == signal.max()


def _checked_pair(gold: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gold, predicted = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if gold.ndim != 1 or gold.shape != predicted.shape:
        raise ValueError(f"expected two 1-D signals of the same length, got shapes {gold.shape} and {predicted.shape}")
    if gold.size == 0:
        raise ValueError("agreement is not defined for empty signals")
    for name, signal in (("gold", gold), ("predicted", predicted)):
        if not np.all(np.isfinite(signal)):
            raise ValueError(f"{name} has {np.count_nonzero(~np.isfinite(signal))} NaN or infinite values")
    return gold, predicted
