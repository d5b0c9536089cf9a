"""Files of ratings to one label per frame, float32 [frames, 2], arousal then valence: every form that a corpus ships.

Frame k covers [0.04 k, 0.04 (k + 1)) s and carries the rating at its end, so the one at t = 0 is dropped (the authors'
convention): 7501 ratings give 7500 frames.
"""

from pathlib import Path

import numpy as np

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.media.arff import line_of_row, read_arff
from affect.media.audio import MAX_HOURS
from affect.media.tables import check_finite, check_times, read_numbers
from affect.timebase import FRAME_RATE_HZ
from tfrecords_tools.gold_standard import gold_standard

RECOLA_SECS = 300.0
# Releases print times with two to six digits.
_GRID_TOLERANCE_SECS = 0.005
# An annotation tool's clock may tremble by so much of its period.
_REGULARITY = 0.25
_LONGEST_PERIOD_SECS = 10.0


def from_gold_arff(arousal: Path, valence: Path) -> np.ndarray:
    """The AVEC release's gold standard: `Instance_name`, `frameTime`, `GoldStandard`."""
    return _both(_gold_arff(arousal), _gold_arff(valence), arousal, valence)


def from_gold_csv(arousal: Path, valence: Path) -> np.ndarray:
    """The authors' gold standard: time and value, comma separated, no header."""
    return _both(_gold_csv(arousal), _gold_csv(valence), arousal, valence)


def from_individual_ratings(arousal: Path, valence: Path, method: str) -> np.ndarray:
    """RECOLA's single ratings, `time;FM1 ;FM2 ;...`, combined; what follows the 300 s that count is left out.

    Args:
      arousal: file of that dimension.
      valence: file of that dimension.
      method: "avec" (`gold_standard`) or "mean" (the plain mean of the raters).
    """
    return _both(_combined(arousal, method), _combined(valence, method), arousal, valence)


def from_regular_csv(path: Path) -> np.ndarray:
    """A table `time,arousal,valence` at any regular rate, interpolated linearly at the frames' ends."""
    table = read_numbers(path, ",", header=True)
    names = tuple(name.lower() for name in table.columns)
    if names != ("time", *DIMENSIONS):
        raise UserError(f"{path}: expected the header time,arousal,valence, got {','.join(table.columns)}")
    times, values = table.values[:, 0], table.values[:, 1:]
    check_times(times, table.lines, path)
    for axis, dimension in enumerate(DIMENSIONS):
        check_finite(values[:, axis], table.lines, dimension, path)
        _check_range(values[:, axis], table.lines, dimension, path)
    if len(times) < 2:
        raise UserError(f"{path}: a single label; at least two are needed to know their rate")
    period = float(np.median(np.diff(times)))
    if period > _LONGEST_PERIOD_SECS:
        raise UserError(f"{path}: a label every {period:g} s; are the times in milliseconds? They must be in seconds")
    uneven = np.flatnonzero(np.abs(np.diff(times) - period) > _REGULARITY * period + _GRID_TOLERANCE_SECS)
    if uneven.size:
        row = uneven[0] + 1
        raise UserError(
            f"{path}, line {table.lines[row]}: {times[row] - times[row - 1]:g} s after the label before; labels must "
            f"come at a regular rate, here every {period:g} s"
        )
    if not -_GRID_TOLERANCE_SECS <= times[0] <= period + _GRID_TOLERANCE_SECS:
        raise UserError(
            f"{path}: labels start at {times[0]:g} s; they must start at 0 or one period ({period:g} s) later"
        )
    if times[-1] > MAX_HOURS * 3600:
        raise UserError(f"{path}: labels end at {times[-1]:g} s; recordings have up to {MAX_HOURS} hours")
    frames = int((times[-1] + _GRID_TOLERANCE_SECS) * FRAME_RATE_HZ)
    ends_secs = np.arange(1, frames + 1) / FRAME_RATE_HZ
    return np.stack([np.interp(ends_secs, times, values[:, axis]) for axis in range(2)], axis=1).astype(np.float32)


def _gold_arff(path: Path) -> np.ndarray:
    table = read_arff(path)
    names = {name.lower(): name for name in table.columns}
    if not {"frametime", "goldstandard"} <= set(names):
        raise UserError(f"{path}: expected columns frameTime and GoldStandard, got {', '.join(table.columns)}")
    times, values = (table[names[name]].to_numpy() for name in ("frametime", "goldstandard"))
    return _on_grid(times, values, _LinesOfArff(path), path)


class _LinesOfArff:
    """Line numbers of an ARFF file's rows, found only when an error asks."""

    def __init__(self, path: Path):
        self._path = path

    def __getitem__(self, row: int) -> int:
        return line_of_row(self._path, int(row))


def _gold_csv(path: Path) -> np.ndarray:
    table = read_numbers(path, ",", header=False)
    if table.values.shape[1] != 2:
        raise UserError(f"{path}: expected two columns, time and gold standard, got {table.values.shape[1]}")
    return _on_grid(table.values[:, 0], table.values[:, 1], table.lines, path)


def _combined(path: Path, method: str) -> np.ndarray:
    table = read_numbers(path, ";", header=True)
    if not table.columns or table.columns[0].lower() != "time" or len(table.columns) < 2:
        raise UserError(f"{path}: expected the header time;FM1;FM2;..., got {';'.join(table.columns)}")
    counts = table.values[:, 0] <= RECOLA_SECS + _GRID_TOLERANCE_SECS
    if not counts.any():
        raise UserError(f"{path}: no rating in the first {RECOLA_SECS:.0f} s")
    times, ratings, lines = table.values[counts, 0], table.values[counts, 1:], table.lines[counts]
    for rater, column in zip(table.columns[1:], ratings.T, strict=True):
        check_finite(column, lines, f"the rating of {rater}", path)
        _check_range(column, lines, f"the rating of {rater}", path)
    combined = gold_standard(ratings) if method == "avec" else ratings.mean(axis=1)
    return _on_grid(times, combined, lines, path)


def _on_grid(times: np.ndarray, values: np.ndarray, lines, path: Path) -> np.ndarray:
    """Checks that ratings are at t = 0, 0.04, ...; drops the first."""
    check_times(times, lines, path)
    expected = np.arange(len(times)) / FRAME_RATE_HZ
    off_grid = np.abs(times - expected) > _GRID_TOLERANCE_SECS
    if off_grid.any():
        row = int(np.argmax(off_grid))
        raise UserError(
            f"{path}, line {lines[row]}: a rating at {times[row]:g} s where {expected[row]:g} s was expected; ratings "
            "must start at 0 and follow every 0.04 s"
        )
    if len(times) < 2:
        raise UserError(f"{path}: fewer than two ratings")
    check_finite(values, lines, "the rating", path)
    _check_range(values, lines, "the rating", path)
    return values[1:].astype(np.float32)


def _check_range(values: np.ndarray, lines, what: str, path: Path) -> None:
    """Ratings lie in [-1, 1]; centring may push a gold standard a little beyond."""
    beyond = np.abs(values) > 2.0
    if beyond.any():
        row = int(np.argmax(beyond))
        raise UserError(f"{path}, line {lines[row]}: {what} is {values[row]:g}; ratings lie in [-1, 1]")


def _both(arousal: np.ndarray, valence: np.ndarray, arousal_path: Path, valence_path: Path) -> np.ndarray:
    if len(arousal) != len(valence):
        raise UserError(
            f"{arousal_path} has {len(arousal) + 1} ratings but {valence_path} has {len(valence) + 1}; "
            "was one of them cut?"
        )
    return np.stack([arousal, valence], axis=1)
