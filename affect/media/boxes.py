"""The outermost boxes of an mp4 or mov file (ISO/IEC 14496-12, section 4.2)."""

import struct
from collections.abc import Iterator
from pathlib import Path

# A recording has two boxes per fragment. Millions of empty boxes would take minutes to read.
_MAX_BOXES = 100_000
# If the last box is of another kind, something else was appended to the file.
_MEDIA = (b"ftyp", b"mdat", b"moof", b"moov")


def outermost_boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yields the kind of each box, and its end in the file in bytes according to its header; up to `_MAX_BOXES`."""
    size = path.stat().st_size
    end = 0
    with path.open("rb") as file:
        for _ in range(_MAX_BOXES):
            if end + 8 > size:
                return
            file.seek(end)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:  # the length follows in 64 bits
                length = int.from_bytes(file.read(8), "big")
            # 0: until the end of the file; others below 8 are not valid
            end = end + length if length >= 8 else size
            yield kind, end


def cut_remark(path: Path, format_name: str) -> list[str]:
    """Returns one sentence if the file is shorter than its last box; fragmented files have no other sign of a cut.

    Args:
      path: the file.
      format_name: FFmpeg's name of its format.
    """
    if not format_name.startswith("mov"):
        return []
    kind, end = b"", 0
    for kind, end in outermost_boxes(path):  # noqa: B007 - only the last one matters
        pass
    missing = end - path.stat().st_size
    return [f"the last {missing} bytes of the file are missing; it is cut"] if missing > 0 and kind in _MEDIA else []
