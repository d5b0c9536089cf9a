"""One recording to its shards, its features file, its contact sheet and its entry in the manifest.

    Recording (paths)  ->  STAGING/{partition}/*.tfrecord
                           STAGING/features/*.h5             if the corpus ships handcrafted features
                           STAGING/contact_sheets/*.png      if there is video

`affect.media.recording` decodes; this module cuts the result into records and writes them. The same input and settings
give the same bytes. Memory does not grow with the video.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from affect.data.manifest import RecordingEntry
from affect.media.contact_sheet import contact_sheet, sheet_frames
from affect.media.feature_tables import read_feature_table
from affect.media.recording import DecodedRecording, decode_recording
from affect.media.settings import DecodingSettings
from affect.storage import sha256_of
from affect.timebase import FRAME_RATE_HZ
from tfrecords_tools.corpora.recording import Recording, Source
from tfrecords_tools.file_remarks import file_remarks

# TensorFlow is imported inside functions: it takes seconds to load, and only the worker processes need it.

# Raised by one when a change of the code makes other shards of the same files: a folder that an earlier version began
# must not be continued then. 2: gold standards with negative weights, as AVEC has them.
PREPROCESSING_VERSION = 2
_RECORDS_PER_SHARD = 300


@dataclass(frozen=True)
class Preprocessing(DecodingSettings):
    """The settings that determine the content of the shards; they are stored in the manifest.

    Attributes:
      frames_per_record: consecutive frames in one TFRecord; 25 is one second.
    """

    frames_per_record: int = FRAME_RATE_HZ


def preprocess(
    recording: Recording, local: Callable[[str], Path], settings: Preprocessing, staging: Path
) -> RecordingEntry:
    """Writes the shards, the features file and the contact sheet of one recording.

    Args:
      recording: its files and what reads them.
      local: returns the local path of a corpus file; fetches it first if it is remote.
      settings: settings of the preprocessing.
      staging: folder below which the files are written.

    Returns:
      The recording's entry in the manifest.

    Raises:
      UserError: a file cannot be decoded or does not fit the others; names it.
    """
    labels = _read(recording.labels, local)
    features, features_end_secs = _write_features(recording, local, staging)  # first: a fault in it is found early
    decoded = decode_recording(
        local(recording.audio) if recording.audio else None,
        local(recording.video) if recording.video else None,
        settings,
        frame_times_secs=_read(recording.frame_times, local),
        face_boxes=_read(recording.face_boxes, local),
        num_labels=None if labels is None else len(labels),
    )
    shards = _write_shards(recording, settings, staging, decoded, labels)
    return RecordingEntry(
        name=recording.name,
        partition=recording.partition,  # pyright: ignore[reportArgumentType] - `Recording` has checked it
        subject=recording.subject,
        frames=decoded.frames,
        has_labels=labels is not None,
        has_audio=decoded.samples is not None,
        has_video=decoded.has_video,
        audio_mean=decoded.audio_mean,
        audio_std=decoded.audio_std,
        faces_found=int(decoded.found.sum()),
        remarks=(*decoded.remarks, *file_remarks(recording, local, labels, features_end_secs, decoded.frames)),
        features=features,
        features_sha256=sha256_of(staging / features) if features else "",
        shards=shards,
        sha256=tuple(sha256_of(staging / name) for name in shards),
        shard_bytes=tuple((staging / name).stat().st_size for name in shards),
    )


def draw_contact_sheet(jpegs: dict[int, bytes], found: np.ndarray, size: int, recording: str) -> bytes:
    """Draws the contact sheet of one recording.

    Args:
      jpegs: the crops to show, by frame.
      found: bool [frames of the recording], whether a face was found.
      size: edge of the crops in pixels.
      recording: name of the recording, for errors.

    Returns:
      The PNG.
    """
    from affect.data.records import decode_jpeg

    crops = [decode_jpeg(jpeg, size, recording).numpy() for jpeg in jpegs.values()]
    sheet = contact_sheet(crops, [bool(found[k]) for k in jpegs], [k / FRAME_RATE_HZ for k in jpegs])
    return cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()


def _read(source: Source | None, local: Callable[[str], Path]):
    return source.read(*map(local, source.files)) if source else None


def _write_shards(
    recording: Recording, settings: Preprocessing, staging: Path, decoded: DecodedRecording, labels: np.ndarray | None
) -> tuple[str, ...]:
    """Writes the shards and the contact sheet; returns the names of the shards."""
    import tensorflow as tf

    from affect.data.records import encode_jpeg, serialize, shard_name

    frames, step = decoded.frames, settings.frames_per_record
    starts = range(0, frames, step)
    count = -(-len(starts) // _RECORDS_PER_SHARD)
    names = tuple(shard_name(recording.partition, recording.name, index, count) for index in range(count))
    jpegs = map(encode_jpeg, decoded.crops)
    wanted = set(sheet_frames(decoded.found, FRAME_RATE_HZ)) if decoded.has_video else set()
    shown: dict[int, bytes] = {}
    (staging / recording.partition).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        with tf.io.TFRecordWriter(str(staging / name)) as writer:
            for start in starts[index * _RECORDS_PER_SHARD : (index + 1) * _RECORDS_PER_SHARD]:
                run = slice(start, min(start + step, frames))
                part = list(islice(jpegs, run.stop - run.start))
                shown |= {start + k: jpeg for k, jpeg in enumerate(part) if start + k in wanted}
                pcm = decoded.pcm(run.start, run.stop)
                gold = np.zeros((run.stop - run.start, 2), np.float32) if labels is None else labels[run]
                found, squares = decoded.found[run], decoded.squares[run]
                writer.write(serialize(recording.name, start, part, squares, found, pcm, gold))
    if shown:
        path = staging / "contact_sheets" / f"{recording.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_contact_sheet(shown, decoded.found, settings.crop_size, recording.name))
    return names


def _write_features(recording: Recording, local: Callable[[str], Path], staging: Path) -> tuple[str, dict[str, float]]:
    """Writes the features file.

    Returns:
      Its path below `staging`, empty if the corpus ships no features, and the time of the last row by source file.
    """
    from affect.data.features import FeatureTable, write_features

    if not recording.features:
        return "", {}
    name = f"features/{recording.name}.h5"
    (staging / "features").mkdir(parents=True, exist_ok=True)
    tables = {table: FeatureTable(*read_feature_table(local(file))) for table, file in recording.features.items()}
    write_features(staging / name, tables)
    return name, {file: float(tables[table].times_secs[-1]) for table, file in recording.features.items()}
