"""Reads windows: from the shards of a recording to the arrays that a network takes.

`WindowReader.read` cuts one recording into windows of stored fields, with images still JPEG, so that shuffling holds
little memory. `WindowReader.finish` then turns one window into `(inputs, labels, mask)` as `affect.data.dataset`
describes them.

Another modality needs its stored field in `affect.data.records`, and one function and one entry of `_INPUTS` here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf

from affect import storage
from affect.config import Experiment
from affect.data.audio_cache import StoredRecording, audio_bytes, read_audio
from affect.data.augment import augment_window
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.records import decode_jpeg, read_frames
from affect.data.windows import Window
from affect.timebase import PCM_FULL_SCALE

# One window of stored fields, or one element of `recording_sources`.
_Fields = dict[str, tf.Tensor]


def recording_sources(entries: list[RecordingEntry], windows: list[list[Window]], data_dir: str) -> tf.data.Dataset:
    """Returns a dataset with one element per recording: its shards, audio statistics, frames, and windows to read.

    Args:
      entries: recordings, in order.
      windows: the windows of each recording; they follow each other without gaps.
      data_dir: data folder of the shards.
    """
    return tf.data.Dataset.from_tensor_slices(
        {  # pyright: ignore[reportArgumentType] - the stubs of TensorFlow know no dict that holds a ragged tensor
            "shards": tf.ragged.constant(
                [[storage.join(data_dir, shard) for shard in entry.shards] for entry in entries]
            ),
            "recording": tf.constant([entry.name for entry in entries]),
            "frames": tf.constant([entry.frames for entry in entries], tf.int64),
            "mean": tf.constant([entry.audio_mean for entry in entries], tf.float32),
            # Digital silence has a standard deviation of 0. Divided by 1 instead, it stays zero.
            "std": tf.constant([entry.audio_std or 1.0 for entry in entries], tf.float32),
            "offset": tf.constant([item[0].start for item in windows], tf.int64),
            "count": tf.constant([len(item) for item in windows], tf.int64),
        }
    )


@dataclass(frozen=True)
class WindowReader:
    """Reads and finishes windows of `window_frames` frames.

    Attributes:
      experiment: gives the modality, standardisation and augmentation.
      manifest: manifest of the data folder.
      window_frames: frames per window; shorter windows are padded.
      delay_frames: frames by which the labels are later than audio and video.
      training: whether the mask leaves out faceless frames if the experiment says so; evaluation counts every frame.
    """

    experiment: Experiment
    manifest: Manifest
    window_frames: int
    delay_frames: int
    training: bool

    @property
    def fields(self) -> set[str]:
        """The stored fields of a record that a window needs."""
        fields = {"labels", *(_INPUTS[modality][0] for modality in self.experiment.modalities)}
        if "video" in self.experiment.modalities and self.experiment.data.faceless_frames == "mask":
            fields.add("face_found")
        return fields

    def cutter(self, entries: list[RecordingEntry]) -> Callable[[_Fields], tf.data.Dataset]:
        """Returns the function from an element of `recording_sources` to its windows of stored fields.

        Audio without images is read from memory if the audio of all `entries` fits into the cache. It is read here.

        Raises:
          tf.errors.OpError: shards that are read here are missing, cut or damaged.
        """
        limit = self.experiment.data.audio_cache_mib * 2**20
        cached = self.fields == {"pcm", "labels"} and audio_bytes(entries, self.manifest.frame_samples) <= limit
        read = self._from_memory(entries) if cached else self._from_shards

        def windows(source: _Fields) -> tf.data.Dataset:
            statistics = {name: source[name] for name in ("recording", "mean", "std")}
            return read(source).map(lambda window: window | statistics)

        return windows

    def finish(self, window: _Fields, augment_seed: tf.Tensor | None = None):
        """Decodes, augments and pads one window.

        Args:
          window: its stored fields, from `cutter`.
          augment_seed: int64 [2]; None never augments.

        Returns:
          A tuple `(inputs, labels, mask)` as in `affect.data.dataset`, without the batch axis.
        """
        frames = tf.shape(window["labels"])[0]
        inputs = {}
        for modality in self.experiment.modalities:
            _, make_input = _INPUTS[modality]
            inputs[modality] = self._padded(make_input(self, window, augment_seed), frames)
        mask = tf.sequence_mask(frames, self.window_frames)
        if self.training and "face_found" in window:
            mask &= self._padded(window["face_found"], frames)
        return inputs, self._padded(window["labels"], frames), mask

    def _from_shards(self, source: _Fields) -> tf.data.Dataset:
        def frames(names: set[str]) -> tf.data.Dataset:
            # `source` comes from entries that end before the labels that are delayed beyond them.
            stored = source["frames"] + self.delay_frames
            return read_frames(source["shards"], source["recording"], stored, names, **self._sizes)

        in_order = frames(self.fields)
        if self.delay_frames:
            delayed_labels = frames({"labels"}).skip(self.delay_frames)
            in_order = tf.data.Dataset.zip(in_order, delayed_labels).map(lambda frame, label: frame | label)
        return in_order.skip(source["offset"]).batch(self.window_frames).take(source["count"])

    def _from_memory(self, entries: list[RecordingEntry]) -> Callable[[_Fields], tf.data.Dataset]:
        data_dir, delay = self.experiment.data.data_dir, self.delay_frames
        recordings = tuple(
            StoredRecording(
                tuple(storage.join(data_dir, shard) for shard in entry.shards), entry.name, entry.frames + delay
            )
            for entry in entries
        )
        pcm, labels = read_audio(recordings, **self._sizes)
        names = tf.constant([recording.name for recording in recordings])
        firsts = tf.constant(np.cumsum([0, *(recording.frames for recording in recordings[:-1])]), tf.int64)

        # No Python in here: an iterator that the garbage collector deletes waits for its threads, and these would wait
        # for Python.
        def windows(source: _Fields) -> tf.data.Dataset:
            first = tf.boolean_mask(firsts, names == source["recording"])[0]

            def window(index):
                start = source["offset"] + index * self.window_frames
                end = tf.minimum(start + self.window_frames, source["frames"])
                start, end = first + start, first + end
                return {"pcm": pcm[start:end], "labels": labels[start + delay : end + delay]}

            return tf.data.Dataset.range(source["count"]).map(window)

        return windows

    @property
    def _sizes(self) -> dict[str, int]:
        return {name: getattr(self.manifest, name) for name in ("frame_samples", "frames_per_record")}

    def _padded(self, values: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
        """Pads the first axis, which has `frames` entries, with zeros to the window size."""
        values = tf.pad(values, [[0, self.window_frames - frames]] + [[0, 0]] * (values.shape.rank - 1))
        return tf.ensure_shape(values, [self.window_frames, *values.shape[1:]])


def _audio_input(reader: WindowReader, window: _Fields, augment_seed: tf.Tensor | None) -> tf.Tensor:
    """Returns the samples as float32 [frames, frame_samples], standardised if the experiment says so."""
    del augment_seed  # audio is not augmented
    audio = tf.cast(window["pcm"], tf.float32) / PCM_FULL_SCALE
    if reader.experiment.data.standardise == "recording":
        audio = (audio - window["mean"]) / window["std"]
    return audio


def _video_input(reader: WindowReader, window: _Fields, augment_seed: tf.Tensor | None) -> tf.Tensor:
    """Returns the face crops as uint8 [frames, crop_size, crop_size, 3], augmented if there is a seed.

    Where faceless frames are masked in training, their crops are black, in evaluation too: a network must see the same.
    """
    size = reader.manifest.crop_size
    decode = partial(decode_jpeg, size=size, recording=window["recording"])
    # With the shape, it also maps a window of no frames.
    crops = tf.map_fn(decode, window["jpeg"], fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8))
    if augment_seed is not None and reader.experiment.augment.enabled:
        crops = augment_window(crops, reader.experiment.augment, augment_seed)
    if "face_found" in window:
        crops = tf.where(window["face_found"][:, None, None, None], crops, tf.zeros_like(crops))
    return crops


# The stored field of each modality, and the function from a window to the network's input.
_INPUTS = {"audio": ("pcm", _audio_input), "video": ("jpeg", _video_input)}
