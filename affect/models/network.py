"""The whole network: features of each modality, stacked LSTMs, a linear head (paper section 3.3).

    {"audio": (B, T, 640), "video": (B, T, 96, 96, 3)}  ->  (B, T, 2) float32

The two outputs are arousal and valence of each 40 ms frame. Builders create the architecture only; they do not read any
files. `affect.models.trained` loads the weights of a run.

Shapes in comments: B batch, T frames. Numbers are the paper's sizes.
"""

import keras
from keras import layers

from affect.config import ModelConfig, modalities_of
from affect.models.audio_net import build_audio_net
from affect.models.masking import DropMask
from affect.models.video_net import build_video_net

# The feature network of each modality: from [batch, time, ...] to [batch, time, features].
BUILDERS = {"audio": build_audio_net, "video": build_video_net}


def build_network(config: ModelConfig, modality: str) -> keras.Model:
    """Builds the network of one modality or of both.

    Args:
      config: sizes of the layers and dropout rates.
      modality: "audio", "video" or "audiovisual".

    Returns:
      A functional model with the inputs "audio" and/or "video" by name and one output [batch, time, 2], which is
      float32 under every precision policy. Batch size and number of frames may vary. `affect.models.masking` describes
      the mask that a call may have.

    Raises:
      UserError: `modality` is unknown.
    """
    inputs, features = {}, []
    for name in modalities_of(modality):
        net = BUILDERS[name](config)
        inputs[name] = keras.Input(net.input_shape[1:], dtype=net.inputs[0].dtype, name=name)
        x = DropMask(name=f"{name}_unmasked")(net(inputs[name]))  # (B, T, 1280) audio, (B, T, 2048) video
        features.append(layers.Dropout(config.dropout, name=f"{name}_dropout")(x))

    x = layers.Concatenate(name="fusion")(features) if len(features) > 1 else features[0]  # (B, T, 3328)
    for index, units in enumerate(config.lstm_units, start=1):
        x = lstm(index, units, config)(x)  # (B, T, 256)
    predictions = head(config)(x)  # (B, T, 2)
    network = keras.Model(inputs, predictions, name=f"affect_{modality}")
    network.supports_masking = True
    return network


def lstm(index: int, units: int, config: ModelConfig, **kwargs) -> layers.LSTM:
    """Returns one LSTM layer; its settings allow cuDNN's kernel, unless `kwargs` override them."""
    return layers.LSTM(
        units,
        return_sequences=True,
        kernel_initializer=config.initializer,
        recurrent_initializer=config.recurrent_initializer,
        name=f"lstm{index}",
        **kwargs,
    )


def head(config: ModelConfig) -> layers.Dense:
    """Returns the linear output layer for arousal and valence, float32 under every precision policy."""
    return layers.Dense(2, kernel_initializer=config.initializer, dtype="float32", name="predictions")
