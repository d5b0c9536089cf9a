"""The whole network: features of one or both modalities, stacked LSTMs, a linear head (paper section 3.3).

    {"audio": [batch, time, 640], "video": [batch, time, 96, 96, 3]}  ->  [batch, time, 2] float32

The two outputs are arousal and valence per 40 ms frame. Builders make architecture only: no file is read.
"""

import keras
from keras import layers

from affect.config import ModelConfig, modalities_of
from affect.models.audio_net import build_audio_net
from affect.models.video_net import build_video_net

_BUILDERS = {"audio": build_audio_net, "video": build_video_net}


def build_network(config: ModelConfig, modality: str) -> keras.Model:
    """Builds the network of one modality or of both.

    Args:
      config: sizes.
      modality: "audio", "video" or "audiovisual".

    Returns:
      A functional model with the inputs "audio" and/or "video" by name and one output [batch, time, 2], float32
      whatever the precision policy; any batch, any time.

    Raises:
      UserError: another modality.
    """
    inputs, features = {}, []
    for name in modalities_of(modality):
        net = _BUILDERS[name](config)
        inputs[name] = keras.Input(net.input_shape[1:], dtype=net.inputs[0].dtype, name=name)
        features.append(layers.Dropout(config.dropout, name=f"{name}_dropout")(net(inputs[name])))

    x = layers.Concatenate(name="fusion")(features) if len(features) > 1 else features[0]
    for index, units in enumerate(config.lstm_units, start=1):
        x = lstm(index, units, config)(x)
    predictions = head(config)(x)
    return keras.Model(inputs, predictions, name=f"affect_{modality}")


def lstm(index: int, units: int, config: ModelConfig, **kwargs) -> layers.LSTM:
    """One recurrent layer, with settings that cuDNN's kernel can run unless `kwargs` say otherwise."""
    return layers.LSTM(
        units,
        return_sequences=True,
        kernel_initializer=config.initializer,
        recurrent_initializer=config.recurrent_initializer,
        name=f"lstm{index}",
        **kwargs,
    )


def head(config: ModelConfig) -> layers.Dense:
    """The linear layer to arousal and valence, float32 whatever the precision policy."""
    return layers.Dense(2, kernel_initializer=config.initializer, dtype="float32", name="predictions")
