"""Video files to RGB pictures on a regular grid, by presentation time.

Frame k of the grid is the picture that a viewer sees at t = k / rate: the last one whose presentation time is not
after t. So 50 fps is thinned, 12.5 fps repeated, and variable rate and dropped frames stay in step with the sound.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from affect.errors import UserError

# Presentation times are rounded to the container's clock; 2 ms forgives the coarsest common one (1 / 600 s).
_TIME_TOLERANCE_SECS = 0.002


def read_frames(path: Path, frame_rate_hz: float, frame_times_secs: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yields uint8 RGB [height, width, 3], one per grid frame; a picture on show for long is yielded again.

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
    for time_secs, duration_secs, frame in _decoded(path, frame_times_secs):
        while shown is not None and k / frame_rate_hz + _TIME_TOLERANCE_SECS < time_secs:
            yield shown
            k += 1
        shown, end_secs = _to_rgb(frame), time_secs + duration_secs
    if shown is None:
        raise UserError(f"{path}: holds no pictures")
    while k / frame_rate_hz + _TIME_TOLERANCE_SECS < end_secs:
        yield shown
        k += 1


def _decoded(path: Path, frame_times_secs: np.ndarray | None) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yields (presentation time, duration, frame), times from the given list where there is one."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: has no video track")
            stream = container.streams.video[0]
            nominal_secs = float(1 / stream.average_rate) if stream.average_rate else 0.0
            for index, frame in enumerate(container.decode(stream)):
                if frame_times_secs is None:
                    time_secs = frame.time if frame.time is not None else index * nominal_secs
                elif index < len(frame_times_secs):
                    time_secs = float(frame_times_secs[index])
                else:
                    raise UserError(f"{path}: has more pictures than its {len(frame_times_secs)} listed frame times")
                yield time_secs, nominal_secs, frame
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded as video ({error})") from error


def _to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """RGB pixels. The common case goes through OpenCV, twenty times faster here than FFmpeg's scaler.

    OpenCV knows one conversion only, BT.601 in studio range; anything marked otherwise is left to FFmpeg.
    """
    plain_colours = frame.colorspace in (2, 5, 6) and frame.color_range in (0, 1)  # unset, BT.470BG, SMPTE 170M
    even_size = frame.width % 2 == 0 and frame.height % 2 == 0
    if frame.format.name == "yuv420p" and plain_colours and even_size:
        return cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
    return frame.to_ndarray(format="rgb24")
