"""Audio and labels of whole recordings, read from their shards once and kept in memory for all later epochs.

A shard stores images beside the audio. Without the cache, an audio-only network would read them again in every epoch.
"""

import functools

import numpy as np
import tensorflow as tf

from affect.data.manifest import RecordingEntry
from affect.data.records import parse


def audio_bytes(entries: list[RecordingEntry], frame_samples: int) -> int:
    """Returns the memory that `read_audio` needs for the audio of these recordings, in bytes."""
    return sum(entry.frames for entry in entries) * frame_samples * np.dtype(np.int16).itemsize


@functools.cache
def read_audio(shards: tuple[str, ...], frame_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads the audio and the labels of one recording.

    Args:
      shards: paths of the recording's shards, in order.
      frame_samples: audio samples per frame, from the manifest.

    Returns:
      A tuple of the audio, int16 [frames, frame_samples], and the labels, float32 [frames, 2].
    """
    records = tf.data.TFRecordDataset(list(shards)).map(lambda record: _audio_and_labels(record, frame_samples))
    pcm, labels = zip(*records.as_numpy_iterator(), strict=True)
    return np.concatenate(pcm), np.concatenate(labels)


def _audio_and_labels(record: tf.Tensor, frame_samples: int) -> tuple[tf.Tensor, tf.Tensor]:
    fields = parse(record, frame_samples, ("pcm",))
    return fields["pcm"], fields["labels"]
