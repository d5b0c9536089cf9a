"""Pictures to a smooth face track, and a track to square crops.

A detector looks at every few frames; in between the box is interpolated. The detector's jitter is smoothed with a
window that looks both ways, since recordings lie complete on disk. Where no face is found the last box is held and
the frames are marked, so that no later step mistakes a guess for a face.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

# Detection runs at this picture height: Haar faces need 24 px, and cost grows with the square.
_DETECTION_HEIGHT = 180
_SMOOTHING_SIGMA_FRAMES = 6.0


class FaceDetector(Protocol):
    """Anything that finds faces in one picture."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Boxes [faces, 4] as left, top, width, height in pixels of the uint8 RGB `picture`."""


@dataclass(frozen=True)
class FaceTrack:
    """One face over time.

    Attributes:
      squares: float [frames, 3], centre x, centre y and edge in pixels of the source picture.
      found: bool [frames], whether a face was really there (False: the box is held or guessed).
    """

    squares: np.ndarray
    found: np.ndarray


class HaarDetector:
    """OpenCV's frontal-face cascade (Viola and Jones, 2001): fast, on board, frontal faces only."""

    def __init__(self):
        self._cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Boxes [faces, 4], see `FaceDetector`."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        scale = min(1.0, _DETECTION_HEIGHT / grey.shape[0])
        small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        smallest = max(24, small.shape[0] // 6)
        boxes = self._cascade.detectMultiScale(small, 1.12, 4, minSize=(smallest, smallest))
        return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) / scale


def track_face(pictures: Iterable[np.ndarray], detector: FaceDetector, detect_every: int) -> FaceTrack:
    """Follows one face through a recording.

    Of several faces the first look takes the largest, every later one the nearest to where the face was.

    Args:
      pictures: uint8 RGB [height, width, 3] each, in order.
      detector: called on frames 0, detect_every, 2 * detect_every, ...
      detect_every: frames between two looks, at least 1.

    Returns:
      The track. A recording without any face gets the picture's central square, marked as not found throughout.
    """
    looks: list[int] = []
    squares: list[np.ndarray | None] = []
    last, frames, fallback = None, 0, None
    for frames, picture in enumerate(pictures, start=1):
        if (frames - 1) % detect_every:
            continue
        if fallback is None:
            height, width = picture.shape[:2]
            fallback = np.array([width / 2, height / 2, min(height, width) / 2])
        square = _choose(detector(picture), last)
        last = square if square is not None else last
        looks.append(frames - 1)
        squares.append(square)
    if not looks:
        return FaceTrack(np.empty((0, 3)), np.empty(0, bool))
    return _fill(np.array(looks), squares, frames, fallback)


def crop_face(picture: np.ndarray, square: np.ndarray, margin: float, size: int) -> np.ndarray:
    """Cuts the square, grown by `margin` of its edge on all sides, and scales it to uint8 [size, size, 3].

    Beyond the picture's border the border pixel is repeated.
    """
    edge = max(2, round(float(square[2]) * (1.0 + 2.0 * margin)))
    left, top = round(float(square[0]) - edge / 2), round(float(square[1]) - edge / 2)
    height, width = picture.shape[:2]
    # A square that has left the picture is pulled back until it touches it.
    left, top = min(max(left, 1 - edge), width - 1), min(max(top, 1 - edge), height - 1)
    pad = (max(0, -top), max(0, top + edge - height), max(0, -left), max(0, left + edge - width))
    if any(pad):
        picture = cv2.copyMakeBorder(picture, *pad, cv2.BORDER_REPLICATE)
    top, left = top + pad[0], left + pad[2]
    return cv2.resize(picture[top : top + edge, left : left + edge], (size, size), interpolation=cv2.INTER_AREA)


def _choose(boxes: np.ndarray, last: np.ndarray | None) -> np.ndarray | None:
    """The one square to follow among detected boxes [faces, 4], or None."""
    if not len(boxes):
        return None
    squares = np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2.0, boxes[:, 2:].max(axis=1)])
    if last is None:
        return squares[np.argmax(squares[:, 2])]
    return squares[np.argmin(np.linalg.norm(squares - last, axis=1))]


def _fill(looks: np.ndarray, squares: list[np.ndarray | None], frames: int, fallback: np.ndarray) -> FaceTrack:
    """Looks to frames: interpolates between hits, holds over misses, marks frames nearest to a miss."""
    hit = np.array([square is not None for square in squares])
    everywhere = np.arange(frames)
    nearest_look = np.searchsorted((looks[1:] + looks[:-1]) / 2.0, everywhere)
    if not hit.any():
        return FaceTrack(np.tile(fallback, (frames, 1)), np.zeros(frames, bool))
    anchors = np.stack([square for square in squares if square is not None])
    # Before the first hit its box is all there is; from a miss on, the last hit is held until the next.
    held = anchors[np.maximum(np.cumsum(hit) - 1, 0)]
    track = np.column_stack([np.interp(everywhere, looks, held[:, axis]) for axis in range(3)])
    return FaceTrack(gaussian_filter1d(track, _SMOOTHING_SIGMA_FRAMES, axis=0, mode="nearest"), hit[nearest_look])
