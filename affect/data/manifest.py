"""The manifest of a data folder: what it records, and how it is read and checked.

    DATA_DIR/
      manifest.json                                         rates, shapes, counts, partitions, statistics, settings
      {partition}/{recording}-{i:05d}-of-{n:05d}.tfrecord   shards, see `records`
      features/{recording}.h5                               handcrafted features from the corpus, see `features`
      contact_sheets/{recording}.png                        face crops for visual inspection; no command reads them

The manifest is the only source of rates, shapes and counts: readers take them from it, never from flags.
"""

import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from affect import __version__, storage
from affect.config import NonNegativeInt, Partition, PositiveInt
from affect.errors import UserError

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
WRITTEN_BY = f"affect {__version__} make_tfrecords"
_MAX_NAME_BYTES = 100

# What a fingerprint covers. A field that is added or renamed here makes all existing data "other data".
_RATES_AND_SHAPES = ("frame_rate_hz", "sample_rate_hz", "frame_samples", "crop_size", "frames_per_record")
_CONTENT_OF_RECORDING = (
    "name", "partition", "frames", "has_labels", "has_audio", "has_video", "audio_mean", "audio_std",
    "faces_found", "features_sha256", "sha256",
)  # fmt: skip


class RecordingEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One recording in the manifest.

    Attributes:
      name: name of the recording in the corpus; see `is_recording_name`.
      partition: "train", "dev" or "test".
      subject: the speaker, as the corpus names them.
      frames: number of consecutive frames in the shards.
      has_labels: false where the corpus withholds the labels; the shards then hold zeros.
      has_audio, has_video: false where the recording has no such stream.
      audio_mean, audio_std: mean and standard deviation of all samples of the recording; full scale is 1.
      faces_found: number of frames in which the detector found a face.
      remarks: what a person should know about the recording: silence, streams that start late or differ in length, lost
        faces.
      features: path of the handcrafted features, relative to the data folder; empty where the corpus has none.
      features_sha256: SHA-256 of that file; empty where there is none.
      shards: paths of the shards in order, relative to the data folder.
      sha256: SHA-256 of each shard, in the same order.
      shard_bytes: size of each shard in bytes, in the same order; empty in manifests that version 0.1.0 wrote.
    """

    name: str
    partition: Partition
    subject: str
    frames: PositiveInt
    has_labels: bool
    has_audio: bool
    has_video: bool
    audio_mean: float
    audio_std: float = msgspec.field(name="audio_deviation")
    faces_found: NonNegativeInt
    remarks: tuple[str, ...]
    features: str
    features_sha256: str
    shards: tuple[str, ...]
    sha256: tuple[str, ...]
    shard_bytes: tuple[PositiveInt, ...] = ()

    def __post_init__(self):
        if not is_recording_name(self.name):
            raise ValueError(f"{self.name!r} is not a valid name of a recording")
        if len(self.shards) != len(self.sha256):
            raise ValueError(f"recording {self.name} has {len(self.shards)} shards and {len(self.sha256)} checksums")
        if self.shard_bytes and len(self.shards) != len(self.shard_bytes):
            raise ValueError(f"recording {self.name} has {len(self.shards)} shards and {len(self.shard_bytes)} sizes")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a data folder.

    Attributes:
      schema_version: version of this schema.
      written_by: package version and command that wrote the manifest. Both are fields, and not constants of the running
        package, so that a manifest that is read and written again keeps its bytes.
      layout: layout of the corpus.
      synthetic: whether the corpus is synthetic; everything computed from it must then say so.
      frame_rate_hz, sample_rate_hz, frame_samples, crop_size, frames_per_record: rates and shapes of the shards.
      preprocessing: the settings of preprocessing.
      left_out: the reason by name for each recording of the corpus that is not included.
      recordings: the recordings that are included.
    """

    schema_version: int = SCHEMA_VERSION
    written_by: str = WRITTEN_BY
    layout: str
    synthetic: bool
    frame_rate_hz: PositiveInt
    sample_rate_hz: PositiveInt
    frame_samples: PositiveInt
    crop_size: PositiveInt
    frames_per_record: PositiveInt
    preprocessing: dict[str, Any]
    left_out: dict[str, str]
    recordings: Annotated[tuple[RecordingEntry, ...], Meta(min_length=1)]

    def __post_init__(self):
        counts = Counter(entry.name.lower() for entry in self.recordings)
        for name, count in counts.most_common(1):
            if count > 1:
                raise ValueError(f"{count} recordings are called {name}")
        for entry in self.recordings:
            if entry.faces_found > entry.frames:
                raise ValueError(f"recording {entry.name} has {entry.faces_found} faces in {entry.frames} frames")

    def partition(self, name: str) -> list[RecordingEntry]:
        """Returns the recordings of one partition, in order."""
        return [entry for entry in self.recordings if entry.partition == name]

    def to_json(self) -> str:
        """Returns indented JSON; equal manifests give equal bytes."""
        return storage.encode_json(self)

    def fingerprint(self) -> str:
        """Returns a SHA-256 of the content: what a reader of the shards can see, in order; equal means the same data.

        Versions, settings, remarks and file names are left out: the checksums cover what they lead to.
        """
        content = {
            "rates_and_shapes": [getattr(self, name) for name in _RATES_AND_SHAPES],
            "recordings": [[getattr(entry, name) for name in _CONTENT_OF_RECORDING] for entry in self.recordings],
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def has_fingerprint(self, recorded: str) -> bool:
        """Returns whether a fingerprint is that of this data; accepts those of version 0.1.0, which hashed the file."""
        return recorded in (self.fingerprint(), hashlib.sha256(self.to_json().encode()).hexdigest())


class _Header(msgspec.Struct):
    """The fields that a manifest of any schema version has."""

    schema_version: int
    written_by: str


def read_manifest(data_dir: str | Path) -> Manifest:
    """Reads and checks `manifest.json` of a local folder or an object store.

    Raises:
      UserError: no folder, no manifest, another schema version, or a manifest that is damaged or names files outside
        its folder.
    """
    storage.check_utf_8(data_dir)
    path = storage.join(data_dir, MANIFEST_NAME)
    if not storage.is_remote(data_dir) and not Path(data_dir).is_dir():
        raise UserError(f"data folder {data_dir} does not exist; run make_tfrecords to create it")
    if not storage.exists(path):
        raise UserError(
            f"{data_dir} is not a complete folder of shards: it has no {MANIFEST_NAME}. Give the --output_dir of "
            "make_tfrecords; if that was stopped, run it again, and it will continue."
        )
    content = storage.read_bytes(path)
    header = storage.decode_json(content, _Header, f"{path}: not a manifest")
    if header.schema_version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {header.schema_version}, written by {header.written_by}; this is affect "
            f"{__version__}, which reads version {SCHEMA_VERSION}. Run make_tfrecords again."
        )
    manifest = storage.decode_json(content, Manifest, f"{path}: damaged manifest")
    for entry in manifest.recordings:
        for relative in (*entry.shards, *filter(None, [entry.features])):
            _check_inside(data_dir, relative, path)
    return manifest


def is_recording_name(name: str) -> bool:
    """Returns whether a name can be used in file names on every system.

    It consists of letters, digits, '_', '-' and '.', does not start with '.', and has at most 100 bytes in UTF-8.
    """
    return bool(re.fullmatch(r"[\w-][\w.-]*", name)) and len(name.encode()) <= _MAX_NAME_BYTES


def _check_inside(data_dir: str | Path, relative: str, manifest: str) -> None:
    """Refuses paths outside the data folder: a manifest from elsewhere must not make us read other files."""
    outside = PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts or "\0" in relative
    if not outside and not storage.is_remote(data_dir):
        # Not Path.resolve, which raises an error for links in a circle before Python 3.13.
        outside = not Path(os.path.realpath(Path(data_dir) / relative)).is_relative_to(os.path.realpath(data_dir))
    if outside:
        raise UserError(f"{manifest}: {relative!r} is outside the data folder")
