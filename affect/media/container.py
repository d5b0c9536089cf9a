"""Opens media files with FFmpeg, for sound and video alike, and finds the start of their timeline."""

from pathlib import Path

import av
from av.container import InputContainer

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
    """Opens a local file. The file may not open others: a playlist could name any address."""
    # Absolute, because FFmpeg reads the text before a colon in a relative name as a protocol.
    return av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
