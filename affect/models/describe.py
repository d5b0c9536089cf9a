r"""What a network consists of: layers, shapes, parameters, multiply-adds and memory per second of signal; a diagram.

Multiply-adds count convolutions as computed directly, dense layers and LSTMs; pooling, normalisation and activations
are left out. Memory is the sum of all layers' outputs in float32, as a scale for what grows with the signal: training
holds more (gates, spectra, gradients, optimizer), inference less.

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
from affect.models.network import build_network
from affect.presets import PRESETS, get_preset
from affect.timebase import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Row:
    """One layer, or one stage of a ResNet, over one second of signal.

    Attributes:
      name: of the layer or stage, after the name of its net.
      shape: of the (last) output, without the batch of one; the time axis is one second.
      parameters: trainable and stored ones.
      multiply_adds: see above.
      output_bytes: of all outputs, float32.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    output_bytes: int


def rows(config: ModelConfig, modality: str) -> list[Row]:
    """All layers of `build_network(config, modality)`: net by net, then what runs on both nets' features.

    Raises:
      UserError: another modality, or frames of which a second holds no whole number.
    """
    second, rest = divmod(SAMPLE_RATE_HZ, config.frame_samples)  # frames
    if rest:
        raise UserError(f"model.frame_samples is {config.frame_samples}; one second is no whole number of frames")
    network = build_network(config, modality)
    inputs = {
        name: keras.KerasTensor((1, second, *tensor.shape[2:]), tensor.dtype) for name, tensor in network.input.items()
    }
    described = []
    for name in modalities_of(modality):
        net = network.get_layer(f"{name}_net")
        described += _layer_rows(net, inputs[name], f"{net.name}/")
        for backbone in _inner_models(net):
            frames = keras.KerasTensor((second, *backbone.input_shape[1:]))
            described += _stages(_layer_rows(backbone, frames, f"{net.name}/"))
    return described + _layer_rows(network, inputs, "")


def table(described: list[Row]) -> str:
    """Fixed-width text with one line per row and their sum."""
    counts = [(row.parameters, row.multiply_adds, row.output_bytes) for row in described]
    labels = [(row.name, " x ".join(map(str, row.shape))) for row in described]
    lines = [f"{'layer':<34}{'output of 1 s':>20}{'parameters':>13}{'M multiply-adds':>17}{'MiB':>9}"]
    total = tuple(sum(column) for column in zip(*counts, strict=True))
    for (name, shape), (parameters, multiply_adds, size) in zip(
        [*labels, ("total", "")], [*counts, total], strict=True
    ):
        lines.append(f"{name:<34}{shape:>20}{parameters:>13,}{multiply_adds / 1e6:>17,.1f}{size / 2**20:>9.2f}")
    return "\n".join(lines)


def diagram(config: ModelConfig, modality: str) -> str:
    """The network as a Mermaid flowchart.

    Raises:
      UserError: another modality.
    """
    parts = {"audio": _audio_diagram(config), "video": _video_diagram(config)}
    heard = [parts[name] for name in modalities_of(modality)]
    widths = " + ".join(str(width) for width, _ in heard)
    if len(heard) > 1:
        widths += f" = {sum(width for width, _ in heard)}"
    cells = ", then ".join(str(units) for units in config.lstm_units)
    return "\n".join(
        [
            "flowchart TD",
            *(f"  {line}" for _, lines in heard for line in lines),
            f'  lstms["LSTMs over {widths} features: {cells} cells"] --> head["linear: arousal, valence per frame"]',
        ]
    )


def _audio_diagram(config: ModelConfig) -> tuple[int, list[str]]:
    """Features per frame, and the audio branch."""
    width = config.frame_samples // config.audio_pool * config.audio_filters[1] // config.audio_channel_pool
    signal = "each frame on its own" if config.audio_framed else "the window as one signal"
    first, second = (
        f"conv {index}: {filters} filters of {taps} taps, ReLU<br/>max over"
        for index, filters, taps in zip((1, 2), config.audio_filters, config.audio_taps, strict=True)
    )
    return width, [
        f'audio["audio: {config.frame_samples} samples per frame, {signal}"]',
        f'audio --> conv1["{first} {config.audio_pool} steps"]',
        f'conv1 --> conv2["{second} {config.audio_channel_pool} channels"]',
        f'conv2 --> audio_features["{width} features per frame, dropout {config.dropout:g}"] --> lstms',
    ]


def _video_diagram(config: ModelConfig) -> tuple[int, list[str]]:
    """Features per frame, and the video branch."""
    resnets = {"resnet50": ("ResNet-50", 2048), "narrow": ("narrow ResNet", 32 * config.video_width)}
    name, width = resnets[config.video_net]
    return width, [
        f'video["video: {config.crop_size} x {config.crop_size} RGB face crop per frame"]',
        f'video --> resnet["{name}<br/>global average pool"]',
        f'resnet --> video_features["{width} features per frame, dropout {config.dropout:g}"] --> lstms',
    ]


def _inner_models(model: keras.Model) -> list[keras.Model]:
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def _layer_rows(model: keras.Model, inputs, prefix: str) -> list[Row]:
    """The model's own layers on inputs of known shape; models inside it are left out."""
    own = [layer for layer in model.layers if not isinstance(layer, (layers.InputLayer, keras.Model))]
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
    """Sums the layers of each stage of a ResNet, of which it has dozens; layer names begin with the stage's."""
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


def _main() -> None:
    args = flags.FLAGS
    config = override(get_preset(args.preset, args.modality), args.set).model
    print(table(rows(config, args.modality)))
    print(f"\n{diagram(config, args.modality)}")


if __name__ == "__main__":
    flags.DEFINE_enum("preset", "paper", list(PRESETS), "Where the settings start from.")
    flags.DEFINE_enum("modality", "audiovisual", MODALITIES, "What the network hears and sees.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting, as in --set=model.dropout=0.3; repeatable.")
    cli.run(_main)
