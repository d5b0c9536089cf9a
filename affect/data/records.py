"""The one schema of our shards, used by writer and reader alike.

One TFRecord is a run of consecutive frames of one recording: JPEG face crops, where they were cut and whether a face
was found there, int16 PCM as recorded, and labels. A recording without video or sound has none of it. Bytes are
deterministic: no clock time, no absolute path, deterministic protobuf.
"""

from typing import Any

import numpy as np
import tensorflow as tf

JPEG_QUALITY = 90


def shard_name(partition: str, recording: str, index: int, count: int) -> str:
    """Relative path of one shard."""
    return f"{partition}/{recording}-{index:05d}-of-{count:05d}.tfrecord"


def serialize(
    recording: str,
    start_frame: int,
    crops: list[bytes],
    squares: np.ndarray,
    found: np.ndarray,
    pcm: np.ndarray,
    labels: np.ndarray,
) -> bytes:
    """One run of consecutive frames as a `tf.train.Example`.

    Args:
      recording: its name.
      start_frame: index of the first frame in the recording.
      crops: JPEG bytes, one per frame; empty without video, like `squares` and `found`.
      squares: [frames, 3], left, top and edge of each crop in pixels of the source picture.
      found: bool [frames], whether a face was found.
      pcm: int16 [frames, frame_samples]; empty without sound.
      labels: float32 [frames, 2].
    """
    features = {
        "recording": _bytes([recording.encode()]),
        "start_frame": _int64([start_frame]),
        "video/jpeg": _bytes(crops),
        "video/square": _floats(squares),
        "video/face_found": _int64(found.astype(np.int64)),
        "audio/pcm": _bytes([pcm.astype("<i2").tobytes()]),
        "labels": _floats(labels),
    }
    # The plain call orders map entries differently from process to process.
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor, frame_samples: int) -> dict[str, tf.Tensor]:
    """The inverse of `serialize`, in graph mode.

    Returns:
      "recording" string [], "start_frame" int64 [], "jpeg" string [frames], "square" float32 [frames, 3],
      "face_found" bool [frames], "pcm" int16 [frames, frame_samples], "labels" float32 [frames, 2].
    """
    schema = {
        "recording": tf.io.FixedLenFeature([], tf.string),
        "start_frame": tf.io.FixedLenFeature([], tf.int64),
        "video/jpeg": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
        "video/square": tf.io.FixedLenSequenceFeature([3], tf.float32, allow_missing=True),
        "video/face_found": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        "audio/pcm": tf.io.FixedLenFeature([], tf.string),
        "labels": tf.io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
    }
    features = tf.io.parse_single_example(serialized, schema)
    return {
        "recording": features["recording"],
        "start_frame": features["start_frame"],
        "jpeg": features["video/jpeg"],
        "square": features["video/square"],
        "face_found": tf.cast(features["video/face_found"], tf.bool),
        "pcm": tf.reshape(tf.io.decode_raw(features["audio/pcm"], tf.int16), [-1, frame_samples]),
        "labels": features["labels"],
    }


def _floats(values: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=np.asarray(values, np.float32).ravel()))


def _bytes(values: list[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _int64(values: Any) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
