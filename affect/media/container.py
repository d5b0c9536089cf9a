"""Media files as FFmpeg opens them, for sound and pictures alike, and where their time begins."""

from pathlib import Path

import av

# Broadcast formats count from an arbitrary instant, and MP3 from the encoder's warming up, which is not decoded.
_FORMATS_WITHOUT_ZERO = {"mpegts", "mpeg", "mp3"}


def start_of_timeline_secs(container: av.container.InputContainer) -> float:
    """The presentation time, in seconds, that is the start of the recording.

    It is 0 in mp4, mkv, ... even where the first picture or sample comes later: that stream then starts late.
    """
    if container.format.name in _FORMATS_WITHOUT_ZERO and container.start_time is not None:
        return container.start_time / av.time_base
    return 0.0


def open_media(path: Path) -> av.container.InputContainer:
    """Opens a file of this machine, and nothing that it may name: playlists can lead anywhere."""
    # Absolute: FFmpeg takes a colon in a relative name for a protocol.
    return av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
