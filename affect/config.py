"""The settings of an experiment: frozen and validated, read from and written to JSON, changed by `--set`.

An `Experiment` is written to `config.json` in its run folder, and every later command rebuilds the network from there.
Facts about the corpus (rates, shapes, partitions) are not settings: they are in the manifest of the shards.
"""

import difflib
import json
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from affect.errors import UserError
from affect.timebase import FRAME_SAMPLES
from affect.validation import Settings, json_object, require, shown

Modality = Literal["audio", "video", "audiovisual"]
Partition = Literal["train", "dev", "test"]
Objective = Literal["ccc", "mse"]
Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "variance_scaling", "orthogonal"]
MODALITIES: tuple[str, ...] = get_args(Modality)
DIMENSIONS = ("arousal", "valence")
PARTITIONS: tuple[str, ...] = get_args(Partition)

PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
HalfOpenFraction = Annotated[float, Meta(ge=0, lt=1)]  # 0 is allowed, 1 is not
OpenFraction = Annotated[float, Meta(gt=0, lt=1)]


class ModelConfig(Settings, frozen=True):
    """The network (section 3 of the paper); the defaults are the paper's.

    Attributes:
      frame_samples: audio samples per frame, at least 1; 640 is 40 ms at 16 kHz.
      crop_size: edge of the face crop in pixels, at least 32.
      audio_filters: filters of the two audio convolutions; two integers, each at least 1.
      audio_taps: taps of the two audio convolutions; two integers, each at least 1.
      audio_pool: size and stride of the max-pooling over time after the first convolution; divides frame_samples.
      audio_channel_pool: number of adjacent channels that the max-pooling after the second convolution reduces to one;
        divides the second number of audio_filters.
      audio_framed: true convolves each frame on its own, false the whole window as one signal.
      audio_input_dropout: dropout rate on the raw samples, in [0, 1).
      video_net: "resnet50" (Keras' ResNet-50), or "narrow", a network of the same bottleneck blocks with the three
        sizes below.
      video_width: channels of the narrow network's stem, at least 1; its last stage has 32 times as many.
      video_stem_stride: stride of the narrow network's first convolution, at least 1; ResNet-50 has 2.
      video_blocks: bottleneck blocks in the four stages of the narrow network; four integers, each at least 1.
      video_batch_norm: "batch" normalises with the statistics of the batch during training. "frozen" always uses the
        stored moments and does not train scale and offset; use it only with initial weights that include all four.
      video_batch_norm_momentum: momentum of the stored moments, in (0, 1); Keras' default of 0.99 needs hundreds of
        steps to settle.
      video_scaling: "unit" scales pixels to [0, 1]; "imagenet" applies the preprocessing that Keras' ImageNet weights
        expect.
      dropout: dropout rate on the features of each modality, in [0, 1); recurrent layers have no dropout.
      lstm_units: units of each stacked LSTM layer; one or more integers, each at least 1.
      initializer: initializer of the audio convolutions, the LSTMs' input kernels and the output layer:
        "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "variance_scaling" or "orthogonal".
      recurrent_initializer: initializer of the LSTMs' recurrent kernels; the same choices.
      weight_decay: adds weight_decay * sum(w^2) / 2 over all convolution kernels to the loss; at least 0.
    """

    prefix = "model."

    frame_samples: PositiveInt = FRAME_SAMPLES
    crop_size: Annotated[int, Meta(ge=32)] = 96  # the video network halves the crop five times
    audio_filters: tuple[PositiveInt, PositiveInt] = (20, 40)
    audio_taps: tuple[PositiveInt, PositiveInt] = (80, 4000)
    audio_pool: PositiveInt = 2
    audio_channel_pool: PositiveInt = 10
    audio_framed: bool = False
    audio_input_dropout: HalfOpenFraction = 0.0
    video_net: Literal["resnet50", "narrow"] = "resnet50"
    video_width: PositiveInt = 64
    video_stem_stride: PositiveInt = 2
    video_blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 6, 3)
    video_batch_norm: Literal["batch", "frozen"] = "batch"
    video_batch_norm_momentum: OpenFraction = 0.95
    video_scaling: Literal["imagenet", "unit"] = "imagenet"
    dropout: HalfOpenFraction = 0.5
    lstm_units: Annotated[tuple[PositiveInt, ...], Meta(min_length=1)] = (256, 256)
    initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "glorot_uniform"
    weight_decay: NonNegativeFloat = 0.0

    def __post_init__(self):
        super().__post_init__()
        require(
            self.frame_samples % self.audio_pool == 0,
            "model.audio_pool", self.audio_pool, f"a divisor of frame_samples {self.frame_samples}",
        )  # fmt: skip
        require(
            self.audio_filters[1] % self.audio_channel_pool == 0,
            "model.audio_channel_pool", self.audio_channel_pool,
            f"a divisor of the second filter count {self.audio_filters[1]}",
        )  # fmt: skip


class DataConfig(Settings, frozen=True):
    """How windows are cut from the shards.

    Attributes:
      data_dir: folder of the shards and their manifest.
      window_frames: frames of a training window, at least 1; 150 is the paper's 6 s.
      eval_window_frames: frames of an evaluation window, at least 1; the last window of a recording is padded and
        masked.
      standardise: "recording" subtracts the recording's mean and divides by its standard deviation; "none" keeps the
        samples in [-1, 1).
      faceless_frames: "keep" trains on frames without a detected face as on all others; "mask" excludes them from the
        loss of networks that take video. Evaluation always counts them.
      shuffle_windows: size of the shuffle buffer in windows, which are not decoded yet; at least 1.
      label_delay_secs: how long the ratings lag behind the recording, at least 0. Training pairs each frame with the
        label of this much later, and evaluation shifts the predictions back. The paper has 0; later work uses 2 to 4 s.
      audio_cache_mib: audio of up to this many MiB is kept in memory, at least 0 (RECOLA's 18 labelled recordings take
        165 MiB). Used only by networks that take no video, because the images would not fit.
    """

    prefix = "data."

    data_dir: str = ""
    window_frames: PositiveInt = 150
    eval_window_frames: PositiveInt = 150
    standardise: Literal["recording", "none"] = "recording"
    faceless_frames: Literal["keep", "mask"] = "keep"
    shuffle_windows: PositiveInt = 512
    label_delay_secs: NonNegativeFloat = 0.0
    audio_cache_mib: NonNegativeInt = 1024


class AugmentConfig(Settings, frozen=True):
    """Augmentation of the face crops during training (section 4 of the paper).

    Attributes:
      enabled: false trains on the crops as they are.
      scope: "frame" draws new random values for every frame, as the authors' released code does; "window" draws once
        per window.
      resize: crops are enlarged to this edge and then cut back at a random position; at least model.crop_size.
      saturation: largest relative change of the saturation, in [0, 1); 0.5 draws a factor in [0.5, 1.5].
      brightness: largest change of the brightness as a fraction of full scale, in [0, 1); 32 / 255 in the paper.
      flip: true mirrors half of the windows; all frames of a window are treated alike.
    """

    prefix = "augment."

    enabled: bool = True
    scope: Literal["frame", "window"] = "frame"
    resize: PositiveInt = 110
    saturation: HalfOpenFraction = 0.5
    brightness: HalfOpenFraction = 32.0 / 255.0
    flip: bool = False


class TrainConfig(Settings, frozen=True):
    """How the weights are trained (section 4 of the paper).

    Attributes:
      batch_size: windows per step over all devices, at least 1.
      epochs: passes over the training partition, at least 1.
      learning_rate: learning rate of Adam, above 0; constant unless plateau_epochs is set.
      precision: "float32", "mixed_bfloat16", or "mixed_float16" with dynamic loss scaling. Variables and the CCC are
        float32 in any case, and so is every later use of the weights.
      clip_norm: largest norm of the whole gradient, at least 0; 0 does not clip.
      early_stop_epochs: training ends after this many epochs without a better dev CCC, at least 0; 0 never stops early.
      plateau_epochs: the learning rate is multiplied by plateau_factor after every plateau_epochs epochs without a
        better dev CCC, at least 0; 0 keeps it constant.
      plateau_factor: factor of each reduction of the learning rate, in (0, 1).
      video_weights: initial weights of the ResNet-50: "none" (random), "imagenet" (downloaded by Keras), or the path of
        a Keras .h5 file without the top layer; for weights from ImageNet keep model.video_scaling=imagenet. Ignored
        where --init_video names a trained run.
      seed: seed of the weights, data order, augmentation and dropout, in [0, 2147483647].
      deterministic: true gives bit-identical weights in every run with the same settings on the same machine, and works
        on one CPU only; false lets TensorFlow add up gradients in an order that depends on timing.
      objective: what training minimises over all frames of a batch, averaged over the dimensions: "ccc" is 1 - CCC, the
        paper's; "mse" the mean squared error, to compare with. Best weights, early stopping and the learning rate
        follow the dev CCC in either case.
    """

    prefix = "train."

    batch_size: PositiveInt = 25
    epochs: PositiveInt = 50
    learning_rate: PositiveFloat = 1e-4
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    clip_norm: NonNegativeFloat = 0.0
    early_stop_epochs: NonNegativeInt = 0
    plateau_epochs: NonNegativeInt = 0
    plateau_factor: OpenFraction = 0.5
    video_weights: str = "none"
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    deterministic: bool = False
    objective: Objective = "ccc"


class Experiment(Settings, frozen=True):
    """All settings of a run.

    Attributes:
      modality: "audio", "video" or "audiovisual".
      model, data, augment, train: the four sections.
    """

    modality: Modality = "audiovisual"
    model: ModelConfig = msgspec.field(default_factory=ModelConfig)
    data: DataConfig = msgspec.field(default_factory=DataConfig)
    augment: AugmentConfig = msgspec.field(default_factory=AugmentConfig)
    train: TrainConfig = msgspec.field(default_factory=TrainConfig)

    def __post_init__(self):
        super().__post_init__()
        wanted = f"at least the crop size {self.model.crop_size}"
        require(self.augment.resize >= self.model.crop_size, "augment.resize", self.augment.resize, wanted)
        if self.train.video_weights != "none":
            wanted = "resnet50, because train.video_weights is set"
            require(self.model.video_net == "resnet50", "model.video_net", self.model.video_net, wanted)
        if self.train.video_weights == "imagenet":
            wanted = "imagenet, because train.video_weights is"
            require(self.model.video_scaling == "imagenet", "model.video_scaling", self.model.video_scaling, wanted)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs of the network: "audio", "video" or both."""
        return modalities_of(self.modality)

    def to_json(self) -> str:
        """Returns the experiment as indented JSON; `from_json` returns an equal one."""
        return json.dumps(msgspec.to_builtins(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` returns; fields that are missing take their defaults.

        Raises:
          UserError: not JSON, a name given twice, an unknown section or field, or a value of the wrong type or out of
            range.
        """
        content = json_object(text)
        # Made by the constructors and not by msgspec's decoder, whose messages do not show the wrong value.
        arguments: dict[str, Any] = {
            name: _section(name, values) for name, values in content.items() if name != "modality"
        }
        if "modality" in content:
            arguments["modality"] = content["modality"]
        return cls(**arguments)


_SECTIONS = {"model": ModelConfig, "data": DataConfig, "augment": AugmentConfig, "train": TrainConfig}


def modalities_of(modality: str) -> tuple[str, ...]:
    """Returns the inputs of a network of this modality: both for "audiovisual", otherwise the modality itself.

    Raises:
      UserError: the modality is unknown.
    """
    if modality not in MODALITIES:
        raise UserError(f"unknown modality {modality!r}; choose one of {', '.join(MODALITIES)}")
    return ("audio", "video") if modality == "audiovisual" else (modality,)


def override(experiment: Experiment, assignments: list[str]) -> Experiment:
    """Applies `section.field=value` assignments; each value is read as its field's type.

    Raises:
      UserError: a malformed assignment, an unknown field (the error names the nearest one), or a value of the wrong
        type or out of range.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    known = {
        f"{section}.{name}": kind for section, settings in _SECTIONS.items() for name, kind in _types(settings).items()
    }
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path, assignment = path.strip(), " ".join(assignment.split())  # an error is one line
        if not equals or "." not in path:
            raise UserError(f"--set={assignment}: expected section.field=value, as in train.batch_size=4")
        if path not in known:
            (nearest,) = difflib.get_close_matches(path, known, n=1, cutoff=0.0)
            raise UserError(f"--set={assignment}: unknown field {path!r}; did you mean {nearest!r}?")
        section, name = path.split(".")
        changes[section][name] = _parsed(text.strip(), known[path], assignment)
    # All at once: some values are valid only together.
    sections = {
        section: msgspec.structs.replace(getattr(experiment, section), **values) for section, values in changes.items()
    }
    return msgspec.structs.replace(experiment, **sections)


def _types(settings: type[Settings]) -> dict[str, Any]:
    """Returns the types of a section's fields by name, without their ranges."""
    hints = get_type_hints(settings)
    return {field.name: hints[field.name] for field in msgspec.structs.fields(settings)}


def _section(name: str, values: Any) -> Settings:
    if name not in _SECTIONS:
        raise UserError(f"unknown section {shown(name)} in the config; the sections are {', '.join(_SECTIONS)}")
    if not isinstance(values, dict):
        raise UserError(f"section {name} of the config is {shown(values)}; it must be an object of fields")
    unknown = [field for field in values if field not in _SECTIONS[name].__struct_fields__]
    if unknown:
        raise UserError(
            f"unknown field {shown(f'{name}.{unknown[0]}')} in the config; was it written by another version?"
        )
    return _SECTIONS[name](**values)


def _parsed(text: str, kind: Any, assignment: str) -> Any:
    """Returns the text of an assignment as the field's type; its range is checked by the section."""
    if get_origin(kind) is tuple:
        return tuple(_parsed(part.strip(), get_args(kind)[0], assignment) for part in text.split(","))
    if get_origin(kind) is Literal:
        return text
    try:
        return msgspec.convert(text, kind, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: a lone surrogate
        raise UserError(f"--set={assignment}: {text!r} is not a valid {kind.__name__}") from error
