"""The audio network on the raw waveform (paper section 3.1): two convolutions, each followed by max-pooling.

    audio (B, T, 640)  ->  features (B, T, 1280)

Conv 1 (5 ms filters), ReLU, maximum over time; conv 2 (500 ms filters), ReLU, maximum over groups of adjacent channels.
With `audio_framed`, each 40 ms frame is convolved on its own. Otherwise the window is one signal, and the filters reach
across frame borders.

Shapes in comments: B batch, T frames, N signals convolved separately (B windows, or B * T frames if framed), S samples
per signal. Numbers are the paper's sizes.
"""

import keras
from keras import layers, ops

from affect.config import ModelConfig
from affect.models.folding import FoldTime, FramesToSignal, StepsToFrames, UnfoldTime
from affect.models.long_conv import LongConv1D
from affect.models.masking import BlankAfterEnd


@keras.saving.register_keras_serializable("affect")
class ChannelMaxPool(layers.Layer):
    """Maximum over groups of adjacent channels: [batch, steps, channels] to [batch, steps, channels / group]."""

    def __init__(self, group: int, **kwargs):
        super().__init__(**kwargs)
        self.group = group

    def call(self, inputs):
        """Takes the maximum of each group of channels."""
        steps, channels = ops.shape(inputs)[1], inputs.shape[2]
        grouped = ops.reshape(inputs, (-1, steps, channels // self.group, self.group))  # (N, S / 2, 4, 10)
        return ops.max(grouped, axis=-1)  # (N, S / 2, 4)

    def compute_output_shape(self, input_shape):
        """Returns the output shape of `call`."""
        return (*input_shape[:2], input_shape[2] // self.group)

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        return super().get_config() | {"group": self.group}


def build_audio_net(config: ModelConfig) -> keras.Model:
    """Builds the architecture of the audio network, with newly initialised weights.

    Args:
      config: filters, taps and pools, and whether each frame is convolved on its own.

    Returns:
      A model from float32 [batch, time, frame_samples] to [batch, time, features] with
      features = frame_samples / audio_pool * audio_filters[1] / audio_channel_pool; batch and time may vary.
    """
    audio = keras.Input((None, config.frame_samples), name="audio")  # (B, T, 640)
    x = BlankAfterEnd(name="blank_audio")([audio, audio])
    if config.audio_input_dropout:
        x = layers.Dropout(config.audio_input_dropout, name="input_dropout")(x)
    if config.audio_framed:
        x = FoldTime(name="fold_audio")(x)  # (B * T, 640)
        x = layers.Reshape((config.frame_samples, 1), name="frame_signals")(x)  # (B * T, 640, 1)
        x = conv2_block(conv1_block(x, config), config)  # (B * T, 320, 4)
        x = layers.Flatten(name="flatten")(x)  # (B * T, 1280)
        features = UnfoldTime(name="unfold_audio")([x, audio])  # (B, T, 1280)
    else:
        x = FramesToSignal(name="window_signal")(x)  # (B, T * 640, 1)
        steps = config.frame_samples // config.audio_pool
        # Conv 1 has a bias, so its output after the end is not zero.
        x = BlankAfterEnd(steps, name="blank_pooled")([conv1_block(x, config), audio])  # (B, T * 320, 20)
        features = StepsToFrames(steps, name="frames")(conv2_block(x, config))  # (B, T, 1280)
    net = keras.Model(audio, features, name="audio_net")
    net.supports_masking = True  # its features have the mask of its input
    return net


def conv1_block(signal, config: ModelConfig, padding: str = "same"):
    """Conv 1, ReLU and max-pool over time: [batch, samples, 1] to [batch, samples / audio_pool, filters]."""
    x = _convolution(0, config, padding)(signal)  # (N, S, 20)
    return layers.MaxPooling1D(config.audio_pool, name="pool1")(x)  # (N, S / 2, 20)


def conv2_block(pooled, config: ModelConfig, padding: str = "same"):
    """Conv 2, ReLU and max-pool over channels: [batch, steps, filters 1] to [batch, steps, filters 2 / group]."""
    x = _convolution(1, config, padding)(pooled)  # (N, S / 2, 40)
    return ChannelMaxPool(config.audio_channel_pool, name="pool2")(x)  # (N, S / 2, 4)


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
