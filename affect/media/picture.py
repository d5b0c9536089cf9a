"""One decoded picture to RGB as a viewer sees it: upright, not mirrored, with square pixels.

Files store the pictures as the sensor delivers them, and beside them a display matrix (ISO/IEC 14496-12, `tkhd`) that
maps a stored position (x, y), y pointing down, to the shown one:

    x' = a x + c y        y' = b x + d y        stored as a, b, u, c, d, v, x, y, w

Turned and mirrored pictures, the eight orientations of Exif, are matrices of 1, -1 and 0.
"""

from dataclasses import dataclass

import av
import cv2
import numpy as np

# How far a matrix may be from a right angle without a remark: the sine of about one degree.
_MAX_TILT = 0.02
# Below this determinant, relative to the largest entry, a matrix maps the picture to a line: a damaged header.
_MIN_DETERMINANT = 1e-3


@dataclass(frozen=True)
class Orientation:
    """How stored pictures become upright; the transposition comes first.

    Attributes:
      transposed: whether rows and columns are exchanged.
      mirrored: whether left and right are exchanged.
      flipped: whether top and bottom are exchanged.
      exact: False if the matrix also tilts or distorts, and this is the nearest of the eight orientations.
    """

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False
    exact: bool = True


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame, before: Orientation = UPRIGHT) -> Orientation:
    """Returns the orientation that the picture's display matrix asks for; a singular matrix counts as none.

    Args:
      frame: the picture. A file's matrix comes with every picture. One in the coded stream comes with key frames only,
        and holds until the next.
      before: the orientation of the picture before.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return UPRIGHT if frame.key_frame else before
    return orientation_of_matrix(np.frombuffer(bytes(side_data), np.int32))


def orientation_of_matrix(matrix: np.ndarray) -> Orientation:
    """Returns the orientation nearest to a display matrix, int32 [9] in the order of the module's docstring."""
    a, b, u, c, d, v = matrix[:6].astype(np.float64)
    largest = max(abs(a), abs(b), abs(c), abs(d))
    if abs(a * d - b * c) <= _MIN_DETERMINANT * largest**2:
        return UPRIGHT
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    to_x, to_y = (c, b) if transposed else (a, d)
    tilt = max(abs(a), abs(d)) if transposed else max(abs(b), abs(c))
    # Where the matrix stretches, FFmpeg changes the aspect, but to the wrong one if it also transposes.
    stretched = transposed and min(abs(b), abs(c)) < (1 - _MAX_TILT) * largest
    exact = bool(tilt <= _MAX_TILT * largest) and not stretched and u == v == 0
    return Orientation(bool(transposed), bool(to_x < 0), bool(to_y < 0), exact)


def upright_size(frame: av.VideoFrame, aspect: float, orientation: Orientation) -> tuple[int, int]:
    """Returns height and width of what `to_rgb` returns; `aspect` is the width of a stored pixel / its height."""
    height, width = frame.height, max(1, round(frame.width * aspect))
    return (width, height) if orientation.transposed else (height, width)


def to_rgb(frame: av.VideoFrame, aspect: float, orientation: Orientation) -> np.ndarray:
    """Returns uint8 RGB [height, width, 3], upright, with square pixels.

    OpenCV converts the most common format, twenty times faster than FFmpeg's scaler does here. But OpenCV implements
    only BT.601 in studio range, so FFmpeg converts everything that is marked as something else.
    """
    plain_colours = frame.colorspace in (2, 5, 6) and frame.color_range in (0, 1)  # unset, BT.470BG, SMPTE 170M
    even_size = frame.width % 2 == 0 and frame.height % 2 == 0
    if frame.format.name == "yuv420p" and plain_colours and even_size:
        picture = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
    else:
        picture = frame.to_ndarray(format="rgb24")
    if aspect != 1.0:
        size = (max(1, round(frame.width * aspect)), frame.height)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if orientation.transposed:
        picture = picture.transpose(1, 0, 2)
    rows = slice(None, None, -1 if orientation.flipped else 1)
    columns = slice(None, None, -1 if orientation.mirrored else 1)
    return np.ascontiguousarray(picture[rows, columns])
