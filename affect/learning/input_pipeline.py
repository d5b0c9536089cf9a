"""What the loop is fed: the strategy's own distributed datasets over every worker's share of the recordings."""

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
    """Batches for training and dev; each replica gets its equal part, prefetched to its device.

    Attributes:
      manifest: of the data folder.
      train_entries, dev_entries: labelled recordings.
      steps: updates per epoch, the same for every worker.
    """

    def __init__(self, experiment: Experiment, strategy: tf.distribute.Strategy, place: WorkerContext):
        """Checks that the data fits the network, and the batch the devices.

        Raises:
          UserError: it does not.
        """
        self.manifest = open_data(experiment, _PARTITIONS)
        delay = label_delay_frames(experiment, self.manifest)
        self.train_entries, self.dev_entries = (
            with_delayed_labels(labelled_recordings(self.manifest, partition, experiment.data.data_dir), delay)
            for partition in _PARTITIONS
        )
        batch_size, recordings = experiment.train.batch_size, len(self.train_entries)
        if batch_size % place.replicas:
            fitting = math.ceil(batch_size / place.replicas) * place.replicas
            raise UserError(
                f"train.batch_size is {batch_size}, and {place.replicas} devices share it equally; "
                f"try --set=train.batch_size={fitting}"
            )
        if recordings < place.workers:
            raise UserError(f"{place.workers} workers cannot share {recordings} training recordings; use fewer")
        self.steps = steps_per_epoch(self.train_entries, experiment.data.window_frames, batch_size, place.workers)
        self._experiment = experiment
        self._strategy = strategy
        self._place = place

    def training_batches(self, epoch: int, first_step: int) -> Iterator:
        """An epoch's batches from a step on; endless."""

        def share(_):
            return training_dataset(
                self._experiment, self.manifest, self.train_entries, epoch, first_step, self._place.share()
            )

        return iter(self._strategy.distribute_datasets_from_function(share))

    def dev_batches(self) -> Iterable:
        """Every dev frame once, over all workers."""

        def share(_):
            return dev_dataset(
                self._experiment, self.manifest, self.dev_entries, _EVAL_WINDOWS_PER_REPLICA, self._place.share()
            )

        return self._strategy.distribute_datasets_from_function(share)

    def recordings_in_step(self, epoch: int, step: int) -> list[tuple[str, int]]:
        """What one step saw on all workers: (recording, first frame) per window."""
        shares = [self._place.share(worker) for worker in range(self._place.workers)]
        return recordings_in_step(self._experiment, self.train_entries, epoch, step, shares)
