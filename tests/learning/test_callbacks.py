"""Callbacks and the training state: patience, the trimmed log, checkpoints as version 0.1.0 wrote them."""

import json
import re
import shutil

import numpy as np
import pytest

from affect.config import TrainConfig
from affect.errors import UserError
from affect.learning.callbacks import BestWeights, Checkpointing, Patience, trim_log
from affect.learning.train_state import TrainState
from affect.storage import decode_json, encode_json
from tests.helpers.networks import network

# progress.json of a checkpoint that version 0.1.0 wrote.
PROGRESS = """{
  "epoch": 1,
  "step": 2,
  "updates": 12,
  "totals": [
    0.1,
    3.0
  ],
  "best_score": 0.30000000000000004,
  "best_epoch": 1,
  "reduced_epoch": 0,
  "stopped": false
}
"""


def test_patience_stops_and_reduces_from_the_training_state_alone(tmp_path):
    model, state = network(), TrainState()
    config = TrainConfig(early_stop_epochs=4, plateau_epochs=2, plateau_factor=0.5)
    rates = []
    for epoch, score in enumerate([0.1, 0.3, 0.2, 0.3, 0.1, 0.0]):
        # New callbacks each time, as after a restart.
        state = decode_json(encode_json(state), TrainState, "progress.json")
        for callback in (BestWeights(tmp_path / "best.weights.h5", state, True), Patience(config, state)):
            callback.set_model(model)
            callback.on_epoch_end(epoch, {"val_ccc": score})
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3])
    assert (state.best_epoch, state.best_score, state.stopped) == (2, 0.3, True)


def test_the_log_keeps_only_finished_epochs(tmp_path):
    log = tmp_path / "training.csv"
    log.write_text("epoch,loss\n0,1.0\n1,0.5\n2,0.")
    trim_log(log, 2)
    assert log.read_text() == "epoch,loss\n0,1.0\n1,0.5\n"
    trim_log(log, 0)
    assert log.read_text() == ""


def test_training_states_of_version_0_1_0_are_read_and_written_with_a_learning_rate():
    state = decode_json(PROGRESS, TrainState, "progress.json")
    assert state == TrainState(1, 2, 12, [0.1, 3.0], 0.30000000000000004, 1, 0, False, None)
    state.learning_rate = 0.1
    assert encode_json(state) == PROGRESS.replace("false\n", 'false,\n  "learning_rate": 0.1\n')


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-20], lambda text: text.replace('"step"', '"stride"'), lambda text: text.replace("12", "-1")],
    ids=["cut off", "unknown key", "negative count"],
)
def test_a_checkpoint_with_a_damaged_training_state_is_passed_over(tmp_path, damage):
    model = network()
    for updates in (11, 12):
        state = TrainState(updates=updates, totals=[0.5])
        checkpointing = Checkpointing(tmp_path, model, state, every_steps=1, is_chief=True)
        checkpointing.on_epoch_end(0)
    path = tmp_path / "step-12/progress.json"
    path.write_text(damage(path.read_text()))
    restored = TrainState()
    (warning,) = Checkpointing(tmp_path, model, restored, every_steps=1, is_chief=True).restore()
    assert restored == TrainState(updates=11, totals=[0.5])
    assert warning.startswith(f"{tmp_path / 'step-12'} cannot be read (")
    assert warning.endswith("): using step-11, 1 steps are lost")

    shutil.rmtree(tmp_path / "step-11")
    with pytest.raises(UserError, match="step-12 cannot be read .*; start again in another --run_dir"):
        Checkpointing(tmp_path, model, TrainState(), every_steps=1, is_chief=True).restore()


def test_a_damaged_checkpoint_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "step-5").mkdir()
    (tmp_path / "step-5/remainder").touch()
    checkpointing = Checkpointing(tmp_path, network(), TrainState(updates=5), every_steps=1, is_chief=True)
    checkpointing.on_epoch_end(0)
    assert not (tmp_path / "step-5/remainder").exists()
    assert json.loads((tmp_path / "step-5/progress.json").read_text())["updates"] == 5
    assert {path.name for path in tmp_path.iterdir()} == {"step-5"}


@pytest.mark.parametrize("bad", [1e30, -2e6, np.nan, np.inf])
def test_weights_that_have_diverged_are_not_saved(tmp_path, bad):
    model = network()
    kernel = model.trainable_variables[3]
    kernel.assign(np.where(np.arange(np.prod(kernel.shape)).reshape(kernel.shape) == 2, bad, 0.1))
    state = TrainState(updates=3)
    checkpointing = Checkpointing(tmp_path / "checkpoints", model, state, every_steps=3, is_chief=True)
    best = BestWeights(tmp_path / "best.weights.h5", state, is_chief=True)
    for callback in (checkpointing, best):
        callback.set_model(model)
        callback.set_params({"steps": 10})
    grown = f"{kernel.path} has grown to {abs(bad):.0e}"
    with pytest.raises(ArithmeticError, match=re.escape(grown)):
        checkpointing.on_train_batch_end(2)
    with pytest.raises(ArithmeticError, match=re.escape(grown)):
        best.on_epoch_end(0, {"val_ccc": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_weights_whose_dev_score_is_not_finite_end_the_run(tmp_path):
    best = BestWeights(tmp_path / "best.weights.h5", TrainState(), is_chief=True)
    best.set_model(network())
    with pytest.raises(ArithmeticError, match="the dev CCC is nan"):
        best.on_epoch_end(0, {"val_ccc": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_chief", [True, False])
def test_the_last_good_checkpoint_is_older_than_the_weights_that_diverged(tmp_path, is_chief):
    state = TrainState()
    checkpointing = Checkpointing(tmp_path, network(), state, every_steps=1, is_chief=True)
    for state.updates in (9, 10, 11):
        checkpointing.on_epoch_end(0)
    ours = Checkpointing(tmp_path, network(), state, every_steps=1, is_chief=is_chief)
    assert ours.last_good() == tmp_path / "step-10"
    assert {path.name for path in tmp_path.iterdir()} == ({"step-10"} if is_chief else {"step-10", "step-11"})
    state.updates = 13  # two updates later: training went on from both checkpoints
    assert ours.last_good() == sorted(tmp_path.iterdir())[-1]
    state.updates = 10
    assert ours.last_good() is None
