"""The whole network: features of one or both modalities, stacked LSTMs, a linear head (paper section 3.3).

    {"audio": [batch, time, 640], "video": [batch, time, 96, 96, 3]}  ->  [batch, time, 2] float32

The two outputs are arousal and valence per 40 ms frame. Builders make architecture only: no file is read.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers

from affect.config import ModelConfig
from affect.errors import UserError
from affect.models.audio_net import build_audio_net
from affect.models.video_net import build_video_net
from affect.runs import RunFolder

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
    if modality not in ("audio", "video", "audiovisual"):
        raise UserError(f"unknown modality {modality!r}; there are audio, video and audiovisual")
    inputs, features = {}, []
    for name in ("audio", "video") if modality == "audiovisual" else (modality,):
        net = _BUILDERS[name](config)
        inputs[name] = keras.Input(net.input_shape[1:], dtype=net.inputs[0].dtype, name=name)
        features.append(layers.Dropout(config.dropout, name=f"{name}_dropout")(net(inputs[name])))

    x = layers.Concatenate(name="fusion")(features) if len(features) > 1 else features[0]
    for index, units in enumerate(config.lstm_units, start=1):
        x = layers.LSTM(units, return_sequences=True, name=f"lstm{index}")(x)
    predictions = layers.Dense(2, dtype="float32", name="predictions")(x)
    return keras.Model(inputs, predictions, name=f"affect_{modality}")


@dataclass(frozen=True)
class TrainedNetwork:
    """A run's experiment with its network and best weights."""

    run: RunFolder
    network: keras.Model

    @classmethod
    def load(cls, run_dir: Path) -> "TrainedNetwork":
        """Rebuilds the network of a run folder and loads its best weights.

        Raises:
          UserError: no run folder, no weights in it yet, or weights of another architecture.
        """
        run = RunFolder(run_dir)
        experiment = run.read_config()
        if not run.best_weights.is_file():
            raise UserError(f"{run_dir} has no {run.best_weights.name} yet; did its training finish an epoch?")
        network = build_network(experiment.model, experiment.modality)
        try:
            network.load_weights(run.best_weights)
        except (ValueError, OSError, KeyError) as error:
            raise UserError(f"{run.best_weights} does not fit the network of {run.config}: {error}") from error
        return cls(run, network)


def fuse(network: keras.Model, unimodal: dict[str, keras.Model]) -> list[str]:
    """Copies the trained audio and video nets into an audiovisual network; their LSTMs and heads are left behind.

    Args:
      network: the audiovisual network, changed in place.
      unimodal: trained networks by modality.

    Returns:
      One line per part: what was loaded and what is new.

    Raises:
      UserError: a unimodal network of other sizes.
    """
    report = []
    for modality, trained in unimodal.items():
        source, target = trained.get_layer(f"{modality}_net"), network.get_layer(f"{modality}_net")
        shapes = [[weight.shape for weight in net.get_weights()] for net in (source, target)]
        if shapes[0] != shapes[1]:
            raise UserError(f"the trained {modality} net has other sizes than this network's; use one preset for all")
        target.set_weights(source.get_weights())
        report.append(f"{target.name}: {target.count_params():,} weights loaded")
    for layer in network.layers:
        if layer.count_params() and layer.name not in [f"{modality}_net" for modality in unimodal]:
            report.append(f"{layer.name}: {layer.count_params():,} weights new")
    return report
