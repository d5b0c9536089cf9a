"""The one schema of our shards and their manifest, used by writer and reader alike.

    DATA_DIR/
      manifest.json                                   rates, shapes, counts, partitions, statistics, settings
      {partition}/{recording}-{i:05d}-of-{n:05d}.tfrecord

One TFRecord is a run of consecutive frames of one recording: JPEG face crops, int16 PCM as recorded, labels, and per
frame whether a face was found. The manifest is the only source of rates, shapes and counts: readers take them from
there, never from flags. Bytes are deterministic: no clock time, no absolute path, deterministic protobuf.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from affect import __version__
from affect.errors import UserError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
PARTITIONS = ("train", "dev", "test")
JPEG_QUALITY = 90


@dataclass(frozen=True)
class RecordingEntry:
    """One recording in the manifest.

    Attributes:
      name, partition, subject: as the corpus calls them.
      frames: consecutive frames in its shards.
      has_labels: False where the corpus withholds them (the shards then hold zeros).
      audio_mean, audio_deviation: of the whole recording's samples, full scale = 1.
      faces_found: frames in which a face was really found.
      shards: paths relative to the data folder, in order.
      sha256: of each shard, in the same order.
    """

    name: str
    partition: str
    subject: str
    frames: int
    has_labels: bool
    audio_mean: float
    audio_deviation: float
    faces_found: int
    shards: tuple[str, ...]
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """What is in a data folder; `preprocessing` holds the settings it was made with, for the record."""

    layout: str
    synthetic: bool
    frame_rate_hz: int
    sample_rate_hz: int
    frame_samples: int
    crop_size: int
    frames_per_record: int
    preprocessing: dict[str, Any]
    recordings: tuple[RecordingEntry, ...]

    def partition(self, name: str) -> list[RecordingEntry]:
        """The recordings of one partition, in order."""
        return [entry for entry in self.recordings if entry.partition == name]

    def to_json(self) -> str:
        """Indented JSON; the same manifest gives the same bytes."""
        header = {"schema_version": SCHEMA_VERSION, "written_by": f"affect {__version__} make_tfrecords"}
        return json.dumps(header | dataclasses.asdict(self), indent=2) + "\n"

    def fingerprint(self) -> str:
        """SHA-256 over the manifest, which holds every shard's: two equal ones mean the same data."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def read_manifest(data_dir: Path) -> Manifest:
    """Reads and checks `manifest.json`.

    Raises:
      UserError: no folder, no manifest, another schema version, or a manifest that is damaged or leaves its folder.
    """
    path = data_dir / MANIFEST_NAME
    if not data_dir.is_dir():
        raise UserError(f"data folder {data_dir} does not exist; make_tfrecords writes it")
    if not path.is_file():
        raise UserError(f"{data_dir} has no {MANIFEST_NAME}; make_tfrecords writes it last, so was it interrupted?")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, written_by = content.pop("schema_version"), content.pop("written_by")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a manifest ({error!r})") from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema version {version}, written by {written_by}; this is affect {__version__} and reads "
            f"version {SCHEMA_VERSION}. Run make_tfrecords again."
        )
    try:
        entries = tuple(
            RecordingEntry(**entry | {"shards": tuple(entry["shards"]), "sha256": tuple(entry["sha256"])})
            for entry in content.pop("recordings")
        )
        manifest = Manifest(recordings=entries, **content)
    except (TypeError, KeyError) as error:
        raise UserError(f"{path}: damaged manifest ({error})") from error
    for shard in (shard for entry in entries for shard in entry.shards):
        if not (data_dir / shard).resolve().is_relative_to(data_dir.resolve()):
            raise UserError(f"{path}: shard {shard!r} lies outside the data folder")
    return manifest


def shard_name(partition: str, recording: str, index: int, count: int) -> str:
    """Relative path of one shard."""
    return f"{partition}/{recording}-{index:05d}-of-{count:05d}.tfrecord"


def serialize(
    recording: str, start_frame: int, crops: list[bytes], pcm: np.ndarray, labels: np.ndarray, found: np.ndarray
) -> bytes:
    """One run of consecutive frames as a `tf.train.Example`.

    Args:
      recording: its name.
      start_frame: index of the first frame in the recording.
      crops: JPEG bytes, one per frame.
      pcm: int16 [frames, frame_samples].
      labels: float32 [frames, 2].
      found: bool [frames], whether a face was found.
    """
    features = {
        "recording": _bytes([recording.encode()]),
        "start_frame": _int64([start_frame]),
        "video/jpeg": _bytes(crops),
        "video/face_found": _int64(found.astype(np.int64)),
        "audio/pcm": _bytes([pcm.astype("<i2").tobytes()]),
        "labels": tf.train.Feature(float_list=tf.train.FloatList(value=labels.astype(np.float32).ravel())),
    }
    # The plain call orders map entries differently from process to process.
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor, frame_samples: int) -> dict[str, tf.Tensor]:
    """The inverse of `serialize`, in graph mode.

    Returns:
      "recording" string [], "start_frame" int64 [], "jpeg" string [frames], "face_found" bool [frames],
      "pcm" int16 [frames, frame_samples], "labels" float32 [frames, 2].
    """
    schema = {
        "recording": tf.io.FixedLenFeature([], tf.string),
        "start_frame": tf.io.FixedLenFeature([], tf.int64),
        "video/jpeg": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
        "video/face_found": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        "audio/pcm": tf.io.FixedLenFeature([], tf.string),
        "labels": tf.io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
    }
    features = tf.io.parse_single_example(serialized, schema)
    return {
        "recording": features["recording"],
        "start_frame": features["start_frame"],
        "jpeg": features["video/jpeg"],
        "face_found": tf.cast(features["video/face_found"], tf.bool),
        "pcm": tf.reshape(tf.io.decode_raw(features["audio/pcm"], tf.int16), [-1, frame_samples]),
        "labels": features["labels"],
    }


def _bytes(values: list[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _int64(values: Any) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
