"""Lists the layers of a network: shapes, parameters, multiply-adds and memory per second of signal.

Multiply-adds are counted for convolutions (as if computed directly), dense layers and LSTMs, but not for pooling,
normalisation and activations. Memory is the sum of all layers' outputs in float32; it shows how memory grows with the
signal. Training needs more memory than this (gates, spectra, gradients, optimizer), and inference needs less.

Example:
  python -m affect.models.describe --preset=paper --modality=audiovisual
"""

import math
from dataclasses import dataclass

import keras
from absl import flags
from keras import layers

from affect import cli
from affect.config import MODALITIES, ModelConfig, modalities_of, override
from affect.errors import UserError
from affect.models.masking import MaskLayer
from affect.models.network import build_network
from affect.presets import PRESETS, get_preset
from affect.timebase import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Row:
    """One line of the table: a layer, or a stage of a ResNet, for one second of signal.

    Attributes:
      name: name of the layer or stage, preceded by "<net>/" inside a feature network.
      shape: shape of the layer's or stage's output for one second, without the batch axis of size 1.
      parameters: number of parameters, trainable or not.
      multiply_adds: number of multiply-adds, counted as described in the module docstring.
      output_bytes: size of all outputs in float32.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    output_bytes: int


def rows(config: ModelConfig, modality: str) -> list[Row]:
    """Returns a row for each layer or stage: first those of the feature networks, then all later layers.

    Raises:
      UserError: `modality` is unknown, or one second is not a whole number of frames.
    """
    frames_per_second, rest = divmod(SAMPLE_RATE_HZ, config.frame_samples)
    if rest:
        raise UserError(
            f"model.frame_samples is {config.frame_samples}; it must divide the {SAMPLE_RATE_HZ} samples of one second"
        )
    network = build_network(config, modality)
    inputs = {
        name: keras.KerasTensor((1, frames_per_second, *tensor.shape[2:]), tensor.dtype)
        for name, tensor in network.input.items()
    }
    described = []
    for name in modalities_of(modality):
        net = network.get_layer(f"{name}_net")
        described += _layer_rows(net, inputs[name], f"{net.name}/")
        for backbone in _inner_models(net):
            frames = keras.KerasTensor((frames_per_second, *backbone.input_shape[1:]))  # time is folded into the batch
            described += _stages(_layer_rows(backbone, frames, f"{net.name}/"))
    return described + _layer_rows(network, inputs, "")


def table(described: list[Row]) -> str:
    """Returns a fixed-width text table with one line per row, and the totals below."""
    total = Row(
        "total",
        (),
        sum(row.parameters for row in described),
        sum(row.multiply_adds for row in described),
        sum(row.output_bytes for row in described),
    )
    lines = [f"{'layer':<34}{'output of 1 s':>20}{'parameters':>13}{'M multiply-adds':>17}{'MiB':>9}"]
    for row in [*described, total]:
        shape = " x ".join(map(str, row.shape))
        millions, mebibytes = row.multiply_adds / 1e6, row.output_bytes / 2**20
        lines.append(f"{row.name:<34}{shape:>20}{row.parameters:>13,}{millions:>17,.1f}{mebibytes:>9.2f}")
    return "\n".join(lines)


def _inner_models(model: keras.Model) -> list[keras.Model]:
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def _layer_rows(model: keras.Model, inputs, prefix: str) -> list[Row]:
    """Returns rows for the model's own layers, not those of nested models, for inputs of known shape."""
    own = [layer for layer in model.layers if not isinstance(layer, (layers.InputLayer, keras.Model, MaskLayer))]
    probe = keras.Model(model.inputs, [layer.output for layer in own])
    return [
        Row(
            prefix + layer.name,
            output.shape[1:] if output.shape[0] == 1 else output.shape,  # frames may be folded into the batch
            layer.count_params(),
            math.prod(output.shape[:-1]) * _multiply_adds_per_position(layer),
            4 * math.prod(output.shape),
        )
        for layer, output in zip(own, probe.compute_output_spec(inputs), strict=True)
    ]


def _stages(described: list[Row]) -> list[Row]:
    """Merges the dozens of layers of a ResNet into one row per stage; layer names begin with the stage's name."""
    stages: dict[str, Row] = {}
    for row in described:
        net, layer = row.name.split("/")
        name = f"{net}/{layer.split('_')[0]}"
        sums = stages.get(name, Row(name, (), 0, 0, 0))
        stages[name] = Row(
            name,
            row.shape,
            sums.parameters + row.parameters,
            sums.multiply_adds + row.multiply_adds,
            sums.output_bytes + row.output_bytes,
        )
    return list(stages.values())


def _multiply_adds_per_position(layer: layers.Layer) -> int:
    if isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Dense)):
        return math.prod(layer.kernel.shape)
    if isinstance(layer, layers.LSTM):
        return math.prod(layer.cell.kernel.shape) + math.prod(layer.cell.recurrent_kernel.shape)
    return 0


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_enum("preset", "paper", list(PRESETS), "Base preset.")
    flags.DEFINE_enum("modality", "audiovisual", MODALITIES, "Inputs of the network.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting, as in --set=model.dropout=0.3; repeatable.")


def main() -> None:
    """Prints the table for the network selected by the flags."""
    args = flags.FLAGS
    config = override(get_preset(args.preset, args.modality), args.set).model
    print(table(rows(config, args.modality)))


def command() -> None:
    """Runs this module as a command."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
