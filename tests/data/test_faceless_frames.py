"""Crops without a face: as they are, or black and masked, as `data.faceless_frames` says."""

import numpy as np
import pytest
import tensorflow as tf

from affect.config import override
from affect.data.dataset import evaluation_dataset, open_data, training_dataset
from affect.presets import get_preset
from tests.helpers.commands import read_recording
from tests.helpers.planted import rewrite_shards


@pytest.fixture(scope="module")
def planted(data_dir, tmp_path_factory):
    """Shards in which one frame in five has no face."""

    def plant(_, fields):
        fields["face_found"] = np.arange(len(fields["jpeg"])) % 5 != 0

    return rewrite_shards(data_dir, tmp_path_factory.mktemp("faceless") / "records", plant)


def pictures(data_dir, name):
    return np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in read_recording(data_dir, name)["jpeg"]])


@pytest.mark.parametrize("choice", ["mask", "keep"])
def test_evaluation_sees_the_same_black_crops_as_training(planted, choice):
    settings = [f"data.data_dir={planted}", f"data.faceless_frames={choice}", "data.eval_window_frames=100"]
    experiment = override(get_preset("demo", "video"), settings)
    manifest = open_data(experiment)
    entries = [entry for entry in manifest.recordings if entry.name == "dev_1"]
    seen = np.concatenate([inputs["video"][0] for inputs, _, _ in evaluation_dataset(experiment, manifest, entries, 1)])
    expected = pictures(planted, "dev_1")
    assert expected.reshape(len(expected), -1).std(axis=1).min() > 1
    if choice == "mask":
        expected[::5] = 0
    np.testing.assert_array_equal(seen, expected)


def test_augmentation_does_not_brighten_black_crops(planted):
    settings = [f"data.data_dir={planted}", "data.faceless_frames=mask", "data.window_frames=50"]
    experiment = override(get_preset("paper", "video"), [*settings, "train.video_weights=none"])
    assert experiment.augment.enabled
    manifest = open_data(experiment)
    inputs, _, mask = next(iter(training_dataset(experiment, manifest, manifest.partition("train"), 0)))
    brightest = inputs["video"].numpy().max(axis=(2, 3, 4))
    np.testing.assert_array_equal(brightest > 0, mask.numpy())
    assert 0.7 < mask.numpy().mean() < 0.9
