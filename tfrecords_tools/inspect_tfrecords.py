r"""Prints what is in a folder of shards and fails where a shard is missing, empty, damaged or not as the manifest says.

Every record is read and every picture decoded. Exit code 2 at the first fault.

Example:
  python -m tfrecords_tools.inspect_tfrecords --data_dir=data/records
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags
from tqdm import tqdm

from affect import cli
from affect.data.records import PARTITIONS, Manifest, RecordingEntry, parse, read_manifest
from affect.errors import UserError


@dataclass(frozen=True)
class Summary:
    """One partition: recordings, frames, frames with a face, range of the labels (None without labels)."""

    recordings: int
    frames: int
    faces_found: int
    label_range: tuple[np.ndarray, np.ndarray] | None


def inspect(data_dir: Path) -> tuple[Manifest, dict[str, Summary]]:
    """Reads every record of every shard.

    Raises:
      UserError: names the first shard that is missing, empty, damaged, or other than the manifest says.
    """
    manifest = read_manifest(data_dir)
    labels: dict[str, list[np.ndarray]] = {name: [] for name in PARTITIONS}
    for entry in tqdm(manifest.recordings, desc="recordings", unit="rec"):
        values = _check_recording(data_dir, manifest, entry)
        if entry.has_labels:
            labels[entry.partition].append(values)
    return manifest, {
        name: _summarise(manifest.partition(name), labels[name]) for name in PARTITIONS if manifest.partition(name)
    }


def _check_recording(data_dir: Path, manifest: Manifest, entry: RecordingEntry) -> np.ndarray:
    """The recording's labels [frames, 2], after all its shards have been found sound."""
    frames, faces, labels = 0, 0, []
    if not entry.shards:
        raise UserError(f"recording {entry.name} has no shards in the manifest")
    for shard, digest in zip(entry.shards, entry.sha256, strict=True):
        path = data_dir / shard
        if not path.is_file():
            raise UserError(f"{path}: the manifest names this shard, but it is missing")
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the shard is empty")
        try:
            for fields in _records(path, manifest):
                _check_record(path, fields, entry.name, frames, manifest)
                frames += len(fields["jpeg"])
                faces += int(tf.math.count_nonzero(fields["face_found"]))
                labels.append(fields["labels"].numpy())
        except tf.errors.OpError as error:
            raise UserError(f"{path}: damaged at frame {frames} ({error.message})") from error
        # Last: a broken record says more than a checksum does.
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise UserError(f"{path}: readable, but not the file that the manifest describes (SHA-256 differs)")
    if (frames, faces) != (entry.frames, entry.faces_found):
        raise UserError(
            f"recording {entry.name}: {frames} frames, {faces} with a face, in its shards; "
            f"{entry.frames} and {entry.faces_found} in the manifest"
        )
    return np.concatenate(labels)


def _check_record(path: Path, fields: dict, name: str, start: int, manifest: Manifest) -> None:
    """One record continues its recording and holds decodable pictures, sound and labels for the same frames."""
    if fields["recording"].numpy() != name.encode() or int(fields["start_frame"]) != start:
        raise UserError(
            f"{path}: expected {name} from frame {start}, found {fields['recording'].numpy().decode()} "
            f"from frame {int(fields['start_frame'])}"
        )
    counts = {what: len(fields[what]) for what in ("jpeg", "face_found", "pcm", "labels")}
    if len(set(counts.values())) != 1 or not counts["jpeg"]:
        raise UserError(f"{path}, frame {start}: counts differ: {counts}")
    if fields["crop_shape"].numpy().tolist() != [counts["jpeg"], manifest.crop_size, manifest.crop_size, 3]:
        raise UserError(f"{path}, frame {start}: a crop is not {manifest.crop_size} x {manifest.crop_size} RGB")


def _records(path: Path, manifest: Manifest) -> tf.data.Dataset:
    """Parsed records with the shape of their decoded pictures."""

    def decode(serialized):
        fields = parse(serialized, manifest.frame_samples)
        crops = tf.map_fn(tf.io.decode_jpeg, fields["jpeg"], fn_output_signature=tf.uint8)
        return fields | {"crop_shape": tf.shape(crops)}

    return tf.data.TFRecordDataset(str(path)).map(decode, tf.data.AUTOTUNE)


def _summarise(entries: list[RecordingEntry], labels: list[np.ndarray]) -> Summary:
    values = np.concatenate(labels) if labels else None
    return Summary(
        recordings=len(entries),
        frames=sum(entry.frames for entry in entries),
        faces_found=sum(entry.faces_found for entry in entries),
        label_range=None if values is None else (values.min(axis=0), values.max(axis=0)),
    )


def _main() -> None:
    manifest, summaries = inspect(Path(flags.FLAGS.data_dir))
    kind = "synthetic, " if manifest.synthetic else ""
    print(
        f"{manifest.layout} corpus ({kind}{manifest.frame_rate_hz} fps, {manifest.sample_rate_hz} Hz, "
        f"{manifest.crop_size} x {manifest.crop_size} crops), data fingerprint {manifest.fingerprint()[:12]}"
    )
    for name, summary in summaries.items():
        minutes = summary.frames / manifest.frame_rate_hz / 60.0
        line = f"{name:<6}{summary.recordings:4d} recordings, {summary.frames:8d} frames, {minutes:6.1f} min"
        line += f", a face in {summary.faces_found / summary.frames:.1%}"
        if summary.label_range is not None:
            (low, high) = summary.label_range
            line += f", arousal {low[0]:+.2f}..{high[0]:+.2f}, valence {low[1]:+.2f}..{high[1]:+.2f}"
        else:
            line += ", no labels"
        print(line)


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the shards and their manifest.", required=True)
    cli.run(_main)
