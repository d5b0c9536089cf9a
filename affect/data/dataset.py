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

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace

import tensorflow as tf

from affect import storage
from affect.config import Experiment
from affect.data.audio_cache import audio_bytes, read_audio
from affect.data.augment import augment_window
from affect.data.manifest import Manifest, RecordingEntry, read_manifest
from affect.data.records import parse
from affect.data.windows import WHOLE_DATASET, EpochPlan, Share, Window, evaluation_windows, training_windows
from affect.errors import UserError
from affect.timebase import PCM_FULL_SCALE

# Cuts a recording, an element of `_sources`, into its windows.
_Cut = Callable[[dict[str, tf.Tensor]], tf.data.Dataset]

# Recordings open at a time while training; more mix better and cost a file handle and a read buffer each.
_OPEN_RECORDINGS = 32


def open_data(experiment: Experiment, partitions: Iterable[str] = ()) -> Manifest:
    """Reads the manifest of the experiment's data folder and checks that the network fits it.

    Args:
      experiment: gives the folder and the network.
      partitions: to be used; their recordings must have the sound or the video that the network takes.

    Raises:
      UserError: no readable manifest, shards made for other frame sizes than the network's, or recordings without the
        sound or the video that it takes.
    """
    manifest = read_manifest(experiment.data.data_dir)
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
    for modality, has_it in (("audio", "has_audio"), ("video", "has_video")):
        used = [entry for entry in manifest.recordings if entry.partition in partitions]
        without = [entry.name for entry in used if not getattr(entry, has_it)]
        if without and experiment.modality in (modality, "audiovisual"):
            raise UserError(
                f"{experiment.data.data_dir}: {len(without)} recording(s) have no {modality} "
                f"({', '.join(without[:5])}); train the other modality, or make shards without them"
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


def label_delay_frames(experiment: Experiment, manifest: Manifest) -> int:
    """Frames by which the learnt labels lag behind what is seen and heard."""
    return round(experiment.data.label_delay_secs * manifest.frame_rate_hz)


def training_dataset(
    experiment: Experiment,
    manifest: Manifest,
    entries: list[RecordingEntry],
    epoch: int,
    first_step: int = 0,
    share: Share = WHOLE_DATASET,
) -> tf.data.Dataset:
    """Batches of one epoch, from `first_step` on; repeats if asked for more than the epoch has.

    Args:
      experiment: gives window and batch size, seed, augmentation and modality.
      manifest: of the data folder.
      entries: labelled recordings to train on, `with_delayed_labels`.
      epoch: number of the epoch, from 0.
      first_step: steps to leave out, for a run that continues.
      share: which recordings, and batches of which size: `share.replicas` of them make one step of this worker.
    """
    fields = _fields(experiment, training=True)
    size, delay = experiment.data.window_frames, label_delay_frames(experiment, manifest)
    recordings, step_windows = share.recordings(entries), share.windows(experiment.train.batch_size)
    plan = EpochPlan.draw(experiment.train.seed, epoch, share, len(recordings))
    cut = _cutter(experiment, manifest, recordings, fields, size, delay)
    windows = _shuffled(experiment, recordings, plan, epoch, first_step * step_windows, cut)

    def finish(index, window):
        seed = tf.stack([tf.constant(plan.augment_seed, tf.int64), index])
        return _finish(window, experiment, manifest, size, seed)

    finished = windows.map(finish, tf.data.AUTOTUNE, deterministic=True)
    return _prefetched(finished.batch(step_windows // share.replicas, drop_remainder=True))


def recordings_in_step(
    experiment: Experiment, entries: list[RecordingEntry], epoch: int, step: int, shares: list[Share]
) -> list[tuple[str, int]]:
    """What one training step saw, over all workers: (recording, first frame) per window."""
    size = experiment.data.window_frames

    def cut(source):
        starts = tf.data.Dataset.range(source["count"]).map(lambda i: source["offset"] + i * size)
        return starts.map(lambda start: (source["recording"], start))

    seen = []
    for share in shares:
        recordings, count = share.recordings(entries), share.windows(experiment.train.batch_size)
        plan = EpochPlan.draw(experiment.train.seed, epoch, share, len(recordings))
        windows = _shuffled(experiment, recordings, plan, epoch, step * count, cut)
        seen += [(name.decode(), int(start)) for _, (name, start) in windows.take(count).as_numpy_iterator()]
    return seen


def evaluation_dataset(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], batch_size: int
) -> tf.data.Dataset:
    """Every frame of every recording once with its own label, in the order of `evaluation_windows`; never augmented."""
    return _prefetched(_evaluation(experiment, manifest, entries, delay=0).batch(batch_size))


def dev_dataset(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], batch_size: int, share: Share
) -> tf.data.Dataset:
    """As `evaluation_dataset`, for a training to watch itself: labels delayed, equally many batches for every worker.

    Args:
      experiment: gives the window size.
      manifest: of the data folder.
      entries: labelled recordings, `with_delayed_labels`.
      batch_size: windows per device.
      share: this worker's part; what it has too few of is filled with windows that the mask leaves out.
    """
    size = experiment.data.eval_window_frames
    counts = [
        len(evaluation_windows(replace(share, worker=worker).recordings(entries), size))
        for worker in range(share.workers)
    ]
    steps = math.ceil(max(counts) / (batch_size * share.replicas))
    delay = label_delay_frames(experiment, manifest)
    # A worker without a recording borrows the shapes of another's.
    windows = _evaluation(experiment, manifest, share.recordings(entries) or entries[:1], delay).take(
        counts[share.worker]
    )
    nothing = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), windows.element_spec)
    padded = windows.concatenate(tf.data.Dataset.from_tensors(nothing).repeat())
    return _prefetched(padded.batch(batch_size, drop_remainder=True).take(steps * share.replicas))


def _evaluation(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], delay: int
) -> tf.data.Dataset:
    """Finished windows, one by one."""
    size = experiment.data.eval_window_frames
    cut = _cutter(experiment, manifest, entries, _fields(experiment, training=False), size, delay)
    windows = [evaluation_windows([entry], size) for entry in entries]

    def finish(window):
        return _finish(window, experiment, manifest, size, augment_seed=None)

    unfinished = _sources(entries, windows, experiment.data.data_dir).flat_map(cut)
    return unfinished.map(finish, tf.data.AUTOTUNE, deterministic=True)


def _shuffled(
    experiment: Experiment, entries: list[RecordingEntry], plan: EpochPlan, epoch: int, first_window: int, cut: _Cut
) -> tf.data.Dataset:
    """An epoch's windows, numbered, in the order of training; endless."""
    windows = training_windows(entries, experiment.data.window_frames, experiment.train.seed, epoch)
    sources = _sources([entries[i] for i in plan.order], [windows[i] for i in plan.order], experiment.data.data_dir)
    # Round-robin over several recordings at a time, so that neighbours in the buffer are different people.
    dataset = sources.interleave(cut, cycle_length=_OPEN_RECORDINGS)
    dataset = dataset.shuffle(experiment.data.shuffle_windows, seed=plan.shuffle_seed, reshuffle_each_iteration=False)
    return dataset.enumerate().repeat().skip(first_window)


def _prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Works ahead of the training step, on threads of its own: many windows at a time, one thread for each."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _sources(entries: list[RecordingEntry], windows: list[list[Window]], data_dir: str) -> tf.data.Dataset:
    """One element per recording: its shards, statistics, and which windows to cut."""
    return tf.data.Dataset.from_tensor_slices(
        {
            "shards": tf.ragged.constant(
                [[storage.join(data_dir, shard) for shard in entry.shards] for entry in entries]
            ),
            "recording": tf.constant([entry.name for entry in entries]),
            "mean": tf.constant([entry.audio_mean for entry in entries], tf.float32),
            # Digital silence has no deviation; it stays zero.
            "deviation": tf.constant([entry.audio_std or 1.0 for entry in entries], tf.float32),
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


def _cutter(
    experiment: Experiment, manifest: Manifest, entries: list[RecordingEntry], fields: set[str], size: int, delay: int
) -> _Cut:
    """What makes a recording's windows of `size` frames, pictures still JPEG; the last one may be short."""
    limit = experiment.data.audio_cache_mib * 2**20
    if fields == {"pcm", "labels"} and audio_bytes(entries, manifest.frame_samples) <= limit:
        cut = _from_memory
    else:
        cut = _from_shards

    def windows(source):
        statistics = {name: source[name] for name in ("mean", "deviation")}
        return cut(source, fields, manifest.frame_samples, size, delay).map(lambda window: window | statistics)

    return windows


def _from_shards(source: dict, fields: set[str], frame_samples: int, size: int, delay: int) -> tf.data.Dataset:
    def frames(names):
        def parsed(serialized):
            record = parse(serialized, frame_samples)
            return {name: record[name] for name in names}

        return tf.data.TFRecordDataset(source["shards"]).map(parsed).unbatch()

    in_order = frames(fields)
    if delay:
        later = frames({"labels"}).skip(delay)
        in_order = tf.data.Dataset.zip(in_order, later).map(lambda frame, label: frame | label)
    return in_order.skip(source["offset"]).batch(size).take(source["count"])


def _from_memory(source: dict, fields: set[str], frame_samples: int, size: int, delay: int) -> tf.data.Dataset:
    def window(shards, start):
        pcm, labels = read_audio(tuple(shard.decode() for shard in shards), frame_samples)
        end = min(start + size, len(pcm) - delay)
        return pcm[start:end], labels[start + delay : end + delay]

    def one(index):
        pcm, labels = tf.numpy_function(
            window, [source["shards"], source["offset"] + index * size], (tf.int16, tf.float32)
        )
        return {"pcm": tf.ensure_shape(pcm, [None, frame_samples]), "labels": tf.ensure_shape(labels, [None, 2])}

    return tf.data.Dataset.range(source["count"]).map(one)


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
