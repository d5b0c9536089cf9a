"""Notices weights with which training cannot go on, and words the error of a run that has diverged."""

import keras
import numpy as np

# No trained network comes near this. Saturated LSTMs keep the loss finite with far larger weights, and no learning rate
# leads back from there.
_LARGEST_WEIGHT = 1e6


class DivergedError(ArithmeticError):
    """The weights or the score are no longer usable; the message says which."""


def check_weights(network: keras.Model) -> None:
    """Checks that all weights are finite, and that no trainable one is absurdly large.

    Raises:
      DivergedError: names the first weight that is not.
    """
    for variables, limit in (
        (network.trainable_variables, _LARGEST_WEIGHT),
        (network.non_trainable_variables, np.finfo(np.float32).max),
    ):
        for variable in variables:
            largest = float(np.abs(variable.numpy()).max(initial=0.0))
            if not largest <= limit:  # also true of NaN
                raise DivergedError(f"the weights have diverged: {variable.path} has grown to {largest:.0e}")
