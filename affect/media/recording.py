"""The files of one recording to arrays: sound at 16 kHz, one face crop per frame at 25 fps.

Preprocessing and prediction both decode with `decode_recording`, so that a network sees the same crops in both.

    audio, video (paths)  ->  samples  int16 [samples], 16 kHz mono
                              crops    uint8 RGB [crop_size, crop_size, 3] each, an iterator that is consumed once
                              squares  int [frames, 3], where each crop was cut
                              found    bool [frames], whether a face was detected there

Frames follow `affect.timebase`. The crops are produced while the video is decoded, so memory does not grow with the
video; only the sound is held as a whole (two hours are 230 MB).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from affect.errors import UserError
from affect.media.audio import SILENT_BELOW, mean_and_std, read_audio
from affect.media.faces import crop_face, crop_square, make_detector
from affect.media.settings import MAX_HOURS, DecodingSettings
from affect.media.tracking import FaceTrack, detect_faces, follow_boxes, follow_face
from affect.media.video import Picture, VideoInfo, grid_frames, probe, read_frames
from affect.timebase import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ

# Sound, video and labels are cut to the shortest if they differ by at most this; a larger gap means a damaged file.
_MAX_MISSING_SECS = 1.0
# Not every container says exactly how long the last picture is shown.
_MAX_HELD_FRAMES = 2
_DRIFT_SECS = 0.04
_FEW_FACES = 0.8
_FULL_SCALE, _MAX_CLIPPED = 32_767, 0.01


@dataclass(frozen=True)
class DecodedRecording:
    """One recording as arrays.

    Attributes:
      frames: number of frames that sound, video and labels all cover.
      samples: int16 [samples] at `SAMPLE_RATE_HZ`; may go on after the last frame; None without sound.
      audio_mean, audio_std: of all samples, full scale = 1; 0 without sound.
      has_video: whether there are crops.
      crops: yields one RGB crop per frame, uint8 [crop_size, crop_size, 3], and can be consumed once; yields nothing
        without video. The video is decoded meanwhile: UserError is raised where it is damaged or ends too early.
      squares: int [frames, 3], left, top and edge of each crop in pixels of the first picture; [0, 3] without video. If
        the size of the pictures changes within the video, squares are scaled as if all had the size of the first.
      found: bool [frames], whether a face was found; where it is False the last position is held. [0] without video.
      remarks: what a person should know about the recording: the tracks that were chosen, silence, clipping, streams
        that start late or differ in length, few faces. Complete when the crops have been read.
    """

    frames: int
    samples: np.ndarray | None
    audio_mean: float
    audio_std: float
    has_video: bool
    crops: Iterator[np.ndarray]
    squares: np.ndarray
    found: np.ndarray
    remarks: list[str]

    def pcm(self, start: int, stop: int) -> np.ndarray:
        """Returns the sound of the frames from `start` to `stop`, int16 [frames, `FRAME_SAMPLES`].

        An incomplete last frame is padded with silence. Without sound: [0, `FRAME_SAMPLES`].
        """
        if self.samples is None:
            return np.empty((0, FRAME_SAMPLES), np.int16)
        part = self.samples[start * FRAME_SAMPLES : stop * FRAME_SAMPLES]
        return np.pad(part, (0, (stop - start) * FRAME_SAMPLES - part.size)).reshape(-1, FRAME_SAMPLES)


@dataclass(frozen=True)
class _Faces:
    """Where a video is cropped: see `DecodedRecording`."""

    crops: Iterator[np.ndarray]
    squares: np.ndarray
    found: np.ndarray


def decode_recording(
    audio: Path | None,
    video: Path | None,
    settings: DecodingSettings,
    frame_times_secs: np.ndarray | None = None,
    face_boxes: tuple[np.ndarray, np.ndarray] | None = None,
    num_labels: int | None = None,
    sound: Literal["any", "needed", "ignored"] = "any",
    lengths_may_differ: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DecodedRecording:
    """Decodes the sound, and finds, follows and crops the face.

    Without `face_boxes` the video is decoded twice: once to detect faces, before this function returns, and once while
    the crops are read.

    Args:
      audio: a sound file, or a video file with a sound track; None: the sound track of `video`, if it has one.
      video: a video file; None for sound only.
      settings: crop size, face detector and margin.
      frame_times_secs: [pictures], presentation times that replace the video's own; may list more than the video has.
      face_boxes: replaces face detection: times in seconds [rows], ascending, and boxes [rows, 4] as left, top, width
        and height in pixels; a width or height of 0 means that no face was found.
      num_labels: number of labels, one per frame; sound and video must cover them. None without labels.
      sound: "needed" refuses a recording without sound before its video is decoded; "ignored" reads only the video.
      lengths_may_differ: without labels, end with the shorter of sound and video, however much they differ; a remark
        says by how much.
      progress: called with the frames searched for faces so far, and the number of all frames.

    Returns:
      The decoded recording. Its crops hold the video open until they are consumed or dropped.

    Raises:
      UserError: a file cannot be decoded, sound, video and labels differ in length, a face box lies outside the
        pictures, or there is no sound where it is needed; names the file.
      ValueError: neither audio nor video.
    """
    if audio is None and video is None:
        raise ValueError("a recording needs audio or video")
    # One process per core is running already, and results must not depend on the number of cores.
    cv2.setNumThreads(1)
    info = probe(video, frame_times_secs) if video else None
    audio = audio or (video if info and info.has_sound and sound != "ignored" else None)
    if audio is None and sound == "needed":
        raise UserError(
            f"{video}: the file has no sound track, but sound is needed; if it lies apart, give that file too"
        )
    remarks: list[str] = []
    samples = read_audio(audio, remarks) if audio else None
    frames = _common_length(samples, info, num_labels, lengths_may_differ)
    if video and info:
        remarks += [remark for remark in info.remarks if remark not in remarks]
        faces = _follow(video, info, frames, settings, frame_times_secs, face_boxes, remarks, progress)
    else:
        faces = _Faces(iter(()), np.empty((0, 3), np.int64), np.empty(0, bool))
    mean, std = mean_and_std(samples) if samples is not None else (0.0, 0.0)
    remarks += _remarks(samples, std, info, faces.found, num_labels, sound)
    return DecodedRecording(
        frames=frames,
        samples=samples,
        audio_mean=mean,
        audio_std=std,
        has_video=info is not None,
        crops=faces.crops,
        squares=faces.squares,
        found=faces.found,
        remarks=remarks,
    )


def _common_length(
    samples: np.ndarray | None, info: VideoInfo | None, num_labels: int | None, lengths_may_differ: bool
) -> int:
    """Number of frames that sound, video and labels all cover."""
    lengths = {}
    if samples is not None:
        lengths["audio"] = round(samples.size / FRAME_SAMPLES)
    if info is not None:
        lengths["video"] = grid_frames(info.end_secs, FRAME_RATE_HZ)
    if num_labels is not None:
        lengths["labels"] = num_labels
    shortest = min(lengths.values())
    # Recordings often go on after the rated part; ratings that go on after the recording mean a damaged file.
    needed = lengths.get("labels", shortest if lengths_may_differ else max(lengths.values()))
    if needed - shortest > _MAX_MISSING_SECS * FRAME_RATE_HZ:
        seconds = ", ".join(f"{name} {length / FRAME_RATE_HZ:.2f} s" for name, length in lengths.items())
        raise UserError(f"sound, video and labels differ in length ({seconds}); check that no file is truncated")
    if shortest == 0:
        raise UserError("the recording is shorter than one frame of 40 ms")
    if shortest > MAX_HOURS * 3600 * FRAME_RATE_HZ:
        raise UserError(f"the recording is longer than {MAX_HOURS} hours; split it into several recordings")
    return shortest


def _follow(
    video: Path,
    info: VideoInfo,
    frames: int,
    settings: DecodingSettings,
    frame_times_secs: np.ndarray | None,
    face_boxes: tuple[np.ndarray, np.ndarray] | None,
    remarks: list[str],
    progress: Callable[[int, int], None] | None,
) -> _Faces:
    """Follows the face by detection or by the given boxes; the crops are left to be made."""

    def pictures() -> Iterator[Picture]:
        return islice(read_frames(video, FRAME_RATE_HZ, frame_times_secs, remarks), frames)

    if face_boxes is None:
        detections = detect_faces(
            _reported(pictures(), frames, progress), make_detector(settings.face_detector), settings.detect_every
        )
        track = follow_face(dataclasses.replace(detections, frames=frames), FRAME_RATE_HZ)
        height, width = detections.height, detections.width
    else:
        times_secs, boxes = face_boxes
        height, width = info.height, info.width
        _check_boxes(boxes, times_secs, height, width, video)
        track = follow_boxes(boxes, times_secs, frames, FRAME_RATE_HZ, height, width)
    # Before the first picture and after the last one the nearest picture is held: no face was seen there.
    times = np.arange(frames) / FRAME_RATE_HZ
    shown = (times > info.start_secs - 1 / FRAME_RATE_HZ) & (times < info.end_secs)
    track = FaceTrack(track.squares, track.found & shown)
    squares = np.array([crop_square(square, settings.face_margin, height, width) for square in track.squares])
    sized = _at_own_size(pictures(), track.squares, height, width)
    return _Faces(_crops(sized, track, settings, video, info.end_secs), squares, track.found)


def _reported(
    pictures: Iterator[Picture], frames: int, progress: Callable[[int, int], None] | None
) -> Iterator[Picture]:
    """Yields the pictures and reports, after each, how many of `frames` are done."""
    for k, picture in enumerate(pictures, start=1):
        yield picture
        if progress is not None:
            progress(k, frames)


def _at_own_size(
    pictures: Iterator[Picture], squares: np.ndarray, height: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pictures and the squares in their pixels, from squares in pixels of a picture of height x width."""
    for picture, square in zip(pictures, squares):  # noqa: B905 - the video may end before the track
        pixels = picture()
        scale_y, scale_x = pixels.shape[0] / height, pixels.shape[1] / width
        yield pixels, square * [scale_x, scale_y, math.sqrt(scale_x * scale_y)]


def _crops(
    sized: Iterator[tuple[np.ndarray, np.ndarray]],
    track: FaceTrack,
    settings: DecodingSettings,
    video: Path,
    end_secs: float,
) -> Iterator[np.ndarray]:
    """Yields one crop per frame of the track; the last one is held where the video ends a few frames early."""
    shown, crop = 0, np.empty(0, np.uint8)
    for shown, (pixels, square) in enumerate(sized, start=1):  # noqa: B007 - counts the pictures
        crop = crop_face(pixels, square, settings.face_margin, settings.crop_size)
        yield crop
    missing = len(track.found) - shown
    if missing > _MAX_HELD_FRAMES:
        raise UserError(
            f"{video}: the last picture ends at {shown / FRAME_RATE_HZ:.2f} s, but the file announces "
            f"{end_secs:.2f} s; check that the file is not truncated"
        )
    yield from repeat(crop, missing)


def _check_boxes(boxes: np.ndarray, times_secs: np.ndarray, height: int, width: int, video: Path) -> None:
    """Boxes outside the pictures belong to another video, or are in other units."""
    left, top, box_width, box_height = boxes.T
    has_face = (box_width > 0) & (box_height > 0)
    outside = (left >= width) | (top >= height) | (left + box_width <= 0) | (top + box_height <= 0)
    wrong = has_face & (outside | (box_width > width) | (box_height > height))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{video}: the face box at {times_secs[row]:g} s ({boxes[row].tolist()}) does not lie in the video's "
            f"pictures of {width} x {height} pixels; check that the boxes belong to this video and are in pixels"
        )


def _remarks(
    samples: np.ndarray | None,
    std: float,
    info: VideoInfo | None,
    found: np.ndarray,
    num_labels: int | None,
    sound: Literal["any", "needed", "ignored"],
) -> Iterator[str]:
    """What a person should know about a recording that was decoded without an error."""
    if samples is None:
        if sound != "ignored":
            yield "no sound, neither as a file nor in the video; networks that take audio cannot use this recording"
    elif std < SILENT_BELOW:
        yield "the sound is silent"
    elif _clipped(samples) > _MAX_CLIPPED * samples.size:
        yield "much of the sound is clipped at full scale; float samples must lie in [-1, 1]"
    if num_labels is not None:
        secs = [] if samples is None else [samples.size / SAMPLE_RATE_HZ]
        media_secs = min(secs + ([] if info is None else [info.end_secs]))
        labels_secs = num_labels / FRAME_RATE_HZ
        if media_secs - labels_secs > _MAX_MISSING_SECS:
            yield f"the labels end at {labels_secs:.2f} s; the remaining {media_secs - labels_secs:.2f} s are left out"
    if info is not None:
        if info.start_secs > _DRIFT_SECS:
            yield (
                f"the video starts at {info.start_secs:.2f} s; until then its first picture is held and marked as "
                "having no face"
            )
        if samples is not None:
            drift_secs = samples.size / SAMPLE_RATE_HZ - info.end_secs
            if abs(drift_secs) > _DRIFT_SECS:
                longer, shorter = ("sound", "video") if drift_secs > 0 else ("video", "sound")
                left_out = (
                    "; what goes beyond is left out; is a file cut?" if abs(drift_secs) > _MAX_MISSING_SECS else ""
                )
                yield f"the {longer} is {abs(drift_secs):.2f} s longer than the {shorter}{left_out}"
        if not found.any():
            yield "no face in any frame; the crops show the centre of the picture; see the contact sheet"
        elif found.mean() < _FEW_FACES:
            yield f"a face in only {found.mean():.0%} of the frames; see the contact sheet"


def _clipped(samples: np.ndarray) -> int:
    """Returns the number of samples at full scale; block by block, because two hours would take 700 MB at once."""
    blocks = np.array_split(samples, 1 + samples.size // 2**20)
    return sum(np.count_nonzero((block >= _FULL_SCALE) | (block <= -_FULL_SCALE)) for block in blocks)
