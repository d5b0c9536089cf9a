"""Video files to RGB pictures on a regular grid, by presentation time.

Frame k of the grid is the picture that a viewer sees at t = k / rate: the last one whose presentation time is not
after t. So 50 fps is thinned, 12.5 fps repeated, and variable rate and dropped frames stay in step with the sound.
Before the first picture the first one is held.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from affect.errors import UserError
from affect.media.container import open_media, start_of_timeline_secs

# A picture on demand, uint8 RGB [height, width, 3]: whoever skips one does not pay for its colours.
Picture = Callable[[], np.ndarray]

# Presentation times are rounded to the container's clock; 1 ms forgives the coarsest common one (1 / 600 s).
_TIME_TOLERANCE_SECS = 0.001
_MAX_PIXELS = 8192 * 8192
_MAX_ASPECT = 4.0
# No recording: damaged times would otherwise repeat one picture for years.
_LONGEST_GAP_SECS = 600.0


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself, read without decoding.

    Attributes:
      width, height: of a picture with square pixels, before it is turned upright.
      start_secs, end_secs: presentation time of the first picture, and when the last one ends.
      pictures: how many there are.
      has_sound: whether there is a sound track.
    """

    width: int
    height: int
    start_secs: float
    end_secs: float
    pictures: int
    has_sound: bool


def probe(path: Path) -> VideoInfo:
    """Reads a video file's packets, but decodes nothing.

    Raises:
      UserError: missing, unreadable, no video track, no pictures, pictures too large or too far apart to be real.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such video file")
    try:
        with open_media(path) as container:
            stream = _video_stream(container, path)
            zero_secs = start_of_timeline_secs(container)
            times, durations, count = [], [], 0
            for packet in container.demux(stream):
                if packet.size:  # the last one only flushes
                    count += 1
                    if packet.pts is not None:
                        times.append(float(packet.pts * packet.time_base) - zero_secs)
                        durations.append(float((packet.duration or 0) * packet.time_base))
            height, width = _shown_size(stream)
            has_sound = bool(container.streams.audio)
            nominal_secs = _nominal_secs(stream)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded as video ({error})") from error
    if not count:
        raise UserError(f"{path}: holds no pictures")
    last_secs = durations[int(np.argmax(times))] if times else 0.0
    ordered = np.sort(times) if times else np.arange(count) * nominal_secs
    gaps = np.diff(ordered, prepend=0.0)
    if gaps.max() > _LONGEST_GAP_SECS or ordered[0] < -_LONGEST_GAP_SECS:
        raise UserError(
            f"{path}: no picture for {np.abs(gaps).max():.0f} s before {ordered[np.abs(gaps).argmax()]:.0f} s; "
            "are the file's times damaged?"
        )
    return VideoInfo(
        width, height, float(ordered[0]), float(ordered[-1]) + (last_secs or nominal_secs), count, has_sound
    )


def grid_frames(end_secs: float, frame_rate_hz: float) -> int:
    """How many frames of the grid a video that ends then has."""
    return max(0, math.ceil((end_secs - _TIME_TOLERANCE_SECS) * frame_rate_hz))


def read_frames(path: Path, frame_rate_hz: float, frame_times_secs: np.ndarray | None = None) -> Iterator[Picture]:
    """Yields a `Picture` per grid frame; one on show for long is yielded again.

    Args:
      path: the video file.
      frame_rate_hz: of the grid.
      frame_times_secs: [decoded frames] times that replace the file's own, for corpora that ship corrected ones.

    Raises:
      UserError: missing, unreadable, no video track, no pictures, or fewer times than pictures.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such video file")
    k, shown, end_secs = 0, None, 0.0
    for time_secs, duration_secs, picture in _decoded(path, frame_times_secs):
        while shown is not None and k / frame_rate_hz + _TIME_TOLERANCE_SECS < time_secs:
            yield shown
            k += 1
        shown, end_secs = picture, time_secs + duration_secs
    if shown is None:
        raise UserError(f"{path}: holds no pictures")
    while k / frame_rate_hz + _TIME_TOLERANCE_SECS < end_secs:
        yield shown
        k += 1


def _decoded(path: Path, frame_times_secs: np.ndarray | None) -> Iterator[tuple[float, float, Picture]]:
    """Yields (presentation time, duration, picture), times from the given list where there is one."""
    try:
        with open_media(path) as container:
            stream = _video_stream(container, path)
            stream.codec_context.thread_count = 1  # one process per core already
            nominal_secs, zero_secs = _nominal_secs(stream), start_of_timeline_secs(container)
            aspect = float(stream.sample_aspect_ratio or 1)
            for index, frame in enumerate(container.decode(stream)):
                if frame_times_secs is None:
                    time_secs = frame.time - zero_secs if frame.time is not None else index * nominal_secs
                elif index < len(frame_times_secs):
                    time_secs = float(frame_times_secs[index])
                else:
                    raise UserError(f"{path}: has more pictures than its {len(frame_times_secs)} listed frame times")
                shown_secs = float(frame.duration * frame.time_base) if frame.duration else nominal_secs
                yield time_secs, shown_secs, functools.cache(functools.partial(_to_rgb, frame, aspect))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded as video ({error})") from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise UserError(f"{path}: has no video track")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UserError(f"{path}: its pictures are coded in a way that is not known")
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        raise UserError(f"{path}: its pixels are {aspect:g} times as wide as high; is the header damaged?")
    if stream.width * stream.height > _MAX_PIXELS:
        raise UserError(
            f"{path}: its pictures have {stream.width} x {stream.height} pixels; no camera makes such video"
        )
    return stream


def _nominal_secs(stream: av.VideoStream) -> float:
    return float(1 / stream.average_rate) if stream.average_rate else 0.0


def _shown_size(stream: av.VideoStream) -> tuple[int, int]:
    """Height and width with square pixels, before rotation."""
    return stream.height, round(stream.width * float(stream.sample_aspect_ratio or 1))


def _to_rgb(frame: av.VideoFrame, aspect: float) -> np.ndarray:
    """RGB pixels, square and upright: telephones store pictures lying and say by how much to turn them.

    The common format goes through OpenCV, twenty times faster here than FFmpeg's scaler. OpenCV knows one conversion
    only, BT.601 in studio range; anything marked otherwise is left to FFmpeg.
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
