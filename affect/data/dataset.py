"""Shards to batches: windows of consecutive frames of one recording, as a tf.data pipeline.

A batch is `({"audio", "video"}, labels, mask)` with only the modalities that the network takes:

    audio   float32 [batch, time, frame_samples]     standardised as the config says
    video   uint8   [batch, time, size, size, 3]     RGB
    labels  float32 [batch, time, 2]                 arousal, valence
    mask    bool    [batch, time]                    False: padding

Training windows start at a new random offset every epoch and are shuffled across recordings; evaluation windows come
in order and cover every frame once. Order, offsets and augmentation are functions of (seed, epoch) alone, so that a
stopped run continues exactly. Shards are streamed and pictures stay JPEG until their window is due: memory does not
grow with the corpus.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from affect.config import Experiment
from affect.data.augment import augment_window
from affect.data.records import Manifest, RecordingEntry, parse, read_manifest
from affect.errors import UserError
from affect.media.audio import PCM_FULL_SCALE

# Recordings open at a time while training; more mix better and cost a file handle and a read buffer each.
_OPEN_RECORDINGS = 32


@dataclass(frozen=True)
class Window:
    """`frames` consecutive frames of one recording from `start` on; fewer than the window size: a padded tail."""

    recording: str
    start: int
    frames: int


def open_data(experiment: Experiment) -> Manifest:
    """Reads the manifest of the experiment's data folder and checks that the network fits it.

    Raises:
      UserError: no readable manifest, or shards made for other frame sizes than the network's.
    """
    manifest = read_manifest(Path(experiment.data.data_dir))
    model = experiment.model
    for what, ours, theirs in (
        ("model.frame_samples", model.frame_samples, manifest.frame_samples),
        ("model.crop_size", model.crop_size, manifest.crop_size),
    ):
        if ours != theirs:
            raise UserError(
                f"{experiment.data.data_dir}: the shards hold {what.split('.')[1]} {theirs}, "
                f"but the run's {what} is {ours}"
            )
    return manifest


def labelled_recordings(manifest: Manifest, partition: str, data_dir: str) -> list[RecordingEntry]:
    """The recordings of a partition that have labels.

    Raises:
      UserError: there is none.
    """
    entries = [entry for entry in manifest.partition(partition) if entry.has_labels]
    if not entries:
        raise UserError(f"{data_dir}: the {partition} partition has no labelled recordings")
    return entries


def evaluation_windows(entries: list[RecordingEntry], window_frames: int) -> list[Window]:
    """The windows of `evaluation_dataset`, in its order."""
    return [
        Window(entry.name, start, min(window_frames, entry.frames - start))
        for entry in entries
        for start in range(0, entry.frames, window_frames)
    ]


def training_windows(entries: list[RecordingEntry], window_frames: int, seed: int, epoch: int) -> list[list[Window]]:
    """One epoch's windows of every recording, before shuffling.

    A recording starts at a random offset, so that window borders fall elsewhere every epoch; what is left over at
    either end is not seen in that epoch. One shorter than a window gives a single padded window.
    """
    offsets = _offsets(entries, window_frames, seed, epoch)
    return [
        [
            Window(entry.name, start, min(window_frames, entry.frames))
            for start in range(offset, max(entry.frames - window_frames, 0) + 1, window_frames)
        ]
        for entry, offset in zip(entries, offsets, strict=True)
    ]


def steps_per_epoch(entries: list[RecordingEntry], window_frames: int, batch_size: int) -> int:
    """Full batches that every epoch has, whatever its offsets; at least one."""
    fewest = sum((entry.frames - _largest_offset(entry, window_frames)) // window_frames or 1 for entry in entries)
    return max(1, fewest // batch_size)


def training_dataset(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], epoch: int, first_step: int = 0
) -> tf.data.Dataset:
    """Batches of one epoch, from `first_step` on; repeats if asked for more than the epoch has.

    Args:
      experiment: gives window and batch size, seed, augmentation and modality.
      manifest: of the data folder.
      entries: labelled recordings to train on.
      epoch: number of the epoch, from 0.
      first_step: batches to leave out, for a run that continues.
    """
    config, train = experiment.data, experiment.train
    windows = training_windows(entries, config.window_frames, train.seed, epoch)
    rng = np.random.default_rng([train.seed, epoch, 1])
    order = rng.permutation(len(entries))
    shuffle_seed, augment_seed = (int(seed) for seed in rng.integers(2**31, size=2))

    sources = _sources([entries[i] for i in order], [windows[i] for i in order], config.data_dir)
    # Round-robin over several recordings at a time, so that neighbours in the buffer are different people.
    dataset = sources.interleave(
        lambda source: _windows(source, _fields(experiment, training=True), manifest, config.window_frames),
        cycle_length=_OPEN_RECORDINGS,
    )
    dataset = dataset.shuffle(config.shuffle_windows, seed=shuffle_seed, reshuffle_each_iteration=False)
    dataset = dataset.enumerate().repeat().skip(first_step * train.batch_size)

    def finish(index, window):
        seed = tf.stack([tf.constant(augment_seed, tf.int64), index])
        return _finish(window, experiment, manifest, config.window_frames, seed)

    dataset = dataset.map(finish, tf.data.AUTOTUNE, deterministic=True)
    return _prefetched(dataset.batch(train.batch_size, drop_remainder=True))


def evaluation_dataset(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], batch_size: int
) -> tf.data.Dataset:
    """Every frame of every recording once, in the order of `evaluation_windows`; never augmented."""
    size = experiment.data.eval_window_frames
    windows = [evaluation_windows([entry], size) for entry in entries]
    dataset = _sources(entries, windows, experiment.data.data_dir).flat_map(
        lambda source: _windows(source, _fields(experiment, training=False), manifest, size)
    )
    dataset = dataset.map(
        lambda window: _finish(window, experiment, manifest, size, augment_seed=None),
        tf.data.AUTOTUNE,
        deterministic=True,
    )
    return _prefetched(dataset.batch(batch_size))


def _prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Works ahead of the training step, on threads of its own: many windows at a time, one thread for each."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _largest_offset(entry: RecordingEntry, window_frames: int) -> int:
    """An offset beyond this would lose a window for nothing, or the only one."""
    return min(window_frames - 1, max(entry.frames - window_frames, 0))


def _offsets(entries: list[RecordingEntry], window_frames: int, seed: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([seed, epoch, 0])
    return rng.integers([_largest_offset(entry, window_frames) + 1 for entry in entries])


def _sources(entries: list[RecordingEntry], windows: list[list[Window]], data_dir: str) -> tf.data.Dataset:
    """One element per recording: its shards, statistics, and which windows to cut."""
    return tf.data.Dataset.from_tensor_slices(
        {
            "shards": tf.ragged.constant(
                [[str(Path(data_dir) / shard) for shard in entry.shards] for entry in entries]
            ),
            "mean": tf.constant([entry.audio_mean for entry in entries], tf.float32),
            # Digital silence has no deviation; it stays zero.
            "deviation": tf.constant([entry.audio_deviation or 1.0 for entry in entries], tf.float32),
            "offset": tf.constant([cut[0].start for cut in windows], tf.int64),
            "count": tf.constant([len(cut) for cut in windows], tf.int64),
        }
    )


def _fields(experiment: Experiment, training: bool) -> set[str]:
    """What a window needs of a record."""
    fields = {"labels"}
    if experiment.modality != "video":
        fields.add("pcm")
    if experiment.modality != "audio":
        fields.add("jpeg")
        if training and experiment.data.faceless_frames == "mask":
            fields.add("face_found")
    return fields


def _windows(source: dict, fields: set[str], manifest: Manifest, size: int) -> tf.data.Dataset:
    """The windows of one recording, pictures still JPEG; the last one may be short."""

    def frames(serialized):
        record = parse(serialized, manifest.frame_samples)
        return {name: record[name] for name in fields}

    frames_in_order = tf.data.TFRecordDataset(source["shards"]).map(frames).unbatch()
    windows = frames_in_order.skip(source["offset"]).batch(size).take(source["count"])
    return windows.map(lambda window: window | {"mean": source["mean"], "deviation": source["deviation"]})


def _finish(window: dict, experiment: Experiment, manifest: Manifest, size: int, augment_seed: tf.Tensor | None):
    """One window to `(inputs, labels, mask)`, padded to `size` frames."""
    frames = tf.shape(window["labels"])[0]

    def padded(values):
        values = tf.pad(values, [[0, size - frames]] + [[0, 0]] * (values.shape.rank - 1))
        return tf.ensure_shape(values, [size, *values.shape[1:]])

    inputs = {}
    if "pcm" in window:
        audio = tf.cast(window["pcm"], tf.float32) / PCM_FULL_SCALE
        if experiment.data.standardise == "recording":
            audio = (audio - window["mean"]) / window["deviation"]
        inputs["audio"] = padded(audio)
    if "jpeg" in window:
        crops = tf.map_fn(
            lambda jpeg: tf.io.decode_jpeg(jpeg, channels=3), window["jpeg"], fn_output_signature=tf.uint8
        )
        crops = tf.ensure_shape(crops, [None, manifest.crop_size, manifest.crop_size, 3])
        if augment_seed is not None and experiment.augment.enabled:
            crops = augment_window(crops, experiment.augment, augment_seed)
        inputs["video"] = padded(crops)
    mask = tf.sequence_mask(frames, size)
    if "face_found" in window:
        mask &= padded(window["face_found"])
    return inputs, padded(window["labels"]), mask
