"""The network on the raw waveform (paper section 3.1): two convolutions, two max-pools.

    audio [batch, time, 640]  ->  features [batch, time, 320 * 4]     at the paper's sizes

conv 1 (5 ms filters), ReLU, max over time; conv 2 (500 ms filters), ReLU, max over groups of adjacent channels.
Framed, every 40 ms frame is convolved on its own; otherwise the window is one signal and filters look across frames.
"""

import keras
from keras import layers, ops

from affect.config import ModelConfig
from affect.models.folding import FoldTime, FramesToSignal, StepsToFrames, UnfoldTime
from affect.models.long_conv import LongConv1D


@keras.saving.register_keras_serializable("affect")
class ChannelMaxPool(layers.Layer):
    """Maximum over groups of adjacent channels, [batch, steps, channels] to [batch, steps, channels / group]."""

    def __init__(self, group: int, **kwargs):
        super().__init__(**kwargs)
        self.group = group

    def call(self, inputs):
        """Pools across channels."""
        steps, channels = ops.shape(inputs)[1], inputs.shape[2]
        return ops.max(ops.reshape(inputs, (-1, steps, channels // self.group, self.group)), axis=-1)

    def compute_output_shape(self, input_shape):
        """Shape arithmetic of `call`."""
        return (*input_shape[:2], input_shape[2] // self.group)

    def get_config(self):
        """Keras' serialisation."""
        return super().get_config() | {"group": self.group}


def build_audio_net(config: ModelConfig) -> keras.Model:
    """Builds the audio network, architecture only.

    Args:
      config: filters, taps, pools, and whether frames are convolved on their own.

    Returns:
      A model from float32 [batch, time, frame_samples] to [batch, time, features] with
      features = frame_samples / audio_pool * audio_filters[1] / audio_channel_pool; any batch, any time.
    """
    audio = keras.Input((None, config.frame_samples), name="audio")
    x = layers.Dropout(config.audio_input_dropout, name="input_dropout")(audio) if config.audio_input_dropout else audio
    if config.audio_framed:
        x = layers.Reshape((config.frame_samples, 1), name="frame_signals")(FoldTime(name="fold_audio")(x))
        x = long_filters(short_filters(x, config), config)
        features = UnfoldTime(name="unfold_audio")([layers.Flatten(name="flatten")(x), audio])
    else:
        x = long_filters(short_filters(FramesToSignal(name="window_signal")(x), config), config)
        features = StepsToFrames(config.frame_samples // config.audio_pool, name="frames")(x)
    return keras.Model(audio, features, name="audio_net")


def short_filters(signal, config: ModelConfig, padding: str = "same"):
    """Conv 1, ReLU and the maximum over time: [batch, samples, 1] to [batch, samples / audio_pool, filters]."""
    x = _convolution(0, config, padding)(signal)
    return layers.MaxPooling1D(config.audio_pool, name="pool1")(x)


def long_filters(pooled, config: ModelConfig, padding: str = "same"):
    """Conv 2, ReLU and the maximum over groups of channels; the number of steps stays."""
    x = _convolution(1, config, padding)(pooled)
    return ChannelMaxPool(config.audio_channel_pool, name="pool2")(x)


def _convolution(index: int, config: ModelConfig, padding: str) -> LongConv1D:
    return LongConv1D(
        config.audio_filters[index],
        config.audio_taps[index],
        activation="relu",
        padding=padding,
        kernel_initializer=config.initializer,
        kernel_regularizer=keras.regularizers.L2(config.weight_decay / 2) if config.weight_decay else None,
        name=f"conv{index + 1}",
    )
