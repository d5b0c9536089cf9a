"""`LongConv1D` for inference: the filters are fixed, so their spectra are computed only once.

    (B, S, C)  ->  (B, S, F)

With a short signal, `LongConv1D` spends most of its time on the spectra of the filters and on an FFT that is longer
than necessary. A stream has one frame at a time, so this layer stores the spectra as weights and adds a shorter FFT.

Shapes in comments: B batch, S steps, C channels, F filters.
"""

import keras
import numpy as np
from keras import ops
from scipy.fft import next_fast_len

from affect.models.long_conv import correlate_circularly, fft_size, overlap_save


@keras.saving.register_keras_serializable("affect")
class FixedLongConv1D(keras.layers.Layer):
    """Convolves by FFT with the filters that `set_filters` sets; not for training.

    Signals of up to `short` outputs are one segment of the shortest fast FFT. Longer ones are cut into blocks as in
    `affect.models.long_conv.fft_convolve`. Each FFT size has its own spectra.

    Args:
      filters: output channels.
      taps: length of the filters.
      short: largest number of outputs that counts as a short signal.
      activation: as in `LongConv1D`.
      padding: as in `LongConv1D`.
      **kwargs: arguments of every Keras layer.
    """

    def __init__(self, filters, taps, short, activation=None, padding="same", **kwargs):
        super().__init__(trainable=False, autocast=False, **kwargs)
        self.filters = filters
        self.taps = taps
        self.short = short
        self.activation = keras.activations.get(activation)
        self.padding = padding
        self.sizes = next_fast_len(taps + short - 1, real=True), fft_size(taps)

    def build(self, input_shape):
        """Creates the bias, and the spectra of both sizes for the channels of the input."""

        def add(name, *shape):
            return self.add_weight(shape=shape, dtype="float32", autocast=False, name=name)

        self.bias = add("bias", self.filters)
        self.spectra = [
            [add(f"spectra{size}_{part}", size // 2 + 1, input_shape[-1], self.filters) for part in ("real", "imag")]
            for size in self.sizes
        ]

    def set_filters(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Sets the filters [taps, channels, filters] and their bias [filters]; computes the spectra in float64."""
        self.bias.assign(bias)
        for size, (real, imaginary) in zip(self.sizes, self.spectra, strict=True):
            spectra = np.fft.rfft(kernel.astype(np.float64), size, axis=0)
            real.assign(spectra.real)
            imaginary.assign(spectra.imag)

    def call(self, inputs):
        """Convolves [batch, steps, channels]; batch and steps may be unknown while tracing."""
        steps = ops.shape(inputs)[1]
        outputs = steps if self.padding == "same" else steps - self.taps + 1

        def in_one_segment():
            return _correlate_segment(inputs, self.spectra[0], self.taps, self.sizes[0], self.padding)

        def in_blocks():
            return overlap_save(inputs, self.spectra[1], self.taps, self.padding)

        if isinstance(outputs, int):
            x = in_one_segment() if outputs <= self.short else in_blocks()
        else:
            x = ops.cond(outputs <= self.short, in_one_segment, in_blocks)  # (B, S, F)
        return self.activation(ops.cast(x + self.bias, self.compute_dtype))

    def compute_output_shape(self, input_shape):
        """Returns the output shape of `call`."""
        batch, steps, _ = input_shape
        padded = 0 if self.padding == "same" else self.taps - 1
        return batch, None if steps is None else steps - padded, self.filters

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        config = super().get_config() | {
            "filters": self.filters,
            "taps": self.taps,
            "short": self.short,
            "activation": keras.activations.serialize(self.activation),
            "padding": self.padding,
        }
        del config["trainable"]
        return config


def _correlate_segment(signal, spectra, taps: int, size: int, padding: str):
    """Convolves a signal of up to `size - taps + 1` outputs; see `affect.models.long_conv.fft_convolve`."""
    signal = ops.transpose(ops.cast(signal, "float32"), (0, 2, 1))  # (B, C, S)
    batch, channels, steps = ops.shape(signal)
    padded_left, outputs = ((taps - 1) // 2, steps) if padding == "same" else (0, steps - taps + 1)
    segment = ops.pad(signal, ((0, 0), (0, 0), (padded_left, size - steps - padded_left)))
    segment = ops.reshape(segment, (batch, channels, 1, size))
    return ops.transpose(correlate_circularly(segment, spectra)[:, :, 0, :outputs], (0, 2, 1))  # (B, S, F)
