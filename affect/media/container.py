"""Opens media files with FFmpeg, for sound and video alike: which track is read, and when its timeline starts."""

from pathlib import Path
from typing import Literal, overload

import av
from av import logging as ffmpeg_log
from av.container import InputContainer
from av.error import ArgumentError
from av.stream import Disposition, Stream

from affect.errors import UserError

# FFmpeg's names of the formats that are read; mov includes mp4, m4a and 3gp, and matroska includes webm. Each holds its
# own sound and pictures. Playlists (hls, concat), patterns of picture names (image2), session descriptions (sdp) and
# the like are missing on purpose: they name other files or addresses, and a corpus from elsewhere must not make us read
# those. A mov may name other files too, but FFmpeg does not follow that by default.
FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dv", "eac3", "flac", "flv", "gif", "h264", "hevc",
    "m4v", "matroska", "mov", "mp3", "mpeg", "mpegts", "mpegvideo", "mxf", "nistsphere", "ogg", "tta", "w64", "wav",
    "wv", "yuv4mpegpipe",
)  # fmt: skip
# The format is checked when FFmpeg has recognised it by the first bytes and the name, before its reader starts.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
# Broadcast formats start at an arbitrary time; MP3 starts with the encoder's padding, which is not decoded.
_FORMATS_WITHOUT_ZERO = {"mpegts", "mpeg", "mp3"}
_STILL = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
_KINDS = {"audio": ("sound", "WAV"), "video": ("video", "H.264")}  # the word for it, and what everybody can read


def check_is_file(path: Path, kind: str) -> None:
    """Refuses what is missing, and what is no regular file: to read from a pipe may take forever.

    Raises:
      UserError: names the path; `kind` is the word for the file.
    """
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:  # no permission to look into the folder, or a name that is too long
        raise UserError(f"{path}: {kind} file cannot be read ({error.strerror})") from error
    if not exists:
        raise UserError(f"{path}: {kind} file does not exist")
    if not is_file:
        raise UserError(f"{path}: is not a regular file but a folder, pipe or device; it cannot be read as {kind}")


def start_of_timeline_secs(container: InputContainer) -> float:
    """Returns the presentation time, in seconds, at which the recording starts.

    It is 0 in mp4, mkv and similar formats, even if the first picture or sample comes later: that stream starts late.
    """
    if container.format.name in _FORMATS_WITHOUT_ZERO and container.start_time is not None:
        return container.start_time / av.time_base
    return 0.0


@overload
def choose_track(container: InputContainer, kind: Literal["audio"], path: Path) -> av.AudioStream: ...
@overload
def choose_track(container: InputContainer, kind: Literal["video"], path: Path) -> av.VideoStream: ...
def choose_track(container: InputContainer, kind: Literal["audio", "video"], path: Path) -> Stream:
    """Returns the track that players show: the one marked as default, otherwise the one that FFmpeg rates best.

    Still pictures, such as the cover of an album, are never the video; tracks that cannot be decoded are passed over.

    Raises:
      UserError: the file has no such track, or none that can be decoded.
    """
    word, target = _KINDS[kind]
    tracks = [track for track in _tracks(container, kind) if not track.disposition & _STILL]
    if not tracks:
        raise UserError(f"{path}: the file has no {word} track")
    tracks = [track for track in tracks if _is_decodable(track)]
    if not tracks:
        raise UserError(f"{path}: the codec of the {word} track is unknown; convert it, for example to {target}")
    if kind == "video" and len(tracks) > 1:
        moving = _moving(path, [track.index for track in tracks])
        tracks = [track for track in tracks if track.index in moving] or tracks
    best = container.streams.best(kind)
    best_index = -1 if best is None else best.index
    return max(tracks, key=lambda track: (_is_default(track), track.index == best_index, -track.index))


def track_remark(container: InputContainer, chosen: Stream) -> list[str]:
    """Returns one sentence that names the chosen track if there are others of its kind, covers aside."""
    tracks = [track for track in _tracks(container, chosen.type) if not track.disposition & _STILL]
    if len(tracks) < 2:
        return []
    why = "which is marked as default" if _is_default(chosen) else "the best of those that can be used"
    language = "" if chosen.language == "und" else chosen.language  # undetermined
    details = ", ".join(filter(None, (language, chosen.codec_context.name)))
    number = [track.index for track in tracks].index(chosen.index) + 1
    return [f"the file has {len(tracks)} {_KINDS[chosen.type][0]} tracks; track {number} ({details}) was used, {why}"]


def _tracks(container: InputContainer, kind: str) -> list[Stream]:
    return [track for track in container.streams if track.type == kind]


def _is_default(track: Stream) -> bool:
    return bool(track.disposition & Disposition.default)


def _is_decodable(track: Stream) -> bool:
    return track.codec_context is not None and (not isinstance(track, av.AudioStream) or track.channels > 0)


def _moving(path: Path, indices: list[int]) -> set[int]:
    """Returns which of these tracks have more than one picture; not every format says so in its header."""
    counts = dict.fromkeys(indices, 0)
    with open_media(path) as container:
        for packet in container.demux([container.streams[index] for index in indices]):
            counts[packet.stream.index] += packet.size > 0
            if min(counts.values()) > 1:
                break
    return {index for index, count in counts.items() if count > 1}


def open_media(path: Path) -> InputContainer:
    """Opens a local file in one of `FORMATS`; no other file is opened for it.

    Raises:
      UserError: the file has another format; names it.
      av.error.FFmpegError: the file cannot be opened.
    """
    # Absolute, because FFmpeg reads the text before a colon in a relative name as a protocol.
    name = str(path.absolute())
    try:
        return av.open(name, options=_OPTIONS)
    except ArgumentError as error:
        refused = _refused_format(name)
        if not refused:
            raise
        raise UserError(
            f"{path}: files of format {refused} are not read; convert it, for example to mp4 or wav (playlists, lists "
            "of files and single pictures are never opened)"
        ) from error


def _refused_format(name: str) -> str:
    """Returns FFmpeg's name of the format if that was why the file was not opened; only FFmpeg's log tells."""
    level, skip_repeated = ffmpeg_log.get_level(), ffmpeg_log.get_skip_repeated()
    ffmpeg_log.set_level(ffmpeg_log.ERROR)
    ffmpeg_log.set_skip_repeated(False)  # every refusal has the same text
    try:
        with ffmpeg_log.Capture() as log, av.open(name, options=_OPTIONS):
            return ""
    except ArgumentError:
        return next((context for _, context, text in log if text.startswith("Format not on whitelist")), "")
    finally:
        ffmpeg_log.set_level(level)
        ffmpeg_log.set_skip_repeated(skip_repeated)
