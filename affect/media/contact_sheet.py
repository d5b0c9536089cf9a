"""Crops to one picture that a person can look through in seconds, to trust what a face tracker did."""

import cv2
import numpy as np

_EVERY_SECS = 3.0
_MAX_CROPS = 200
_COLUMNS = 10
_FRAME_PX = 3
_RED, _GREY = (220, 0, 0), (90, 90, 90)


def sheet_frames(found: np.ndarray, frame_rate_hz: float) -> list[int]:
    """Which frames to show: one every few seconds, and where a face was missed in those seconds, a missed one.

    Args:
      found: bool [frames].
      frame_rate_hz: of the frames.
    """
    step = max(round(_EVERY_SECS * frame_rate_hz), -(-len(found) // _MAX_CROPS))
    # argmin is the first False, or 0 where all are True.
    return [start + int(np.argmin(found[start : start + step])) for start in range(0, len(found), step)]


def contact_sheet(crops: list[np.ndarray], found: list[bool], times_secs: list[float]) -> np.ndarray:
    """Draws the crops row by row, each with its time; framed in grey, or in red where no face was found.

    Args:
      crops: uint8 RGB [size, size, 3] each.
      found: for each crop.
      times_secs: for each crop.

    Returns:
      uint8 RGB [height, width, 3].
    """
    size = len(crops[0])
    tile = size + 2 * _FRAME_PX
    columns = min(_COLUMNS, len(crops))
    sheet = np.full((-(-len(crops) // columns) * tile, columns * tile, 3), 255, np.uint8)
    for index, (crop, hit, secs) in enumerate(zip(crops, found, times_secs, strict=True)):
        top, left = index // columns * tile, index % columns * tile
        sheet[top : top + tile, left : left + tile] = _GREY if hit else _RED
        inside = np.ascontiguousarray(crop)
        text = f"{int(secs // 60)}:{secs % 60:04.1f}"
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(inside, text, (4, size - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness, cv2.LINE_AA)
        sheet[top + _FRAME_PX : top + _FRAME_PX + size, left + _FRAME_PX : left + _FRAME_PX + size] = inside
    return sheet
