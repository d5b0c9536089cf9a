"""Every choice of an experiment as frozen, validated, documented data; the presets; JSON and `--set` overrides.

An `Experiment` is written to `config.json` of its run folder, and every later command rebuilds from there. Facts
about the corpus (rates, shapes, partitions) are not here: they live in the shards' manifest.
"""

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from affect.errors import UserError

MODALITIES = ("audio", "video", "audiovisual")
DIMENSIONS = ("arousal", "valence")
PARTITIONS = ("train", "dev", "test")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
INITIALIZERS = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "variance_scaling", "orthogonal")


@dataclass(frozen=True)
class ModelConfig:
    """The network (paper section 3); its defaults are the paper's.

    Attributes:
      frame_samples: audio samples per frame; 640 is 40 ms at 16 kHz.
      crop_size: face crop edge in pixels.
      audio_filters, audio_taps: filters and taps of the two audio convolutions, each >= 1.
      audio_pool: size and stride of the max-pool over time after the first convolution; divides frame_samples.
      audio_channel_pool: adjacent channels max-pooled into one after the second; divides its filters.
      audio_framed: True convolves each frame on its own, False the whole window as one signal.
      audio_input_dropout: rate on the raw samples.
      video_net: "resnet50" (Keras), or "narrow", the same bottleneck structure at the sizes below.
      video_width: channels of the narrow network's stem; its last stage has 32 times as many.
      video_stem_stride: stride of the narrow network's first convolution; ResNet-50 has 2.
      video_blocks: bottleneck blocks per stage of the narrow network.
      video_batch_norm: "batch" normalises with the batch in training; "frozen" always with the stored moments, and
        scale and offset are not trained either, which makes sense only for weights that bring all four.
      video_batch_norm_momentum: of the stored moments; Keras' 0.99 needs hundreds of steps to settle.
      video_scaling: "unit" scales pixels to [0, 1]; "imagenet" is what Keras' ImageNet weights expect.
      dropout: rate on the features of each modality, never on recurrent layers.
      lstm_units: cells per stacked LSTM layer.
      initializer: of the audio convolutions, the LSTMs' input kernels and the head, by its name in Keras.
      recurrent_initializer: of the LSTMs' recurrent kernels.
      weight_decay: adds weight_decay * sum(w^2) / 2 over all convolution kernels to the loss.
    """

    frame_samples: int = 640
    crop_size: int = 96
    audio_filters: tuple[int, ...] = (20, 40)
    audio_taps: tuple[int, ...] = (80, 4000)
    audio_pool: int = 2
    audio_channel_pool: int = 10
    audio_framed: bool = False
    audio_input_dropout: float = 0.0
    video_net: str = "resnet50"
    video_width: int = 64
    video_stem_stride: int = 2
    video_blocks: tuple[int, ...] = (3, 4, 6, 3)
    video_batch_norm: str = "batch"
    video_batch_norm_momentum: float = 0.95
    video_scaling: str = "imagenet"
    dropout: float = 0.5
    lstm_units: tuple[int, ...] = (256, 256)
    initializer: str = "glorot_uniform"
    recurrent_initializer: str = "glorot_uniform"
    weight_decay: float = 0.0

    def __post_init__(self):
        _require(self.frame_samples >= 1, "model.frame_samples", self.frame_samples, "at least 1")
        _require(self.crop_size >= 32, "model.crop_size", self.crop_size, "at least 32, what five halvings need")
        _require(_positive(self.audio_filters, 2), "model.audio_filters", self.audio_filters, "two numbers >= 1")
        _require(_positive(self.audio_taps, 2), "model.audio_taps", self.audio_taps, "two numbers >= 1")
        pool_fits = self.audio_pool >= 1 and self.frame_samples % self.audio_pool == 0
        _require(pool_fits, "model.audio_pool", self.audio_pool, f"a divisor of frame_samples {self.frame_samples}")
        groups_fit = self.audio_channel_pool >= 1 and self.audio_filters[1] % self.audio_channel_pool == 0
        wanted = f"a divisor of the second filter count {self.audio_filters[1]}"
        _require(groups_fit, "model.audio_channel_pool", self.audio_channel_pool, wanted)
        _require(self.video_net in ("resnet50", "narrow"), "model.video_net", self.video_net, "resnet50 or narrow")
        _require(self.video_width >= 1, "model.video_width", self.video_width, "at least 1")
        _require(self.video_stem_stride >= 1, "model.video_stem_stride", self.video_stem_stride, "at least 1")
        _require(_positive(self.video_blocks, 4), "model.video_blocks", self.video_blocks, "four numbers >= 1")
        modes = ("batch", "frozen")
        _require(self.video_batch_norm in modes, "model.video_batch_norm", self.video_batch_norm, "batch or frozen")
        momentum = self.video_batch_norm_momentum
        _require(0.0 < momentum < 1.0, "model.video_batch_norm_momentum", momentum, "between 0 and 1")
        scalings = ("unit", "imagenet")
        _require(self.video_scaling in scalings, "model.video_scaling", self.video_scaling, "unit or imagenet")
        for name in ("audio_input_dropout", "dropout"):
            _require(0.0 <= getattr(self, name) < 1.0, f"model.{name}", getattr(self, name), "in [0, 1)")
        layers_fit = _positive(self.lstm_units, len(self.lstm_units)) and len(self.lstm_units) > 0
        _require(layers_fit, "model.lstm_units", self.lstm_units, "one or more numbers >= 1")
        for name in ("initializer", "recurrent_initializer"):
            _require(
                getattr(self, name) in INITIALIZERS, f"model.{name}", getattr(self, name), " or ".join(INITIALIZERS)
            )
        _require(self.weight_decay >= 0.0, "model.weight_decay", self.weight_decay, "at least 0")


@dataclass(frozen=True)
class DataConfig:
    """How shards become windows.

    Attributes:
      data_dir: folder of the shards and their manifest.
      window_frames: frames of a training sequence; 150 is the paper's 6 s.
      eval_window_frames: frames of an evaluation window; the last of a recording is padded and masked.
      standardise: "recording" takes off the recording's mean and divides by its deviation, "none" leaves [-1, 1).
      faceless_frames: "keep" trains on frames in which no face was found as on all others, "mask" leaves them out of
        the loss wherever the network sees video. Evaluation always counts them.
      shuffle_windows: size of the shuffle buffer, in windows not yet decoded.
      label_delay_secs: time by which raters lag behind: the label of this much later is learnt for a frame, and
        evaluation shifts predictions back by it. 0 in the paper; later work takes 2 to 4 s.
      audio_cache_mib: sound of up to this many MiB is read once and kept (RECOLA's 18 recordings with labels have 165);
        only for networks that do not see video, whose pictures cannot be kept.
    """

    data_dir: str = ""
    window_frames: int = 150
    eval_window_frames: int = 150
    standardise: str = "recording"
    faceless_frames: str = "keep"
    shuffle_windows: int = 512
    label_delay_secs: float = 0.0
    audio_cache_mib: int = 1024

    def __post_init__(self):
        _require(self.window_frames >= 1, "data.window_frames", self.window_frames, "at least 1")
        _require(self.eval_window_frames >= 1, "data.eval_window_frames", self.eval_window_frames, "at least 1")
        known = ("recording", "none")
        _require(self.standardise in known, "data.standardise", self.standardise, "recording or none")
        known = ("keep", "mask")
        _require(self.faceless_frames in known, "data.faceless_frames", self.faceless_frames, "keep or mask")
        _require(self.shuffle_windows >= 1, "data.shuffle_windows", self.shuffle_windows, "at least 1")
        _require(self.label_delay_secs >= 0.0, "data.label_delay_secs", self.label_delay_secs, "at least 0")
        _require(self.audio_cache_mib >= 0, "data.audio_cache_mib", self.audio_cache_mib, "at least 0")


@dataclass(frozen=True)
class AugmentConfig:
    """Training-time changes to the face crops (paper section 4).

    Attributes:
      enabled: False trains on the crops as they are.
      scope: "frame" draws anew for every frame, as the released code does; "window" once per window.
      resize: crops are enlarged to this edge, then cut back at a random place; the model's crop_size or more.
      saturation: largest relative change; 0.5 draws a factor in [0.5, 1.5].
      brightness: largest offset in units of full scale; 32 / 255 in the paper.
      flip: mirrors half of the windows (never part of a window).
    """

    enabled: bool = True
    scope: str = "frame"
    resize: int = 110
    saturation: float = 0.5
    brightness: float = 32.0 / 255.0
    flip: bool = False

    def __post_init__(self):
        _require(self.scope in ("frame", "window"), "augment.scope", self.scope, "frame or window")
        _require(0.0 <= self.saturation < 1.0, "augment.saturation", self.saturation, "in [0, 1)")
        _require(0.0 <= self.brightness < 1.0, "augment.brightness", self.brightness, "in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """How weights are learnt (paper section 4).

    Attributes:
      batch_size: windows per step over all devices.
      epochs: passes over the training partition.
      learning_rate: of Adam, fixed unless plateau_epochs is set.
      precision: "float32", "mixed_bfloat16", or "mixed_float16" with dynamic loss scaling. Variables and CCC stay
        float32, and so does every later use of the weights.
      clip_norm: largest norm of the whole gradient; 0 never clips.
      early_stop_epochs: training ends after so many epochs without a better dev CCC; 0 never.
      plateau_epochs: the learning rate is multiplied with plateau_factor after so many such epochs, and again after as
        many more; 0 never.
      plateau_factor: in (0, 1).
      video_weights: where the ResNet-50 starts: "none" (random), "imagenet" (downloaded by Keras), or a local Keras
        .h5 file, without its top (where that comes from ImageNet, keep model.video_scaling=imagenet). Not used where
        --init_video gives a trained run.
      seed: of weights, data order, augmentation and dropout.
    """

    batch_size: int = 25
    epochs: int = 50
    learning_rate: float = 1e-4
    precision: str = "float32"
    clip_norm: float = 0.0
    early_stop_epochs: int = 0
    plateau_epochs: int = 0
    plateau_factor: float = 0.5
    video_weights: str = "none"
    seed: int = 0

    def __post_init__(self):
        _require(self.batch_size >= 1, "train.batch_size", self.batch_size, "at least 1")
        _require(self.epochs >= 1, "train.epochs", self.epochs, "at least 1")
        _require(self.learning_rate > 0.0, "train.learning_rate", self.learning_rate, "above 0")
        _require(self.precision in PRECISIONS, "train.precision", self.precision, " or ".join(PRECISIONS))
        for name in ("clip_norm", "early_stop_epochs", "plateau_epochs"):
            _require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "at least 0")
        _require(0.0 < self.plateau_factor < 1.0, "train.plateau_factor", self.plateau_factor, "between 0 and 1")
        _require(0 <= self.seed < 2**31, "train.seed", self.seed, "in [0, 2^31)")


@dataclass(frozen=True)
class Experiment:
    """Everything that defines a run. `modality` is "audio", "video" or "audiovisual"."""

    modality: str = "audiovisual"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self):
        _require(self.modality in MODALITIES, "modality", self.modality, "audio, video or audiovisual")
        wanted = f"at least the crop size {self.model.crop_size}"
        _require(self.augment.resize >= self.model.crop_size, "augment.resize", self.augment.resize, wanted)
        if self.train.video_weights != "none":
            wanted = "resnet50 where train.video_weights is given"
            _require(self.model.video_net == "resnet50", "model.video_net", self.model.video_net, wanted)
        if self.train.video_weights == "imagenet":
            wanted = "imagenet where train.video_weights is"
            _require(self.model.video_scaling == "imagenet", "model.video_scaling", self.model.video_scaling, wanted)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs that the network takes: "audio", "video" or both."""
        return modalities_of(self.modality)

    def to_json(self) -> str:
        """The experiment as indented JSON; `from_json` gives an equal one."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Experiment":
        """Reads `to_json`'s output.

        Raises:
          UserError: not JSON, an unknown field, or a value out of range.
        """
        try:
            sections = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"not a JSON config: {error}") from error
        if not isinstance(sections, dict):
            raise UserError("not a config: expected a JSON object of sections")
        experiment = cls(modality=sections.pop("modality", "audiovisual"))
        changes = {section: _checked_section(experiment, section, values) for section, values in sections.items()}
        return _changed(experiment, changes)


def modalities_of(modality: str) -> tuple[str, ...]:
    """What is fused: "audio" and "video" for "audiovisual", itself for each of them.

    Raises:
      UserError: another modality.
    """
    if modality not in MODALITIES:
        raise UserError(f"unknown modality {modality!r}; there are {', '.join(MODALITIES)}")
    return ("audio", "video") if modality == "audiovisual" else (modality,)


def override(experiment: Experiment, assignments: list[str]) -> Experiment:
    """Applies `section.field=value` assignments, typed by the dataclass.

    Raises:
      UserError: malformed, an unknown field (the nearest is named), a value of the wrong type or out of range.
    """
    changes: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        section, dot, name = path.strip().partition(".")
        if not (equals and dot):
            raise UserError(f"--set={assignment}: expected section.field=value, as in train.batch_size=4")
        known = {f"{part.name}.{leaf.name}": leaf.type for part in _sections() for leaf in _leaves(part)}
        if path.strip() not in known:
            near = difflib.get_close_matches(path.strip(), known, n=1, cutoff=0.0)[0]
            raise UserError(f"--set={assignment}: there is no {path.strip()!r}; did you mean {near!r}?")
        changes.setdefault(section, {})[name] = _typed(text.strip(), known[path.strip()], assignment)
    return _changed(experiment, changes)


def write_config(experiment: Experiment, path: Path) -> None:
    """Writes `config.json`."""
    path.write_text(experiment.to_json(), encoding="utf-8")


def _require(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value!r}; it must be {wanted}")


def _positive(values: tuple[int, ...], count: int) -> bool:
    return len(values) == count and all(value >= 1 for value in values)


def _sections() -> list[dataclasses.Field]:
    return [part for part in dataclasses.fields(Experiment) if dataclasses.is_dataclass(part.type)]


def _leaves(section: dataclasses.Field) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(section.type)


def _checked_section(experiment: Experiment, section: str, values: Any) -> dict[str, Any]:
    """The section's values, lists as tuples, once every name is known and every value has the field's type."""
    known = {part.name: {leaf.name: leaf.type for leaf in _leaves(part)} for part in _sections()}
    if section not in known or not isinstance(values, dict):
        raise UserError(f"unknown section {section!r} in the config; there are {', '.join(known)}")
    for name, value in values.items():
        if name not in known[section]:
            raise UserError(f"unknown field {section}.{name} in the config; was it written by another version?")
        default = getattr(getattr(experiment, section), name)
        accepted = (list,) if isinstance(default, tuple) else (int, float) if isinstance(default, float) else None
        if not isinstance(value, accepted or type(default)):
            raise UserError(f"{section}.{name} is {value!r} in the config; expected {known[section][name]}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _changed(experiment: Experiment, changes: dict[str, dict[str, Any]]) -> Experiment:
    """The experiment with all changes made at once: some values are valid only together."""
    sections = {
        name: dataclasses.replace(getattr(experiment, name), **values) for name, values in changes.items() if values
    }
    return dataclasses.replace(experiment, **sections)


def _typed(text: str, kind: Any, assignment: str) -> Any:
    """`text` as the dataclass field's type."""
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if get_origin(kind) is tuple:
            return tuple(get_args(kind)[0](part) for part in text.split(","))
        return kind(text)
    except (KeyError, ValueError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise UserError(f"--set={assignment}: {text!r} is no {name}") from error
