"""What lies in a data folder: the manifest, and how it is read and checked.

    DATA_DIR/
      manifest.json                                   rates, shapes, counts, partitions, statistics, settings
      {partition}/{recording}-{i:05d}-of-{n:05d}.tfrecord   see `records`
      features/{recording}.h5                         handcrafted features that the corpus ships, see `features`
      contact_sheets/{recording}.png                  crops to look through; no command reads them

The manifest is the only source of rates, shapes and counts: readers take them from there, never from flags.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_origin

from affect import __version__, storage
from affect.config import PARTITIONS
from affect.errors import UserError

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
_LONGEST_NAME_BYTES = 100
WRITTEN_BY = f"affect {__version__} make_tfrecords"


@dataclass(frozen=True)
class RecordingEntry:
    """One recording in the manifest.

    Attributes:
      name, partition, subject: as the corpus calls them.
      frames: consecutive frames in its shards.
      has_labels: False where the corpus withholds them (the shards then hold zeros).
      has_audio, has_video: False where the recording has none.
      audio_mean, audio_std: of the whole recording's samples, full scale = 1.
      faces_found: frames in which a face was really found.
      remarks: what a person should know of it: silence, streams that start late or differ in length, lost faces.
      features: path of its handcrafted features, relative to the data folder; empty where the corpus ships none.
      features_sha256: of that file.
      shards: paths relative to the data folder, in order.
      sha256: of each shard, in the same order.
    """

    name: str
    partition: str
    subject: str
    frames: int
    has_labels: bool
    has_audio: bool
    has_video: bool
    audio_mean: float
    audio_std: float
    faces_found: int
    remarks: tuple[str, ...]
    features: str
    features_sha256: str
    shards: tuple[str, ...]
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """What is in a data folder.

    Attributes:
      layout: of the corpus it was made from.
      synthetic: whether that corpus was, and whatever is computed from it must be called so.
      frame_rate_hz, sample_rate_hz, frame_samples, crop_size, frames_per_record: of the shards.
      preprocessing: the settings it was made with.
      left_out: recordings of the corpus that are not here, with the reason.
      recordings: those that are.
    """

    layout: str
    synthetic: bool
    frame_rate_hz: int
    sample_rate_hz: int
    frame_samples: int
    crop_size: int
    frames_per_record: int
    preprocessing: dict[str, Any]
    left_out: dict[str, str]
    recordings: tuple[RecordingEntry, ...]

    def partition(self, name: str) -> list[RecordingEntry]:
        """The recordings of one partition, in order."""
        return [entry for entry in self.recordings if entry.partition == name]

    def to_json(self) -> str:
        """Indented JSON; the same manifest gives the same bytes."""
        header = {"schema_version": SCHEMA_VERSION, "written_by": WRITTEN_BY}
        return json.dumps(header | dataclasses.asdict(self), indent=2) + "\n"

    def fingerprint(self) -> str:
        """SHA-256 over the manifest, which holds every shard's: two equal ones mean the same data."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def read_manifest(data_dir: str | Path) -> Manifest:
    """Reads and checks `manifest.json`, here or on an object store.

    Raises:
      UserError: no folder, no manifest, another schema version, or a manifest that is damaged or leaves its folder.
    """
    path = storage.join(data_dir, MANIFEST_NAME)
    if not storage.is_remote(data_dir) and not Path(data_dir).is_dir():
        raise UserError(f"data folder {data_dir} does not exist; make_tfrecords writes it")
    if not storage.exists(path):
        raise UserError(
            f"{data_dir} has no {MANIFEST_NAME}; make_tfrecords writes it last: start it again, and it goes on"
        )
    try:
        content = dict(json.loads(storage.read_bytes(path)))
        version, written_by = content.pop("schema_version"), content.pop("written_by")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: not a manifest ({type(error).__name__}: {error})") from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema version {version}, written by {written_by}; this is affect {__version__} and reads "
            f"version {SCHEMA_VERSION}. Run make_tfrecords again."
        )
    try:
        manifest = Manifest(recordings=tuple(entry_from_json(item) for item in content.pop("recordings")), **content)
        _check_types(manifest)
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged manifest ({error})") from error
    names = [entry.name.lower() for entry in manifest.recordings]
    rates = (manifest.frame_rate_hz, manifest.sample_rate_hz, manifest.frame_samples, manifest.crop_size)
    if not names or len(set(names)) < len(names) or not all(rates):
        raise UserError(f"{path}: damaged manifest (no recordings, one of them twice, or a rate of 0)")
    for entry in manifest.recordings:
        for relative in (*entry.shards, *filter(None, [entry.features])):
            _check_inside(data_dir, relative, path)
    return manifest


def entry_from_json(content: dict[str, Any]) -> RecordingEntry:
    """The inverse of `dataclasses.asdict`, after a trip through JSON.

    Raises:
      TypeError, ValueError, KeyError: other content than an entry's.
    """
    lists = {name: tuple(content[name]) for name in ("remarks", "shards", "sha256")}
    entry = RecordingEntry(**content | lists)
    _check_types(entry)
    if not is_recording_name(entry.name):
        raise ValueError(f"{entry.name!r} is not the name of a recording")
    if entry.partition not in PARTITIONS or len(entry.shards) != len(entry.sha256) or entry.frames < 1:
        raise ValueError(f"the entry of recording {entry.name}")
    return entry


def is_recording_name(name: str) -> bool:
    """Whether files may be called so, everywhere: letters, digits, '_', '-' and '.', and no '.' first."""
    return bool(re.fullmatch(r"[\w-][\w.-]*", name)) and len(name.encode()) <= _LONGEST_NAME_BYTES


def _check_types(content: Any) -> None:
    """JSON may hold anything, and a dataclass does not look."""
    for item in dataclasses.fields(content):
        kind, value = get_origin(item.type) or item.type, getattr(content, item.name)
        fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        if fits and item.type in (tuple[str, ...], dict[str, str]):
            fits = all(isinstance(text, str) for text in (value.values() if kind is dict else value))
        if not fits or (kind is int and value < 0):
            raise TypeError(f"{item.name} is {value!r}")


def _check_inside(data_dir: str | Path, relative: str, manifest: str) -> None:
    """A manifest from a stranger must not lead us to files elsewhere."""
    leaves = PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts or "\0" in relative
    if not leaves and not storage.is_remote(data_dir):
        leaves = not (Path(data_dir) / relative).resolve().is_relative_to(Path(data_dir).resolve())
    if leaves:
        raise UserError(f"{manifest}: {relative!r} lies outside the data folder")
