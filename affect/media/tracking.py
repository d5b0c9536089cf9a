"""Turns the face detections of single frames into the track of one face.

The detector runs on every n-th frame, and the box is interpolated in between. The face to follow is chosen from the
whole recording: detections are linked into tracklets, and the tracklet with the largest sum of box edges wins, which
favours large and long-visible faces. A window centred on each frame smooths the detector's jitter. Where no face was
detected, the last box is held and the frame is marked as not found, so that later steps do not mistake the held box for
a detection.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from affect.errors import UserError
from affect.media.faces import FaceDetector, reduced
from affect.media.video import Picture

# Pictures per call of the detector: MTCNN takes 60 ms longer for every call, however many pictures it gets.
_BATCH_SIZE = 16
# Batches that are searched at the same time, while the next pictures are decoded: the detector alone keeps no two cores
# busy.
_THREADS = 2
SMOOTHING_SIGMA_SECS = 0.24
# Maximum movement between two detections of one face, as a fraction of the box edge: a constant, plus an allowance
# per second without detection, which stops growing after `_MAX_MOVEMENT_SECS`.
_MAX_MOVEMENT, _MAX_MOVEMENT_PER_SEC, _MAX_MOVEMENT_SECS = 0.5, 0.25, 5.0
# Maximum ratio of the box edges of two consecutive detections of one face.
_MAX_GROWTH = 1.6
# A tracklet ends after this time without detection; a face that appears later starts a new one.
_MAX_GAP_SECS = 30.0
# Tracklets with fewer detections are dropped as false positives; the one of largest weight is always kept.
_MIN_DETECTIONS = 3


@dataclass(frozen=True)
class FaceTrack:
    """One face over time.

    Attributes:
      squares: float [frames, 3], centre x, centre y and edge in pixels of the first picture: see `Detections`.
      found: bool [frames], whether a face was detected; False means that the square is held or the default.
    """

    squares: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Detections:
    """The faces that a detector found in frames 0, every, 2 * every, ...

    Attributes:
      frames: number of frames in the recording.
      every: frames from one detection to the next.
      boxes: one array [faces, 4] per detection: left, top, width, height in pixels of the first picture. Where the
        size of the pictures changes within the video, boxes are scaled as if all pictures had the size of the first.
      height, width: size of the first picture in pixels.
    """

    frames: int
    every: int
    boxes: list[np.ndarray]
    height: int
    width: int


@dataclass(eq=False)
class _Tracklet:
    """One face while it is visible: a dict from detection index to square [3]."""

    squares: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """Index of the first detection."""
        return next(iter(self.squares))

    @property
    def last(self) -> int:
        """Index of the last detection."""
        return next(reversed(self.squares))

    @property
    def weight(self) -> float:
        """Sum of the box edges: large for large and long-visible faces."""
        return float(sum(square[2] for square in self.squares.values()))

    def overlaps(self, other: "_Tracklet") -> bool:
        """Whether both faces are visible at the same time."""
        return self.first <= other.last and other.first <= self.last


def detect_faces(frames: Iterable[Picture], detector: FaceDetector, every: int) -> Detections:
    """Runs a detector on frames 0, every, 2 * every, ...; the other pictures are not converted to RGB.

    Pictures wait for their batch at the detector's own size, so memory does not grow with the video or its pictures.
    The detector is called from several threads; the result does not depend on their number.

    Raises:
      UserError: there are no frames.
    """
    boxes, batch, count, height, width = [], [], 0, 0, 0
    searched: deque[Future[list[np.ndarray]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for count, picture in enumerate(frames, start=1):
            if (count - 1) % every:
                continue
            pixels = picture()
            if count == 1:
                height, width = pixels.shape[:2]
            batch.append(reduced(pixels, detector.height))
            if len(batch) == _BATCH_SIZE:
                searched.append(pool.submit(_boxes_in, batch, detector, height, width))
                batch = []
            if len(searched) > _THREADS:
                boxes += searched.popleft().result()
        searched.append(pool.submit(_boxes_in, batch, detector, height, width))
        boxes += [each for batch_boxes in searched for each in batch_boxes.result()]
    if not count:
        raise UserError("the video has no frames")
    return Detections(count, every, boxes, height, width)


def _boxes_in(batch: list[np.ndarray], detector: FaceDetector, height: int, width: int) -> list[np.ndarray]:
    """Returns the boxes [faces, 4] in each picture, scaled to a picture of this height and width."""
    scales = [np.array([width / picture.shape[1], height / picture.shape[0]] * 2) for picture in batch]
    return [boxes * scale for boxes, scale in zip(detector(batch), scales, strict=True)]


def follow_face(detections: Detections, frame_rate_hz: float) -> FaceTrack:
    """Follows the longest-visible face, weighted by its size, through brief absences.

    Other faces are used only before this face's first and after its last detection. A face that returns after more than
    `_MAX_GAP_SECS` counts as a new one.

    Args:
      detections: boxes of all faces, from `detect_faces`.
      frame_rate_hz: frames per second.

    Returns:
      The track, [frames]. A recording without any face gets the central square of the picture, marked as not found
      throughout.
    """
    squares = [_squares(boxes) for boxes in detections.boxes]
    main = _main_face(_link(squares, detections.every / frame_rate_hz))
    times = np.arange(len(squares)) * detections.every
    followed = [main.get(index) for index in range(len(squares))]
    default = _central_square(detections.height, detections.width)
    return _fill(times, followed, detections.frames, default, frame_rate_hz)


def follow_boxes(
    boxes: np.ndarray, times_secs: np.ndarray, frames: int, frame_rate_hz: float, height: int, width: int
) -> FaceTrack:
    """Builds a track from the boxes that a corpus ships.

    Args:
      boxes: [rows, 4], left, top, width, height in pixels; a width or height of 0 means that no face was found.
      times_secs: [rows], ascending.
      frames: number of frames of the track.
      frame_rate_hz: frames per second.
      height: height of the pictures in pixels.
      width: width of the pictures in pixels.
    """
    squares = [_squares(box[None])[0] if box[2] > 0 and box[3] > 0 else None for box in boxes]
    return _fill(times_secs * frame_rate_hz, squares, frames, _central_square(height, width), frame_rate_hz)


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Returns squares [faces, 3] around the centres of boxes [faces, 4]."""
    return np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2.0, boxes[:, 2:].max(axis=1)])


def _central_square(height: int, width: int) -> np.ndarray:
    return np.array([width / 2, height / 2, min(height, width) / 2])


def _link(detections: list[np.ndarray], interval_secs: float) -> list[_Tracklet]:
    """Links detections into tracklets.

    Within one frame the closest pairs of tracklet and detection are linked first; each tracklet takes at most one
    detection, and each detection that fits no tracklet starts a new one.

    Args:
      detections: squares [faces, 3], one array per detection time.
      interval_secs: time between two detection times.
    """
    ended, active = [], []
    for index, squares in enumerate(detections):
        pairs = sorted(
            (distance, number, face)
            for number, tracklet in enumerate(active)
            for face, square in enumerate(squares)
            if (distance := _distance(tracklet, square, (index - tracklet.last) * interval_secs)) is not None
        )
        taken_tracklets, taken_faces = set(), set()
        for _, number, face in pairs:
            if number not in taken_tracklets and face not in taken_faces:
                active[number].squares[index] = squares[face]
                taken_tracklets.add(number)
                taken_faces.add(face)
        active += [_Tracklet({index: square}) for face, square in enumerate(squares) if face not in taken_faces]
        ended += [tracklet for tracklet in active if (index - tracklet.last) * interval_secs > _MAX_GAP_SECS]
        active = [tracklet for tracklet in active if (index - tracklet.last) * interval_secs <= _MAX_GAP_SECS]
    return ended + active


def _distance(tracklet: _Tracklet, square: np.ndarray, unseen_secs: float) -> float | None:
    """Returns the distance in pixels from the tracklet's last square; None if this cannot be the same face."""
    last = tracklet.squares[tracklet.last]
    growth = max(square[2] / last[2], last[2] / square[2])
    reach = last[2] * (_MAX_MOVEMENT + _MAX_MOVEMENT_PER_SEC * min(unseen_secs, _MAX_MOVEMENT_SECS))
    distance = float(np.hypot(*(square[:2] - last[:2])))
    return distance if growth <= _MAX_GROWTH and distance <= reach else None


def _main_face(tracklets: list[_Tracklet]) -> dict[int, np.ndarray]:
    """Returns squares by detection index: the tracklet of largest weight, and others that do not overlap in time."""
    chosen: list[_Tracklet] = []
    for tracklet in sorted(tracklets, key=lambda candidate: -candidate.weight):
        long_enough = len(tracklet.squares) >= _MIN_DETECTIONS or not chosen
        if long_enough and not any(tracklet.overlaps(other) for other in chosen):
            chosen.append(tracklet)
    return {index: square for tracklet in chosen for index, square in tracklet.squares.items()}


def _fill(
    times: np.ndarray, squares: list[np.ndarray | None], frames: int, default: np.ndarray, frame_rate_hz: float
) -> FaceTrack:
    """Interpolates between detections, holds the last square where none was found, and smooths the result.

    Args:
      times: [detections], in frames.
      squares: [3] for each time; None where no face was found.
      frames: number of frames of the track.
      default: square [3] of a recording without any face.
      frame_rate_hz: frames per second.
    """
    hit = np.array([square is not None for square in squares])
    if not hit.any():
        return FaceTrack(np.tile(default, (frames, 1)), np.zeros(frames, bool))
    all_frames = np.arange(frames)
    # Frames between detections inherit the result of the nearest one.
    nearest = np.searchsorted((times[1:] + times[:-1]) / 2.0, all_frames)
    anchors = np.stack([square for square in squares if square is not None])
    # Frames before the first detected face take its square; later frames without a face take the last square before.
    held = anchors[np.maximum(np.cumsum(hit) - 1, 0)]
    track = np.column_stack([np.interp(all_frames, times, held[:, axis]) for axis in range(3)])
    # Frames too far from any detection time count as not found, for example if the boxes end before the recording.
    reach = 1.5 * np.median(np.diff(times)) if len(times) > 1 else np.inf
    found = hit[nearest] & (np.abs(times[nearest] - all_frames) <= reach)
    smooth = gaussian_filter1d(track, SMOOTHING_SIGMA_SECS * frame_rate_hz, axis=0, mode="nearest")
    return FaceTrack(smooth, found)
