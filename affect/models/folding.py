"""Layers that fold the time axis away and back, so that ordinary layers see one batch of frames or of signals.

Keras' `TimeDistributed` is silently wrong for an unknown time axis, and a plain reshape cannot have two unknown
dimensions in a functional graph; these read the sizes while they run.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("affect")
class FoldTime(keras.layers.Layer):
    """[batch, time, ...] to [batch * time, ...]."""

    def call(self, inputs):
        """Merges the first two axes."""
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape):
        """Shape arithmetic of `call`."""
        batch, time = input_shape[:2]
        return (None if batch is None or time is None else batch * time, *input_shape[2:])


@keras.saving.register_keras_serializable("affect")
class UnfoldTime(keras.layers.Layer):
    """([batch * time, features], [batch, time, ...]) to [batch, time, features]; the second gives the sizes only."""

    def call(self, inputs):
        """Splits the first axis as in the reference."""
        folded, reference = inputs
        shape = ops.shape(reference)
        return ops.reshape(folded, (shape[0], shape[1], folded.shape[-1]))

    def compute_output_shape(self, input_shape):
        """Shape arithmetic of `call`."""
        folded, reference = input_shape
        return (*reference[:2], folded[-1])


@keras.saving.register_keras_serializable("affect")
class FramesToSignal(keras.layers.Layer):
    """[batch, time, samples] to one signal [batch, time * samples, 1]."""

    def call(self, inputs):
        """Joins the frames end to end."""
        return ops.reshape(inputs, (ops.shape(inputs)[0], -1, 1))

    def compute_output_shape(self, input_shape):
        """Shape arithmetic of `call`."""
        batch, time, samples = input_shape
        return (batch, None if time is None else time * samples, 1)


@keras.saving.register_keras_serializable("affect")
class StepsToFrames(keras.layers.Layer):
    """[batch, time * steps, channels] to [batch, time, steps * channels], step-major as in the released code."""

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, inputs):
        """Cuts the signal back into frames."""
        return ops.reshape(inputs, (ops.shape(inputs)[0], -1, self.steps * inputs.shape[-1]))

    def compute_output_shape(self, input_shape):
        """Shape arithmetic of `call`."""
        batch, length, channels = input_shape
        return (batch, None if length is None else length // self.steps, self.steps * channels)

    def get_config(self):
        """Keras' serialisation."""
        return super().get_config() | {"steps": self.steps}
