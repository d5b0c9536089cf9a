r"""A corpus on disk to TFRecord shards and a manifest.

    CORPUS_DIR (avec2016)                        OUTPUT_DIR
      recordings_audio/train_1.wav                 manifest.json
      recordings_video/train_1.mp4          ->     train/train_1-00000-of-00001.tfrecord
      ratings_gold_standard/...                    dev/...  test/...

Per recording: sound to 16 kHz mono PCM; pictures to 25 fps by presentation time; one face followed and cropped to
96 x 96; one label per 40 ms frame. Everything is written beside and renamed at the end: after an error there is no
output folder. The same input and settings give the same bytes.

Example:
  python -m tfrecords_tools.make_tfrecords --layout=avec2016 --corpus_dir=data/synthetic --output_dir=data/records
"""

import dataclasses
import hashlib
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from tqdm import tqdm

from affect import cli
from affect.errors import UserError
from affect.media.audio import PCM_FULL_SCALE, SAMPLE_RATE_HZ, read_audio
from affect.media.faces import HaarDetector, crop_face, track_face
from affect.media.video import read_frames
from tfrecords_tools.corpora import avec2016, synthetic
from tfrecords_tools.corpora.recording import FRAME_RATE_HZ, Recording, labels_per_frame

LAYOUTS = {"avec2016": avec2016.find_recordings}
FRAME_SAMPLES = SAMPLE_RATE_HZ // FRAME_RATE_HZ
# Streams that end up to this much early are cut to the shortest; more means that a file is damaged.
_MOST_MISSING_SECS = 1.0
_RECORDS_PER_SHARD = 300


@dataclass(frozen=True)
class Preprocessing:
    """Settings that shape the shards; they go into the manifest.

    Attributes:
      crop_size: edge of the face crops in pixels.
      face_detector: "haar".
      detect_every: frames between two looks of the face detector.
      face_margin: how far the crop reaches beyond the face box, in parts of its edge, on every side.
      frames_per_record: consecutive frames in one TFRecord; 25 is one second.
    """

    crop_size: int = 96
    face_detector: str = "haar"
    detect_every: int = 5
    face_margin: float = 0.2
    frames_per_record: int = FRAME_RATE_HZ


def make_tfrecords(layout: str, corpus_dir: Path, output_dir: Path, settings: Preprocessing, overwrite: bool) -> None:
    """Preprocesses a whole corpus, one process per core.

    Raises:
      UserError: an unknown layout, a corpus that is missing, incomplete or damaged, or an output folder in the way.
    """
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
    if output_dir.exists() and not overwrite:
        raise UserError(f"{output_dir} exists; choose another --output_dir, or replace it with --overwrite")
    recordings = LAYOUTS[layout](corpus_dir)

    partial_dir = output_dir.with_name(f".{output_dir.name}.partial")
    shutil.rmtree(partial_dir, ignore_errors=True)
    partial_dir.mkdir(parents=True)
    try:
        entries = _preprocess_all(recordings, settings, partial_dir)
        _write_manifest(entries, layout, (corpus_dir / synthetic.MARKER).is_file(), settings, partial_dir)
        if output_dir.exists():
            shutil.rmtree(output_dir)
        os.replace(partial_dir, output_dir)
    finally:
        shutil.rmtree(partial_dir, ignore_errors=True)


def preprocess(settings: Preprocessing, output_dir: Path, recording: Recording) -> dict:
    """Writes the shards of one recording.

    Returns:
      The fields of its `affect.data.records.RecordingEntry`.

    Raises:
      UserError: names the recording and the file at fault.
    """
    cv2.setNumThreads(1)  # one process per core already, and the same pixels whatever the machine
    try:
        labels = None if recording.read_ratings is None else labels_per_frame(recording.read_ratings())
        frame_times = recording.read_frame_times() if recording.read_frame_times else None
        samples = read_audio(recording.audio)
        track = track_face(
            read_frames(recording.video, FRAME_RATE_HZ, frame_times), HaarDetector(), settings.detect_every
        )
        frames = _common_length(samples, len(track.found), labels)
    except UserError as error:
        raise UserError(f"recording {recording.name}: {error}") from error
    pcm = np.zeros(frames * FRAME_SAMPLES, np.int16)
    pcm[: min(pcm.size, samples.size)] = samples[: pcm.size]
    labels = np.zeros((frames, 2), np.float32) if labels is None else labels[:frames]

    jpegs = (
        _encode_jpeg(crop_face(picture, square, settings.face_margin, settings.crop_size))
        for picture, square in zip(
            read_frames(recording.video, FRAME_RATE_HZ, frame_times), track.squares[:frames], strict=False
        )
    )
    shards, digests = _write_shards(
        recording, settings, output_dir, jpegs, pcm.reshape(frames, FRAME_SAMPLES), labels, track.found[:frames]
    )
    scaled = samples / PCM_FULL_SCALE
    return {
        "name": recording.name,
        "partition": recording.partition,
        "subject": recording.subject,
        "frames": frames,
        "has_labels": recording.read_ratings is not None,
        "audio_mean": float(scaled.mean()),
        "audio_deviation": float(scaled.std()),
        "faces_found": int(track.found[:frames].sum()),
        "shards": tuple(shards),
        "sha256": tuple(digests),
    }


def _preprocess_all(recordings: list[Recording], settings: Preprocessing, output_dir: Path) -> list[dict]:
    entries = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        # map keeps the order, so the manifest does not depend on who finishes first.
        done = pool.map(partial(preprocess, settings, output_dir), recordings)
        try:
            for entry in tqdm(done, total=len(recordings), desc="recordings", unit="rec"):
                entries.append(entry)
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise
    return entries


def _write_manifest(
    entries: list[dict], layout: str, is_synthetic: bool, settings: Preprocessing, output_dir: Path
) -> None:
    from affect.data import records  # TensorFlow: not needed before this point in the parent process

    manifest = records.Manifest(
        layout=layout,
        synthetic=is_synthetic,
        frame_rate_hz=FRAME_RATE_HZ,
        sample_rate_hz=SAMPLE_RATE_HZ,
        frame_samples=FRAME_SAMPLES,
        crop_size=settings.crop_size,
        frames_per_record=settings.frames_per_record,
        preprocessing=dataclasses.asdict(settings),
        recordings=tuple(records.RecordingEntry(**entry) for entry in entries),
    )
    (output_dir / records.MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")


def _common_length(samples: np.ndarray, pictures: int, labels: np.ndarray | None) -> int:
    """Frames that sound, pictures and labels all cover."""
    lengths = {"audio": round(samples.size / FRAME_SAMPLES), "video": pictures}
    if labels is not None:
        lengths["labels"] = len(labels)
    shortest = min(lengths.values())
    # Media that go on after the ratings end are the rule; ratings without media are damage.
    needed = lengths.get("labels", max(lengths.values()))
    if needed - shortest > _MOST_MISSING_SECS * FRAME_RATE_HZ:
        seconds = ", ".join(f"{name} {length / FRAME_RATE_HZ:.2f} s" for name, length in lengths.items())
        raise UserError(f"sound, pictures and labels differ in length ({seconds}); is a file cut?")
    if shortest == 0:
        raise UserError("shorter than one frame of 40 ms")
    return shortest


def _encode_jpeg(crop: np.ndarray) -> bytes:
    from affect.data.records import JPEG_QUALITY

    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _write_shards(recording, settings, output_dir, jpegs, pcm, labels, found) -> tuple[list[str], list[str]]:
    """Writes consecutive runs of frames to the recording's shards; returns their names and SHA-256."""
    import tensorflow as tf

    from affect.data.records import serialize, shard_name

    step = settings.frames_per_record
    starts = range(0, len(found), step)
    count = -(-len(starts) // _RECORDS_PER_SHARD)
    names, digests = [], []
    (output_dir / recording.partition).mkdir(exist_ok=True)
    for index in range(count):
        names.append(shard_name(recording.partition, recording.name, index, count))
        with tf.io.TFRecordWriter(str(output_dir / names[-1])) as writer:
            for start in starts[index * _RECORDS_PER_SHARD : (index + 1) * _RECORDS_PER_SHARD]:
                run = slice(start, min(start + step, len(found)))
                crops = [next(jpegs) for _ in range(run.start, run.stop)]
                writer.write(serialize(recording.name, start, crops, pcm[run], labels[run], found[run]))
        digests.append(hashlib.sha256((output_dir / names[-1]).read_bytes()).hexdigest())
    return names, digests


def _main() -> None:
    args = flags.FLAGS
    settings = Preprocessing(detect_every=args.detect_every, face_margin=args.face_margin)
    make_tfrecords(args.layout, Path(args.corpus_dir), Path(args.output_dir), settings, args.overwrite)
    print(
        f"wrote {args.output_dir}; look at it with: python -m tfrecords_tools.inspect_tfrecords "
        f"--data_dir={args.output_dir}"
    )


if __name__ == "__main__":
    flags.DEFINE_enum("layout", "avec2016", list(LAYOUTS), "How the corpus lies on disk.")
    flags.DEFINE_string("corpus_dir", None, "Folder of the corpus.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder to write; it must not exist yet.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace an existing output folder.")
    flags.DEFINE_integer("detect_every", 5, "Frames between two looks of the face detector.", lower_bound=1)
    flags.DEFINE_float("face_margin", 0.2, "Crop beyond the face box, in parts of its edge.", lower_bound=0.0)
    cli.run(_main)
