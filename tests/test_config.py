"""Presets, overrides, validation, and the JSON round trip of the settings."""

import hashlib
import json
import math
import pickle
import subprocess
import sys

import pytest
from msgspec.structs import replace

from affect.config import AugmentConfig, DataConfig, Experiment, ModelConfig, TrainConfig, override
from affect.errors import UserError
from affect.presets import PRESETS, get_preset
from affect.runs import RunFolder
from tests.helpers.commands import REPOSITORY

# SHA-256 of config.json as version 0.1.0 wrote it, by preset and modality; it had neither of these settings yet.
NEW_SINCE_0_1_0 = b',\n    "deterministic": false,\n    "objective": "ccc"'
WRITTEN_BY_0_1_0 = {
    ("paper", "audio"): "5e3b192f96062aaf2e3ebc6fad93d54aed271a38f6911688faffa6f24cc183b0",
    ("paper", "video"): "77c9f79388fd29bbb44561925c307100dcdef6c6f28311eb144a4738238e37e5",
    ("paper", "audiovisual"): "e555f53746de6952a9d8ce8bc4cfb24c43d82a058a60a9a31b394a37ce9c21d6",
    ("adieu2016", "audio"): "4217c28137de7e6bfedf1498d56be3a6f6d7b10a7e2bc5fd15e513ad647bbe91",
    ("adieu2016", "video"): "06129de97365084b2d5b675ad1517bcd9c208946cc255973fea17e532144a770",
    ("adieu2016", "audiovisual"): "20127f3c5c597c7fdf9b0de2e097fabf946671fb8f7b7392bcbde11a1b50e03c",
    ("demo", "audio"): "8273c3809d26558f8ab87864ab9f1a18575d9a7c4a9261ecf7f9817593a88a6e",
    ("demo", "video"): "bd06fe5997dac8c10e1a70e163913238c57fa630a0528ede96e2fea2fb26666d",
    ("demo", "audiovisual"): "893769f9b36965107f985b58d8304acf53a28d979357009a0ff199285b762e60",
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
def test_presets_survive_json(preset, modality):
    experiment = get_preset(preset, modality)
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert experiment.modality == modality


@pytest.mark.parametrize(("preset", "modality"), WRITTEN_BY_0_1_0)
def test_configs_have_the_bytes_that_version_0_1_0_wrote(preset, modality):
    settings = ["data.data_dir=/korpora/Gespräche", "train.learning_rate=1e-05", "model.lstm_units=7"]
    experiment = override(get_preset(preset, modality), settings)
    content = experiment.to_json().encode().replace(NEW_SINCE_0_1_0, b"")
    assert Experiment.from_json(content.decode()) == experiment
    assert hashlib.sha256(content).hexdigest() == WRITTEN_BY_0_1_0[preset, modality]
    assert rb"Gespr\u00e4che" in content


def test_a_data_folder_whose_name_is_not_utf_8_survives_json():
    experiment = Experiment(data=DataConfig(data_dir="/corpora/Gespr\udce4che"))
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_paper_preset_has_the_papers_sizes():
    audio, both = get_preset("paper", "audio"), get_preset("paper")
    assert both.model.audio_filters == (20, 40)
    assert both.model.audio_taps == (16_000 * 5 // 1000, 8_000 * 500 // 1000)
    assert both.model.audio_filters[1] // both.model.audio_channel_pool == 4
    assert not both.model.audio_framed
    assert both.model.lstm_units == (256, 256)
    assert (audio.train.batch_size, both.train.batch_size) == (25, 2)
    assert both.data.window_frames == 6 * 25
    assert both.train.learning_rate == 1e-4


def test_overrides_take_the_fields_type():
    experiment = override(
        get_preset("demo"),
        [
            "train.batch_size=4", "model.audio_taps=80, 400", "augment.flip=true", "augment.enabled=0",
            "train.learning_rate=1e-3", "train.clip_norm=5", "model.lstm_units=32", " data.data_dir = a=b ",
        ],
    )  # fmt: skip
    assert experiment.train.batch_size == 4
    assert experiment.model.audio_taps == (80, 400)
    assert experiment.augment.flip is True
    assert experiment.augment.enabled is False
    assert experiment.train.learning_rate == 1e-3
    assert isinstance(experiment.train.clip_norm, float) and experiment.train.clip_norm == 5.0
    assert experiment.model.lstm_units == (32,)
    assert experiment.data.data_dir == "a=b"


def test_overrides_that_are_valid_only_together_are_accepted():
    experiment = override(get_preset("demo"), ["model.audio_filters=8,14", "model.audio_channel_pool=7"])
    assert (experiment.model.audio_filters, experiment.model.audio_channel_pool) == ((8, 14), 7)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.batchsize=4", "--set=train.batchsize=4: unknown field 'train.batchsize'; did you mean "
         "'train.batch_size'?"),
        ("a.b.c=4", "--set=a.b.c=4: unknown field 'a.b.c'; did you mean '"),
        ("batch_size=4", "--set=batch_size=4: expected section.field=value"),
        ("train.batch_size", "--set=train.batch_size: expected section.field=value"),
        ("train.batch_size=many", "--set=train.batch_size=many: 'many' is not a valid int"),
        ("train.batch_size=", "--set=train.batch_size=: '' is not a valid int"),
        ("train.learning_rate=fast", "--set=train.learning_rate=fast: 'fast' is not a valid float"),
        ("augment.flip=perhaps", "--set=augment.flip=perhaps: 'perhaps' is not a valid bool"),
        ("model.audio_taps=80,x", "--set=model.audio_taps=80,x: 'x' is not a valid int"),
        ("model.audio_taps=80", "model.audio_taps is (80,); it must be 2 integers, each at least 1"),
        ("model.video_blocks=1,1,1,0", "model.video_blocks is (1, 1, 1, 0); it must be 4 integers, each at least 1"),
        ("train.batch_size=0", "train.batch_size is 0; it must be at least 1"),
        ("train.learning_rate=nan", "train.learning_rate is nan; it must be above 0"),
        ("train.learning_rate=inf", "train.learning_rate is inf; it must be a finite number"),
        ("train.seed=2147483648", "train.seed is 2147483648; it must be in [0, 2147483647]"),
        ("train.precision=float8",
         "train.precision is 'float8'; it must be one of float32, mixed_bfloat16, mixed_float16"),
        ("model.crop_size=31", "model.crop_size is 31; it must be at least 32"),
        ("model.audio_channel_pool=7", "model.audio_channel_pool is 7; it must be a divisor of the second filter"),
        ("augment.resize=90", "augment.resize is 90; it must be at least the crop size 96"),
        ("model.dropout=1.0", "model.dropout is 1.0; it must be in [0, 1)"),
        ("model.video_batch_norm_momentum=1", "model.video_batch_norm_momentum is 1.0; it must be in (0, 1)"),
        ("train.video_weights=imagenet", "model.video_net is 'narrow'; it must be resnet50"),
        ("train.epochs=true", "--set=train.epochs=true: 'true' is not a valid int"),
        ("train.epochs=2147483648", "train.epochs is 2147483648; it must be below 2147483648"),
        ("train.epochs=\ud800", "--set=train.epochs=\ud800: '\\ud800' is not a valid int"),
        ("train.epochs=1\n2", "--set=train.epochs=1 2: '1\\n2' is not a valid int"),
        ("train.learning_rate=1e400", "--set=train.learning_rate=1e400: '1e400' is not a valid float"),
        ("model.audio_taps=80,16,8", "model.audio_taps is (80, 16, 8); it must be 2 integers, each at least 1"),
        ("model.audio_taps=true,16", "--set=model.audio_taps=true,16: 'true' is not a valid int"),
        ("model.lstm_units=", "--set=model.lstm_units=: '' is not a valid int"),
        ("model.lstm_units=64,99999999999", "model.lstm_units is (64, 99999999999); it must be below 2147483648"),
        ("model.initializer=\ud800", "model.initializer is '\\ud800'; it must be one of glorot_normal"),
        ("data.data_dir=a\0b", "data.data_dir is 'a\\x00b'; it must be a string without NUL characters"),
        ("a.b\nc=1", "--set=a.b c=1: unknown field 'a.b\\nc'; did you mean "),
    ],
)  # fmt: skip
def test_wrong_overrides_are_refused_with_what_would_be_right(assignment, message):
    with pytest.raises(UserError) as refusal:
        override(get_preset("demo"), [assignment])
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_an_unknown_preset_or_modality_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="paper, adieu2016, demo"):
        get_preset("papier")
    with pytest.raises(UserError, match="unknown modality 'radio'; choose one of audio, video, audiovisual"):
        get_preset("paper", "radio")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["model"].update(layers=3), r"unknown field 'model\.layers' in the config"),
        (lambda config: config.update(extra={}), "unknown section 'extra'"),
        (lambda config: config.update(train=[1]), r"section train of the config is \[1\]; it must be an object"),
        (lambda config: config.update(modality=["audio"]), r"modality is \['audio'\]; it must be one of audio"),
        (lambda config: config["model"].update(dropout="half"), r"model\.dropout is 'half'; it must be a number, in"),
        (lambda config: config["model"].update(dropout=math.nan), r"model\.dropout is nan; it must be in \[0, 1\)"),
        (lambda config: config["model"].update(audio_taps=[80, "4"]), r"model\.audio_taps is \[80, '4'\]"),
        (lambda config: config["model"].update(lstm_units=[]), r"model\.lstm_units is \[\]; it must be one or more"),
        (lambda config: config["train"].update(epochs=-1), r"train\.epochs is -1; it must be at least 1"),
        (lambda config: config["train"].update(epochs=2.0), r"train\.epochs is 2\.0; it must be an integer, at le"),
        (lambda config: config["train"].update(epochs=True), r"train\.epochs is True; it must be an integer"),
        (lambda config: config["augment"].update(flip=1), r"augment\.flip is 1; it must be true or false"),
        (lambda config: config["data"].update(data_dir=5), r"data\.data_dir is 5; it must be a string"),
    ],
)
def test_a_config_file_with_wrong_content_is_refused(change, message):
    config = json.loads(get_preset("demo").to_json())
    change(config)
    with pytest.raises(UserError, match=message):
        Experiment.from_json(json.dumps(config))


PAIR = "2 integers, each at least 1"
MALFORMED_VALUES = [
    # (field, its value as JSON text, how the message shows the value, what it must be)
    ("model.audio_taps", "[80, true]", "[80, True]", PAIR),
    ("model.audio_taps", "[80, 16.0]", "[80, 16.0]", PAIR),
    ("model.audio_taps", "[80, null]", "[80, None]", PAIR),
    ("model.audio_taps", "[[80, 16]]", "[[80, 16]]", PAIR),
    ("model.audio_taps", "[80, 16, 8]", "[80, 16, 8]", PAIR),
    ("model.audio_taps", "[80]", "[80]", PAIR),
    ("model.audio_taps", "80", "80", PAIR),
    ("model.audio_taps", '"80,16"', "'80,16'", PAIR),
    ("model.audio_taps", '{"0": 80}', "{'0': 80}", PAIR),
    ("model.audio_taps", "[80, 1e400]", "[80, inf]", PAIR),
    ("model.audio_taps", "[80, 4294967296]", "[80, 4294967296]", "below 2147483648"),
    ("model.lstm_units", "[]", "[]", "one or more integers, each at least 1"),
    ("model.lstm_units", "[64, 0]", "[64, 0]", "one or more integers, each at least 1"),
    ("train.epochs", "true", "True", "an integer, at least 1"),
    ("train.epochs", "3.0", "3.0", "an integer, at least 1"),
    ("train.epochs", "null", "None", "an integer, at least 1"),
    ("train.epochs", '"3"', "'3'", "an integer, at least 1"),
    ("train.epochs", "Infinity", "inf", "an integer, at least 1"),
    ("train.epochs", '"\\ud800"', "'\\ud800'", "an integer, at least 1"),
    ("train.epochs", "-0", "0", "at least 1"),
    ("train.epochs", "1" + "0" * 30, "1" + "0" * 30, "below 2147483648"),
    ("train.learning_rate", "true", "True", "a number, above 0"),
    ("train.learning_rate", '"0.1"', "'0.1'", "a number, above 0"),
    ("train.learning_rate", "NaN", "nan", "above 0"),
    ("train.learning_rate", "Infinity", "inf", "a finite number"),
    ("train.learning_rate", "-Infinity", "-inf", "above 0"),
    ("train.learning_rate", "1e400", "inf", "a finite number"),
    ("train.learning_rate", "1" + "0" * 400, "1" + "0" * 99 + "...", "a finite number"),
    ("train.learning_rate", "-0.0", "-0.0", "above 0"),
    ("train.learning_rate", '"\\ud800"', "'\\ud800'", "a number, above 0"),
    ("train.deterministic", "1", "1", "true or false"),
    ("train.deterministic", '"true"', "'true'", "true or false"),
    ("train.precision", "true", "True", "one of float32, mixed_bfloat16, mixed_float16"),
    ("train.precision", '"\\ud800"', "'\\ud800'", "one of float32, mixed_bfloat16, mixed_float16"),
    ("train.precision", '["float32"]', "['float32']", "one of float32, mixed_bfloat16, mixed_float16"),
    ("data.data_dir", "true", "True", "a string"),
    ("data.data_dir", '["records"]', "['records']", "a string"),
    ("data.data_dir", '"a\\u0000b"', "'a\\x00b'", "a string without NUL characters"),
    ("model.dropout", "[" * 500 + "]" * 500, "[" * 100 + "...", "a number, in [0, 1)"),
    ("model.dropout", '"' + "x" * 5_000 + '"', "'" + "x" * 99 + "...", "a number, in [0, 1)"),
]


@pytest.mark.parametrize(
    ("field", "text", "value", "wanted"), MALFORMED_VALUES, ids=[f"{row[0]}={row[1][:12]}" for row in MALFORMED_VALUES]
)
def test_a_malformed_value_in_a_config_file_is_refused_in_one_line(field, text, value, wanted):
    section, name = field.split(".")
    with pytest.raises(UserError) as refusal:
        Experiment.from_json(f'{{"{section}": {{"{name}": {text}}}}}')
    assert str(refusal.value) == f"{field} is {value}; it must be {wanted}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": {"epochs": 3, "epochs": 4}}', "not a JSON config: 'epochs' is given twice, as 3 and 4"),
        ('{"modality": "audio", "modality": "video"}',
         "not a JSON config: 'modality' is given twice, as 'audio' and 'video'"),
        ('{"model": {}, "model": {"dropout": 0}}',
         "not a JSON config: 'model' is given twice, as {} and {'dropout': 0}"),
        ('{"modality": "\\ud800"}', "modality is '\\ud800'; it must be one of audio, audiovisual, video"),
        ('{"modality": null}', "modality is None; it must be one of audio, audiovisual, video"),
        ('{"model": {"a\\nb": 1}}', "unknown field 'model.a\\nb' in the config; was it written by another version?"),
        ('{"a\\nb": {}}', "unknown section 'a\\nb' in the config; the sections are model, data, augment, train"),
    ],
)  # fmt: skip
def test_a_config_with_malformed_names_is_refused_in_one_line(text, message):
    with pytest.raises(UserError) as refusal:
        Experiment.from_json(text)
    assert str(refusal.value) == message


def test_a_config_file_that_is_not_utf_8_is_refused_with_its_name(tmp_path):
    config = tmp_path / "config.json"
    config.write_bytes(b'{"data": {"data_dir": "\xe4"}}')
    with pytest.raises(UserError) as refusal:
        RunFolder(tmp_path).read_config()
    assert str(refusal.value).startswith(f"{config}: 'utf-8' codec can't decode byte 0xe4")


def test_negative_zero_is_zero():
    assert Experiment.from_json('{"train": {"clip_norm": -0.0}}') == Experiment()


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a JSON config"), ("[" * 100_000, "not a JSON config"), ("7" * 5_000, "not a JSON config"),
     ("[]", "expected a JSON object of sections"), ("5", "expected a JSON object of sections")],
)  # fmt: skip
def test_a_config_that_is_not_json_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        Experiment.from_json(text)


def test_missing_fields_of_a_config_file_take_their_defaults():
    assert Experiment.from_json('{"model": {"dropout": 0}}') == Experiment(model=ModelConfig(dropout=0.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(audio_pool=7), "model.audio_pool is 7; it must be a divisor of frame_samples 640"),
        (lambda: ModelConfig(dropout=1.5), "model.dropout is 1.5; it must be in [0, 1)"),
        (lambda: replace(ModelConfig(), dropout=1.5), "model.dropout is 1.5; it must be in [0, 1)"),
        (lambda: replace(ModelConfig(), audio_pool=7), "model.audio_pool is 7; it must be a divisor"),
        (lambda: DataConfig(label_delay_secs=-0.1), "data.label_delay_secs is -0.1; it must be at least 0"),
        (lambda: AugmentConfig(scope="word"), "augment.scope is 'word'; it must be one of frame, window"),
        (lambda: TrainConfig(learning_rate=math.inf), "train.learning_rate is inf; it must be a finite number"),
        (lambda: Experiment(modality="radio"), "modality is 'radio'; it must be one of audio, audiovisual, video"),
        (lambda: Experiment(train=TrainConfig(video_weights="imagenet"), model=ModelConfig(video_net="narrow")),
         "model.video_net is 'narrow'; it must be resnet50"),
    ],
)  # fmt: skip
def test_constructors_and_replace_check_their_values(make, message):
    with pytest.raises(UserError) as refusal:
        make()
    assert str(refusal.value).startswith(message)


def test_constructors_convert_lists_and_integers_to_the_fields_type():
    model = ModelConfig(lstm_units=[8, 4], dropout=0)
    assert model == ModelConfig(lstm_units=(8, 4), dropout=0.0)
    assert isinstance(model.lstm_units, tuple) and isinstance(model.dropout, float)


def test_experiments_are_frozen_hashable_and_picklable():
    experiment = get_preset("demo")
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    assert hash(experiment) == hash(get_preset("demo"))
    with pytest.raises(AttributeError):
        experiment.train.epochs = 3


def test_the_docstring_of_every_section_describes_its_fields_in_order():
    for section in (ModelConfig, DataConfig, AugmentConfig, TrainConfig):
        lines = section.__doc__.partition("Attributes:")[2].splitlines()
        described = [line.partition(":")[0].strip() for line in lines if line.startswith("      ") and line[6] != " "]
        assert tuple(described) == section.__struct_fields__


def test_settings_need_neither_numpy_nor_tensorflow():
    code = "import affect.config, affect.presets, sys; print([m for m in ('tensorflow', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True) == "[]\n"
