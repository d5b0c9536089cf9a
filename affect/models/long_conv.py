"""One-dimensional convolution whose filters may be thousands of taps long (conv 2 of the paper has 4000).

    [batch, steps, channels]  ->  [batch, steps, filters]

Overlap-save (Oppenheim and Schafer, "Discrete-Time Signal Processing", section 8.7): the signal is cut into blocks,
each block is transformed together with the samples before it that the filter still touches, multiplied with the
filters' spectra, and transformed back; only outputs that saw no wrap-around are kept.
"""

import math

import keras
from keras import ops

METHODS = ("auto", "direct", "fft")

# Multiply-adds that one unit of an FFT (size * log2(size)) costs, against those of a direct convolution: measured by
# benchmarks/bench_long_conv.py on two CPU cores. It covers the transform, its slow memory access and the copies around.
_FFT_UNIT_COST = 35.0


@keras.saving.register_keras_serializable("affect", name="LongConv1D")
class LongConv1D(keras.layers.Conv1D):
    """`keras.layers.Conv1D` with stride 1 that may compute by FFT: same variables, shapes and result.

    Weights are interchangeable with Conv1D's, saved ones included. The FFT works in float32 whatever the precision
    policy, from the float32 variables; only its result is cast to the policy's compute dtype.

    Args:
      filters: output channels.
      kernel_size: taps, odd or even, also more than the signal has steps.
      activation: as in Conv1D.
      use_bias: as in Conv1D.
      method: "direct" is Conv1D's own; "fft" is overlap-save; "auto" takes the cheaper one by `prefers_fft`.
      padding: "same" as in the paper, or "valid" for signals of `taps` steps or more that bring their own context.
      **kwargs: initialisers, regularisers and the rest of Conv1D's arguments, except strides, dilation_rate, groups and
        data_format.

    Raises:
      ValueError: unknown method or padding, or one of the arguments that are left out.
    """

    def __init__(self, filters, kernel_size, activation=None, use_bias=True, method="auto", padding="same", **kwargs):
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
        if padding not in ("same", "valid"):
            raise ValueError(f"padding is {padding!r}; it must be same or valid")
        refused = {"strides", "dilation_rate", "groups", "data_format"} & kwargs.keys()
        if refused:
            raise ValueError(f"LongConv1D must be given no {', '.join(sorted(refused))}")
        # Casting inputs and variables is left to `call`, so that the FFT sees the variables at full precision.
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
        """As in every layer, but never cast when read: `autocast=False` alone does not reach the variables."""
        return super().add_weight(*args, autocast=False, **kwargs)

    def call(self, inputs):
        """Convolves [batch, steps, channels]; batch and steps may be unknown."""
        taps, channels = self.kernel_size[0], inputs.shape[-1]
        if self.method == "fft" or (self.method == "auto" and prefers_fft(taps, channels, self.filters)):
            outputs = fft_convolve(inputs, self.kernel, self.padding)
        else:
            inputs, kernel = (ops.cast(tensor, self.compute_dtype) for tensor in (inputs, self.kernel))
            outputs = ops.conv(inputs, kernel, padding=self.padding)
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        outputs = ops.cast(outputs, self.compute_dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self):
        """Keras' serialisation."""
        config = super().get_config()
        for fixed in ("strides", "dilation_rate", "groups", "data_format"):
            del config[fixed]
        return config | {"method": self.method}


# Keras names the groups of a weights file after the class. Under Conv1D's name, files fit in both directions.
LongConv1D.__name__ = "Conv1D"


def fft_convolve(signal, kernel, padding: str = "same"):
    """Convolution in the sense of neural networks (the kernel is not mirrored) by overlap-save.

    Args:
      signal: [batch, steps, channels], any float dtype; batch and steps may be unknown.
      kernel: [taps, channels, filters].
      padding: "same" pads zeros, the smaller half before, as TensorFlow does; "valid" pads nothing.

    Returns:
      float32 [batch, steps, filters], or [batch, steps - taps + 1, filters] for "valid".
    """
    taps, channels, filters = kernel.shape
    size = fft_size(taps)
    block = size - taps + 1  # outputs per block; at least taps - 1, so that the previous block holds all the past
    padded_left = (taps - 1) // 2 if padding == "same" else 0
    signal = ops.transpose(ops.cast(signal, "float32"), (0, 2, 1))  # FFTs run along the last axis
    batch, steps = ops.shape(signal)[0], ops.shape(signal)[2]
    outputs = steps if padding == "same" else steps - taps + 1
    blocks = (outputs + block - 1) // block

    # A frame is `taps - 1` samples of one block and the whole next one. The zeros in front put the first sample that
    # the first output sees at the start of the first frame.
    signal = ops.pad(signal, ((0, 0), (0, 0), (block - (taps - 1) + padded_left, block + taps)))
    signal = ops.reshape(signal[:, :, : (blocks + 1) * block], (batch, channels, blocks + 1, block))
    past = signal[:, :, :-1, block - (taps - 1) :]
    frames = ops.concatenate([past, signal[:, :, 1:]], axis=-1)  # (batch, channels, blocks, size)

    bins = size // 2 + 1
    real, imaginary = (
        ops.reshape(ops.transpose(part, (3, 0, 2, 1)), (bins, -1, channels))
        for part in ops.rfft(frames, fft_length=size)
    )
    kernel = ops.transpose(ops.cast(kernel, "float32"), (1, 2, 0))
    kernel = ops.pad(kernel, ((0, 0), (0, 0), (0, size - taps)))
    kernel_real, kernel_imaginary = (ops.transpose(part, (2, 0, 1)) for part in ops.rfft(kernel, fft_length=size))
    # Times the conjugate, which correlates instead of convolving: (r + ji)(k - jl) = (rk + il) + j(ik - rl).
    products = (
        ops.matmul(real, kernel_real) + ops.matmul(imaginary, kernel_imaginary),
        ops.matmul(imaginary, kernel_real) - ops.matmul(real, kernel_imaginary),
    )
    products = tuple(
        ops.transpose(ops.reshape(part, (bins, batch, blocks, filters)), (1, 3, 2, 0)) for part in products
    )
    # The last `taps - 1` samples of every frame have wrapped around.
    kept = ops.irfft(products, fft_length=size)[..., :block]
    kept = ops.reshape(kept, (batch, filters, blocks * block))[:, :, :outputs]
    return ops.transpose(kept, (0, 2, 1))


def fft_size(taps: int) -> int:
    """Length of the transforms: the power of two that holds a block no shorter than the filter's past."""
    return 2 ** math.ceil(math.log2(max(2 * (taps - 1), 2)))


def prefers_fft(taps: int, channels: int, filters: int) -> bool:
    """Whether overlap-save is expected to be cheaper than direct convolution, per output step of a long signal.

    Direct convolution costs taps * channels * filters multiply-adds. Overlap-save transforms every channel and every
    filter's output, and multiplies complex spectra in between: 4 * channels * filters per bin, bins = size / 2.
    """
    size = fft_size(taps)
    transforms = (channels + filters) * size * math.log2(size) * _FFT_UNIT_COST
    products = 4 * channels * filters * size / 2
    return (transforms + products) / (size - taps + 1) < taps * channels * filters
