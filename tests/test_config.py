"""Presets, overrides, validation and the JSON round trip."""

import json

import pytest

from affect.config import Experiment, ModelConfig, override
from affect.errors import UserError
from affect.presets import PRESETS, get_preset


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
def test_presets_survive_json(preset, modality):
    experiment = get_preset(preset, modality)
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert experiment.modality == modality


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
        ["train.batch_size=4", "model.audio_taps=80,400", "augment.flip=true", "train.learning_rate=1e-3"],
    )
    assert experiment.train.batch_size == 4
    assert experiment.model.audio_taps == (80, 400)
    assert experiment.augment.flip is True
    assert experiment.train.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.batchsize=4", "did you mean 'train.batch_size'"),
        ("batch_size=4", r"expected section\.field=value"),
        ("train.batch_size", r"expected section\.field=value"),
        ("train.batch_size=many", "'many' is no int"),
        ("augment.flip=perhaps", "'perhaps' is no bool"),
        ("train.batch_size=0", r"train\.batch_size is 0; it must be at least 1"),
        ("model.audio_channel_pool=7", "divisor of the second filter count"),
        ("augment.resize=90", "at least the crop size 96"),
        ("model.dropout=1.0", r"in \[0, 1\)"),
    ],
)
def test_wrong_overrides_say_what_would_be_right(assignment, message):
    with pytest.raises(UserError, match=message):
        override(get_preset("demo"), [assignment])


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(UserError, match="paper, adieu2016, demo"):
        get_preset("papier")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["model"].update(layers=3), r"unknown field model\.layers"),
        (lambda config: config.update(extra={}), "unknown section 'extra'"),
        (lambda config: config["model"].update(dropout="half"), "expected"),
        (lambda config: config["train"].update(epochs=-1), r"train\.epochs is -1"),
    ],
)
def test_a_config_file_that_was_tampered_with_is_refused(change, message):
    config = json.loads(get_preset("demo").to_json())
    change(config)
    with pytest.raises(UserError, match=message):
        Experiment.from_json(json.dumps(config))


def test_a_config_that_is_no_json_is_refused():
    with pytest.raises(UserError, match="not a JSON config"):
        Experiment.from_json("{")


def test_model_config_rejects_a_pool_that_does_not_divide_the_frame():
    with pytest.raises(UserError, match="divisor of frame_samples 640"):
        ModelConfig(audio_pool=7)
