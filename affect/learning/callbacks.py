"""Keras callbacks that keep a run: the checkpoint to resume from and the best weights."""

from pathlib import Path

import keras
import tensorflow as tf

from affect.runs import written_beside


class Progress(tf.Module):
    """What a run must remember besides weights and optimizer: finished epochs and the best dev score."""

    def __init__(self):
        super().__init__()
        self.epochs_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_score = tf.Variable(-2.0, dtype=tf.float32, trainable=False)  # below any CCC


class Checkpointing(keras.callbacks.Callback):
    """Saves weights, optimizer and progress after every epoch; the last two checkpoints are kept."""

    def __init__(self, folder: Path, network: keras.Model, progress: Progress):
        super().__init__()
        self._progress = progress
        checkpoint = tf.train.Checkpoint(network=network, optimizer=network.optimizer, progress=progress)
        self._manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=2)

    def restore(self) -> int:
        """Loads the newest checkpoint, if any; returns the number of finished epochs."""
        if self._manager.latest_checkpoint:
            self._manager.checkpoint.restore(self._manager.latest_checkpoint).assert_consumed()
        return int(self._progress.epochs_done)

    def on_epoch_end(self, epoch, logs=None):
        """Runs after `BestWeights`, so that a checkpoint never claims a best score without its weights."""
        self._progress.epochs_done.assign(epoch + 1)
        self._manager.save(checkpoint_number=epoch + 1)


class BestWeights(keras.callbacks.Callback):
    """Writes the weights whenever the mean dev CCC (`val_ccc`) rises."""

    def __init__(self, path: Path, progress: Progress):
        super().__init__()
        self._path = path
        self._progress = progress

    def on_epoch_end(self, epoch, logs=None):
        """Compares with the best score so far, over resumed runs too."""
        if logs["val_ccc"] > float(self._progress.best_score):
            self._progress.best_score.assign(logs["val_ccc"])
            with written_beside(self._path) as temporary:
                self.model.save_weights(temporary)
