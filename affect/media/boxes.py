"""The outermost boxes of an mp4 or mov file (ISO/IEC 14496-12, section 4.2)."""

import struct
from collections.abc import Iterator
from pathlib import Path


def outermost_boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yields the kind of each box, and its end in the file in bytes according to its header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() + 8 <= size:
            start = file.tell()
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:  # the length follows in 64 bits
                length = int.from_bytes(file.read(8), "big")
            if length < 8:  # 0: until the end of the file; others are not valid
                yield kind, size
                return
            yield kind, start + length
            file.seek(start + length)


def cut_remark(path: Path, format_name: str) -> list[str]:
    """Returns one sentence if the file is shorter than its last box; fragmented files have no other sign of a cut.

    Args:
      path: the file.
      format_name: FFmpeg's name of its format.
    """
    if not format_name.startswith("mov"):
        return []
    ends = [end for _, end in outermost_boxes(path)]
    missing = max(ends, default=0) - path.stat().st_size
    return [f"the last {missing} bytes of the file are missing; it is cut"] if missing > 0 else []
