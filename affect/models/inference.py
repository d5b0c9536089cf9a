"""The stepping network with the weights of a trained network, prepared to run fast on a CPU.

Batch norm becomes part of the convolution before it: with fixed moments, both are linear. The spectra of the long
filters are computed once instead of in every call. The outputs stay the same up to rounding.
"""

from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from affect.config import ModelConfig
from affect.models.fixed_long_conv import FixedLongConv1D
from affect.models.long_conv import LongConv1D
from affect.models.stepping import build_stepping_network, copy_weights

LongFilters = Literal["fft", "direct"]


def inference_network(
    network: keras.Model, config: ModelConfig, modality: str, long_filters: LongFilters = "fft"
) -> keras.Model:
    """Returns the stepping network of a trained network, for inference only.

    Args:
      network: network of `build_network(config, modality)`.
      config: sizes and rates.
      modality: "audio", "video" or "audiovisual".
      long_filters: how to compute filters that are long enough for an FFT: "fft", or "direct" as a plain convolution.

    Returns:
      A model with the inputs and outputs of `build_stepping_network`, but other weights. It cannot be trained further.
    """
    stepping = build_stepping_network(config, modality)
    copy_weights(network, stepping)
    return _prepared(stepping, config.frame_samples // config.audio_pool, long_filters)


def _prepared(model: keras.Model, steps_per_frame: int, long_filters: LongFilters) -> keras.Model:
    """Returns a copy of a model without batch norm and with fixed long filters; nested models are prepared too."""

    def renewed(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            return _prepared(layer, steps_per_frame, long_filters)
        if isinstance(layer, LongConv1D) and layer.uses_fft(layer.kernel.shape[1]):
            if long_filters == "fft":
                return FixedLongConv1D(
                    layer.filters, layer.kernel_size[0], steps_per_frame, layer.activation, layer.padding,
                    name=layer.name, dtype=layer.dtype_policy,
                )  # fmt: skip
            return LongConv1D.from_config(layer.get_config() | {"method": "direct"})
        changes = {"use_bias": True} if isinstance(layer, layers.Conv2D) else {}
        copy = type(layer).from_config(layer.get_config() | changes)
        if isinstance(layer, layers.LSTM):
            copy.use_cudnn = layer.use_cudnn  # not in Keras' config; an export must hold no cuDNN kernel
        return copy

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, layers.BatchNormalization) else layer(*args, **kwargs)

    prepared = keras.models.clone_model(model, clone_function=renewed, call_function=call)
    batch_norms = {layer.name: layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)}
    for layer in prepared.layers:
        if isinstance(layer, FixedLongConv1D):
            layer.set_filters(*model.get_layer(layer.name).get_weights())
        elif isinstance(layer, layers.Conv2D):
            batch_norm = batch_norms.pop(layer.name.removesuffix("_conv") + "_bn")
            layer.set_weights(_folded(model.get_layer(layer.name), batch_norm))
        elif layer.weights and not isinstance(layer, keras.Model):
            layer.set_weights(model.get_layer(layer.name).get_weights())
    assert not batch_norms, f"no convolution before {batch_norms}"
    return prepared


def _folded(convolution: layers.Conv2D, batch_norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Returns kernel and bias of one convolution that replaces a convolution and the batch norm after it."""
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in batch_norm.get_weights())
    kernel, *bias = convolution.get_weights()
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    return [kernel * scale, beta + (sum(bias) - mean) * scale]
