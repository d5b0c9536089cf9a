"""One-dimensional convolution with filters of up to several thousand taps (conv 2 of the paper has 4000).

    (B, S, C)  ->  (B, S, F)

The FFT method is overlap-save (Oppenheim and Schafer, "Discrete-Time Signal Processing", section 8.7). The signal is
cut into blocks. Each block is transformed together with the `taps - 1` samples before it, multiplied by the filters'
spectra, and transformed back. Outputs that contain wrapped-around samples are dropped.

Shapes in comments: B batch, S steps, C channels, F filters, K blocks.
"""

import math

import keras
from keras import ops

METHODS = ("auto", "direct", "fft")

# Cost of one unit of an FFT (size * log2(size)), in multiply-adds of a direct convolution. Measured by
# benchmarks/bench_long_conv.py on two CPU cores; includes memory access and copies.
_FFT_UNIT_COST = 35.0


@keras.saving.register_keras_serializable("affect", name="LongConv1D")
class LongConv1D(keras.layers.Conv1D):
    """`keras.layers.Conv1D` with stride 1 and an optional FFT method: same variables, shapes and result.

    Weights are interchangeable with Conv1D's, in memory and in weight files. The FFT always works in float32, on the
    float32 variables; only its result is cast to the compute dtype of the precision policy.

    Args:
      filters: output channels.
      kernel_size: taps, odd or even; may exceed the number of steps.
      activation: as in Conv1D.
      use_bias: as in Conv1D.
      method: "direct" for Conv1D's own method, "fft" for overlap-save, "auto" for the cheaper one by `prefers_fft`.
      padding: "same" as in the paper, or "valid" for signals that already contain their context (`taps` steps or more).
      **kwargs: initialisers, regularisers and the other arguments of Conv1D, except strides, dilation_rate, groups and
        data_format.

    Raises:
      ValueError: `method` or `padding` is unknown, or an excluded argument is given.
    """

    def __init__(self, filters, kernel_size, activation=None, use_bias=True, method="auto", padding="same", **kwargs):
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
        if padding not in ("same", "valid"):
            raise ValueError(f"padding is {padding!r}; it must be 'same' or 'valid'")
        refused = {"strides", "dilation_rate", "groups", "data_format"} & kwargs.keys()
        if refused:
            raise ValueError(f"LongConv1D does not support {', '.join(sorted(refused))}; the argument must be left out")
        # `call` does all casting, so that the FFT uses the variables at full precision.
        super().__init__(
            filters,
            kernel_size,
            padding=padding,
            data_format="channels_last",
            activation=activation,
            use_bias=use_bias,
            autocast=False,
            **kwargs,
        )
        self.method = method

    def add_weight(self, *args, **kwargs):
        """Adds a variable that is not cast on reading; the layer's `autocast=False` alone does not cover variables."""
        return super().add_weight(*args, autocast=False, **kwargs)

    def call(self, inputs):
        """Convolves [batch, steps, channels]; batch and steps may be unknown while tracing."""
        if self.uses_fft(inputs.shape[-1]):
            outputs = fft_convolve(inputs, self.kernel, self.padding)  # (B, S, F)
        else:
            inputs, kernel = (ops.cast(tensor, self.compute_dtype) for tensor in (inputs, self.kernel))
            outputs = ops.conv(inputs, kernel, padding=self.padding)  # (B, S, F)
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        outputs = ops.cast(outputs, self.compute_dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def uses_fft(self, channels: int) -> bool:
        """Returns whether signals of so many channels are convolved by FFT."""
        return self.method == "fft" or (
            self.method == "auto" and prefers_fft(self.kernel_size[0], channels, self.filters)
        )

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        config = super().get_config()
        for fixed in ("strides", "dilation_rate", "groups", "data_format"):
            del config[fixed]
        return config | {"method": self.method}


# Keras names the groups in a weights file after the class. Sharing Conv1D's name lets both classes load the same files.
LongConv1D.__name__ = "Conv1D"


def fft_convolve(signal, kernel, padding: str = "same"):
    """Convolves by overlap-save. As usual in neural networks, the kernel is not mirrored.

    Args:
      signal: [batch, steps, channels], any float dtype; batch and steps may be unknown while tracing.
      kernel: [taps, channels, filters].
      padding: "same" pads with zeros, the smaller half in front, as TensorFlow does; "valid" does not pad.

    Returns:
      float32 [batch, steps, filters], or [batch, steps - taps + 1, filters] for "valid".
    """
    size = fft_size(kernel.shape[0])
    return overlap_save(signal, kernel_spectra(kernel, size), kernel.shape[0], padding)


def kernel_spectra(kernel, size: int):
    """Returns real and imaginary part of the spectra of filters [taps, channels, filters].

    Both are float32 [size // 2 + 1, channels, filters], of the filters followed by zeros up to `size`.
    """
    kernel = ops.transpose(ops.cast(kernel, "float32"), (1, 2, 0))  # (C, F, taps)
    kernel = ops.pad(kernel, ((0, 0), (0, 0), (0, size - kernel.shape[-1])))  # (C, F, size)
    # (C, F, bins) -> (bins, C, F)
    return [ops.transpose(part, (2, 0, 1)) for part in ops.rfft(kernel, fft_length=size)]


def overlap_save(signal, spectra, taps: int, padding: str):
    """Convolves with filters given by their `kernel_spectra` of size `fft_size(taps)`; see `fft_convolve`."""
    size = fft_size(taps)
    block = size - taps + 1  # outputs per block; at least taps - 1, so that the history comes from one block
    padded_left = (taps - 1) // 2 if padding == "same" else 0
    signal = ops.transpose(ops.cast(signal, "float32"), (0, 2, 1))  # (B, C, S): FFTs run along the last axis
    batch, channels, steps = ops.shape(signal)
    outputs = steps if padding == "same" else steps - taps + 1
    blocks = (outputs + block - 1) // block

    # A segment is the last `taps - 1` samples of one block and the whole next block. The zeros in front align the first
    # segment with the first sample that the first output depends on.
    signal = ops.pad(signal, ((0, 0), (0, 0), (block - (taps - 1) + padded_left, block + taps)))
    signal = ops.reshape(signal[:, :, : (blocks + 1) * block], (batch, channels, blocks + 1, block))
    past = signal[:, :, :-1, block - (taps - 1) :]  # (B, C, K, taps - 1)
    segments = ops.concatenate([past, signal[:, :, 1:]], axis=-1)  # (B, C, K, size)
    # The last `taps - 1` samples of every segment have wrapped around.
    kept = correlate_circularly(segments, spectra)[..., :block]  # (B, F, K, block)
    kept = ops.reshape(kept, (batch, kept.shape[1], blocks * block))[:, :, :outputs]  # (B, F, S)
    return ops.transpose(kept, (0, 2, 1))  # (B, S, F)


def correlate_circularly(segments, spectra):
    """Correlates segments with filters, given by their `kernel_spectra`, and adds up the channels.

    Args:
      segments: float32 [batch, channels, segments, size].
      spectra: of the same size.

    Returns:
      float32 [batch, filters, segments, size].
    """
    size, channels = segments.shape[-1], segments.shape[1]
    batch, blocks = ops.shape(segments)[0], ops.shape(segments)[2]
    bins = size // 2 + 1
    real, imaginary = (
        ops.reshape(ops.transpose(part, (3, 0, 2, 1)), (bins, -1, channels))  # (bins, B * K, C)
        for part in ops.rfft(segments, fft_length=size)  # (B, C, K, bins)
    )
    kernel_real, kernel_imaginary = spectra
    # Multiplying by the conjugate correlates instead of convolving: (r + ji)(k - jl) = (rk + il) + j(ik - rl).
    products = (
        ops.matmul(real, kernel_real) + ops.matmul(imaginary, kernel_imaginary),  # (bins, B * K, F)
        ops.matmul(imaginary, kernel_real) - ops.matmul(real, kernel_imaginary),
    )
    products = tuple(
        ops.transpose(ops.reshape(part, (bins, batch, blocks, part.shape[-1])), (1, 3, 2, 0))  # (B, F, K, bins)
        for part in products
    )
    return ops.irfft(products, fft_length=size)  # (B, F, K, size)


def fft_size(taps: int) -> int:
    """Returns the FFT length: the smallest power of two whose blocks have at least `taps - 1` samples."""
    return 2 ** math.ceil(math.log2(max(2 * (taps - 1), 2)))


def prefers_fft(taps: int, channels: int, filters: int) -> bool:
    """Returns whether overlap-save is expected to be cheaper than direct convolution of a long signal.

    Costs are per output step. Direct convolution takes taps * channels * filters multiply-adds. Overlap-save transforms
    every input channel and every output channel, and multiplies complex spectra in between: 4 * channels * filters per
    bin, with size / 2 bins.
    """
    size = fft_size(taps)
    transforms = (channels + filters) * size * math.log2(size) * _FFT_UNIT_COST
    products = 4 * channels * filters * size / 2
    return (transforms + products) / (size - taps + 1) < taps * channels * filters
