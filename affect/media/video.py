"""Video files to RGB pictures at a constant frame rate, by presentation time.

Frame k is the picture that a viewer sees at t = k / rate: the last one whose presentation time is not after t. So a
50 fps video loses every second picture, a 12.5 fps video shows each one twice, and a video with a variable rate or
dropped pictures stays synchronous with the sound. Frames before the first picture repeat the first picture.

A "picture" is what the file stores; a "frame" is a position on the regular time grid. Every picture comes upright and
in square pixels, in its own size: see `affect.media.picture`.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from affect.errors import UserError
from affect.media.boxes import cut_remark
from affect.media.container import check_is_file, open_media, start_of_timeline_secs, track_remark
from affect.media.decoder import (
    DecodedPicture,
    cannot_be_decoded,
    decode_pictures,
    nominal_picture_secs,
    stores_decoding_times,
    video_stream,
)
from affect.media.joined import refuse_joined
from affect.media.picture import to_rgb

# Converts a decoded picture to uint8 RGB [height, width, 3] when called. Pictures that are skipped cost no conversion.
Picture = Callable[[], np.ndarray]

# Presentation times are rounded to the container's clock; 1 ms covers the coarsest common one (1 / 600 s).
_TIME_TOLERANCE_SECS = 0.001
_MAX_GAP_SECS = 600.0  # longer gaps mean corrupt timestamps, and would repeat one picture for hours
# Segments of one recording may overlap by a few pictures; files that were joined start again from their first one.
_MAX_STEP_BACK_SECS = 0.2
_MAX_MISSING_SECS = 1.0
_PQ, _HLG = 16, 18  # FFmpeg's numbers of the transfer curves of HDR


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file; of its pictures, only the first is decoded.

    Attributes:
      width, height: of the first picture as `read_frames` yields it, upright and in square pixels.
      start_secs, end_secs: presentation time of the first picture that can be decoded, and the time at which the last
        one ends.
      pictures: number of stored pictures.
      has_sound: whether the file has a sound track.
      remarks: what a person should know about the pictures.
    """

    width: int
    height: int
    start_secs: float
    end_secs: float
    pictures: int
    has_sound: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Packets:
    """What a file says about its pictures without decoding them.

    Attributes:
      times_secs: [packets with a time], presentation times in the order of the file.
      last_secs: how long the picture that is shown last is shown.
      nominal_secs: 1 / frame rate; 0 if unknown.
      announced_secs: the duration in the header; 0 if there is none.
      count: number of pictures.
      has_sound: whether the file has a sound track.
      is_hdr: whether the pictures are marked as high dynamic range.
      remarks: on the choice of the track, and on a file that is cut.
    """

    times_secs: np.ndarray
    last_secs: float
    nominal_secs: float
    announced_secs: float
    count: int
    has_sound: bool
    is_hdr: bool
    remarks: list[str]


def probe(path: Path, frame_times_secs: np.ndarray | None = None) -> VideoInfo:
    """Reads the properties of a video file from its packets and its first picture.

    Args:
      path: the video file.
      frame_times_secs: [pictures], presentation times that replace those in the file, which are not checked then.

    Raises:
      UserError: the file is missing or unreadable, has no video track or no pictures, was joined from several files, or
        its pictures are implausibly large or far apart.
    """
    packets = _read_packets(path, check_clock=frame_times_secs is None)
    if not packets.count:
        raise UserError(f"{path}: the video track contains no pictures")
    first = next(decode_pictures(path, frame_times_secs), None)
    if first is None:
        raise UserError(f"{path}: none of the {packets.count} pictures can be decoded; the file is damaged")
    if frame_times_secs is not None:
        ordered = frame_times_secs[: packets.count]
        last_secs = float(np.diff(ordered).mean()) if len(ordered) > 1 else packets.nominal_secs
    else:
        times = packets.times_secs
        ordered = np.sort(times) if times.size else np.arange(packets.count) * packets.nominal_secs
        gaps = np.diff(ordered, prepend=0.0)
        if gaps.max() > _MAX_GAP_SECS or ordered[0] < -_MAX_GAP_SECS:
            raise UserError(
                f"{path}: no picture for {np.abs(gaps).max():.0f} s before {ordered[np.abs(gaps).argmax()]:.0f} s; "
                "the timestamps are probably corrupt"
            )
        last_secs = packets.last_secs or packets.nominal_secs
    height, width = first.size
    end_secs = float(ordered[-1]) + last_secs
    remarks = tuple(_remarks(packets, first, end_secs - min(float(ordered[0]), 0.0)))
    return VideoInfo(width, height, first.time_secs, end_secs, packets.count, packets.has_sound, remarks)


def grid_frames(end_secs: float, frame_rate_hz: float) -> int:
    """Returns the number of frames of a video that ends at `end_secs`, at this frame rate."""
    return max(0, math.ceil((end_secs - _TIME_TOLERANCE_SECS) * frame_rate_hz))


def read_frames(
    path: Path,
    frame_rate_hz: float,
    frame_times_secs: np.ndarray | None = None,
    remarks: list[str] | None = None,
) -> Iterator[Picture]:
    """Yields one `Picture` per frame; a picture that is shown for several frames is yielded several times.

    Args:
      path: the video file.
      frame_rate_hz: rate of the frames.
      frame_times_secs: [pictures], presentation times that replace those in the file; corpora may ship corrected ones.
      remarks: what only decoding shows is appended here, once even if the video is read twice: changes of the size,
        pictures that cannot be decoded.

    Raises:
      UserError: the file is missing or unreadable, has no video track or no pictures, was joined from several files, or
        its pictures do not fit `frame_times_secs`.
    """
    watch = _Watch(path, frame_times_secs is not None, [] if remarks is None else remarks)
    k, shown, end_secs = 0, None, 0.0
    for decoded in decode_pictures(path, frame_times_secs):
        watch.look_at(decoded)
        while shown is not None and k / frame_rate_hz + _TIME_TOLERANCE_SECS < decoded.time_secs:
            yield shown
            k += 1
        shown = functools.cache(functools.partial(to_rgb, decoded.frame, decoded.aspect, decoded.orientation))
        end_secs = decoded.time_secs + decoded.duration_secs
    if shown is None:
        raise UserError(f"{path}: the video track contains no pictures")
    while k / frame_rate_hz + _TIME_TOLERANCE_SECS < end_secs:
        yield shown
        k += 1


class _Watch:
    """Looks at the decoded pictures in turn, and appends to `remarks`, or raises, what the packets do not tell."""

    def __init__(self, path: Path, times_are_given: bool, remarks: list[str]):
        self._path, self._times_are_given, self._remarks = path, times_are_given, remarks
        self._size: tuple[int, int] | None = None
        self._latest_secs = -math.inf
        self._lost, self._first_lost_secs, self._changes = 0, 0.0, set()

    def look_at(self, decoded: DecodedPicture):
        """Raises UserError if the clock jumps back, or if lost pictures leave the given times without meaning."""
        if self._latest_secs - decoded.time_secs > _MAX_STEP_BACK_SECS:
            raise _restarted(self._path, self._latest_secs, decoded.time_secs)
        self._latest_secs = max(self._latest_secs, decoded.time_secs)
        if decoded.lost_secs:
            self._count_lost(decoded.lost_secs)
        height, width = decoded.size
        if self._size not in (None, (width, height)) and (change := (self._size, (width, height))) not in self._changes:
            self._changes.add(change)
            (old_width, old_height), _ = change
            remark = (
                f"the picture size changes from {old_width} x {old_height} to {width} x {height} at "
                f"{decoded.time_secs:.2f} s"
            )
            if remark not in self._remarks:
                self._remarks.append(remark)
        self._size = (width, height)

    def _count_lost(self, lost_secs: tuple[float, ...]):
        if self._times_are_given:
            raise UserError(
                f"{self._path}: {len(lost_secs)} pictures from {lost_secs[0]:.2f} s on hold nothing that can be "
                "decoded, so the listed frame times do not fit those after them"
            )
        self._first_lost_secs = self._first_lost_secs if self._lost else lost_secs[0]
        self._lost += len(lost_secs)
        what = (
            f" pictures hold nothing that can be decoded, the first at {self._first_lost_secs:.2f} s; a neighbouring "
            "picture is held"
        )
        said = max((int(remark.removesuffix(what)) for remark in self._remarks if remark.endswith(what)), default=0)
        if said:
            self._remarks.remove(f"{said}{what}")
        self._remarks.append(f"{max(said, self._lost)}{what}")


def _read_packets(path: Path, check_clock: bool) -> _Packets:
    """Reads all packets of the video track, and checks that the file is one recording."""
    check_is_file(path, "video")
    try:
        with open_media(path) as container:
            stream = video_stream(container, path)
            zero_secs, decoding_times = start_of_timeline_secs(container), stores_decoding_times(container)
            times, durations, count, position, latest_clock = [], [], 0, 0, -math.inf
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:  # the last packet is empty and only flushes the demuxer
                    continue
                count, position = count + 1, max(position, packet.pos or 0)
                if packet.has_sidedata("encryption_info"):
                    raise UserError(f"{path}: the video track is encrypted; decrypt it first")
                ticks = packet.dts if decoding_times else packet.pts
                clock = None if packet.dts is None else float(packet.dts * packet.time_base) - zero_secs
                if clock is not None:
                    if check_clock and latest_clock - clock > _MAX_STEP_BACK_SECS:
                        restart = clock if ticks is None else float(ticks * packet.time_base) - zero_secs
                        raise _restarted(path, max(times, default=latest_clock), restart)
                    latest_clock = clock
                if ticks is not None:
                    times.append(float(ticks * packet.time_base) - zero_secs)
                    durations.append(float((packet.duration or 0) * packet.time_base))
            refuse_joined(path, container.format.name, position)
            return _Packets(
                np.array(times),
                durations[int(np.argmax(times))] if times else 0.0,
                nominal_picture_secs(stream),
                _announced_secs(container, stream),
                count,
                bool(container.streams.audio),
                stream.codec_context.color_trc in (_PQ, _HLG),
                track_remark(container, stream) + cut_remark(path, container.format.name),
            )
    except (FFmpegError, OSError) as error:
        raise cannot_be_decoded(path, error) from error


def _announced_secs(container: InputContainer, stream: av.VideoStream) -> float:
    """Returns how long the pictures last by the header of the file, 0 if it does not say."""
    if container.format.name == "avi":  # FFmpeg replaces the duration by an estimate if the file is cut
        return stream.frames * nominal_picture_secs(stream)
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return 0.0


def _restarted(path: Path, before_secs: float, after_secs: float) -> UserError:
    return UserError(
        f"{path}: the clock of the video jumps back from {before_secs:.2f} s to {after_secs:.2f} s; the file was "
        "probably joined from several; join them again with ffmpeg's concat demuxer, or split the recording"
    )


def _remarks(packets: _Packets, first: DecodedPicture, held_secs: float) -> Iterator[str]:
    """What a person should know about pictures that last for `held_secs`, before all are decoded."""
    yield from packets.remarks
    if packets.announced_secs - held_secs > _MAX_MISSING_SECS:
        yield (
            f"the file announces {packets.announced_secs:.2f} s of pictures but holds {held_secs:.2f} s; it is "
            "probably cut"
        )
    if not first.orientation.exact:
        yield (
            "the pictures should be turned by an angle other than a right one, or distorted; they are turned by the "
            "nearest right angle"
        )
    if packets.is_hdr:
        yield "the pictures are HDR; they are not tone-mapped and look pale; convert them to BT.709"
    if first.frame.interlaced_frame:
        yield "the pictures are interlaced: movements show combs; deinterlace them, for example with ffmpeg's bwdif"
