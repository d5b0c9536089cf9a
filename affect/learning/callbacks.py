"""Keras callbacks: checkpoints, best weights, early stopping and learning rate reduction.

With several workers, every worker runs all of these callbacks, so that all of them hold the same training state. Only
the chief writes files.
"""

import math
import re
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from affect.config import TrainConfig
from affect.errors import UserError
from affect.learning.divergence import DivergedError, check_weights
from affect.learning.train_state import TrainState
from affect.storage import atomic_write, read_json, without_patterns, write_json

_MAX_CHECKPOINTS = 2
_STATE_NAME = "progress.json"  # the file in a checkpoint that holds the `TrainState`
# Errors that reading a damaged checkpoint may raise, from TensorFlow, its file reader or `read_json`.
_DAMAGED = (tf.errors.OpError, ValueError, TypeError, LookupError, AssertionError, OSError, RuntimeError)


class Checkpointing(keras.callbacks.Callback):
    """Saves weights, optimizer and training state after every epoch and every `every_steps` updates; keeps two.

    Weights that have diverged (see `check_weights`) are not saved.

    A checkpoint is a folder `step-N`. It is written under a temporary name and then renamed, so that it is complete or
    absent even if the process is killed.
    """

    def __init__(self, folder: Path, network: keras.Model, state: TrainState, every_steps: int, is_chief: bool):
        """Prepares saving and restoring; reads and writes nothing yet.

        Args:
          folder: folder of the checkpoints.
          network: compiled; its weights and its optimizer are saved.
          state: saved with the network, and updated by `restore`.
          every_steps: updates between two checkpoints, counted from the start of the run; 0 saves after epochs only.
          is_chief: whether this process writes.
        """
        super().__init__()
        self._folder = folder
        self._state = state
        self._every_steps = every_steps
        self._is_chief = is_chief
        self._checkpoint = tf.train.Checkpoint(network=network, optimizer=network.optimizer)

    def restore(self) -> list[str]:
        """Loads the newest readable checkpoint; does nothing if the folder holds no checkpoints.

        Returns:
          One warning for each newer checkpoint that could not be read.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """
        warnings = []
        for path in reversed(self._paths()):
            try:
                restored = read_json(path / _STATE_NAME, TrainState)
                with without_patterns(path) as readable:
                    self._checkpoint.read(str(readable / "state")).assert_consumed()
            except _DAMAGED as error:
                warnings.append(f"{path} cannot be read ({' '.join(str(error).split())[:200]})")
                continue
            self._state.assign(restored)
            lost = _updates_of(self._paths()[-1]) - restored.updates
            return [f"{warning}: using {path.name}, {lost} steps are lost" for warning in warnings]
        if warnings:
            raise UserError("; ".join(warnings) + "; start again in another --run_dir")
        return []

    def last_good(self) -> Path | None:
        """Removes the checkpoint of the present weights, for a run that has diverged with them.

        Training went on from every earlier checkpoint: the loss of the next batch was finite. Two are kept, so that the
        one before the newest is still there.

        Returns:
          The newest earlier checkpoint, from which a restart continues; None if there is none.
        """
        earlier = [path for path in self._paths() if _updates_of(path) < self._state.updates]
        if self._is_chief:
            for bad in set(self._paths()) - set(earlier):
                shutil.rmtree(bad)
        return earlier[-1] if earlier else None

    def on_train_batch_end(self, batch, logs=None):
        """Saves if a checkpoint is due; the last update of an epoch is saved by `on_epoch_end`, after validation."""
        is_due = self._every_steps and self._state.updates % self._every_steps == 0
        if is_due and batch + 1 < self.params["steps"]:
            check_weights(self.model)
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        """Saves. Must run after `BestWeights`, so that a checkpoint never holds a best score without saved weights.

        `BestWeights` has checked the weights, too.
        """
        self._save()

    def _save(self) -> None:
        if not self._is_chief:
            return
        # An existing folder of this name is replaced. It must be damaged: training would have continued from it.
        with atomic_write(self._folder / f"step-{self._state.updates}") as temporary:
            temporary.mkdir()
            self._checkpoint.write(str(temporary / "state"))
            write_json(temporary / _STATE_NAME, self._state)
        for old in self._paths()[:-_MAX_CHECKPOINTS]:
            shutil.rmtree(old)

    def _paths(self) -> list[Path]:
        """Returns the checkpoint folders, oldest first."""
        paths = (path for path in self._folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name))
        return sorted(paths, key=_updates_of)


class BestWeights(keras.callbacks.Callback):
    """Saves the weights whenever the mean dev CCC (`val_ccc`) improves."""

    def __init__(self, path: Path, state: TrainState, is_chief: bool):
        super().__init__()
        self._path = path
        self._state = state
        self._is_chief = is_chief

    def on_epoch_end(self, epoch, logs=None):
        """Saves the weights if the score is the best since the start of the run; restarts do not reset it.

        Raises:
          DivergedError: the score is not finite, or the weights are absurd.
        """
        score = (logs or {})["val_ccc"]
        if not math.isfinite(score):
            raise DivergedError(f"the dev CCC is {score}")
        check_weights(self.model)
        if score > self._state.best_score:
            self._state.best_score = score
            self._state.best_epoch = epoch + 1
            if self._is_chief:
                with atomic_write(self._path) as temporary:
                    self.model.save_weights(temporary)


class Patience(keras.callbacks.Callback):
    """Stops early and reduces the learning rate, as set by `train.early_stop_epochs` and `train.plateau_epochs`.

    Keras' own callbacks keep their counters in attributes, which are not saved in checkpoints. This one derives its
    counters from the training state.
    """

    def __init__(self, config: TrainConfig, state: TrainState):
        super().__init__()
        self._config = config
        self._state = state

    def on_epoch_end(self, epoch, logs=None):
        """Applies both rules. Must run after `BestWeights` and before `Checkpointing`."""
        config, state = self._config, self._state
        waited = epoch + 1 - max(state.best_epoch, state.reduced_epoch)
        if config.plateau_epochs and waited >= config.plateau_epochs:
            optimizer = self.model.optimizer
            optimizer.learning_rate = float(optimizer.learning_rate) * config.plateau_factor
            state.reduced_epoch = epoch + 1
        if config.early_stop_epochs and epoch + 1 - state.best_epoch >= config.early_stop_epochs:
            state.stopped = self.model.stop_training = True


def trim_log(path: Path, epochs: int) -> None:
    """Keeps only the first `epochs` epochs of a CSV log: a killed run may have logged an epoch that is now repeated."""
    if path.exists():
        rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic_write(path) as temporary:
            temporary.write_text("".join(rows[: epochs + 1] if epochs else []), encoding="utf-8")


def _updates_of(path: Path) -> int:
    """Returns the number of updates after which a checkpoint was saved."""
    return int(path.name.removeprefix("step-"))
