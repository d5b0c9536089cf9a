"""Refuses files that were joined byte by byte (`cat a.mp4 b.mp4`) where FFmpeg reads only the first and says nothing.

Transport streams and the like are read to the end when they are joined; their clock gives them away.
"""

import mmap
from pathlib import Path

from affect.errors import UserError
from affect.media.boxes import outermost_boxes

_FLV_SIGNATURE, _FLV_HEADER_BYTES = b"FLV\x01", 9


def refuse_joined(path: Path, format_name: str, last_packet: int) -> None:
    """Checks that nothing follows the recording that FFmpeg reads.

    Args:
      path: the file.
      format_name: FFmpeg's name of its format.
      last_packet: position of the last packet in the file, in bytes.

    Raises:
      UserError: another recording follows in the same file.
    """
    joined = (format_name.startswith("mov") and _holds_two_movies(path)) or (
        format_name == "flv" and _another_flv_follows(path, last_packet)
    )
    if joined:
        raise UserError(
            f"{path}: the file was joined from several, and only the first would be read; join them again with "
            "ffmpeg's concat demuxer, or split the recording"
        )


def _holds_two_movies(path: Path) -> bool:
    """Whether an mp4 has two complete lists of samples; fragments are read to the end, whatever lies between them."""
    kinds = [kind for kind, _ in outermost_boxes(path)]
    return kinds.count(b"moov") > 1 and b"moof" not in kinds


def _another_flv_follows(path: Path, last_packet: int) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(_FLV_SIGNATURE, last_packet)
        return at > 0 and int.from_bytes(content[at + 5 : at + 9], "big") == _FLV_HEADER_BYTES
