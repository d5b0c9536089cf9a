"""Draws face crops into one picture, so that a person can check in seconds what the face tracker did."""

import cv2
import numpy as np

_EVERY_SECS = 3.0
_MAX_CROPS = 200
_COLUMNS = 10
_BORDER_PX = 3
_RED, _GREY = (220, 0, 0), (90, 90, 90)


def sheet_frames(found: np.ndarray, frame_rate_hz: float) -> list[int]:
    """Returns the frames to show: one every few seconds, if possible one in which no face was found.

    Args:
      found: bool [frames], whether a face was found.
      frame_rate_hz: frames per second.
    """
    step = max(round(_EVERY_SECS * frame_rate_hz), -(-len(found) // _MAX_CROPS))
    # argmin returns the first False, or 0 if all are True.
    return [start + int(np.argmin(found[start : start + step])) for start in range(0, len(found), step)]


def contact_sheet(crops: list[np.ndarray], found: list[bool], times_secs: list[float]) -> np.ndarray:
    """Draws the crops row by row, each with its time; the border is grey, or red where no face was found.

    Args:
      crops: uint8 RGB, [size, size, 3] each; at least one.
      found: whether a face was found, for each crop.
      times_secs: the time to print on each crop.

    Returns:
      uint8 RGB [height, width, 3].
    """
    size = len(crops[0])
    tile = size + 2 * _BORDER_PX
    columns = min(_COLUMNS, len(crops))
    sheet = np.full((-(-len(crops) // columns) * tile, columns * tile, 3), 255, np.uint8)
    for index, (crop, hit, secs) in enumerate(zip(crops, found, times_secs, strict=True)):
        top, left = index // columns * tile, index % columns * tile
        sheet[top : top + tile, left : left + tile] = _GREY if hit else _RED
        inside = np.ascontiguousarray(crop)
        text = f"{int(secs // 60)}:{secs % 60:04.1f}"
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(inside, text, (4, size - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness, cv2.LINE_AA)
        sheet[top + _BORDER_PX : top + _BORDER_PX + size, left + _BORDER_PX : left + _BORDER_PX + size] = inside
    return sheet
