"""The concordance-correlation objective (paper section 3.4) as a Keras loss, and the streaming Keras metric.

    L = ((1 - ccc_arousal) + (1 - ccc_valence)) / 2

The CCC is that of ALL frames of the global batch flattened together, not a mean over sequences or replicas. So it is
computed in three steps: the sums of one replica, their sum over replicas, the ratio. Moments are centred before they
are squared, since E[x^2] - E[x]^2 loses the variance of nearly constant predictions in float32, and that is how every
training starts. Pure `keras.ops`.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

AllReduce = Callable[[object], object]


class Moments(NamedTuple):
    """Population moments over all counted frames, each [dimensions], float32; `count` is a scalar."""

    count: object
    gold_mean: object
    predicted_mean: object
    gold_variance: object
    predicted_variance: object
    covariance: object


def moments(gold, predicted, mask=None, all_reduce: AllReduce | None = None) -> Moments:
    """Moments of all frames that the mask counts, over all replicas.

    Args:
      gold: [batch, time, dimensions].
      predicted: the same shape.
      mask: [batch, time], zero or False for frames that do not count; None counts all.
      all_reduce: sums a tensor over replicas; None for one replica.

    Returns:
      `Moments`; all zero where nothing counts.
    """
    all_reduce = all_reduce or (lambda tensor: tensor)
    gold, predicted = ops.cast(gold, "float32"), ops.cast(predicted, "float32")
    counts = ops.ones_like(gold[..., :1]) if mask is None else ops.cast(ops.cast(mask, "bool"), "float32")[..., None]
    # A masked frame may hold anything, NaN included, and 0 * NaN is NaN.
    gold, predicted = (ops.where(counts > 0.0, signal, 0.0) for signal in (gold, predicted))

    def total(*signals):
        """Sums over all frames of all replicas, one reduction for all signals: [signals, dimensions]."""
        return all_reduce(ops.stack([ops.sum(signal, axis=tuple(range(len(signal.shape) - 1))) for signal in signals]))

    count, *sums = ops.unstack(total(counts * ops.ones_like(gold), gold, predicted), 3)
    count = count[0]
    frames = ops.maximum(count, 1.0)
    gold_mean, predicted_mean = (one / frames for one in sums)
    gold, predicted = (gold - gold_mean) * counts, (predicted - predicted_mean) * counts
    squares = total(gold * gold, predicted * predicted, gold * predicted) / frames
    return Moments(count, gold_mean, predicted_mean, *ops.unstack(squares, 3))


def ccc_from_moments(m: Moments):
    """CCC per dimension, [dimensions]; 0 where the formula is 0 / 0, as in `affect.metrics.concordance_cc`.

    What is not a number stays so: a training that has gone wrong must show.
    """
    denominator = m.gold_variance + m.predicted_variance + ops.square(m.gold_mean - m.predicted_mean)
    # Dividing by 1 instead keeps the gradient of the unused branch finite.
    safe = ops.where(denominator == 0.0, 1.0, denominator)
    return ops.where(denominator == 0.0, 0.0, 2.0 * m.covariance / safe)


def loss_from_moments(m: Moments):
    """The objective, a scalar: 1 - CCC, averaged over the dimensions (paper section 3.4)."""
    return ops.mean(1.0 - ccc_from_moments(m))


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of two disjoint sets of frames together (Chan et al., 1979)."""
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


@keras.saving.register_keras_serializable("affect")
class CCCLoss(keras.losses.Loss):
    """1 - CCC, averaged over the dimensions, on the global batch.

    Args:
      all_reduce: sums a tensor over replicas (see `affect.learning.strategy`); None for one replica.
    """

    def __init__(self, all_reduce: AllReduce | None = None, name: str = "ccc_loss"):
        super().__init__(name=name, reduction=None)
        self._all_reduce = all_reduce

    def __call__(self, y_true, y_pred, sample_weight=None):
        """A float32 scalar; `sample_weight` [batch, time] is a mask.

        Keras' own `__call__` would multiply the scalar by the mask; frames left out must not count in the moments.
        """
        return self._loss(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        """The loss without a mask."""
        return self._loss(y_true, y_pred, None)

    def get_config(self):
        """Keras' serialisation; the reduction belongs to a strategy, not to a saved model."""
        return {"name": self.name}

    def _loss(self, gold, predicted, mask):
        return loss_from_moments(moments(gold, predicted, mask, self._all_reduce))


@keras.saving.register_keras_serializable("affect")
class ConcordanceCC(keras.metrics.Metric):
    """Pooled CCC of one dimension over everything seen since the last reset, exact whatever the batches.

    Args:
      dimension: index in the last axis: 0 arousal, 1 valence.
    """

    def __init__(self, dimension: int, name: str = "ccc", **kwargs):
        super().__init__(name=name, **kwargs)
        self.dimension = dimension
        self._state = [self.add_weight(shape=(), initializer="zeros", name=field) for field in Moments._fields]

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Merges one batch; `sample_weight` [batch, time] is a mask."""
        one = slice(self.dimension, self.dimension + 1)
        batch = moments(y_true[..., one], y_pred[..., one], sample_weight)
        merged = merge(Moments(*self._state), Moments(*(ops.reshape(value, ()) for value in batch)))
        for variable, value in zip(self._state, merged, strict=True):
            variable.assign(value)

    def result(self):
        """The pooled CCC so far; 0 before the first frame."""
        return ccc_from_moments(Moments(*(ops.convert_to_tensor(variable) for variable in self._state)))

    def get_config(self):
        """Keras' serialisation."""
        return super().get_config() | {"dimension": self.dimension}
