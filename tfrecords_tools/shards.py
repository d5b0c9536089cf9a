"""One recording to its shards: sound to 16 kHz PCM, pictures to 25 fps, one face cropped, labels per frame.

In: the recording's files, on this machine. Out, below a staging folder: `{partition}/*.tfrecord`, `features/*.h5`,
`contact_sheets/*.png`, and the recording's entry in the manifest. The same input and settings give the same bytes.
Memory does not grow with the pictures; two hours of sound are 230 MB.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

import cv2
import numpy as np

from affect.errors import UserError
from affect.media.audio import MAX_HOURS, mean_and_std, read_audio
from affect.media.contact_sheet import contact_sheet, sheet_frames
from affect.media.faces import DETECTORS, crop_face, crop_square, make_detector
from affect.media.tracking import FaceTrack, follow_boxes, follow_face, look_for_faces
from affect.media.video import VideoInfo, grid_frames, probe, read_frames
from affect.timebase import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ
from tfrecords_tools.corpora.avec2016 import read_table
from tfrecords_tools.corpora.recording import Recording, Source
from tfrecords_tools.shard_folder import sha256_of

# Streams that end up to this much early are cut to the shortest; more means that a file is damaged.
_MAX_MISSING_SECS = 1.0
_RECORDS_PER_SHARD = 300
# How long the last picture is on show, containers do not all tell exactly.
_MAX_HELD_FRAMES = 2
_DRIFT_SECS = 0.04
_MAX_DETECT_EVERY, _MAX_MARGIN = 1000, 5.0
_FEW_FACES = 0.8
_FULL_SCALE, _MAX_CLIPPED = 32_767, 0.01
_SILENT_BELOW = 1e-4  # of full scale: three steps of 16 bits


@dataclass(frozen=True)
class Preprocessing:
    """Settings that shape the shards; they go into the manifest.

    Attributes:
      crop_size: edge of the face crops in pixels.
      face_detector: of `affect.media.faces.DETECTORS`; not asked where the corpus ships face boxes.
      detect_every: frames between two looks of the face detector.
      face_margin: how far the crop reaches beyond the face box, in parts of its edge, on every side.
      frames_per_record: consecutive frames in one TFRecord; 25 is one second.
    """

    crop_size: int = 96
    face_detector: str = "haar"
    detect_every: int = 5
    face_margin: float = 0.2
    frames_per_record: int = FRAME_RATE_HZ

    def __post_init__(self):
        if self.face_detector not in DETECTORS:
            raise UserError(f"face detector {self.face_detector!r} is none of {', '.join(DETECTORS)}")
        if not 1 <= self.detect_every <= _MAX_DETECT_EVERY:
            raise UserError(f"--detect_every must lie in [1, {_MAX_DETECT_EVERY}], got {self.detect_every}")
        if not 0.0 <= self.face_margin <= _MAX_MARGIN:
            raise UserError(f"--face_margin must lie in [0, {_MAX_MARGIN:g}], got {self.face_margin}")


@dataclass(frozen=True)
class _Crops:
    """What becomes of the pictures: JPEGs in order, and per frame where they were cut and whether a face was there."""

    jpegs: Iterator[bytes]
    squares: np.ndarray
    found: np.ndarray


def preprocess(
    recording: Recording, local: Callable[[str], Path], settings: Preprocessing, staging: Path
) -> dict[str, object]:
    """Writes everything of one recording.

    Args:
      recording: what it is made of.
      local: gives the place of a corpus file on this machine.
      settings: of the preprocessing.
      staging: folder to write below.

    Returns:
      The fields of its `affect.data.records.RecordingEntry`.

    Raises:
      UserError: names the file at fault.
    """
    cv2.setNumThreads(1)  # one process per core already, and the same pixels whatever the machine
    labels = _read(recording.labels, local)
    info = probe(local(recording.video)) if recording.video else None
    audio = recording.audio or (recording.video if info and info.has_sound else None)
    samples = read_audio(local(audio)) if audio else None
    frame_times = _read(recording.frame_times, local)
    if info and frame_times is not None:
        # The list may go on after the last picture.
        shown = frame_times[: info.pictures]
        end_secs = shown[-1] + (info.end_secs - info.start_secs) / info.pictures
        info = dataclasses.replace(info, start_secs=float(shown[0]), end_secs=float(end_secs))
    frames = _common_length(samples, info, labels)

    crops = _follow(recording, local, settings, info, frame_times, frames) if info else _no_crops()
    entry = _write_shards(recording, settings, staging, frames, crops, samples, labels)
    mean, deviation = mean_and_std(samples) if samples is not None else (0.0, 0.0)
    features = _write_features(recording, local, staging)
    return entry | {
        "name": recording.name,
        "partition": recording.partition,
        "subject": recording.subject,
        "frames": frames,
        "has_labels": labels is not None,
        "has_audio": samples is not None,
        "has_video": info is not None,
        "audio_mean": mean,
        "audio_std": deviation,
        "faces_found": int(crops.found.sum()),
        "remarks": tuple(_remarks(samples, deviation, info, crops.found, labels)),
        "features": features,
        "features_sha256": sha256_of(staging / features) if features else "",
    }


def _read(source: Source | None, local: Callable[[str], Path]):
    return source.read(*map(local, source.files)) if source else None


def _common_length(samples: np.ndarray | None, info: VideoInfo | None, labels: np.ndarray | None) -> int:
    """Frames that sound, pictures and labels all cover."""
    lengths = {}
    if samples is not None:
        lengths["audio"] = round(samples.size / FRAME_SAMPLES)
    if info is not None:
        lengths["video"] = grid_frames(info.end_secs, FRAME_RATE_HZ)
    if labels is not None:
        lengths["labels"] = len(labels)
    shortest = min(lengths.values())
    # Media that go on after the ratings end are the rule; ratings without media are damage.
    needed = lengths.get("labels", max(lengths.values()))
    if needed - shortest > _MAX_MISSING_SECS * FRAME_RATE_HZ:
        seconds = ", ".join(f"{name} {length / FRAME_RATE_HZ:.2f} s" for name, length in lengths.items())
        raise UserError(f"sound, pictures and labels differ in length ({seconds}); is a file cut?")
    if shortest == 0:
        raise UserError("shorter than one frame of 40 ms")
    if shortest > MAX_HOURS * 3600 * FRAME_RATE_HZ:
        raise UserError(f"longer than {MAX_HOURS} hours; cut it into several recordings")
    return shortest


def _no_crops() -> _Crops:
    return _Crops(iter(()), np.empty((0, 3)), np.empty(0, bool))


def _follow(
    recording: Recording,
    local: Callable[[str], Path],
    settings: Preprocessing,
    info: VideoInfo,
    frame_times: np.ndarray | None,
    frames: int,
) -> _Crops:
    """Finds the face, and crops it while the pictures are read (a second time, where a detector had to look first)."""
    video = local(recording.video)

    def pictures():
        return islice(read_frames(video, FRAME_RATE_HZ, frame_times), frames)

    boxes = _read(recording.face_boxes, local)
    if boxes is None:
        looks = look_for_faces(pictures(), make_detector(settings.face_detector), settings.detect_every)
        track = follow_face(dataclasses.replace(looks, frames=frames), FRAME_RATE_HZ)
        height, width = looks.height, looks.width
    else:
        times_secs, values = boxes
        height, width = info.height, info.width
        _check_boxes(values, times_secs, height, width, recording.name)
        track = follow_boxes(values, times_secs, frames, FRAME_RATE_HZ, height, width)
    # Before the first picture and after the last there is nobody to see; the nearest picture is held.
    times = np.arange(frames) / FRAME_RATE_HZ
    seen = (times > info.start_secs - 1 / FRAME_RATE_HZ) & (times < info.end_secs)
    track = FaceTrack(track.squares, track.found & seen)
    squares = np.array([crop_square(square, settings.face_margin, height, width) for square in track.squares])

    def jpegs():
        k, jpeg = -1, b""
        for k, picture in enumerate(pictures()):
            jpeg = _encode_jpeg(crop_face(picture(), track.squares[k], settings.face_margin, settings.crop_size))
            yield jpeg
        if frames - (k + 1) > _MAX_HELD_FRAMES:
            end_secs = (k + 1) / FRAME_RATE_HZ
            raise UserError(f"{video}: its pictures end at {end_secs:.2f} s, not at {info.end_secs:.2f} s as announced")
        yield from repeat(jpeg, frames - (k + 1))

    return _Crops(jpegs(), squares, track.found)


def _check_boxes(boxes: np.ndarray, times_secs: np.ndarray, height: int, width: int, name: str) -> None:
    """Boxes must lie in the pictures; else they are of another video, or in other units."""
    left, top, box_width, box_height = boxes.T
    there = (box_width > 0) & (box_height > 0)
    outside = (left >= width) | (top >= height) | (left + box_width <= 0) | (top + box_height <= 0)
    wrong = there & (outside | (box_width > width) | (box_height > height))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{name}: the face box at {times_secs[row]:g} s ({boxes[row].tolist()}) does not lie "
            f"in the video's pictures of {width} x {height} pixels"
        )


def _encode_jpeg(crop: np.ndarray) -> bytes:
    from affect.data.records import JPEG_QUALITY

    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _write_shards(
    recording: Recording,
    settings: Preprocessing,
    staging: Path,
    frames: int,
    crops: _Crops,
    samples: np.ndarray | None,
    labels: np.ndarray | None,
) -> dict[str, tuple[str, ...]]:
    """Writes consecutive runs of frames to the recording's shards, and the contact sheet; returns names and SHA-256."""
    import tensorflow as tf

    from affect.data.records import serialize, shard_name

    step = settings.frames_per_record
    starts = range(0, frames, step)
    count = -(-len(starts) // _RECORDS_PER_SHARD)
    names = tuple(shard_name(recording.partition, recording.name, index, count) for index in range(count))
    wanted = set(sheet_frames(crops.found, FRAME_RATE_HZ)) if len(crops.found) else set()
    shown: dict[int, bytes] = {}
    (staging / recording.partition).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        with tf.io.TFRecordWriter(str(staging / name)) as writer:
            for start in starts[index * _RECORDS_PER_SHARD : (index + 1) * _RECORDS_PER_SHARD]:
                run = slice(start, min(start + step, frames))
                jpegs = list(islice(crops.jpegs, run.stop - run.start))
                shown |= {k: jpeg for k, jpeg in zip(range(run.start, run.stop), jpegs, strict=False) if k in wanted}
                pcm = _pcm_of(samples, run)
                gold = np.zeros((run.stop - run.start, 2), np.float32) if labels is None else labels[run]
                writer.write(serialize(recording.name, start, jpegs, crops.squares[run], crops.found[run], pcm, gold))
    if shown:
        path = staging / "contact_sheets" / f"{recording.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_contact_sheet(shown, crops.found))
    return {"shards": names, "sha256": tuple(sha256_of(staging / name) for name in names)}


def draw_contact_sheet(jpegs: dict[int, bytes], found: np.ndarray) -> bytes:
    """Crops by frame to a PNG."""
    crops = [
        cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        for jpeg in jpegs.values()
    ]
    sheet = contact_sheet(crops, [bool(found[k]) for k in jpegs], [k / FRAME_RATE_HZ for k in jpegs])
    return cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()


def _pcm_of(samples: np.ndarray | None, run: slice) -> np.ndarray:
    """int16 [frames, samples]; a last frame that is not full ends in silence."""
    if samples is None:
        return np.empty((0, FRAME_SAMPLES), np.int16)
    part = samples[run.start * FRAME_SAMPLES : run.stop * FRAME_SAMPLES]
    return np.pad(part, (0, (run.stop - run.start) * FRAME_SAMPLES - part.size)).reshape(-1, FRAME_SAMPLES)


def _write_features(recording: Recording, local: Callable[[str], Path], staging: Path) -> str:
    """The file's name below the staging folder; empty where the corpus ships no features."""
    from affect.data.features import FeatureTable, write_features

    if not recording.features:
        return ""
    name = f"features/{recording.name}.h5"
    (staging / "features").mkdir(parents=True, exist_ok=True)
    tables = {table: FeatureTable(*read_table(local(file))) for table, file in recording.features.items()}
    write_features(staging / name, tables)
    return name


def _remarks(
    samples: np.ndarray | None,
    deviation: float,
    info: VideoInfo | None,
    found: np.ndarray,
    labels: np.ndarray | None,
) -> Iterator[str]:
    """What a person should know of a recording that was read without an error."""
    if samples is None:
        yield "no sound, neither a file nor in its video: networks that hear cannot use it"
    elif deviation < _SILENT_BELOW:
        yield "its sound is silent"
    elif np.count_nonzero(np.abs(samples.astype(np.int32)) >= _FULL_SCALE) > _MAX_CLIPPED * samples.size:
        yield "much of its sound is beyond full scale and clipped; floats must lie in [-1, 1]"
    if labels is not None:
        secs = [] if samples is None else [samples.size / SAMPLE_RATE_HZ]
        media_secs = min(secs + ([] if info is None else [info.end_secs]))
        labels_secs = len(labels) / FRAME_RATE_HZ
        if media_secs - labels_secs > _MAX_MISSING_SECS:
            yield f"its labels end at {labels_secs:.2f} s; {media_secs - labels_secs:.2f} s that follow are left out"
    if info is not None:
        if info.start_secs > _DRIFT_SECS:
            yield f"its pictures start at {info.start_secs:.2f} s; until then the first is held, marked as without face"
        if samples is not None:
            drift_secs = samples.size / SAMPLE_RATE_HZ - info.end_secs
            if abs(drift_secs) > _DRIFT_SECS:
                longer = "sound" if drift_secs > 0 else "pictures"
                yield f"sound and pictures drift apart: {longer} {abs(drift_secs):.2f} s longer"
        if not found.any():
            yield "no face in any frame: its crops show the picture's centre; try --face_detector=mtcnn"
        elif found.mean() < _FEW_FACES:
            yield f"a face in only {found.mean():.0%} of the frames; see its contact sheet"
