"""Shards to batches: a tf.data pipeline over windows of consecutive frames of one recording.

A batch is `({"audio", "video"}, labels, mask)` with only the modalities that the network takes:

    audio   float32 [batch, time, frame_samples]     standardised if `data.standardise` says so
    video   uint8   [batch, time, size, size, 3]     RGB
    labels  float32 [batch, time, 2]                 arousal, valence
    mask    bool    [batch, time]                    False: the frame is padding, or is left out of the loss

Training windows start at a new random offset in every epoch and are shuffled across recordings. Evaluation windows are
read in order and cover every frame once. Order, offsets and augmentation depend only on (seed, epoch, worker), so an
interrupted run continues with the windows that it would have had. Shards are streamed, and images are decoded only when
their window is next, so memory does not grow with the corpus.

`affect.data.windows` plans the windows, `affect.data.window_reader` reads them, and this module shuffles and batches
them.
"""

import math
import os
from collections.abc import Callable, Iterable

import tensorflow as tf
from msgspec.structs import replace

from affect.config import Experiment
from affect.data.manifest import Manifest, RecordingEntry, read_manifest
from affect.data.shard_check import check_shards
from affect.data.window_reader import WindowReader, recording_sources
from affect.data.windows import WHOLE_DATASET, EpochPlan, Share, evaluation_windows, training_windows
from affect.errors import UserError

# Recordings that are read at the same time in training. More of them mix better, but each needs an open file and a
# read buffer.
_MAX_OPEN_RECORDINGS = 32


def open_data(experiment: Experiment, partitions: Iterable[str] = ()) -> Manifest:
    """Reads the manifest of the experiment's data folder and checks that the network fits the data.

    Args:
      experiment: gives the data folder and the network.
      partitions: partitions that will be used; their recordings must have all modalities that the network takes, and
        their shards must be there.

    Raises:
      UserError: the manifest cannot be read, the shards have other frame sizes than the network, recordings lack a
        modality, or a shard is missing or has another size than in the manifest.
    """
    data_dir = experiment.data.data_dir
    manifest = read_manifest(data_dir)
    for name in ("frame_samples", "crop_size"):
        expected, stored = getattr(experiment.model, name), getattr(manifest, name)
        if expected != stored:
            raise UserError(f"{data_dir}: the shards hold {name} {stored}, but the run's model.{name} is {expected}")
    used = [entry for entry in manifest.recordings if entry.partition in partitions]
    for modality in experiment.modalities:
        without = [entry.name for entry in used if not getattr(entry, f"has_{modality}")]
        if without:
            raise UserError(
                f"{data_dir}: {len(without)} recording(s) have no {modality} ({', '.join(without[:5])}); "
                f"train on another modality, as with --modality={'audio' if modality == 'video' else 'video'}, or make "
                "the shards without these recordings"
            )
    check_shards(data_dir, used)
    return manifest


def labelled_recordings(manifest: Manifest, partition: str, data_dir: str) -> list[RecordingEntry]:
    """Returns the recordings of a partition that have labels.

    Raises:
      UserError: no recording has labels.
    """
    entries = [entry for entry in manifest.partition(partition) if entry.has_labels]
    if not entries:
        raise UserError(f"{data_dir}: the {partition} partition has no labelled recordings")
    return entries


def label_delay_frames(experiment: Experiment, manifest: Manifest) -> int:
    """Returns the delay of the training labels behind audio and video, in frames."""
    return round(experiment.data.label_delay_secs * manifest.frame_rate_hz)


def training_dataset(
    experiment: Experiment,
    manifest: Manifest,
    entries: list[RecordingEntry],
    epoch: int,
    first_step: int = 0,
    share: Share = WHOLE_DATASET,
) -> tf.data.Dataset:
    """Returns the batches of one epoch, starting with `first_step`; the epoch repeats without end.

    Args:
      experiment: gives window and batch size, seed, augmentation and modality.
      manifest: manifest of the data folder.
      entries: labelled recordings to train on, from `with_delayed_labels`.
      epoch: index of the epoch, from 0.
      first_step: number of steps to skip, for a run that continues within an epoch.
      share: this worker's recordings and batch size; `share.replicas` batches make one step of the worker.
    """
    reader = WindowReader(
        experiment,
        manifest,
        window_frames=experiment.data.window_frames,
        delay_frames=label_delay_frames(experiment, manifest),
        training=True,
    )
    recordings, step_windows = share.recordings(entries), share.windows(experiment.train.batch_size)
    plan = EpochPlan.draw(experiment.train.seed, epoch, share, len(recordings))
    windows = _shuffled(experiment, recordings, plan, epoch, first_step * step_windows, reader.cutter(recordings))

    def finish(index, window):
        seed = tf.stack([tf.constant(plan.augment_seed, tf.int64), index])
        return reader.finish(window, seed)

    finished = windows.map(finish, tf.data.AUTOTUNE, deterministic=True)
    return _prefetched(finished.batch(step_windows // share.replicas, drop_remainder=True))


def recordings_in_step(
    experiment: Experiment, entries: list[RecordingEntry], epoch: int, step: int, shares: list[Share]
) -> list[tuple[str, int]]:
    """Returns (recording, first frame) of each window in one training step, over all workers."""
    size = experiment.data.window_frames

    def cut(source):
        starts = tf.data.Dataset.range(source["count"]).map(lambda i: source["offset"] + i * size)
        return starts.map(lambda start: (source["recording"], start))

    found = []
    for share in shares:
        recordings, count = share.recordings(entries), share.windows(experiment.train.batch_size)
        plan = EpochPlan.draw(experiment.train.seed, epoch, share, len(recordings))
        windows = _shuffled(experiment, recordings, plan, epoch, step * count, cut)
        found += [(name.decode(), int(start)) for _, (name, start) in windows.take(count).as_numpy_iterator()]
    return found


def evaluation_dataset(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], batch_size: int
) -> tf.data.Dataset:
    """Returns every frame of every recording once, in the order of `evaluation_windows`.

    Labels are not delayed, and nothing is augmented.
    """
    return _prefetched(_evaluation(experiment, manifest, entries, delay_frames=0).batch(batch_size))


def stream_dataset(
    experiment: Experiment,
    manifest: Manifest,
    groups: list[list[RecordingEntry]],
    chunks: list[int],
    chunk_frames: int,
) -> tf.data.Dataset:
    """Returns recordings side by side and chunk by chunk: a batch has the same frames of every recording of a group.

    Labels are not delayed, and nothing is augmented. The audio cache is not used: every frame is read once, and the
    memory needed does not depend on the length of the recordings.

    Args:
      experiment: gives modality and standardisation.
      manifest: manifest of the data folder.
      groups: the recordings of each batch, in order; all groups have the same number of them.
      chunks: number of batches of each group; frames after the end of a recording are masked.
      chunk_frames: frames per chunk.
    """
    data = replace(experiment.data, audio_cache_mib=0)
    reader = WindowReader(replace(experiment, data=data), manifest, chunk_frames, delay_frames=0, training=False)
    entries = [entry for group in groups for entry in group]
    cut = reader.cutter(entries)

    def stream(source, count):
        windows = cut(source)
        # `finish` pads windows of no frames too.
        empty = tf.nest.map_structure(
            lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), windows.element_spec
        )
        return windows.concatenate(tf.data.Dataset.from_tensors(empty).repeat()).take(count)

    windows = [evaluation_windows([entry], chunk_frames) for entry in entries]
    counts = [count for group, count in zip(groups, chunks, strict=True) for _ in group]
    sources = recording_sources(entries, windows, experiment.data.data_dir)
    with_counts = tf.data.Dataset.zip(sources, tf.data.Dataset.from_tensor_slices(tf.constant(counts, tf.int64)))
    # All recordings of a group have as many chunks, so that they end together and the next group begins.
    stored = with_counts.interleave(stream, cycle_length=len(groups[0]))  # pyright: ignore[reportArgumentType]
    finished = stored.map(reader.finish, tf.data.AUTOTUNE, deterministic=True)
    return _prefetched(finished.batch(len(groups[0]), drop_remainder=True))


def dev_dataset(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], batch_size: int, share: Share
) -> tf.data.Dataset:
    """Returns validation batches during training: labels are delayed, and all workers get equally many batches.

    Args:
      experiment: gives the window size.
      manifest: manifest of the data folder.
      entries: labelled recordings, from `with_delayed_labels`.
      batch_size: windows per device.
      share: this worker's share; a worker with fewer windows than others gets additional ones that are fully masked.
    """
    size = experiment.data.eval_window_frames
    counts = [
        len(evaluation_windows(Share(worker, share.workers).recordings(entries), size))
        for worker in range(share.workers)
    ]
    steps = math.ceil(max(counts) / (batch_size * share.replicas))
    delay = label_delay_frames(experiment, manifest)
    # A worker without recordings uses another's for the shapes of its masked windows, and takes none of its windows.
    recordings = share.recordings(entries) or entries[:1]
    windows = _evaluation(experiment, manifest, recordings, delay).take(counts[share.worker])
    masked = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), windows.element_spec)
    padded = windows.concatenate(tf.data.Dataset.from_tensors(masked).repeat())
    return _prefetched(padded.batch(batch_size, drop_remainder=True).take(steps * share.replicas))


def _evaluation(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], delay_frames: int
) -> tf.data.Dataset:
    """Returns finished evaluation windows, not batched."""
    size = experiment.data.eval_window_frames
    reader = WindowReader(experiment, manifest, size, delay_frames, training=False)
    windows = [evaluation_windows([entry], size) for entry in entries]
    stored = recording_sources(entries, windows, experiment.data.data_dir).flat_map(reader.cutter(entries))
    return stored.map(reader.finish, tf.data.AUTOTUNE, deterministic=True)


def _shuffled(
    experiment: Experiment,
    entries: list[RecordingEntry],
    plan: EpochPlan,
    epoch: int,
    first_window: int,
    cut: Callable[[dict[str, tf.Tensor]], tf.data.Dataset],
) -> tf.data.Dataset:
    """Returns `(index, window)` for an epoch's windows in training order, starting with `first_window`; endless.

    `cut` turns an element of `recording_sources` into the recording's windows.
    """
    windows = training_windows(entries, experiment.data.window_frames, experiment.train.seed, epoch)
    sources = recording_sources(
        [entries[i] for i in plan.order], [windows[i] for i in plan.order], experiment.data.data_dir
    )
    # Reading several recordings in turn puts different people next to each other in the shuffle buffer.
    dataset = sources.interleave(cut, cycle_length=_MAX_OPEN_RECORDINGS)
    dataset = dataset.shuffle(experiment.data.shuffle_windows, seed=plan.shuffle_seed, reshuffle_each_iteration=False)
    return dataset.enumerate().repeat().skip(first_window)


def _prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches batches on a private thread pool: many windows in parallel, each on one thread."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
