"""Video files to RGB pictures at a constant frame rate, by presentation time.

Frame k is the picture that a viewer sees at t = k / rate: the last one whose presentation time is not after t. So a
50 fps video loses every second picture, a 12.5 fps video shows each one twice, and a video with a variable rate or
dropped pictures stays synchronous with the sound. Frames before the first picture repeat the first picture.

A "picture" is what the file stores; a "frame" is a position on the regular time grid.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from affect.errors import UserError
from affect.media.container import open_media, start_of_timeline_secs

# Converts a decoded picture to uint8 RGB [height, width, 3] when called. Pictures that are skipped cost no conversion.
Picture = Callable[[], np.ndarray]

# Presentation times are rounded to the container's clock; 1 ms covers the coarsest common one (1 / 600 s).
_TIME_TOLERANCE_SECS = 0.001
_MAX_PIXELS = 8192 * 8192
_MAX_ASPECT = 4.0
_MAX_GAP_SECS = 600.0  # longer gaps mean corrupt timestamps, and would repeat one picture for hours


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file, read without decoding it.

    Attributes:
      width, height: of the pictures, scaled to square pixels, before rotation to upright.
      start_secs, end_secs: presentation time of the first picture, and the time at which the last one ends.
      pictures: number of stored pictures.
      has_sound: whether the file has a sound track.
    """

    width: int
    height: int
    start_secs: float
    end_secs: float
    pictures: int
    has_sound: bool


def probe(path: Path) -> VideoInfo:
    """Reads the properties of a video file from its packets, without decoding a picture.

    Raises:
      UserError: the file is missing or unreadable, has no video track or no pictures, or its pictures are implausibly
        large or far apart.
    """
    if not path.is_file():
        raise UserError(f"{path}: video file does not exist")
    try:
        with open_media(path) as container:
            stream = _video_stream(container, path)
            zero_secs = start_of_timeline_secs(container)
            times, durations, count = [], [], 0
            for packet in container.demux(stream):
                if packet.size:  # the last packet is empty and only flushes the demuxer
                    count += 1
                    if packet.pts is not None:
                        times.append(float(packet.pts * packet.time_base) - zero_secs)
                        durations.append(float((packet.duration or 0) * packet.time_base))
            height, width = _shown_size(stream)
            has_sound = bool(container.streams.audio)
            nominal_secs = _nominal_secs(stream)
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded as video ({error})") from error
    if not count:
        raise UserError(f"{path}: the video track contains no pictures")
    last_secs = durations[int(np.argmax(times))] if times else 0.0
    ordered = np.sort(times) if times else np.arange(count) * nominal_secs
    gaps = np.diff(ordered, prepend=0.0)
    if gaps.max() > _MAX_GAP_SECS or ordered[0] < -_MAX_GAP_SECS:
        raise UserError(
            f"{path}: no picture for {np.abs(gaps).max():.0f} s before {ordered[np.abs(gaps).argmax()]:.0f} s; "
            "the timestamps are probably corrupt"
        )
    return VideoInfo(
        width, height, float(ordered[0]), float(ordered[-1]) + (last_secs or nominal_secs), count, has_sound
    )


def grid_frames(end_secs: float, frame_rate_hz: float) -> int:
    """Returns the number of frames of a video that ends at `end_secs`, at this frame rate."""
    return max(0, math.ceil((end_secs - _TIME_TOLERANCE_SECS) * frame_rate_hz))


def read_frames(path: Path, frame_rate_hz: float, frame_times_secs: np.ndarray | None = None) -> Iterator[Picture]:
    """Yields one `Picture` per frame; a picture that is shown for several frames is yielded several times.

    Args:
      path: the video file.
      frame_rate_hz: rate of the frames.
      frame_times_secs: [pictures], presentation times that replace those in the file; corpora may ship corrected ones.

    Raises:
      UserError: the file is missing or unreadable, has no video track or no pictures, or has more pictures than
        `frame_times_secs`.
    """
    if not path.is_file():
        raise UserError(f"{path}: video file does not exist")
    k, shown, end_secs = 0, None, 0.0
    for time_secs, duration_secs, picture in _decoded(path, frame_times_secs):
        while shown is not None and k / frame_rate_hz + _TIME_TOLERANCE_SECS < time_secs:
            yield shown
            k += 1
        shown, end_secs = picture, time_secs + duration_secs
    if shown is None:
        raise UserError(f"{path}: the video track contains no pictures")
    while k / frame_rate_hz + _TIME_TOLERANCE_SECS < end_secs:
        yield shown
        k += 1


def _decoded(path: Path, frame_times_secs: np.ndarray | None) -> Iterator[tuple[float, float, Picture]]:
    """Yields (presentation time, duration, picture); the times come from `frame_times_secs` if given."""
    try:
        with open_media(path) as container:
            stream = _video_stream(container, path)
            stream.codec_context.thread_count = 1  # preprocessing already runs one process per core
            nominal_secs, zero_secs = _nominal_secs(stream), start_of_timeline_secs(container)
            aspect = float(stream.sample_aspect_ratio or 1)
            for index, frame in enumerate(container.decode(stream)):
                if frame_times_secs is None:
                    time_secs = frame.time - zero_secs if frame.time is not None else index * nominal_secs
                elif index < len(frame_times_secs):
                    time_secs = float(frame_times_secs[index])
                else:
                    raise UserError(
                        f"{path}: the video has more pictures than the {len(frame_times_secs)} listed frame times"
                    )
                shown_secs = (
                    float(frame.duration * frame.time_base) if frame.duration and frame.time_base else nominal_secs
                )
                yield time_secs, shown_secs, functools.cache(functools.partial(_to_rgb, frame, aspect))
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded as video ({error})") from error


def _video_stream(container: InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise UserError(f"{path}: the file has no video track")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UserError(f"{path}: the codec of the video track is unknown; convert it, for example to H.264")
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        raise UserError(f"{path}: a pixel aspect ratio of {aspect:g} is not plausible; the header is probably damaged")
    if stream.width * stream.height > _MAX_PIXELS:
        raise UserError(
            f"{path}: pictures of {stream.width} x {stream.height} pixels are too large for a video; scale it down"
        )
    return stream


def _nominal_secs(stream: av.VideoStream) -> float:
    return float(1 / stream.average_rate) if stream.average_rate else 0.0


def _shown_size(stream: av.VideoStream) -> tuple[int, int]:
    """Returns height and width of the pictures, scaled to square pixels, before rotation."""
    return stream.height, round(stream.width * float(stream.sample_aspect_ratio or 1))


def _to_rgb(frame: av.VideoFrame, aspect: float) -> np.ndarray:
    """Converts to RGB with square pixels, upright: phones store rotated pictures together with the angle.

    OpenCV converts the most common format, twenty times faster than FFmpeg's scaler does here. But OpenCV implements
    only BT.601 in studio range, so FFmpeg converts everything that is marked as something else.
    """
    plain_colours = frame.colorspace in (2, 5, 6) and frame.color_range in (0, 1)  # unset, BT.470BG, SMPTE 170M
    even_size = frame.width % 2 == 0 and frame.height % 2 == 0
    if frame.format.name == "yuv420p" and plain_colours and even_size:
        picture = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
    else:
        picture = frame.to_ndarray(format="rgb24")
    if aspect != 1.0:
        picture = cv2.resize(picture, (round(frame.width * aspect), frame.height), interpolation=cv2.INTER_AREA)
    if frame.rotation % 360:
        picture = np.ascontiguousarray(np.rot90(picture, frame.rotation // 90))
    return picture
