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
from affect.data.faceless import FacelessShares, sees
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.windows import steps_per_epoch, with_delayed_labels
from affect.errors import UserError
from affect.learning.strategy import WorkerContext
from affect.storage import join

_EVAL_WINDOWS_PER_REPLICA = 2
_PARTITIONS = ("train", "dev")
_MIN_FACE_SHARE = 0.2
_NAMED = 3


def open_training_data(experiment: Experiment, allow_faceless: bool) -> Manifest:
    """Opens the data folder and checks that the network can be trained on it.

    Args:
      experiment: gives the data folder and the network.
      allow_faceless: whether a network that sees may train on recordings with a face in under 20 % of their frames.

    Raises:
      UserError: see `open_data`; or a network that sees would train on recordings in which hardly any frame shows a
        face.
    """
    manifest, data_dir = open_data(experiment, _PARTITIONS), experiment.data.data_dir
    if sees(experiment):
        train = labelled_recordings(manifest, "train", data_dir)
        if not allow_faceless:
            _refuse_faceless(train, data_dir)
        if experiment.data.faceless_frames == "mask" and not any(entry.faces_found for entry in train):
            raise UserError(
                f"{data_dir}: no frame of the training recordings shows a face, and data.faceless_frames=mask leaves "
                "all of them out of the loss; train on another modality, as with --modality=audio"
            )
    return manifest


def faceless_shares(experiment: Experiment, manifest: Manifest) -> dict[str, FacelessShares]:
    """Returns the shares of frames without a face in train and dev, of the recordings with labels.

    Returns:
      The shares by partition; empty if the network does not see.
    """
    if not sees(experiment):
        return {}
    labelled = {
        partition: labelled_recordings(manifest, partition, experiment.data.data_dir) for partition in _PARTITIONS
    }
    return {partition: FacelessShares.of(entries) for partition, entries in labelled.items()}


class InputPipeline:
    """Batches of the train and dev partitions, divided equally among the replicas and prefetched to their devices.

    Attributes:
      manifest: manifest of the data folder.
      train_entries, dev_entries: the labelled recordings of the two partitions.
      steps: updates per epoch, the same for every worker.
      all_frames_count: whether no training window has masked frames: none is padded, no faceless frame is left out.
    """

    def __init__(
        self, experiment: Experiment, strategy: tf.distribute.Strategy, context: WorkerContext, allow_faceless: bool
    ):
        """Opens the data folder; `allow_faceless` is that of `open_training_data`.

        Raises:
          UserError: the data does not fit the network, or the batch cannot be divided among the devices.
        """
        self.manifest = open_training_data(experiment, allow_faceless)
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


def _refuse_faceless(train: list[RecordingEntry], data_dir: str) -> None:
    """Refuses to train on recordings with too few faces, naming the worst of them."""
    refused = [entry for entry in train if entry.faces_found / entry.frames < _MIN_FACE_SHARE]
    if not refused:
        return
    refused.sort(key=lambda entry: entry.faces_found / entry.frames)
    named = ", ".join(
        f"{entry.name} {entry.faces_found / entry.frames:.1%} ({entry.faces_found} of {entry.frames})"
        for entry in refused[:_NAMED]
    )
    named += f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    raise UserError(
        f"{data_dir}: {len(refused)} training recording(s) show a face in under {_MIN_FACE_SHARE:.0%} of their frames: "
        f"{named}; look at {join(data_dir, 'contact_sheets')}, and make the shards again with another --face_detector "
        "or without these recordings, or train on them as they are with --allow_faceless"
    )
