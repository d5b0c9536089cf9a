"""Keras callbacks that keep a run and end it: checkpoints, best weights, early stop, a smaller learning rate.

Several workers all run them, so that all see the same progress; only the chief writes.
"""

import re
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from affect.config import TrainConfig
from affect.errors import UserError
from affect.learning.train_state import TrainState
from affect.storage import atomic_write

_CHECKPOINTS_KEPT = 2
_PROGRESS_NAME = "progress.json"
# What reading a damaged checkpoint raises: the errors of TensorFlow and of its file reader, and JSON's.
_DAMAGED = (tf.errors.OpError, ValueError, TypeError, LookupError, AssertionError, OSError, RuntimeError)


class Checkpointing(keras.callbacks.Callback):
    """Saves weights, optimizer and progress after every epoch, and every so many updates; the last two are kept.

    A checkpoint is a folder `step-N`, written beside and renamed: whatever kills the process, it is whole or absent.
    """

    def __init__(self, folder: Path, network: keras.Model, progress: TrainState, every_steps: int, is_chief: bool):
        """`every_steps` counts updates since the run began; 0 saves after epochs only."""
        super().__init__()
        self._folder = folder
        self._progress = progress
        self._every_steps = every_steps
        self._is_chief = is_chief
        self._state = tf.train.Checkpoint(network=network, optimizer=network.optimizer)

    def restore(self) -> list[str]:
        """Loads the newest checkpoint that can be read; without any, nothing changes.

        Returns:
          A line per newer checkpoint that could not be read.

        Raises:
          UserError: there are checkpoints, and none can be read.
        """
        complaints = []
        for path in reversed(self._paths()):
            try:
                progress = TrainState.from_json((path / _PROGRESS_NAME).read_text(encoding="utf-8"))
                self._state.read(str(path / "state")).assert_consumed()
            except _DAMAGED as error:
                complaints.append(f"{path} cannot be read ({' '.join(str(error).split())[:200]})")
                continue
            vars(self._progress).update(vars(progress))
            lost = _updates(self._paths()[-1]) - progress.updates
            return [f"{complaint}: using {path.name}, {lost} steps are lost" for complaint in complaints]
        if complaints:
            raise UserError("; ".join(complaints) + "; start again in another --run_dir")
        return []

    def latest(self) -> Path | None:
        """The newest checkpoint's folder."""
        return next(reversed(self._paths()), None)

    def on_train_batch_end(self, batch, logs=None):
        """Runs after the progress has counted this update; an epoch's last one is saved after its evaluation."""
        if self._every_steps and self._progress.updates % self._every_steps == 0 and batch + 1 < self.params["steps"]:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        """Runs after `BestWeights`, so that a checkpoint never claims a best score without its weights."""
        self._save()

    def _save(self) -> None:
        if not self._is_chief:
            return
        path = self._folder / f"step-{self._progress.updates}"
        with atomic_write(path) as temporary:
            temporary.mkdir()
            self._state.write(str(temporary / "state"))
            (temporary / _PROGRESS_NAME).write_text(self._progress.to_json(), encoding="utf-8")
            if path.exists():  # damaged, or it would have been continued from
                shutil.rmtree(path)
        for old in self._paths()[:-_CHECKPOINTS_KEPT]:
            shutil.rmtree(old)

    def _paths(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return sorted(
            (path for path in self._folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)), key=_updates
        )


class BestWeights(keras.callbacks.Callback):
    """Writes the weights whenever the mean dev CCC (`val_ccc`) rises."""

    def __init__(self, path: Path, progress: TrainState, is_chief: bool):
        super().__init__()
        self._path = path
        self._progress = progress
        self._is_chief = is_chief

    def on_epoch_end(self, epoch, logs=None):
        """Compares with the best score so far, over resumed runs too."""
        if logs["val_ccc"] > self._progress.best_score:
            self._progress.best_score = logs["val_ccc"]
            self._progress.best_epoch = epoch + 1
            if self._is_chief:
                with atomic_write(self._path) as temporary:
                    self.model.save_weights(temporary)


class Patience(keras.callbacks.Callback):
    """Early stop and reduction of the learning rate, as `train.early_stop_epochs` and `train.plateau_epochs` say.

    Keras' own callbacks count in attributes that no checkpoint holds; these count from the progress.
    """

    def __init__(self, config: TrainConfig, progress: TrainState):
        super().__init__()
        self._config = config
        self._progress = progress

    def on_epoch_end(self, epoch, logs=None):
        """Runs after `BestWeights` and before `Checkpointing`."""
        config, progress = self._config, self._progress
        waited = epoch + 1 - max(progress.best_epoch, progress.reduced_epoch)
        if config.plateau_epochs and waited >= config.plateau_epochs:
            optimizer = self.model.optimizer
            optimizer.learning_rate = float(optimizer.learning_rate) * config.plateau_factor
            progress.reduced_epoch = epoch + 1
        if config.early_stop_epochs and epoch + 1 - progress.best_epoch >= config.early_stop_epochs:
            progress.stopped = self.model.stop_training = True


def trim_log(path: Path, epochs: int) -> None:
    """Leaves only the first `epochs` rows of a CSV log: a killed run may have written one that it must repeat."""
    if path.exists():
        rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic_write(path) as temporary:
            temporary.write_text("".join(rows[: epochs + 1] if epochs else []), encoding="utf-8")


def _updates(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
