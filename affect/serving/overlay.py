"""Writes a video with its prediction drawn into it.

    curve, video, audio (paths)  ->  mp4: H.264 at 25 fps, pictures of `affect.serving.overlay_drawing`, and the sound

Frame k shows the picture that the network saw and its prediction for the same 40 ms. The pictures are upright, in
square pixels, and at most 1280 pixels wide and high; the strip with the curves comes below them. Nothing else of the
input is copied: no metadata, subtitles or chapters. Memory does not grow with the video.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, islice, repeat
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError

from affect.errors import UserError
from affect.media.container import check_is_file, choose_track, open_media
from affect.media.video import probe, read_frames
from affect.serving.overlay_drawing import Painter
from affect.serving.overlay_sound import add_sound, seconds_of
from affect.serving.prediction import Curve
from affect.storage import atomic_write
from affect.timebase import FRAME_RATE_HZ

_ENCODER = "libx264"
_BT709, _BT601, _STUDIO_RANGE = 1, 6, 1  # FFmpeg's numbers; OpenCV converts with the matrix of BT.601
_SOUND_AHEAD_SECS = 0.5


def write_overlay(
    curve: Curve,
    video: Path,
    audio: Path | None,
    output: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Draws a prediction into its video.

    Args:
      curve: the prediction.
      video: the video file that was predicted. If it ends before the curve, its last picture is held.
      audio: file whose sound the overlay gets; None: the sound track of `video`, if it has one.
      output: the mp4 to write, completely or not at all; an existing file is replaced.
      progress: called after each picture with the number of pictures that are done, and of all.

    Raises:
      UserError: the output is an input or cannot be written, the input has no pictures or cannot be decoded, or this
        PyAV has no encoder for H.264.
    """
    check_overlay(video, audio, output)
    info = probe(video)
    sound = audio or (video if info.has_sound else None)
    painter = Painter(curve, info.width, info.height)
    with atomic_write(output) as temporary:
        try:
            container = av.open(str(temporary.absolute()), "w", format="mp4", options={"movflags": "+faststart"})
        except (FFmpegError, OSError) as error:
            raise UserError(f"{output}: cannot be written ({error.strerror})") from error
        with container:
            _write(container, painter, curve, video, sound, output, progress)


def check_overlay(video: Path, audio: Path | None, output: Path) -> None:
    """Checks in advance that an overlay can be drawn; writes nothing.

    Raises:
      UserError: the output is an input or not an mp4, the input has no pictures, or this PyAV has no encoder for H.264.
    """
    if output.suffix.lower() != ".mp4":
        raise UserError(f"--overlay={output} must end in .mp4")
    for source in filter(None, (video, audio)):
        if output.exists() and output.samefile(source):
            raise UserError(f"--overlay={output} is the input itself; choose another path")
    if _ENCODER not in av.codecs_available:
        raise UserError("this PyAV was built without an encoder for H.264 (libx264); install its wheel: pip install av")
    check_is_file(video, "video")
    try:
        with open_media(video) as container:
            choose_track(container, "video", video)
    except FFmpegError as error:
        raise UserError(f"{video}: cannot be decoded as video ({error.strerror})") from error
    except UserError as error:
        raise UserError(f"{error}; --overlay needs pictures to draw on, --plot needs none") from error


def _write(
    container: OutputContainer,
    painter: Painter,
    curve: Curve,
    video: Path,
    sound: Path | None,
    output: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Writes all packets, sound and pictures in the order of time."""
    frames = len(curve.predicted)
    pictures = _add_pictures(container, painter)
    packets = iter(()) if sound is None else add_sound(container, sound, frames / FRAME_RATE_HZ)
    waiting = next(packets, None)
    for k, pixels in enumerate(_pixels(video, frames)):
        planes = np.asarray(cv2.cvtColor(painter.draw(k, pixels), cv2.COLOR_RGB2YUV_I420), np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts, frame.time_base = k, Fraction(1, FRAME_RATE_HZ)
        frame.colorspace, frame.color_range = _BT601, _STUDIO_RANGE
        _mux(container, pictures.encode(frame), output)
        while waiting is not None and seconds_of(waiting) <= k / FRAME_RATE_HZ + _SOUND_AHEAD_SECS:
            _mux(container, waiting, output)
            waiting = next(packets, None)
        progress(k + 1, frames)
    _mux(container, pictures.encode(None), output)
    for packet in chain([waiting] if waiting else [], packets):
        _mux(container, packet, output)


def _add_pictures(container: OutputContainer, painter: Painter) -> av.VideoStream:
    """Adds the video track to the mp4."""
    stream = container.add_stream(_ENCODER, rate=FRAME_RATE_HZ, options={"preset": "veryfast", "crf": "21"})
    stream.width, stream.height, stream.pix_fmt = painter.width, painter.height, "yuv420p"
    context = stream.codec_context
    context.thread_type = "FRAME"  # encodes while the next picture is drawn
    context.gop_size = 2 * FRAME_RATE_HZ  # for seeking
    context.colorspace, context.color_range = _BT601, _STUDIO_RANGE
    context.color_primaries = context.color_trc = _BT709
    return stream


def _pixels(video: Path, frames: int) -> Iterator[np.ndarray]:
    """Yields one picture per frame, uint8 RGB; the last one is held where the video ends early."""
    pixels = np.empty(0, np.uint8)
    shown = 0
    for shown, picture in enumerate(islice(read_frames(video, FRAME_RATE_HZ), frames), start=1):  # noqa: B007 - counts
        pixels = picture()
        yield pixels
    yield from repeat(pixels, frames - shown)


def _mux(container: OutputContainer, packets: av.Packet | list[av.Packet], output: Path) -> None:
    """Writes packets into the file."""
    try:
        container.mux(packets)
    except (FFmpegError, OSError) as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}); is the disk full?") from error
