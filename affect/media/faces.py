"""Detects faces in single pictures and crops them. `affect.media.tracking` follows one face over time."""

from typing import Protocol

import cv2
import cv2.data
import numpy as np

from affect.errors import UserError

# Height to which pictures are scaled for detection: the Haar cascade needs faces of 24 px, and its cost grows with the
# square of the height.
_DETECTION_HEIGHT = 180
_MIN_MTCNN_CONFIDENCE = 0.9
# The cascade's squares sit too high on a face. Moved down by this fraction of the edge, they are centred between
# hairline and chin (measured on a single portrait).
_HAAR_SHIFT_DOWN = 0.04


class FaceDetector(Protocol):
    """Finds the faces in one picture."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Returns boxes [faces, 4] as left, top, width, height in pixels; `picture` is uint8 RGB [height, width, 3]."""
        ...


class HaarDetector:
    """OpenCV's frontal-face cascade (Viola and Jones, 2001): fast, needs no extra package, finds frontal faces only."""

    def __init__(self):
        self._cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Returns boxes [faces, 4], see `FaceDetector`."""
        small, scale = _reduced(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        smallest = max(24, small.shape[0] // 6)
        boxes = self._cascade.detectMultiScale(small, 1.2, 4, minSize=(smallest, smallest))
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) / scale
        return boxes + [0.0, _HAAR_SHIFT_DOWN, 0.0, 0.0] * boxes[:, 3:]


class MtcnnDetector:
    """A cascade of three small networks (Zhang et al., 2016): about twenty times slower, finds turned faces too.

    Its boxes reach from forehead to chin. They are reduced to the square that `HaarDetector` returns, so that
    `face_margin` means the same for both.
    """

    def __init__(self):
        try:
            from mtcnn import MTCNN  # an optional package that loads TensorFlow
        except ImportError as error:
            raise UserError(
                f"face detector mtcnn needs the extra `faces`: pip install 'affect[faces]' ({error})"
            ) from error
        self._network = MTCNN(device="CPU:0")

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Returns boxes [faces, 4], see `FaceDetector`."""
        small, scale = _reduced(picture)
        faces = self._network.detect_faces(small, min_face_size=max(20, small.shape[0] // 8)) or []
        boxes = [face["box"] for face in faces if face["confidence"] >= _MIN_MTCNN_CONFIDENCE]
        left, top, width, height = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T / scale
        edge = np.minimum(width, height)
        return np.column_stack([left, top + (height - edge) / 2.0, edge, edge])


def make_detector(name: str) -> FaceDetector:
    """Returns the detector of this name, one of `affect.media.settings.DETECTORS`.

    Raises:
      UserError: the package that it needs is not installed.
    """
    return {"haar": HaarDetector, "mtcnn": MtcnnDetector}[name]()


def crop_square(square: np.ndarray, margin: float, height: int, width: int) -> tuple[int, int, int]:
    """Returns the part of a picture that a crop shows: the square, extended by a margin on every side.

    Args:
      square: centre x, centre y, edge in pixels.
      margin: as a fraction of the edge.
      height: height of the picture in pixels.
      width: width of the picture in pixels.

    Returns:
      Left, top and edge in whole pixels. The square may extend beyond the picture, but is moved so that they overlap.
    """
    edge = max(2, min(round(float(square[2]) * (1.0 + 2.0 * margin)), 4 * max(height, width)))
    left, top = round(float(square[0]) - edge / 2), round(float(square[1]) - edge / 2)
    return min(max(left, 1 - edge), width - 1), min(max(top, 1 - edge), height - 1), edge


def crop_face(picture: np.ndarray, square: np.ndarray, margin: float, size: int) -> np.ndarray:
    """Crops `crop_square` and scales it to uint8 [size, size, 3]; outside the picture, border pixels are repeated."""
    height, width = picture.shape[:2]
    left, top, edge = crop_square(square, margin, height, width)
    pad = (max(0, -top), max(0, top + edge - height), max(0, -left), max(0, left + edge - width))
    inside = picture[max(top, 0) : top + edge, max(left, 0) : left + edge]
    if any(pad):
        inside = cv2.copyMakeBorder(inside, *pad, cv2.BORDER_REPLICATE)
    return cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA)


def _reduced(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the picture scaled down to the detection height, and the scale."""
    height, width = picture.shape[:2]
    scale = min(1.0, _DETECTION_HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), scale
