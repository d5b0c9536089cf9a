r"""Prints what is in a folder of shards and fails where a shard is missing, empty, damaged or not as the manifest says.

Every record is read and every picture decoded. Exit code 2 at the first fault. `--contact_sheets=DIR` draws the
recordings' contact sheets again, from the shards.

Example:
  python -m tfrecords_tools.inspect_tfrecords --data_dir=data/records --contact_sheets=data/sheets
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags
from tqdm import tqdm

from affect import cli, storage
from affect.config import PARTITIONS
from affect.data.manifest import Manifest, RecordingEntry, read_manifest
from affect.data.records import parse
from affect.errors import UserError
from affect.media.contact_sheet import sheet_frames
from affect.storage import atomic_write
from tfrecords_tools.shards import draw_contact_sheet


@dataclass(frozen=True)
class Summary:
    """One partition: recordings, frames, frames with a face, range of the labels (None without labels), what lacks."""

    recordings: int
    frames: int
    faces_found: int
    label_range: tuple[np.ndarray, np.ndarray] | None
    without_sound: int
    without_video: int


def inspect(data_dir: str | Path, sheets_dir: Path | None = None) -> tuple[Manifest, dict[str, Summary]]:
    """Reads every record of every shard.

    Args:
      data_dir: the shards, here or elsewhere.
      sheets_dir: folder to draw a contact sheet of every recording into.

    Returns:
      The manifest, and a summary per partition.

    Raises:
      UserError: names the first shard that is missing, empty, damaged, or other than the manifest says.
    """
    manifest = read_manifest(data_dir)
    labels: dict[str, list[np.ndarray]] = {name: [] for name in PARTITIONS}
    for entry in tqdm(manifest.recordings, desc="recordings", unit="rec"):
        values = _check_recording(data_dir, manifest, entry)
        if entry.has_labels:
            labels[entry.partition].append(values)
        if sheets_dir is not None and entry.has_video:
            with atomic_write(sheets_dir / f"{entry.name}.png") as temporary:
                temporary.write_bytes(_contact_sheet(data_dir, manifest, entry))
    return manifest, {
        name: _summarise(manifest.partition(name), labels[name]) for name in PARTITIONS if manifest.partition(name)
    }


def _check_recording(data_dir: str | Path, manifest: Manifest, entry: RecordingEntry) -> np.ndarray:
    """The recording's labels [frames, 2], after all its shards have been found sound."""
    frames, faces, labels = 0, 0, []
    if not entry.shards:
        raise UserError(f"recording {entry.name} has no shards in the manifest")
    _check_features(data_dir, entry)
    for shard, digest in zip(entry.shards, entry.sha256, strict=True):
        path = storage.join(data_dir, shard)
        if not storage.exists(path):
            raise UserError(f"{path}: the manifest names this shard, but it is missing")
        if storage.stamp(path)[0] == 0:
            raise UserError(f"{path}: the shard is empty")
        try:
            for fields in _records(path, manifest, entry.has_video):
                _check_record(path, fields, entry, frames, manifest)
                frames += len(fields["labels"])
                faces += int(tf.math.count_nonzero(fields["face_found"]))
                labels.append(fields["labels"].numpy())
        except tf.errors.OpError as error:
            raise UserError(f"{path}: damaged at frame {frames} ({error.message})") from error
        # Last: a broken record says more than a checksum does.
        if hashlib.sha256(storage.read_bytes(path)).hexdigest() != digest:
            raise UserError(f"{path}: readable, but not the file that the manifest describes (SHA-256 differs)")
    if (frames, faces) != (entry.frames, entry.faces_found):
        raise UserError(
            f"recording {entry.name}: {frames} frames, {faces} with a face, in its shards; "
            f"{entry.frames} and {entry.faces_found} in the manifest"
        )
    return np.concatenate(labels)


def _check_features(data_dir: str | Path, entry: RecordingEntry) -> None:
    if not entry.features:
        return
    path = storage.join(data_dir, entry.features)
    if not storage.exists(path):
        raise UserError(f"{path}: the manifest names these features, but they are missing")
    if hashlib.sha256(storage.read_bytes(path)).hexdigest() != entry.features_sha256:
        raise UserError(f"{path}: not the file that the manifest describes (SHA-256 differs)")


def _check_record(path: str, fields: dict, entry: RecordingEntry, start: int, manifest: Manifest) -> None:
    """One record continues its recording and holds decodable pictures, sound and labels for the same frames."""
    if fields["recording"].numpy() != entry.name.encode() or int(fields["start_frame"]) != start:
        raise UserError(
            f"{path}: expected {entry.name} from frame {start}, found {fields['recording'].numpy()} "
            f"from frame {int(fields['start_frame'])}"
        )
    counts = {what: len(fields[what]) for what in ("labels", "pcm", "jpeg", "square", "face_found")}
    frames = counts["labels"]
    pictures = frames if entry.has_video else 0
    expected = [frames, frames if entry.has_audio else 0, pictures, pictures, pictures]
    if list(counts.values()) != expected or not frames:
        raise UserError(f"{path}, frame {start}: counts differ: {counts}")
    size = manifest.crop_size
    if entry.has_video and fields["crop_shape"].numpy().tolist() != [frames, size, size, 3]:
        raise UserError(f"{path}, frame {start}: a crop is not {size} x {size} RGB")


def _contact_sheet(data_dir: str | Path, manifest: Manifest, entry: RecordingEntry) -> bytes:
    """The PNG that make_tfrecords drew, from the shards."""

    def records():
        for serialized in tf.data.TFRecordDataset([storage.join(data_dir, shard) for shard in entry.shards]):
            yield parse(serialized, manifest.frame_samples)

    found = np.concatenate([fields["face_found"].numpy() for fields in records()])
    jpegs = (jpeg for fields in records() for jpeg in fields["jpeg"].numpy())
    wanted = set(sheet_frames(found, manifest.frame_rate_hz))
    return draw_contact_sheet({k: jpeg for k, jpeg in enumerate(jpegs) if k in wanted}, found)


def _records(path: str, manifest: Manifest, has_video: bool) -> tf.data.Dataset:
    """Parsed records, with the shape of their decoded pictures where there are any."""

    def decode(serialized):
        fields = parse(serialized, manifest.frame_samples)
        if not has_video:
            return fields
        crops = tf.map_fn(tf.io.decode_jpeg, fields["jpeg"], fn_output_signature=tf.uint8)
        return fields | {"crop_shape": tf.shape(crops)}

    return tf.data.TFRecordDataset(path).map(decode, tf.data.AUTOTUNE)


def _summarise(entries: list[RecordingEntry], labels: list[np.ndarray]) -> Summary:
    values = np.concatenate(labels) if labels else None
    return Summary(
        recordings=len(entries),
        frames=sum(entry.frames for entry in entries),
        faces_found=sum(entry.faces_found for entry in entries),
        label_range=None if values is None else (values.min(axis=0), values.max(axis=0)),
        without_sound=sum(not entry.has_audio for entry in entries),
        without_video=sum(not entry.has_video for entry in entries),
    )


def _main() -> None:
    args = flags.FLAGS
    manifest, summaries = inspect(args.data_dir, Path(args.contact_sheets) if args.contact_sheets else None)
    kind = "synthetic, " if manifest.synthetic else ""
    print(
        f"{manifest.layout} corpus ({kind}{manifest.frame_rate_hz} fps, {manifest.sample_rate_hz} Hz, "
        f"{manifest.crop_size} x {manifest.crop_size} crops), data fingerprint {manifest.fingerprint()[:12]}"
    )
    for name, summary in summaries.items():
        minutes = summary.frames / manifest.frame_rate_hz / 60.0
        line = f"{name:<6}{summary.recordings:4d} recordings, {summary.frames:8d} frames, {minutes:6.1f} min"
        line += f", a face in {summary.faces_found / summary.frames:.1%}"
        for what, count in (("sound", summary.without_sound), ("video", summary.without_video)):
            line += f", {count} without {what}" if count else ""
        if summary.label_range is not None:
            (low, high) = summary.label_range
            line += f", arousal {low[0]:+.2f}..{high[0]:+.2f}, valence {low[1]:+.2f}..{high[1]:+.2f}"
        else:
            line += ", no labels"
        print(line)
    for entry in manifest.recordings:
        for remark in entry.remarks:
            print(f"{entry.name}: {remark}")
    for name, reason in manifest.left_out.items():
        print(f"left out {name}: {reason}")


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the shards and their manifest.", required=True)
    flags.DEFINE_string("contact_sheets", None, "Folder to draw the contact sheets into.")
    cli.run(_main)
