"""Shards of recordings of any length, written record by record: noise as sound, a few pictures again and again."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import tensorflow as tf

from affect.config import Partition
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.records import encode_jpeg, serialize, shard_name

_FRAMES_PER_RECORD = 25
_PICTURES = 60
_LOUDNESS, _OFFSET = 3000.0, 150.0
PCM_FULL_SCALE = 32_768


def write_long_shards(
    output_dir: Path, lengths: dict[str, int], partition: Partition = "dev", unlabelled: tuple[str, ...] = ()
) -> Path:
    """Writes recordings with sound, pictures and labels, and their manifest; returns the folder.

    In every seventh frame no face was found.

    Args:
      output_dir: the new folder.
      lengths: number of frames of each recording, by name.
      partition: the partition of all of them.
      unlabelled: names of those whose labels are withheld.
    """
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(_PICTURES, 6, 6, 3)).astype(np.uint8)
    jpegs = [encode_jpeg(np.ascontiguousarray(picture.repeat(16, axis=0).repeat(16, axis=1))) for picture in coarse]
    entries = []
    for number, (name, frames) in enumerate(lengths.items()):
        path = output_dir / shard_name(partition, name, 0, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for start in range(0, frames, _FRAMES_PER_RECORD):
                count = min(_FRAMES_PER_RECORD, frames - start)
                index = np.arange(start, start + count)
                labels = np.stack([np.sin(index / 40 + number), np.cos(index / 60)], axis=1)
                noise = rng.normal(_OFFSET, _LOUDNESS, size=(count, 640))
                crops = [jpegs[(11 * number + i) % _PICTURES] for i in index]
                pcm, found = noise.astype(np.int16), index % 7 != 3
                writer.write(serialize(name, start, crops, np.zeros((count, 3)), found, pcm, labels))
        content = path.read_bytes() if frames < 10_000 else b""  # the checksum of long ones is not needed
        entries.append(
            RecordingEntry(
                name=name,
                partition=partition,
                subject=name,
                frames=frames,
                has_labels=name not in unlabelled,
                has_audio=True,
                has_video=True,
                audio_mean=_OFFSET / PCM_FULL_SCALE,
                audio_std=_LOUDNESS / PCM_FULL_SCALE,
                faces_found=int(np.sum(np.arange(frames) % 7 != 3)),
                remarks=(),
                features="",
                features_sha256="",
                shards=(shard_name(partition, name, 0, 1),),
                sha256=(sha256(content).hexdigest(),),
                shard_bytes=(path.stat().st_size,),
            )  # fmt: skip
        )
    manifest = Manifest(
        layout="table", synthetic=True, frame_rate_hz=25, sample_rate_hz=16_000, frame_samples=640, crop_size=96,
        frames_per_record=_FRAMES_PER_RECORD, preprocessing={}, left_out={}, recordings=tuple(entries),
    )  # fmt: skip
    (output_dir / "manifest.json").write_text(manifest.to_json())
    return output_dir
