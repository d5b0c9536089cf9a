"""Reads and checks every record of a folder of shards, and summarises its partitions.

The checks: every shard exists, is readable and is the file that the manifest describes; its records continue the
recording without gaps; every picture can be decoded; and the counts are those of the manifest.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from affect import storage
from affect.config import PARTITIONS
from affect.data.manifest import Manifest, RecordingEntry, read_manifest
from affect.data.records import parse
from affect.data.shard_check import checked_records
from affect.errors import UserError
from affect.media.contact_sheet import sheet_frames
from tfrecords_tools.shards import draw_contact_sheet


@dataclass(frozen=True)
class Summary:
    """One partition in numbers.

    Attributes:
      recordings: number of recordings.
      frames: number of frames.
      video_frames: number of frames of the recordings with video.
      faces_found: number of frames in which a face was found.
      label_range: minimum and maximum of arousal and valence, [2] each; None without labels.
      without_sound, without_video: number of recordings that have none.
    """

    recordings: int
    frames: int
    video_frames: int
    faces_found: int
    label_range: tuple[np.ndarray, np.ndarray] | None
    without_sound: int
    without_video: int


def inspect(data_dir: str | Path, sheets_dir: Path | None = None) -> tuple[Manifest, dict[str, Summary]]:
    """Reads every record of every shard.

    Args:
      data_dir: folder of the shards, local or remote.
      sheets_dir: folder in which to draw a contact sheet of every recording; None draws none.

    Returns:
      The manifest, and a summary of each partition that has recordings.

    Raises:
      UserError: a shard is missing, empty, damaged, or differs from the manifest; names the first one.
    """
    manifest = read_manifest(data_dir)
    labels: dict[str, list[np.ndarray]] = {name: [] for name in PARTITIONS}
    for entry in tqdm(manifest.recordings, desc="recordings", unit="rec"):
        values = _check_recording(data_dir, manifest, entry)
        if entry.has_labels:
            labels[entry.partition].append(values)
        if sheets_dir is not None and entry.has_video:
            with storage.atomic_write(sheets_dir / f"{entry.name}.png") as temporary:
                temporary.write_bytes(_contact_sheet(data_dir, manifest, entry))
    return manifest, {
        name: _summarise(manifest.partition(name), labels[name]) for name in PARTITIONS if manifest.partition(name)
    }


def _check_recording(data_dir: str | Path, manifest: Manifest, entry: RecordingEntry) -> np.ndarray:
    """Checks all files of a recording; returns its labels, [frames, 2]."""
    frames, faces, labels = 0, 0, []
    if not entry.shards:
        raise UserError(f"recording {entry.name} has no shards in the manifest")
    _check_features(data_dir, entry)
    for fields in checked_records(data_dir, manifest, entry):
        frames += len(fields["labels"])
        faces += int(tf.math.count_nonzero(fields["face_found"]))
        labels.append(fields["labels"].numpy())
    # Last, because a damaged record says more than a wrong checksum.
    for shard, digest in zip(entry.shards, entry.sha256, strict=True):
        path = storage.join(data_dir, shard)
        if hashlib.sha256(storage.read_bytes(path)).hexdigest() != digest:
            raise UserError(f"{path}: readable, but not the file that the manifest describes (SHA-256 differs)")
    if (frames, faces) != (entry.frames, entry.faces_found):
        raise UserError(
            f"recording {entry.name}: its shards hold {frames} frames, {faces} with a face; the manifest says "
            f"{entry.frames} and {entry.faces_found}"
        )
    return np.concatenate(labels)


def _check_features(data_dir: str | Path, entry: RecordingEntry) -> None:
    if not entry.features:
        return
    path = storage.join(data_dir, entry.features)
    if not storage.exists(path):
        raise UserError(f"{path}: the manifest names this features file, but it is missing")
    if hashlib.sha256(storage.read_bytes(path)).hexdigest() != entry.features_sha256:
        raise UserError(f"{path}: not the file that the manifest describes (SHA-256 differs)")


def _contact_sheet(data_dir: str | Path, manifest: Manifest, entry: RecordingEntry) -> bytes:
    """Draws the same contact sheet (PNG) that make_tfrecords drew, from the shards."""

    def records():
        for serialized in tf.data.TFRecordDataset([storage.join(data_dir, shard) for shard in entry.shards]):
            yield parse(serialized, manifest.frame_samples)

    found = np.concatenate([fields["face_found"].numpy() for fields in records()])
    jpegs = (jpeg for fields in records() for jpeg in fields["jpeg"].numpy())
    wanted = set(sheet_frames(found, manifest.frame_rate_hz))
    shown = {k: jpeg for k, jpeg in enumerate(jpegs) if k in wanted}
    return draw_contact_sheet(shown, found, manifest.crop_size, entry.name)


def _summarise(entries: list[RecordingEntry], labels: list[np.ndarray]) -> Summary:
    values = np.concatenate(labels) if labels else None
    return Summary(
        recordings=len(entries),
        frames=sum(entry.frames for entry in entries),
        video_frames=sum(entry.frames for entry in entries if entry.has_video),
        faces_found=sum(entry.faces_found for entry in entries),
        label_range=None if values is None else (values.min(axis=0), values.max(axis=0)),
        without_sound=sum(not entry.has_audio for entry in entries),
        without_video=sum(not entry.has_video for entry in entries),
    )
