"""What every corpus reader yields: where one recording's sound, pictures and ratings are. Nothing is decoded here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affect.errors import UserError

FRAME_RATE_HZ = 25
# Releases print times with two to six digits.
_GRID_TOLERANCE_SECS = 0.005


@dataclass(frozen=True)
class Ratings:
    """A gold standard as read from disk: seconds [ratings] and values [ratings, 2], arousal then valence."""

    times_secs: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Recording:
    """One recording of a corpus.

    Attributes:
      name: unique in the corpus; names the shards.
      partition: "train", "dev" or "test".
      subject: who is heard and seen, where the corpus says so; else the name.
      audio, video: the files.
      read_ratings: reads the gold standard; None where the corpus withholds it. Must be picklable.
      read_frame_times: reads corrected times [pictures] of the video's pictures; None where there are none.
    """

    name: str
    partition: str
    subject: str
    audio: Path
    video: Path
    read_ratings: Callable[[], Ratings] | None = None
    read_frame_times: Callable[[], np.ndarray] | None = None


def labels_per_frame(ratings: Ratings) -> np.ndarray:
    """Ratings at t = 0, 0.04, ... to one label per frame, float32 [ratings - 1, 2].

    Frame k covers [0.04 k, 0.04 (k + 1)) and carries the rating at its end, so the one at t = 0 is dropped (the
    authors' convention): 7501 ratings give 7500 frames.

    Raises:
      UserError: ratings that are not on the 40 ms grid from 0, fewer than two, or not finite.
    """
    expected = np.arange(len(ratings.times_secs)) / FRAME_RATE_HZ
    off_grid = np.abs(ratings.times_secs - expected) > _GRID_TOLERANCE_SECS
    if off_grid.any():
        index = int(np.argmax(off_grid))
        raise UserError(
            f"rating {index + 1} is at {ratings.times_secs[index]:g} s where {expected[index]:g} s was expected; "
            "ratings must start at 0 and follow every 0.04 s"
        )
    if len(expected) < 2:
        raise UserError("fewer than two ratings")
    if not np.all(np.isfinite(ratings.values)):
        raise UserError("a rating is NaN or infinite")
    return ratings.values[1:].astype(np.float32)
