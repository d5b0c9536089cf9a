"""Callbacks and the training state: patience, the trimmed log, checkpoints as version 0.1.0 wrote them."""

import json
import shutil

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


def test_training_states_of_version_0_1_0_are_read_and_written_without_change():
    state = decode_json(PROGRESS, TrainState, "progress.json")
    assert state == TrainState(1, 2, 12, [0.1, 3.0], 0.30000000000000004, 1, 0, False)
    assert encode_json(state) == PROGRESS


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
    assert checkpointing.latest() == tmp_path / "step-5"
    assert not (tmp_path / "step-5/remainder").exists()
    assert json.loads((tmp_path / "step-5/progress.json").read_text())["updates"] == 5
    assert {path.name for path in tmp_path.iterdir()} == {"step-5"}
