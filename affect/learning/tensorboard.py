"""Writes a run's TensorBoard files: curves, predictions over the gold standard, and learned filters.

tensorboard/train/        loss, CCC, gradient norm, learning rate, frames per second, share of time waiting for input
tensorboard/validation/   loss and CCC on dev
tensorboard/pictures/     predictions of two dev recordings over their gold standard; the filters of the first audio
                          convolution and their frequency responses
"""

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from affect import figures
from affect.config import DIMENSIONS, Experiment
from affect.data.dataset import dev_dataset
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.windows import WHOLE_DATASET
from affect.learning.options import TensorBoardOptions
from affect.models.masking import frame_masks
from affect.runs import RunFolder

_RECORDINGS_SHOWN = 2


def tensorboard_callbacks(
    run: RunFolder,
    experiment: Experiment,
    manifest: Manifest,
    dev_entries: list[RecordingEntry],
    options: TensorBoardOptions,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that write to `run.tensorboard`."""
    curves = keras.callbacks.TensorBoard(
        run.tensorboard,
        histogram_freq=options.histogram_epochs,
        write_graph=False,
        profile_batch=options.profile_steps or 0,
    )
    if not options.picture_epochs:
        return [curves]
    return [curves, Pictures(run, experiment, manifest, dev_entries[:_RECORDINGS_SHOWN], options.picture_epochs)]


class Pictures(keras.callbacks.Callback):
    """Draws predictions and filters every few epochs."""

    def __init__(
        self, run: RunFolder, experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], epochs: int
    ):
        """Sets up drawing `entries`, which are dev recordings, after every `epochs` epochs."""
        super().__init__()
        self._folder = run.tensorboard / "pictures"
        self._experiment = experiment
        self._manifest = manifest
        self._entries = entries
        self._epochs = epochs

    def on_train_begin(self, logs=None):
        """Opens the event file and sets up the compiled prediction function."""
        self._writer = tf.summary.create_file_writer(str(self._folder))
        self._predict = tf.function(
            lambda inputs, mask: self.model(inputs, training=False, mask=frame_masks(self.model, mask)),
            reduce_retracing=True,
        )

    def on_epoch_end(self, epoch, logs=None):
        """Draws the pictures if they are due after this epoch."""
        if (epoch + 1) % self._epochs:
            return
        drawn = {f"predictions/{entry.name}": self._prediction_over_gold(entry) for entry in self._entries}
        if "audio" in self._experiment.modalities:
            kernel = self.model.get_layer("audio_net").get_layer("conv1").kernel.numpy()[:, 0]
            drawn["filters/conv1"] = figures.filter_responses(kernel, self._manifest.sample_rate_hz)
        with self._writer.as_default(step=epoch):
            for tag, figure in drawn.items():
                tf.summary.image(tag, tf.image.decode_png(figures.to_png(figure), channels=3)[None])
        self._writer.flush()

    def on_train_end(self, logs=None):
        """Closes the event file."""
        self._writer.close()

    def _prediction_over_gold(self, entry: RecordingEntry) -> Figure:
        predicted, gold = [], []
        for inputs, labels, mask in dev_dataset(self._experiment, self._manifest, [entry], 1, WHOLE_DATASET):
            predicted.append(self._predict(inputs, mask).numpy()[mask.numpy()])
            gold.append(labels.numpy()[mask.numpy()])
        curves = np.concatenate(predicted), np.concatenate(gold)
        return figures.prediction_over_gold(*curves, self._manifest.frame_rate_hz, DIMENSIONS, entry.name)
