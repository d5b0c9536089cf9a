"""The schema of the shards, with the one JPEG encoder and the one decoder; writer, reader and inspector share them.

One TFRecord holds consecutive frames of one recording: face crops as JPEG, where they were cut and whether a face was
found there, int16 PCM as recorded, and labels. The fields of video or sound are empty if the recording has none. The
bytes are deterministic: no time of writing, no absolute path, deterministic protobuf.

Only TensorFlow decodes the JPEGs: OpenCV decodes the same bytes to slightly different pixels.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf

JPEG_QUALITY = 90


def shard_name(partition: str, recording: str, index: int, count: int) -> str:
    """Returns the path of one shard, relative to the data folder."""
    return f"{partition}/{recording}-{index:05d}-of-{count:05d}.tfrecord"


def encode_jpeg(rgb: np.ndarray) -> bytes:
    """Encodes a picture as JPEG of quality `JPEG_QUALITY`.

    Args:
      rgb: uint8 [height, width, 3].
    """
    import cv2  # only the writer encodes: training must not need OpenCV

    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def decode_jpeg(jpeg: tf.Tensor | bytes, size: int, recording: tf.Tensor | str) -> tf.Tensor:
    """Decodes one face crop, in eager or graph mode.

    The header is read first: a few kilobytes may announce a picture of gigabytes. TensorFlow's decoder would also take
    PNG and GIF, whatever its name says.

    Args:
      jpeg: string [], what `encode_jpeg` returned.
      size: edge of the crops in pixels, from the manifest.
      recording: string [], name of the recording, for errors.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      tf.errors.InvalidArgumentError: the bytes are not a JPEG of an RGB picture of that size.
    """
    is_jpeg = _assert(tf.io.is_jpeg(jpeg), [recording, "has a crop that is not a JPEG"])
    with tf.control_dependencies([is_jpeg]):
        shape = tf.io.extract_jpeg_shape(jpeg)
    fits = _assert(
        tf.reduce_all(shape == [size, size, 3]),
        [recording, f"has a crop that is not an RGB picture of {size} x {size} pixels; its shape is", shape],
    )
    with tf.control_dependencies([fits]):
        return tf.ensure_shape(tf.io.decode_jpeg(jpeg, channels=3), [size, size, 3])


def serialize(
    recording: str,
    start_frame: int,
    crops: list[bytes],
    squares: np.ndarray,
    found: np.ndarray,
    pcm: np.ndarray,
    labels: np.ndarray,
) -> bytes:
    """Serializes consecutive frames of one recording as a `tf.train.Example`.

    Args:
      recording: name of the recording.
      start_frame: index of the first frame in the recording.
      crops: one JPEG per frame; empty without video, as are `squares` and `found`.
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
    # Without this option the order of the features differs between processes.
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor, frame_samples: int, needed: Collection[str] = ()) -> dict[str, tf.Tensor]:
    """Parses one record, in eager or graph mode; the inverse of `serialize`.

    Args:
      serialized: string [], one record.
      frame_samples: audio samples per frame, from the manifest.
      needed: fields that may not be empty, as they are in recordings without video or sound.

    Returns:
      "recording" string [], "start_frame" int64 [], "jpeg" string [frames], "square" float32 [frames, 3],
      "face_found" bool [frames], "pcm" int16 [frames, frame_samples], "labels" float32 [frames, 2].

    Raises:
      tf.errors.InvalidArgumentError: the bytes are not such a record, or its fields do not cover the same frames.
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
    record = {
        "recording": features["recording"],
        "start_frame": features["start_frame"],
        "jpeg": features["video/jpeg"],
        "square": features["video/square"],
        "face_found": tf.cast(features["video/face_found"], tf.bool),
        "pcm": tf.reshape(tf.io.decode_raw(features["audio/pcm"], tf.int16), [-1, frame_samples]),
        "labels": features["labels"],
    }
    names = ("labels", "jpeg", "square", "face_found", "pcm")
    counts = tf.stack([tf.shape(record[name])[0] for name in names])
    may_be_empty = tf.constant([name not in needed for name in names])
    _assert(
        tf.reduce_all((counts == counts[0]) | ((counts == 0) & may_be_empty)),
        [record["recording"], "has a record whose fields cover different numbers of frames, from frame",
         record["start_frame"], f"on: {', '.join(names)} =", counts],
    )  # fmt: skip
    return record


def read_frames(
    shards: Any,
    recording: Any,
    frames: Any,
    fields: Collection[str],
    *,
    frame_samples: int,
    frames_per_record: int,
) -> tf.data.Dataset:
    """Returns some fields of a recording, one element per frame.

    Reading never ends early without an error: TensorFlow takes a shard that was cut between two records, or an empty
    one, for a complete one.

    Args:
      shards: string [shards], the paths of its shards, in order.
      recording: string [], its name.
      frames: int64 [], its number of frames in the manifest.
      fields: fields of `parse` that have one value per frame; in no record may they be empty.
      frame_samples: audio samples per frame, from the manifest.
      frames_per_record: frames per record, from the manifest.

    Raises:
      tf.errors.OpError: when the dataset is read: a shard is missing or damaged, a record is not the next one of the
        recording, or there are fewer or more frames.
    """

    def parsed(index, serialized):
        record = parse(serialized, frame_samples, fields)
        start = index * frames_per_record
        _assert(
            (record["recording"] == recording) & (record["start_frame"] == start),
            ["expected", recording, "from frame", start, "and found", record["recording"], "from frame",
             record["start_frame"]],
        )  # fmt: skip
        return {name: record[name] for name in fields}

    records = tf.data.TFRecordDataset(shards).enumerate().map(parsed)
    return records.unbatch().apply(tf.data.experimental.assert_cardinality(frames))


def _assert(condition: tf.Tensor, message: list[tf.Tensor | str]) -> tf.Operation | None:
    """Raises `tf.errors.InvalidArgumentError` with this message; runs in any case where the graph is a function."""
    return tf.debugging.Assert(condition, message, summarize=10)


def _floats(values: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=np.asarray(values, np.float32).ravel()))


def _bytes(values: list[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _int64(values: Any) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
