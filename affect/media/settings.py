"""Settings and limits of decoding. Imports nothing heavy, so that commands can take the defaults of flags from here."""

from dataclasses import dataclass

from affect.errors import UserError

DETECTORS = ("mtcnn", "haar")
# Longest recording that is read. A small compressed file may decode to days of silence.
MAX_HOURS = 6
_MAX_DETECT_EVERY, _MAX_MARGIN = 1000, 5.0


@dataclass(frozen=True)
class DecodingSettings:
    """How the face crops of a recording are made.

    Attributes:
      crop_size: edge of the face crops in pixels.
      face_detector: one of `DETECTORS`; not used where face boxes are given.
      detect_every: the face detector runs on every n-th frame, 1 to 1000.
      face_margin: how far a crop extends beyond the face box on every side, as a fraction of the box edge, 0 to 5.

    Raises:
      UserError: a value is out of its range.
    """

    crop_size: int = 96
    face_detector: str = "mtcnn"
    detect_every: int = 5
    face_margin: float = 0.2

    def __post_init__(self):
        if self.face_detector not in DETECTORS:
            raise UserError(f"--face_detector must be one of {', '.join(DETECTORS)}, got {self.face_detector!r}")
        if not 1 <= self.detect_every <= _MAX_DETECT_EVERY:
            raise UserError(f"--detect_every must be between 1 and {_MAX_DETECT_EVERY}, got {self.detect_every}")
        if not 0.0 <= self.face_margin <= _MAX_MARGIN:
            raise UserError(f"--face_margin must be between 0 and {_MAX_MARGIN:g}, got {self.face_margin}")
