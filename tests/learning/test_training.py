"""Whole trainings: a complete run folder, exact repetition and continuation, and errors that name what to do."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest

from affect.errors import UserError
from affect.learning import train_command
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


def test_a_run_that_diverges_names_step_recordings_and_checkpoint(data_dir, tmp_path):
    run_dir = tmp_path / "run"
    with pytest.raises(UserError) as caught:
        call_main(
            train_command, *train_flags(data_dir, run_dir), "--set=train.learning_rate=1e30", "--checkpoint_steps=1"
        )
    message = str(caught.value)
    assert "\n" not in message
    assert " is nan at step " in message or " is inf at step " in message
    assert " of epoch 0, after " in message
    assert "train_1 from frame " in message or "train_2 from frame " in message
    newest = max((run_dir / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    assert f"last good checkpoint: {newest}." in message


def test_data_without_dev_is_refused(data_dir, tmp_path):
    copy = tmp_path / "records"
    shutil.copytree(data_dir, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recordings"] = [entry for entry in manifest["recordings"] if entry["partition"] != "dev"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        call_main(train_command, *train_flags(copy, tmp_path / "run"))
    assert str(caught.value) == f"{copy}: the dev partition has no labelled recordings"
