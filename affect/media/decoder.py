"""The pictures of a video file in the order in which they are shown, each with its time and the shape of its pixels.

What the file or the decoder says per packet is joined with the pictures here; `affect.media.video` puts them on a
regular grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from affect.errors import UserError
from affect.media.container import check_is_file, choose_track, open_media, start_of_timeline_secs
from affect.media.picture import UPRIGHT, Orientation, orientation_of, upright_size

_MAX_PIXELS = 8192 * 8192
_MAX_ASPECT = 4.0
# These store no presentation times, and those that FFmpeg derives jump back and forth where the order of decoding is
# not the order of showing. Decoding times are regular.
_FORMATS_OF_DECODING_TIMES = {"avi"}
_WIDE_GAP = 2.5  # in pictures; a single missing one may be a repetition, the second field, or a reference never shown


@dataclass(frozen=True)
class DecodedPicture:
    """A decoded picture.

    Attributes:
      time_secs, duration_secs: when it is shown.
      frame: the picture as stored.
      aspect: width of a stored pixel / its height.
      orientation: how the stored picture becomes upright.
      lost_secs: presentation times of the pictures before it, back to the last decoded one, that could not be decoded.
    """

    time_secs: float
    duration_secs: float
    frame: av.VideoFrame
    aspect: float
    orientation: Orientation
    lost_secs: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright and in square pixels."""
        return upright_size(self.frame, self.aspect, self.orientation)


def decode_pictures(path: Path, frame_times_secs: np.ndarray | None = None) -> Iterator[DecodedPicture]:
    """Yields the pictures in the order in which they are shown; the times come from `frame_times_secs` if given.

    Raises:
      UserError: the file is missing, unreadable or damaged, has no video track, implausible pictures, or more pictures
        than `frame_times_secs`.
    """
    check_is_file(path, "video")
    try:
        with open_media(path) as container:
            stream = video_stream(container, path)
            clock, zero_secs = stream.time_base or Fraction(1), start_of_timeline_secs(container)
            nominal_secs = nominal_picture_secs(stream)
            decoder = _Decoder(stream, stores_decoding_times(container), zero_secs, path)
            packets = (packet for packet in container.demux(stream) if packet.size)  # empty ones repeat a picture
            shown = chain.from_iterable(map(decoder.decode, chain(packets, [None])))
            orientation = UPRIGHT
            for index, (frame, ticks, aspect, lost) in enumerate(shown):
                if frame_times_secs is None:
                    time_secs = index * nominal_secs if ticks is None else float(ticks * clock) - zero_secs
                elif index < len(frame_times_secs):
                    time_secs = float(frame_times_secs[index])
                else:
                    raise UserError(
                        f"{path}: the video has more pictures than the {len(frame_times_secs)} listed frame times"
                    )
                duration_secs = float(frame.duration * clock) if frame.duration else nominal_secs
                lost_secs = tuple(float(pts * clock) - zero_secs for pts in lost)
                orientation = orientation_of(frame, orientation)
                yield DecodedPicture(time_secs, duration_secs, frame, aspect, orientation, lost_secs)
    except (FFmpegError, OSError) as error:
        raise cannot_be_decoded(path, error) from error


def video_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """Returns the track of the pictures.

    Raises:
      UserError: there is none, or its header is not plausible.
    """
    stream = choose_track(container, "video", path)
    _plausible_aspect(stream.sample_aspect_ratio, path)
    if stream.width * stream.height > _MAX_PIXELS:
        raise UserError(
            f"{path}: pictures of {stream.width} x {stream.height} pixels are too large for a video; scale it down"
        )
    return stream


def nominal_picture_secs(stream: av.VideoStream) -> float:
    """Returns 1 / frame rate, 0 if that is unknown."""
    return float(1 / stream.average_rate) if stream.average_rate else 0.0


def stores_decoding_times(container: InputContainer) -> bool:
    """Whether the times in the file are those of decoding, one picture period apart, in the order of the file."""
    return container.format.name in _FORMATS_OF_DECODING_TIMES


def cannot_be_decoded(path: Path, error: FFmpegError | OSError) -> UserError:
    """Returns what a person is told if FFmpeg refuses a file."""
    return UserError(f"{path}: cannot be decoded as video ({error.strerror or error}); it may be cut, or not a video")


class _Decoder:
    """Decodes packets, and gives each picture what it does not carry itself.

    A decoder holds pictures back until those that are shown before them have come. The packets of the pictures that it
    holds are in `_held`: presentation time in ticks, and aspect.
    """

    def __init__(self, stream: av.VideoStream, decoding_times: bool, zero_secs: float, path: Path):
        self._context, self._decoding_times = stream.codec_context, decoding_times
        self._zero_secs, self._path = zero_secs, path
        self._context.thread_count = 1  # preprocessing already runs one process per core
        self._context.options = {"max_pixels": str(_MAX_PIXELS)}  # pictures may grow within the file
        self._nominal_secs, self._clock = nominal_picture_secs(stream), stream.time_base or Fraction(1)
        self._first_aspect = self._aspect = _plausible_aspect(stream.sample_aspect_ratio, path)
        self._start_time = stream.start_time  # None if no picture has a time
        self._first_coded: Fraction | None = None
        self._held: list[tuple[int, float]] = []
        self._start: int | None = None  # decoding time of the packet that the first picture was decoded from
        self._delay: int | None = None  # by how much that picture came later
        self._latest_pts: int | None = None
        self._latest_ticks: int | None = None
        self._step = 1  # duration of the last packet

    def decode(self, packet: av.Packet | None) -> Iterator[tuple[av.VideoFrame, int | None, float, list[int]]]:
        """Yields (picture, its time in ticks or None, its aspect, times of lost pictures before it); None: the end."""
        try:
            frames = self._context.decode(packet)
        except FFmpegError as error:
            pts = None if packet is None else packet.pts
            where = "" if pts is None else f" from {float(pts * self._clock) - self._zero_secs:.2f} s on"
            raise UserError(
                f"{self._path}: cannot be decoded as video{where} ({error.strerror or error}); the file is cut, "
                "damaged or encrypted"
            ) from error
        # In FFmpeg the container's aspect counts, but the container knows nothing of later changes.
        coded = self._context.sample_aspect_ratio
        self._first_coded = self._first_coded or coded
        if coded != self._first_coded:
            self._aspect = _plausible_aspect(coded, self._path)
        else:
            self._aspect = self._first_aspect
        if packet is not None:
            self._step = packet.duration or 1
            if self._start is None or (self._delay is None and packet.is_keyframe):
                self._start = packet.dts
            if packet.pts is not None and not packet.is_discard:
                self._held.append((packet.pts, self._aspect))
        for frame in frames:
            own = next((held for held in self._held if held[0] == frame.pts), None)
            if own is not None:
                self._held.remove(own)
            aspect = self._aspect if own is None else own[1]
            yield frame, self._shown_at(frame), aspect, self._lost_before(frame)

    def _shown_at(self, frame: av.VideoFrame) -> int | None:
        ticks = None if self._decoding_times else frame.pts
        if self._decoding_times and frame.dts is not None and self._start is not None:
            self._delay = frame.dts - self._start if self._delay is None else self._delay
            ticks = frame.dts - self._delay
        elif ticks is None and self._latest_ticks is not None:  # for instance the last pictures of an AVI
            ticks = self._latest_ticks + self._step
        if ticks is None:
            return self._start_time  # times before 0 are missing in some formats
        self._latest_ticks = ticks
        return ticks

    def _lost_before(self, frame: av.VideoFrame) -> list[int]:
        if frame.pts is None:
            return []
        older = sorted(pts for pts, _ in self._held if pts < frame.pts)
        self._held = [held for held in self._held if held[0] >= frame.pts]
        lost = [pts for pts in older if self._latest_pts is None or pts > self._latest_pts]
        before, self._latest_pts = self._latest_pts, frame.pts
        if len(lost) < 2:
            return []
        gap = frame.pts - (lost[0] if before is None else before)
        return lost if float(gap * self._clock) > _WIDE_GAP * self._nominal_secs else []


def _plausible_aspect(ratio: Fraction | None, path: Path) -> float:
    """Returns the width of a stored pixel / its height, 1 if it is not given."""
    aspect = float(ratio or 1)
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        raise UserError(f"{path}: a pixel aspect ratio of {aspect:g} is not plausible; the header is probably damaged")
    return aspect
