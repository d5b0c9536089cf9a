"""Layers that keep masked frames out of a network: what they contain changes nothing in the other frames.

A mask is bool [batch, time], and False marks padding and frames that training leaves out. It is passed as a Keras mask:

    network(inputs, training=True, mask=frame_masks(network, mask))

Without a mask, as in Keras' own `fit` and in an exported model, every frame counts. Each modality treats it in its way:

    video   A masked picture is replaced by a black one, and batch norm leaves it out of its statistics.
    audio   Masked frames after the last unmasked one are padding: the signal ends before them. Other masked frames,
            whose pictures show no face, have sound like all others.

The mask stays on the features, but the LSTMs do not get it: they run over all frames in order.

Shapes in comments: B batch, T frames, S steps per frame, C channels.
"""

from typing import Any

import keras
from keras import ops


def frame_masks(network: keras.Model, mask: Any) -> dict[str, Any]:
    """Returns the argument `mask` of a network's call, given bool [batch, time]."""
    return dict.fromkeys(network.input, mask)


class MaskLayer(keras.layers.Layer):
    """Base of the layers below. None of them has weights, and without a mask they return their input."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True


@keras.saving.register_keras_serializable("affect")
class BlankMasked(MaskLayer):
    """Replaces masked pictures [batch, time, height, width, channels] by zeros; passes the mask on."""

    def call(self, inputs, mask=None):
        """Selects instead of multiplying, because the pictures are uint8."""
        if mask is None:
            return inputs
        return ops.where(mask[:, :, None, None, None], inputs, ops.zeros_like(inputs))  # (B, T, H, W, C)

    def compute_output_shape(self, input_shape):
        """Returns the input shape; it does not change."""
        return input_shape


@keras.saving.register_keras_serializable("affect")
class BlankAfterEnd(MaskLayer):
    """Replaces everything after a window's last unmasked frame by zeros; ends the mask.

    The zero padding of a convolution then begins where the signal ends, as in a window that has no padding. Input is
    ([batch, time * steps, channels], [batch, time, ...]); only the mask of the second is used.

    Args:
      steps: steps per frame in the first input.
    """

    def __init__(self, steps: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, inputs, mask=None):
        """Blanks the first input."""
        signal, _ = inputs
        frame_mask = None if mask is None else mask[1]
        if frame_mask is None:
            return signal
        ahead = ops.flip(ops.cumsum(ops.cast(ops.flip(frame_mask, axis=1), "int32"), axis=1), axis=1)  # (B, T)
        inside = ops.repeat(ahead > 0, self.steps, axis=1)  # (B, T * S)
        return ops.where(inside[..., None], signal, ops.zeros_like(signal))  # (B, T * S, C)

    def compute_mask(self, inputs, previous_mask):
        """Returns None: the layers that follow have no frames."""
        return None

    def compute_output_shape(self, input_shape):
        """Returns the shape of the first input."""
        return input_shape[0]

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        return super().get_config() | {"steps": self.steps}


@keras.saving.register_keras_serializable("affect")
class DropMask(MaskLayer):
    """Returns its input without its mask, so that the layers that follow process every frame."""

    def call(self, inputs, mask=None):
        """Adds zero if there is a mask: Keras attaches masks to tensors, so it takes a new tensor to lose one."""
        return inputs if mask is None else inputs + 0

    def compute_mask(self, inputs, previous_mask):
        """Returns None."""
        return None
