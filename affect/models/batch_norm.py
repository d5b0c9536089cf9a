"""Batch norm over the frames that count, and over all replicas.

Keras' own layer counts every frame and synchronises replicas by E[x^2] - E[x]^2, which in float32 loses a variance that
is small beside the mean: at mean 100 and standard deviation 0.1 it gives 0. Here the mean is reduced first, and then
the squared distances from it.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from affect.models.nested import nested_layers

AllReduce = Callable[[Any], Any]


@keras.saving.register_keras_serializable("affect")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` whose batch statistics leave out masked frames.

    Its name is Keras' own, because that is the name of its weights in a file. The mask is bool [batch] for inputs
    [batch, height, width, channels]. Without a mask and without `all_reduce`, this is Keras' own layer.

    Attributes:
      all_reduce: sums a tensor over all replicas; None if there is only one. `synchronise` sets it.
    """

    all_reduce: AllReduce | None = None

    def call(self, inputs, training=None, mask=None):
        """Normalises with the statistics of the batch in training, with the stored moments otherwise."""
        if not training or not self.trainable or (mask is None and self.all_reduce is None):
            return super().call(inputs, training=training)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance, count = batch_moments(x, mask, self.all_reduce)
        statistics = []
        for stored, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old = ops.cast(stored, x.dtype)
            # A batch without a single counted frame says nothing about the moments. Its frames are normalised with the
            # stored ones: with a variance of 0, they would grow from layer to layer until they overflow.
            stored.assign(ops.where(count > 0.0, self.momentum * old + (1.0 - self.momentum) * new, old))
            statistics.append(ops.where(count > 0.0, new, old))
        mean, variance = statistics
        offset, scale = (ops.cast(weight, x.dtype) for weight in (self.beta, self.gamma))
        outputs = ops.batch_normalization(x, mean, variance, -1, offset, scale, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)


def batch_moments(x: Any, mask: Any = None, all_reduce: AllReduce | None = None) -> tuple[Any, Any, Any]:
    """Computes mean and population variance per channel over all unmasked pictures of all replicas.

    Args:
      x: [batch, height, width, channels].
      mask: bool [batch]; None counts every picture.
      all_reduce: sums a tensor over replicas; None for one replica.

    Returns:
      A tuple of the mean [channels], the variance [channels] and the number of counted pixels; all zero if every
      picture is masked.
    """
    all_reduce = all_reduce or (lambda tensor: tensor)
    counts = ops.ones_like(x[:, 0, 0, :1]) if mask is None else ops.cast(mask, x.dtype)[:, None]  # (N, 1)

    def total(values: Any) -> Any:
        return ops.sum(values * counts, axis=0)

    pixels = x.shape[1] * x.shape[2]
    sums = all_reduce(ops.concatenate([total(ops.ones_like(counts)) * pixels, total(ops.sum(x, axis=(1, 2)))]))
    count = sums[0]
    mean = sums[1:] / ops.maximum(count, 1.0)
    squares = all_reduce(total(ops.sum(ops.square(x - mean), axis=(1, 2))))
    return mean, squares / ops.maximum(count, 1.0), count


def synchronise(network: keras.Model, all_reduce: AllReduce) -> None:
    """Makes all batch norm of a network use the statistics of all replicas, changing the network in place."""
    for layer in nested_layers(network):
        if isinstance(layer, BatchNormalization):
            layer.all_reduce = all_reduce
