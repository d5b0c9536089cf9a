"""Faces in single pictures to one face over time.

A detector looks at every few frames; in between the box is interpolated. Recordings lie complete on disk, so the face
to follow is chosen with hindsight: detections are linked into tracks, and the one with most face in it wins, not
whatever was largest in the first picture. The detector's jitter is smoothed with a window that looks both ways. Where
there is no face the last box is held and the frames are marked, so that no later step mistakes a guess for a face.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from affect.errors import UserError
from affect.media.faces import FaceDetector
from affect.media.video import Picture

_SMOOTHING_SIGMA_SECS = 0.24
# How far a face may have gone, in parts of its edge: at once, and per second in which it was not seen, up to some.
_REACH, _REACH_PER_SEC, _MAX_SECS = 0.5, 0.25, 5.0
_MAX_GROWTH = 1.6
# A face that was away for longer is another one.
_FORGOTTEN_AFTER_SECS = 30.0
# Shorter tracks beside the main one are mistakes of the detector.
_MIN_LOOKS = 3


@dataclass(frozen=True)
class FaceTrack:
    """One face over time.

    Attributes:
      squares: float [frames, 3], centre x, centre y and edge in pixels of the source picture.
      found: bool [frames], whether a face was really there (False: the box is held or guessed).
    """

    squares: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Detections:
    """What a detector saw in every n-th frame.

    Attributes:
      frames: frames of the recording.
      every: n.
      boxes: per look [faces, 4], left, top, width, height in pixels.
      height, width: of the first picture.
    """

    frames: int
    every: int
    boxes: list[np.ndarray]
    height: int
    width: int


@dataclass(eq=False)
class _Tracklet:
    """One face while it is in sight: its squares [3] by look."""

    squares: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def last_look(self) -> int:
        return next(reversed(self.squares))

    @property
    def weight(self) -> float:
        """Large and long-lasting faces weigh most."""
        return float(sum(square[2] for square in self.squares.values()))

    def overlaps(self, other: "_Tracklet") -> bool:
        return min(self.squares) <= other.last_look and min(other.squares) <= self.last_look


def look_for_faces(pictures: Iterable[Picture], detector: FaceDetector, every: int) -> Detections:
    """Shows a detector frames 0, every, 2 * every, ...

    Raises:
      UserError: there are no pictures.
    """
    boxes, frames, height, width = [], 0, 0, 0
    for frames, picture in enumerate(pictures, start=1):
        if (frames - 1) % every == 0:
            pixels = picture()
            height, width = (height, width) if boxes else pixels.shape[:2]
            boxes.append(detector(pixels))
    if not boxes:
        raise UserError("there are no pictures")
    return Detections(frames, every, boxes, height, width)


def follow_face(looks: Detections, frame_rate_hz: float) -> FaceTrack:
    """Follows the face that is there the longest, weighted by its size; others never take its place while it is there.

    Returns:
      The track. A recording without any face gets the picture's central square, marked as not found throughout.
    """
    seen = _main_face(_link([_squares(boxes) for boxes in looks.boxes], looks.every / frame_rate_hz))
    times = np.arange(len(looks.boxes)) * looks.every
    squares = [seen.get(look) for look in range(len(looks.boxes))]
    return _fill(times, squares, looks.frames, _central_square(looks.height, looks.width), frame_rate_hz)


def follow_boxes(
    boxes: np.ndarray, times_secs: np.ndarray, frames: int, frame_rate_hz: float, height: int, width: int
) -> FaceTrack:
    """A track from boxes that a corpus ships.

    Args:
      boxes: [rows, 4] left, top, width, height in pixels; without width or height where no face was found.
      times_secs: [rows], ascending.
      frames: of the track.
      frame_rate_hz: of the frames.
      height: of the pictures.
      width: of the pictures.
    """
    squares = [_squares(box[None])[0] if box[2] > 0 and box[3] > 0 else None for box in boxes]
    return _fill(times_secs * frame_rate_hz, squares, frames, _central_square(height, width), frame_rate_hz)


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes [faces, 4] to squares [faces, 3] around them."""
    return np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2.0, boxes[:, 2:].max(axis=1)])


def _central_square(height: int, width: int) -> np.ndarray:
    return np.array([width / 2, height / 2, min(height, width) / 2])


def _link(looks: list[np.ndarray], look_secs: float) -> list[_Tracklet]:
    """Detections [faces, 3] per look to tracklets: nearest first, each face in one and each tracklet once per look."""
    ended, open_ones = [], []
    for look, squares in enumerate(looks):
        pairs = sorted(
            (distance, number, index)
            for number, tracklet in enumerate(open_ones)
            for index, square in enumerate(squares)
            if (distance := _distance(tracklet, square, (look - tracklet.last_look) * look_secs)) is not None
        )
        taken_tracklets, taken_squares = set(), set()
        for _, number, index in pairs:
            if number not in taken_tracklets and index not in taken_squares:
                open_ones[number].squares[look] = squares[index]
                taken_tracklets.add(number)
                taken_squares.add(index)
        open_ones += [_Tracklet({look: square}) for i, square in enumerate(squares) if i not in taken_squares]
        forgotten = [one for one in open_ones if (look - one.last_look) * look_secs > _FORGOTTEN_AFTER_SECS]
        ended += forgotten
        open_ones = [one for one in open_ones if one not in forgotten]
    return ended + open_ones


def _distance(tracklet: _Tracklet, square: np.ndarray, unseen_secs: float) -> float | None:
    """Pixels from where the face was; None where this cannot be the same face."""
    last = tracklet.squares[tracklet.last_look]
    growth = max(square[2] / last[2], last[2] / square[2])
    reach = last[2] * (_REACH + _REACH_PER_SEC * min(unseen_secs, _MAX_SECS))
    distance = float(np.hypot(*(square[:2] - last[:2])))
    return distance if growth <= _MAX_GROWTH and distance <= reach else None


def _main_face(tracklets: list[_Tracklet]) -> dict[int, np.ndarray]:
    """Squares by look: the weightiest tracklet, and those that fill the time in which it is not there."""
    chosen: list[_Tracklet] = []
    for tracklet in sorted(tracklets, key=lambda one: -one.weight):
        long_enough = len(tracklet.squares) >= _MIN_LOOKS or not chosen
        if long_enough and not any(tracklet.overlaps(other) for other in chosen):
            chosen.append(tracklet)
    return {look: square for tracklet in chosen for look, square in tracklet.squares.items()}


def _fill(
    times: np.ndarray, squares: list[np.ndarray | None], frames: int, fallback: np.ndarray, frame_rate_hz: float
) -> FaceTrack:
    """Detections at `times` (in frames) to every frame: interpolates between hits, holds over misses, marks misses."""
    hit = np.array([square is not None for square in squares])
    if not hit.any():
        return FaceTrack(np.tile(fallback, (frames, 1)), np.zeros(frames, bool))
    everywhere = np.arange(frames)
    nearest_look = np.searchsorted((times[1:] + times[:-1]) / 2.0, everywhere)
    anchors = np.stack([square for square in squares if square is not None])
    # Before the first hit its box is all there is; from a miss on, the last hit is held until the next.
    held = anchors[np.maximum(np.cumsum(hit) - 1, 0)]
    track = np.column_stack([np.interp(everywhere, times, held[:, axis]) for axis in range(3)])
    # Where looks end early nobody has looked.
    reach = 1.5 * np.median(np.diff(times)) if len(times) > 1 else np.inf
    seen = hit[nearest_look] & (np.abs(times[nearest_look] - everywhere) <= reach)
    smooth = gaussian_filter1d(track, _SMOOTHING_SIGMA_SECS * frame_rate_hz, axis=0, mode="nearest")
    return FaceTrack(smooth, seen)
