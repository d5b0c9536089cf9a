"""The training objective (section 3.4 of the paper): a loss based on the concordance correlation coefficient (CCC).

    L = ((1 - ccc_arousal) + (1 - ccc_valence)) / 2        train.objective=ccc, the default
    L = (mse_arousal + mse_valence) / 2                    train.objective=mse, to compare with

The CCC is computed over all frames of the global batch, pooled. It is not a mean over sequences or replicas, so it is
computed in three steps: each replica sums over its frames, the sums are added across replicas (`moments` does both),
and `loss_from_moments` takes the ratio.

`loss_from_moments` is the only definition of the objective: the compiled loss, the training step and the validation
all call it. The mean squared error is a function of the same moments. Another loss that is one, too, is one more branch
of that function.

Moments are centred before they are squared. In float32, E[x^2] - E[x]^2 loses the variance of nearly constant
predictions, which are typical at the start of training. This module uses `keras.ops` only, so it runs on every
Keras backend.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from affect.config import Objective

Tensor = Any  # of whichever backend Keras runs on
AllReduce = Callable[[Tensor], Tensor]

_ROUNDING = 1e-6  # relative rounding error of the moments of a constant


class Moments(NamedTuple):
    """Population moments over all counted frames, float32: `count` is a scalar, the others are [dimensions]."""

    count: Tensor
    gold_mean: Tensor
    predicted_mean: Tensor
    gold_variance: Tensor
    predicted_variance: Tensor
    covariance: Tensor


def moments(gold: Tensor, predicted: Tensor, mask: Tensor = None, all_reduce: AllReduce | None = None) -> Moments:
    """Computes the moments of all unmasked frames, over all replicas.

    Args:
      gold: [batch, time, dimensions].
      predicted: [batch, time, dimensions].
      mask: [batch, time]; frames where it is zero or False are ignored. None counts all frames.
      all_reduce: sums a tensor over replicas; None for one replica.

    Returns:
      `Moments`; all zero if every frame is masked.
    """
    all_reduce = all_reduce or (lambda tensor: tensor)
    gold, predicted = ops.cast(gold, "float32"), ops.cast(predicted, "float32")
    counts = ops.ones_like(gold[..., :1]) if mask is None else ops.cast(ops.cast(mask, "bool"), "float32")[..., None]
    # Select instead of multiplying: a masked frame may hold NaN, and 0 * NaN is NaN.
    gold, predicted = (ops.where(counts > 0.0, signal, 0.0) for signal in (gold, predicted))

    def total(*signals: Tensor) -> Tensor:
        """Sums over all frames of all replicas, with one reduction for all signals: [signals, dimensions]."""
        return all_reduce(ops.stack([ops.sum(signal, axis=tuple(range(len(signal.shape) - 1))) for signal in signals]))

    count, *sums = ops.unstack(total(counts * ops.ones_like(gold), gold, predicted), 3)
    count = count[0]
    frames = ops.maximum(count, 1.0)
    gold_mean, predicted_mean = (one / frames for one in sums)
    gold, predicted = (gold - gold_mean) * counts, (predicted - predicted_mean) * counts
    squares = total(gold, predicted, gold * gold, predicted * predicted, gold * predicted) / frames
    # A float32 sum over thousands of frames is rounded, so the centred signals have small means of their own.
    g, p, gg, pp, gp = ops.unstack(squares, 5)
    return Moments(count, gold_mean + g, predicted_mean + p, gg - g * g, pp - p * p, gp - g * p)


def ccc_from_moments(m: Moments) -> Tensor:
    """Returns the CCC per dimension, [dimensions]; 0 for two equal constants, like `affect.metrics.concordance_cc`.

    NaN in the moments gives NaN, so that divergence is noticed.
    """
    denominator = m.gold_variance + m.predicted_variance + ops.square(m.gold_mean - m.predicted_mean)
    # The moments of two constants like 0.1 are rounded, and therefore not exactly 0. A constant prediction of a moving
    # gold standard, with which training may start, has the gold standard's variance and keeps its gradient.
    rounding = (ops.square(m.gold_mean) + ops.square(m.predicted_mean)) * _ROUNDING**2
    equal_constants = denominator <= rounding
    # Where the quotient is discarded, dividing by 1 keeps its gradient finite.
    safe = ops.where(equal_constants, 1.0, denominator)
    return ops.where(equal_constants, 0.0, 2.0 * m.covariance / safe)


def loss_from_moments(m: Moments, objective: Objective) -> Tensor:
    """Returns the training objective, a float32 scalar.

    Args:
      m: moments of all counted frames.
      objective: "ccc" is 1 - CCC (section 3.4), "mse" the mean squared error; both are averaged over the dimensions.
        The mean squared error of all but perfect predictions is exact to about 1e-7 of the variances.
    """
    if objective == "mse":
        variance_of_error = m.gold_variance + m.predicted_variance - 2.0 * m.covariance
        return ops.mean(variance_of_error + ops.square(m.gold_mean - m.predicted_mean))
    return ops.mean(1.0 - ccc_from_moments(m))


def merge(a: Moments, b: Moments) -> Moments:
    """Returns the moments of the union of two disjoint sets of frames (Chan et al., 1979)."""
    count = a.count + b.count
    share = b.count / ops.maximum(count, 1.0)
    gold_gap, predicted_gap = b.gold_mean - a.gold_mean, b.predicted_mean - a.predicted_mean
    between = share * (1.0 - share)
    return Moments(
        count,
        a.gold_mean + share * gold_gap,
        a.predicted_mean + share * predicted_gap,
        (1.0 - share) * a.gold_variance + share * b.gold_variance + between * gold_gap * gold_gap,
        (1.0 - share) * a.predicted_variance + share * b.predicted_variance + between * predicted_gap * predicted_gap,
        (1.0 - share) * a.covariance + share * b.covariance + between * gold_gap * predicted_gap,
    )


class _LossFromMoments(keras.losses.Loss):
    """`loss_from_moments` as a Keras loss, for `compile` and `fit` on one device.

    A mask must be given as sample weights. A mask that Keras attached to the predictions is ignored.
    """

    objective: Objective

    def __init__(self, name: str | None = None):
        super().__init__(name=name or f"{self.objective}_loss", reduction=None)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        """Returns the loss, a float32 scalar; `sample_weight` [batch, time] is a mask.

        Keras' own `__call__` would multiply the scalar by the mask. Masked frames must be left out of the moments
        instead.
        """
        return loss_from_moments(moments(y_true, y_pred, sample_weight), self.objective)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Returns the loss without a mask."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for Keras' serialisation."""
        return {"name": self.name}


@keras.saving.register_keras_serializable("affect")
class CCCLoss(_LossFromMoments):
    """The objective "ccc" of `loss_from_moments`, the paper's."""

    objective = "ccc"


@keras.saving.register_keras_serializable("affect")
class MSELoss(_LossFromMoments):
    """The objective "mse" of `loss_from_moments`: the mean squared error over all unmasked frames of the batch."""

    objective = "mse"


LOSSES = {"ccc": CCCLoss, "mse": MSELoss}


@keras.saving.register_keras_serializable("affect")
class ConcordanceCC(keras.metrics.Metric):
    """CCC of one dimension, pooled over all frames since the last reset; batch sizes do not affect it.

    Args:
      dimension: index along the last axis: 0 for arousal, 1 for valence.
    """

    def __init__(self, dimension: int, name: str = "ccc", **kwargs):
        super().__init__(name=name, **kwargs)
        self.dimension = dimension
        self._state = [self.add_weight(shape=(), initializer="zeros", name=field) for field in Moments._fields]

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Adds one batch; `sample_weight` [batch, time] is a mask."""
        one = slice(self.dimension, self.dimension + 1)
        batch = moments(y_true[..., one], y_pred[..., one], sample_weight)
        merged = merge(Moments(*self._state), Moments(*(ops.reshape(value, ()) for value in batch)))
        for variable, value in zip(self._state, merged, strict=True):
            variable.assign(value)

    def result(self) -> Tensor:
        """Returns the pooled CCC so far; 0 before the first frame."""
        return ccc_from_moments(Moments(*self._state))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for Keras' serialisation."""
        return super().get_config() | {"dimension": self.dimension}
