"""Layers that merge the time axis with the batch or sample axis, and split it off again.

They let ordinary layers process all frames of all windows as one batch. Keras' `TimeDistributed` returns wrong results
without an error when the time axis is unknown, and a plain reshape cannot have two unknown dimensions in a functional
graph; these layers read the sizes inside `call` instead.

Shapes in comments: B batch, T frames, L samples per frame, S steps per frame, C channels, F features.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("affect")
class FoldTime(keras.layers.Layer):
    """Merges batch and time: [batch, time, ...] to [batch * time, ...]. A mask is merged in the same way."""

    def call(self, inputs):
        """Merges the first two axes."""
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))  # (B * T, ...)

    def compute_mask(self, inputs, previous_mask):
        """Returns the mask of the merged axis, bool [batch * time]."""
        return None if previous_mask is None else ops.reshape(previous_mask, (-1,))

    def compute_output_shape(self, input_shape):
        """Returns the output shape of `call`."""
        batch, time = input_shape[:2]
        return (None if batch is None or time is None else batch * time, *input_shape[2:])


@keras.saving.register_keras_serializable("affect")
class UnfoldTime(keras.layers.Layer):
    """Splits batch and time: ([batch * time, features], [batch, time, ...]) to [batch, time, features].

    Only the shape and the mask of the second input are used.
    """

    def call(self, inputs):
        """Splits the first axis into the first two axes of the second input."""
        folded, reference = inputs
        shape = ops.shape(reference)
        return ops.reshape(folded, (shape[0], shape[1], folded.shape[-1]))  # (B, T, F)

    def compute_mask(self, inputs, previous_mask):
        """Returns the mask of the second input, bool [batch, time]."""
        return None if previous_mask is None else previous_mask[1]

    def compute_output_shape(self, input_shape):
        """Returns the output shape of `call`."""
        folded, reference = input_shape
        return (*reference[:2], folded[-1])


@keras.saving.register_keras_serializable("affect")
class FramesToSignal(keras.layers.Layer):
    """Joins the frames of a window into one signal: [batch, time, samples] to [batch, time * samples, 1]."""

    def call(self, inputs):
        """Joins the frames end to end."""
        return ops.reshape(inputs, (ops.shape(inputs)[0], -1, 1))  # (B, T * L, 1)

    def compute_output_shape(self, input_shape):
        """Returns the output shape of `call`."""
        batch, time, samples = input_shape
        return (batch, None if time is None else time * samples, 1)


@keras.saving.register_keras_serializable("affect")
class StepsToFrames(keras.layers.Layer):
    """Cuts a signal into frames of `steps` steps: [batch, time * steps, channels] to [batch, time, steps * channels].

    The features of a frame are ordered by step, then by channel, as in the released code.
    """

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, inputs):
        """Concatenates the channels of all steps of a frame."""
        return ops.reshape(inputs, (ops.shape(inputs)[0], -1, self.steps * inputs.shape[-1]))  # (B, T, S * C)

    def compute_output_shape(self, input_shape):
        """Returns the output shape of `call`."""
        batch, length, channels = input_shape
        return (batch, None if length is None else length // self.steps, self.steps * channels)

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        return super().get_config() | {"steps": self.steps}
