"""Whole trainings: a complete run folder, repetition and continuation to 1e-6, and errors that name what to do."""

import json
import shutil
from unittest.mock import Mock

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.errors import UserError
from affect.learning import train_command
from affect.learning.loop import NotFiniteError, TrainingLoop
from affect.models.trained import TrainedNetwork
from tests.helpers.commands import train_flags
from tests.helpers.in_process import call_main


def weights_of(run_dir):
    """Every array of the best weights, by its path."""
    arrays = {}
    with h5py.File(run_dir / "best.weights.h5") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def dev_scores(run_dir):
    rows = [line.split(",") for line in (run_dir / "training.csv").read_text().splitlines()]
    return [float(row[rows[0].index("val_ccc")]) for row in rows[1:]]


def assert_same_checkpoint(run_dir, other, step):
    """Compares every number: weights, Adam's moments, learning rate."""
    ours, theirs = (tf.train.load_checkpoint(str(run / f"checkpoints/{step}/state")) for run in (run_dir, other))
    names = [name for name in theirs.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    assert len(names) > 20
    for name in names:
        np.testing.assert_allclose(ours.get_tensor(name), theirs.get_tensor(name), atol=1e-6, err_msg=name)


def test_a_run_folder_holds_everything_and_two_runs_agree(audio_run, data_dir, tmp_path, capsys):
    """The first run was made by another process."""
    expected = {"config.json", "environment.json", "best.weights.h5", "checkpoints", "tensorboard", "training.csv"}
    assert {path.name for path in audio_run.iterdir()} >= expected
    environment = json.loads((audio_run / "environment.json").read_text())
    assert environment["synthetic_data"] is True
    assert environment["packages"]["keras"] == keras.__version__

    again = tmp_path / "again"
    call_main(train_command, *train_flags(data_dir, again))
    np.testing.assert_allclose(dev_scores(again), dev_scores(audio_run), atol=1e-6)
    assert f"best mean dev CCC {max(dev_scores(again)):.3f}; next: python eval.py" in capsys.readouterr().out
    first, second = weights_of(audio_run), weights_of(again)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, atol=1e-6)


def test_a_stopped_run_continues_to_the_same_result(audio_run, data_dir, tmp_path, capsys):
    """Stopped after its first epoch, a run ends as the uninterrupted one."""
    stopped = tmp_path / "stopped"
    shutil.copytree(audio_run, stopped)
    assert {path.name for path in (stopped / "checkpoints").iterdir()} == {"step-3", "step-6"}
    shutil.rmtree(stopped / "checkpoints/step-6")  # the log has two rows, and the second must be written again

    call_main(train_command, *train_flags(data_dir, stopped))
    assert "after epoch 1 of 2" in capsys.readouterr().out
    np.testing.assert_allclose(dev_scores(stopped), dev_scores(audio_run), atol=1e-6)


def test_a_run_with_more_epochs_ends_as_if_it_had_them_from_the_start(audio_run, data_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    flags = train_flags(data_dir, run_dir, "--picture_epochs=0")
    call_main(train_command, *flags, "--set=train.epochs=1")
    call_main(train_command, *flags)
    assert f"continuing {run_dir} after epoch 1 of 2" in capsys.readouterr().out
    np.testing.assert_allclose(dev_scores(run_dir), dev_scores(audio_run), atol=1e-6)
    assert_same_checkpoint(run_dir, audio_run, "step-6")
    assert (run_dir / "config.json").read_text() == (audio_run / "config.json").read_text()


def test_a_run_that_was_stopped_early_stays_so_with_more_epochs(audio_run, data_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(audio_run, run_dir)
    progress = run_dir / "checkpoints/step-6/progress.json"
    progress.write_text(json.dumps(json.loads(progress.read_text()) | {"stopped": True}))
    call_main(train_command, *train_flags(data_dir, run_dir, "--set=train.epochs=3"))
    assert "it was stopped early after epoch 2 and remains so" in capsys.readouterr().out
    assert dev_scores(run_dir) == dev_scores(audio_run)


def test_a_run_without_a_checkpoint_continues_with_the_initial_weights_that_it_recorded(
    audio_run, data_dir, tmp_path, monkeypatch
):
    """Killed before its first checkpoint, an audiovisual run starts again from its audio run, without the flag."""
    initial = tmp_path / "audio"
    shutil.copytree(audio_run, initial)
    started_with = []

    def killed_at_once(loop, *_):
        started_with.append(loop.network.get_layer("audio_net").get_weights())
        raise KeyboardInterrupt

    monkeypatch.setattr("affect.learning.training.run_epochs", killed_at_once)
    flags = train_flags(data_dir, tmp_path / "run", "--modality=audiovisual", "--set=model.video_width=2")
    with pytest.raises(KeyboardInterrupt):
        call_main(train_command, *flags, f"--init_audio={initial}")
    with pytest.raises(KeyboardInterrupt):
        call_main(train_command, *flags)
    expected = TrainedNetwork.load(audio_run).network.get_layer("audio_net").get_weights()
    for weights in started_with:
        for ours, theirs in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    shutil.copy(initial / "config.json", initial / "best.weights.h5")
    with pytest.raises(UserError, match=f"cannot start again as it did: {initial}/best.weights.h5 has changed; use"):
        call_main(train_command, *flags)


def test_best_weights_are_those_of_the_best_epoch_and_not_of_the_last(data_dir, tmp_path, monkeypatch):
    """TensorFlow's checkpoint of the best epoch says which weights these were."""
    scores = iter([0.1, 0.5, 0.2])
    monkeypatch.setattr(TrainingLoop, "validate", lambda *_: {"val_ccc": next(scores), "val_loss": 0.0})
    run_dir = tmp_path / "run"
    call_main(train_command, *train_flags(data_dir, run_dir, "--set=train.epochs=3", "--picture_epochs=0"))
    saved = TrainedNetwork.load(run_dir).network

    def equal(step):
        by_tensorflow = TrainedNetwork.load(run_dir).network
        checkpoint = tf.train.Checkpoint(network=by_tensorflow)
        checkpoint.read(str(run_dir / f"checkpoints/{step}/state")).expect_partial().assert_existing_objects_matched()
        pairs = zip(saved.trainable_variables, by_tensorflow.trainable_variables, strict=True)
        return [np.array_equal(ours, theirs) for ours, theirs in pairs]

    assert all(equal("step-6"))
    assert not any(equal("step-9"))


def test_a_run_that_diverges_names_what_has_grown_and_starts_again_with_a_smaller_learning_rate(
    audio_run, data_dir, tmp_path
):
    """The first update spoils all weights: its checkpoint is no good."""
    run_dir = tmp_path / "run"
    flags = train_flags(data_dir, run_dir, "--checkpoint_steps=1")
    with pytest.raises(UserError) as caught:
        call_main(train_command, *flags, "--set=train.learning_rate=1e30")
    message = str(caught.value)
    assert message.startswith("the weights have diverged: ")
    assert message.endswith(
        " has grown to 1e+30 after 1 updates; with a smaller --set=train.learning_rate or with "
        f"--set=train.clip_norm=1, train.py --run_dir={run_dir} starts this run again"
    )
    assert "\n" not in message
    assert not list((run_dir / "checkpoints").glob("*"))

    call_main(train_command, *flags)
    np.testing.assert_allclose(dev_scores(run_dir), dev_scores(audio_run), atol=1e-6)
    assert_same_checkpoint(run_dir, audio_run, "step-6")
    environment = json.loads((run_dir / "environment.json").read_text())
    assert environment["changes"] == [{"updates": 0, "settings": {"train.learning_rate": [1e30, 1e-3]}}]


def test_a_step_that_is_not_finite_leads_back_to_the_checkpoint_before(
    audio_run, data_dir, tmp_path, monkeypatch, capsys
):
    """The weights of step 6 were saved, and the loss of the next batch was not finite with them."""
    run_dir = tmp_path / "run"
    shutil.copytree(audio_run, run_dir)
    config = run_dir / "config.json"
    config.write_text(config.read_text().replace('"epochs": 2', '"epochs": 3'))
    flags = train_flags(data_dir, run_dir, "--picture_epochs=0", "--set=train.epochs=3")
    train_step = TrainingLoop.train_step

    def not_finite(loop, batch, step, totals):
        if step == 6:
            raise NotFiniteError("the loss is nan")
        return train_step(loop, batch, step, totals)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "train_step", not_finite)
        with pytest.raises(UserError) as caught:
            call_main(train_command, *flags)
    assert str(caught.value).startswith("the loss is nan at step 0 of epoch 2, after 6 updates, on train_")
    assert str(caught.value).endswith(f"continues from {run_dir / 'checkpoints/step-3'}, the last good checkpoint")
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-3"]

    flags.append("--set=train.learning_rate=5e-4")
    with monkeypatch.context() as patched:  # the process is killed before it saves a checkpoint at the new rate
        patched.setattr("affect.learning.training.run_epochs", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            call_main(train_command, *flags)
    call_main(train_command, *flags)
    assert f"continuing {run_dir} after epoch 1 of 3" in capsys.readouterr().out
    call_main(train_command, *flags, "--set=train.epochs=4")  # the rate is not halved again
    assert len(dev_scores(run_dir)) == 4
    for step in ("step-9", "step-12"):
        reader = tf.train.load_checkpoint(str(run_dir / f"checkpoints/{step}/state"))
        (rate,) = (name for name in reader.get_variable_to_shape_map() if "learning_rate" in name)
        assert reader.get_tensor(rate) == np.float32(5e-4)


def test_data_without_dev_is_refused(data_dir, tmp_path):
    copy = tmp_path / "records"
    shutil.copytree(data_dir, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recordings"] = [entry for entry in manifest["recordings"] if entry["partition"] != "dev"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        call_main(train_command, *train_flags(copy, tmp_path / "run"))
    assert str(caught.value) == f"{copy}: the dev partition has no labelled recordings"
