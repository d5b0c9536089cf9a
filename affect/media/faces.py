"""Detects faces in pictures and crops them. `affect.media.tracking` follows one face over time."""

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from threading import Lock
from typing import Protocol

import cv2
import cv2.data
import numpy as np

# The cascade's squares sit too high on a face. Moved down by this fraction of the edge, they are centred between
# hairline and chin (measured on a single portrait).
_HAAR_SHIFT_DOWN = 0.04
# Confidence above which MTCNN's last network accepts a face: the package's default. In 240 looks at a portrait of 40 to
# 200 px in pictures of 640 x 480, turned by up to 30 degrees, dark, or with an open mouth, 0.8 finds 96 %, 0.9 finds
# 95 %; on textures both find the same.
_MIN_MTCNN_CONFIDENCE = 0.8
# MTCNN's box is as wide as a face, the cascade's square a little wider: 1.12 times on the same looks.
_MTCNN_GROWTH = 1.12
# Do not raise this to skip small faces, lower `MtcnnDetector.height` instead: mtcnn chooses the number of levels of its
# pyramid without it, and above about 26 the last level is too small for the first network.
_MIN_MTCNN_FACE_PX = 20


class FaceDetector(Protocol):
    """Finds the faces in a batch of pictures. Several threads may call it at the same time.

    Attributes:
      height: pictures are scaled down to this height in pixels; it determines the cost and the smallest face.
    """

    height: int

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the faces of each picture.

        Args:
          pictures: uint8 RGB [height, width, 3] each, of any size.

        Returns:
          One array per picture: float64 boxes [faces, 4] as left, top, width, height in pixels of that picture.
        """
        ...


class HaarDetector:
    """OpenCV's frontal-face cascade (Viola and Jones, 2001): finds upright frontal faces from 1/6 of the height on."""

    height = 180

    def __init__(self):
        self._cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
        self._lock = Lock()  # a cascade keeps the picture that it searches

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns boxes [faces, 4] of each picture, see `FaceDetector`."""
        return [self._find(picture) for picture in pictures]

    def _find(self, picture: np.ndarray) -> np.ndarray:
        small = cv2.cvtColor(reduced(picture, self.height), cv2.COLOR_RGB2GRAY)
        smallest = max(24, small.shape[0] // 6)
        with self._lock:
            boxes = self._cascade.detectMultiScale(small, 1.2, 4, minSize=(smallest, smallest))
        boxes = _enlarged(boxes, small, picture)
        return boxes + [0.0, _HAAR_SHIFT_DOWN, 0.0, 0.0] * boxes[:, 3:]


class MtcnnDetector:
    """A cascade of three small networks (Zhang et al., 2016): finds tilted, half-turned, dark and talking faces too.

    The smallest face that it finds has 1/12 of the height of the picture. Its boxes become squares like those of
    `HaarDetector`, so that `face_margin` means the same for both.
    """

    height = 240

    def __init__(self):
        import tensorflow as tf
        from mtcnn import MTCNN

        with tf.device("CPU:0"):
            self._network = MTCNN(device="CPU:0")
        # The package calls its networks operation by operation. As graphs they give the same boxes in 2/3 of the time.
        for stage, edge in zip(self._network.stages, (None, 24, 48), strict=True):
            pictures = tf.TensorSpec((None, edge, edge, 3), tf.float32)
            stage._model = tf.function(stage.model, input_signature=[pictures], autograph=False)

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns boxes [faces, 4] of each picture, see `FaceDetector`."""
        small = [reduced(picture, self.height) for picture in pictures]
        # mtcnn pads pictures of different sizes, but then misplaces their boxes.
        runs = [list(run) for _, run in groupby(small, key=np.shape)]
        boxes = [found for run in runs for found in self._find(run)]
        return [_enlarged(*each) for each in zip(boxes, small, pictures, strict=True)]

    def _find(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the squares in pictures of one size, in their pixels."""
        found = self._detect(pictures)
        if len(pictures) > 1 and not any(found):
            # mtcnn returns no face for the whole batch if TensorFlow refuses any step of it.
            found = [self._detect([picture])[0] for picture in pictures]
        return [_squares_of(faces) for faces in found]

    def _detect(self, pictures: list[np.ndarray]) -> list[list[dict]]:
        return self._network.detect_faces(
            pictures, min_face_size=_MIN_MTCNN_FACE_PX, threshold_onet=_MIN_MTCNN_CONFIDENCE
        )


DETECTOR_TYPES = {"mtcnn": MtcnnDetector, "haar": HaarDetector}


@cache
def make_detector(name: str) -> FaceDetector:
    """Returns the detector of this name, one of `affect.media.settings.DETECTORS`; it is loaded once per process."""
    return DETECTOR_TYPES[name]()


def reduced(picture: np.ndarray, height: int) -> np.ndarray:
    """Returns the picture scaled down to this height in pixels; the picture itself if it is not higher."""
    scale = height / picture.shape[0]
    if scale >= 1.0:
        return picture
    return cv2.resize(picture, (max(1, round(picture.shape[1] * scale)), height), interpolation=cv2.INTER_AREA)


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


def _squares_of(faces: list[dict]) -> np.ndarray:
    """Returns the squares [faces, 4] around the middle of mtcnn's boxes, as large as those of `HaarDetector`."""
    left, top, width, height = np.asarray([face["box"] for face in faces], dtype=np.float64).reshape(-1, 4).T
    edge = _MTCNN_GROWTH * np.minimum(width, height)
    return np.column_stack([left + (width - edge) / 2.0, top + (height - edge) / 2.0, edge, edge])


def _enlarged(boxes: np.ndarray | Sequence, small: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Returns float64 boxes [faces, 4] in pixels of the picture, from boxes in pixels of the small one."""
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * (picture.shape[0] / small.shape[0])
