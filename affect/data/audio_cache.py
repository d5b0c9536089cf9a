"""Audio and labels of whole recordings, read from their shards once and kept in memory for all later epochs.

A shard stores images beside the audio. Without the cache, an audio-only network would read them again in every epoch.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from affect.data.manifest import RecordingEntry
from affect.data.records import read_frames


class StoredRecording(NamedTuple):
    """Where a recording is: the paths of its shards in order, its name, and its number of frames in the manifest."""

    shards: tuple[str, ...]
    name: str
    frames: int


def audio_bytes(entries: list[RecordingEntry], frame_samples: int) -> int:
    """Returns the memory that `read_audio` needs for the audio of these recordings, in bytes."""
    return sum(entry.frames for entry in entries) * frame_samples * np.dtype(np.int16).itemsize


@functools.cache
def read_audio(
    recordings: tuple[StoredRecording, ...], frame_samples: int, frames_per_record: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads the audio and the labels of some recordings, one after the other.

    Args:
      recordings: which recordings, in order.
      frame_samples: audio samples per frame, from the manifest.
      frames_per_record: frames per record, from the manifest.

    Returns:
      A tuple of the audio, int16 [frames, frame_samples], and the labels, float32 [frames, 2], with the frames of all
      recordings, in the memory of the CPU.

    Raises:
      tf.errors.OpError: as from `read_frames`.
    """
    frames = sum(recording.frames for recording in recordings)
    pcm, labels = np.empty((frames, frame_samples), np.int16), np.empty((frames, 2), np.float32)
    first = 0
    for shards, name, count in recordings:
        in_order = read_frames(
            list(shards),
            name,
            count,
            ("pcm", "labels"),
            frame_samples=frame_samples,
            frames_per_record=frames_per_record,
        )
        (whole,) = in_order.batch(count).as_numpy_iterator()
        pcm[first : first + count], labels[first : first + count] = whole["pcm"], whole["labels"]
        first += count
    with tf.device("CPU:0"):
        return tf.constant(pcm), tf.constant(labels)
