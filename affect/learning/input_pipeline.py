"""Provides the batches for the training loop; each worker reads its own share of the recordings."""

import math
from collections.abc import Iterable, Iterator

import tensorflow as tf

from affect.config import Experiment
from affect.data.dataset import (
    dev_dataset,
    label_delay_frames,
    labelled_recordings,
    open_data,
    recordings_in_step,
    training_dataset,
)
from affect.data.windows import steps_per_epoch, with_delayed_labels
from affect.errors import UserError
from affect.learning.strategy import WorkerContext

_EVAL_WINDOWS_PER_REPLICA = 2
_PARTITIONS = ("train", "dev")


class InputPipeline:
    """Batches of the train and dev partitions, divided equally among the replicas and prefetched to their devices.

    Attributes:
      manifest: manifest of the data folder.
      train_entries, dev_entries: the labelled recordings of the two partitions.
      steps: updates per epoch, the same for every worker.
      all_frames_count: whether no training window has masked frames: none is padded, no faceless frame is left out.
    """

    def __init__(self, experiment: Experiment, strategy: tf.distribute.Strategy, context: WorkerContext):
        """Opens the data folder.

        Raises:
          UserError: the data does not fit the network, or the batch cannot be divided among the devices.
        """
        self.manifest = open_data(experiment, _PARTITIONS)
        delay = label_delay_frames(experiment, self.manifest)
        self.train_entries, self.dev_entries = (
            with_delayed_labels(labelled_recordings(self.manifest, partition, experiment.data.data_dir), delay)
            for partition in _PARTITIONS
        )
        batch_size, recordings = experiment.train.batch_size, len(self.train_entries)
        if batch_size % context.replicas:
            divisible = math.ceil(batch_size / context.replicas) * context.replicas
            raise UserError(
                f"train.batch_size is {batch_size}, which cannot be divided equally among {context.replicas} devices; "
                f"try --set=train.batch_size={divisible}"
            )
        if recordings < context.workers:
            raise UserError(
                f"{context.workers} workers cannot share {recordings} training recordings; use fewer workers"
            )
        data = experiment.data
        self.steps = steps_per_epoch(self.train_entries, data.window_frames, batch_size, context.workers)
        self.all_frames_count = all(entry.frames >= data.window_frames for entry in self.train_entries) and not (
            "video" in experiment.modalities and data.faceless_frames == "mask"
        )
        self._experiment = experiment
        self._strategy = strategy
        self._context = context

    def training_batches(self, epoch: int, first_step: int) -> Iterator:
        """Iterates over an epoch's batches from a step on, without end."""

        def dataset_of_worker(_):
            share = self._context.share()
            return training_dataset(self._experiment, self.manifest, self.train_entries, epoch, first_step, share)

        return iter(self._strategy.distribute_datasets_from_function(dataset_of_worker))

    def dev_batches(self) -> Iterable:
        """Returns batches that together contain every dev frame exactly once across all workers."""

        def dataset_of_worker(_):
            share = self._context.share()
            return dev_dataset(self._experiment, self.manifest, self.dev_entries, _EVAL_WINDOWS_PER_REPLICA, share)

        return self._strategy.distribute_datasets_from_function(dataset_of_worker)

    def recordings_in_step(self, epoch: int, step: int) -> list[tuple[str, int]]:
        """Returns the windows of one step on all workers, as (recording, first frame)."""
        shares = [self._context.share(worker) for worker in range(self._context.workers)]
        return recordings_in_step(self._experiment, self.train_entries, epoch, step, shares)
