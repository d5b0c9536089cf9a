"""Opens media files with FFmpeg, for sound and video alike, and finds the start of their timeline."""

from pathlib import Path

import av
from av import logging as ffmpeg_log
from av.container import InputContainer
from av.error import ArgumentError

from affect.errors import UserError

# FFmpeg's names of the formats that are read; mov includes mp4, m4a and 3gp, and matroska includes webm. Each holds its
# own sound and pictures. Playlists (hls, concat), patterns of picture names (image2), session descriptions (sdp) and
# the like are missing on purpose: they name other files or addresses, and a corpus from elsewhere must not make us read
# those. A mov may name other files too, but FFmpeg does not follow that by default.
FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dv", "eac3", "flac", "flv", "h264", "hevc", "m4v",
    "matroska", "mov", "mp3", "mpeg", "mpegts", "mpegvideo", "mxf", "nistsphere", "ogg", "tta", "w64", "wav", "wv",
    "yuv4mpegpipe",
)  # fmt: skip
# The format is checked when FFmpeg has recognised it by the first bytes and the name, before its reader starts.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
# Broadcast formats start at an arbitrary time; MP3 starts with the encoder's padding, which is not decoded.
_FORMATS_WITHOUT_ZERO = {"mpegts", "mpeg", "mp3"}


def start_of_timeline_secs(container: InputContainer) -> float:
    """Returns the presentation time, in seconds, at which the recording starts.

    It is 0 in mp4, mkv and similar formats, even if the first picture or sample comes later: that stream starts late.
    """
    if container.format.name in _FORMATS_WITHOUT_ZERO and container.start_time is not None:
        return container.start_time / av.time_base
    return 0.0


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
