"""The sound and labels of whole recordings, read from their shards once and kept for every later epoch.

A shard holds pictures beside the sound. A network that only hears would read them all again in every epoch.
"""

import functools

import numpy as np
import tensorflow as tf

from affect.data.manifest import RecordingEntry
from affect.data.records import parse


def audio_bytes(entries: list[RecordingEntry], frame_samples: int) -> int:
    """Memory that `read_audio` takes for these recordings."""
    return sum(entry.frames for entry in entries) * frame_samples * np.dtype(np.int16).itemsize


@functools.cache
def read_audio(shards: tuple[str, ...], frame_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """A recording's sound, int16 [frames, frame_samples], and its labels, float32 [frames, 2].

    Args:
      shards: paths, in order.
      frame_samples: as in the manifest.
    """
    records = tf.data.TFRecordDataset(list(shards)).map(lambda record: _sound(record, frame_samples))
    pcm, labels = zip(*records.as_numpy_iterator(), strict=True)
    return np.concatenate(pcm), np.concatenate(labels)


def _sound(record: tf.Tensor, frame_samples: int) -> tuple[tf.Tensor, tf.Tensor]:
    fields = parse(record, frame_samples)
    return fields["pcm"], fields["labels"]
