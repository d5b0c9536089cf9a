"""Training recordings in which hardly any frame shows a face: said, refused for networks that see, or allowed."""

import csv
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.config import ModelConfig, TrainConfig, override
from affect.data.dataset import open_data
from affect.errors import UserError
from affect.learning import train_command
from affect.learning.input_pipeline import faceless_shares, open_training_data
from affect.learning.loop import Totals, TrainingLoop, compile_network
from affect.learning.options import RunOptions
from affect.learning.strategy import make_strategy
from affect.learning.training import train
from affect.models.network import build_network
from affect.presets import get_preset
from tests.helpers.commands import train_flags
from tests.helpers.in_process import call_main
from tests.helpers.planted import rewrite_shards, with_faces
from tests.helpers.worker_processes import finish, start_workers

REFUSAL = (
    "{records}: 1 training recording(s) show a face in under 20% of their frames: train_2 19.5% (39 of 200); look at "
    "{records}/contact_sheets, and make the shards again with another --face_detector or without these recordings, or "
    "train on them as they are with --allow_faceless"
)


def experiment_on(data_dir, modality, *settings):
    return override(get_preset("demo", modality), [f"data.data_dir={data_dir}", *settings])


def video_flags(data_dir, run_dir, *more):
    return train_flags(
        data_dir, run_dir, "--modality=video", "--set=model.video_width=2", "--set=train.batch_size=1",
        "--set=data.window_frames=50", "--picture_epochs=0", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def faceless(data_dir, tmp_path_factory):
    """Shards in which train_2 shows a face in 39 of 200 frames, and no dev or test recording in any."""
    none = dict.fromkeys(["dev_1", "dev_2", "test_1", "test_2"], 0)
    return with_faces(data_dir, tmp_path_factory.mktemp("faceless") / "records", {"train_2": 39} | none)


@pytest.mark.parametrize(
    "more",
    [
        ["--modality=video"],
        ["--modality=audiovisual"],
        ["--modality=video", "--seeds=2"],
        ["--modality=audiovisual", "--pretrain"],
        ["--modality=audiovisual", "--pretrain", "--seeds=2"],
        # Without the labels of the last 2 s, 39 of 150 frames would be more than 20 %.
        ["--modality=video", "--set=data.label_delay_secs=2"],
    ],
)
def test_a_network_that_sees_is_not_trained_on_a_recording_without_faces(faceless, tmp_path, capsys, more):
    with pytest.raises(UserError) as caught:
        call_main(train_command, *train_flags(faceless, tmp_path / "run", *more))
    assert str(caught.value) == REFUSAL.format(records=faceless)
    assert not (tmp_path / "run").exists()
    assert "audio:" not in capsys.readouterr().out  # with --pretrain, not after hours of the audio network


def test_the_library_refuses_as_the_command_does(faceless, tmp_path):
    with pytest.raises(UserError) as caught:
        train(experiment_on(faceless, "video"), tmp_path, {}, make_strategy("one_device"), RunOptions())
    assert str(caught.value) == REFUSAL.format(records=faceless)


def test_all_workers_refuse_and_end(faceless, tmp_path):
    arguments = ["train.py", *train_flags(faceless, tmp_path / "run", "--modality=video")]
    workers = start_workers(arguments, arguments)
    for worker, printed in zip(workers, finish(workers, timeout=120), strict=True):
        assert worker.returncode == 2, printed
        assert printed.count(f"error: {REFUSAL.format(records=faceless)}") == 1 and "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_the_worst_three_of_many_recordings_are_named(data_dir, tmp_path):
    faces = {"train_1": 0, "train_2": 10, "dev_1": 39, "test_1": 20, "test_2": 40}
    train_too = {name: {"partition": "train"} for name in faces}
    records = with_faces(data_dir, tmp_path / "records", faces, **train_too)
    named = "train_1 0.0% (0 of 200), train_2 5.0% (10 of 200), test_1 10.0% (20 of 200) and 1 more; look at"
    with pytest.raises(UserError) as caught:
        open_training_data(experiment_on(records, "video"), allow_faceless=False)
    assert f": 4 training recording(s) show a face in under 20% of their frames: {named}" in str(caught.value)


def test_a_face_in_exactly_a_fifth_of_the_frames_is_enough_and_only_training_labels_matter(data_dir, tmp_path):
    faces = {"train_1": 40, "train_2": 0, "dev_1": 0, "dev_2": 0, "test_1": 0, "test_2": 0}
    records = with_faces(data_dir, tmp_path / "records", faces, train_2={"has_labels": False})
    experiment = experiment_on(records, "video")
    manifest = open_training_data(experiment, allow_faceless=False)
    assert manifest == open_data(experiment)
    shares = faceless_shares(experiment, manifest)
    assert {name: part.per_recording for name, part in shares.items()} == {
        "train": {"train_1": 0.8}, "dev": {"dev_1": 1.0, "dev_2": 1.0},
    }  # fmt: skip


def test_a_network_that_only_hears_says_nothing_about_faces(faceless, audio_run, tmp_path, capsys):
    call_main(train_command, *train_flags(faceless, tmp_path / "run", "--set=train.epochs=1", "--picture_epochs=0"))
    assert "face" not in capsys.readouterr().out
    for run_dir in (tmp_path / "run", audio_run):
        assert json.loads((run_dir / "environment.json").read_text())["faceless"] == {}


@pytest.fixture(scope="module")
def masked_recording(data_dir, tmp_path_factory):
    """Shards in which no frame of train_2 and dev_1 shows a face, and in dev_2 15 % do not."""

    def plant(entry, fields):
        if entry.name in ("train_2", "dev_1"):
            fields["face_found"][:] = False

    changed = rewrite_shards(data_dir, tmp_path_factory.mktemp("masked") / "planted", plant)
    return with_faces(changed, changed.parent / "records", {"train_2": 0, "dev_1": 0, "dev_2": 170})


def test_allowed_recordings_are_trained_on_said_and_recorded(masked_recording, tmp_path, monkeypatch, capsys):
    """Two steps or more see only masked frames. A run that goes on needs the flag again."""
    run_dir = tmp_path / "run"
    flags = video_flags(masked_recording, run_dir, "--set=data.faceless_frames=mask")
    call_main(train_command, *flags, "--set=train.epochs=1", "--allow_faceless")
    printed = capsys.readouterr().out
    assert printed.startswith(
        "train: no face in 50.0% of the frames\n"
        "  train_2: no face in 100.0%\n"
        "dev: no face in 57.5% of the frames\n"
        "  dev_1: no face in 100.0%\n"
        "  dev_2: no face in 15.0%\n"
    )
    assert json.loads((run_dir / "environment.json").read_text())["faceless"] == {
        "train": {"share": 0.5, "per_recording": {"train_1": 0.0, "train_2": 1.0}},
        "dev": {"share": 0.575, "per_recording": {"dev_1": 1.0, "dev_2": 0.15}},
    }
    with pytest.raises(UserError, match="or train on them as they are with --allow_faceless"):
        call_main(train_command, *flags)
    with open(run_dir / "training.csv") as file:
        (row,) = csv.DictReader(file)
    assert all(math.isfinite(float(value)) for value in row.values())
    monkeypatch.setattr("affect.learning.training.run_epochs", lambda *_: None)
    call_main(train_command, *flags, "--allow_faceless")
    assert f"continuing {run_dir} after epoch 1 of 2" in capsys.readouterr().out


def test_where_all_training_frames_would_be_masked_there_is_nothing_to_train_on(data_dir, tmp_path):
    records = with_faces(data_dir, tmp_path / "records", {"train_1": 0, "train_2": 0})
    experiment = experiment_on(records, "video", "data.faceless_frames=mask")
    with pytest.raises(UserError, match="no frame of the training recordings shows a face, and data.faceless_frames=m"):
        open_training_data(experiment, allow_faceless=True)
    open_training_data(experiment_on(records, "video", "data.faceless_frames=keep"), allow_faceless=True)


def test_a_batch_without_a_counted_frame_has_the_loss_1_and_changes_no_weight():
    config = ModelConfig(
        crop_size=32, video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), lstm_units=(5,), weight_decay=0.0
    )
    keras.utils.set_random_seed(0)
    network = build_network(config, "video")
    compile_network(network, TrainConfig(clip_norm=1.0))
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, size=(2, 6, 32, 32, 3)).astype(np.uint8)
    labels = rng.uniform(-1, 1, size=(2, 6, 2)).astype(np.float32)
    batch = tf.nest.map_structure(tf.constant, ({"video": video}, labels, np.zeros((2, 6), bool)))
    before = network.get_weights()
    loss, norm, totals = TrainingLoop(network, 0, clip_norm=1.0).train_step(batch, 0, Totals.of([]))
    assert (loss, norm, float(totals.moments.count)) == (1.0, 0.0, 0.0)
    assert totals.logs() == {"loss": 1.0, "ccc_arousal": 0.0, "ccc_valence": 0.0, "ccc": 0.0, "gradient_norm": 0.0}
    for a, b in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
