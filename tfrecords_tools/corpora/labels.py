"""Reads rating files, in every supported format, as one label per frame: float32 [frames, 2], arousal then valence.

Frame k covers [0.04 k, 0.04 (k + 1)) s and carries the rating at its end, so the rating at t = 0 is dropped (the
authors' convention): 7501 ratings give 7500 labels.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.media.arff import read_arff
from affect.media.settings import MAX_HOURS
from affect.media.tables import ANY_SEPARATOR, check_finite, check_names, check_times, read_numbers
from affect.timebase import FRAME_RATE_HZ
from tfrecords_tools.corpora.recording import Source
from tfrecords_tools.gold_standard import gold_standard, has_agreement, mean_agreement

RECOLA_SECS = 300.0
# Releases print times with two to six decimals; two decimals may be off by half of 0.01 s.
_TIME_TOLERANCE_SECS = 0.005
# Maximum deviation of a label interval from the median, as a fraction of the median: annotation tools are not exact.
_MAX_JITTER = 0.25
_MAX_PERIOD_SECS = 10.0
# Ratings lie in [-1, 1], but centring can move a gold standard a little beyond.
_MAX_RATING = 2.0


def from_gold_arff(arousal: Path, valence: Path) -> np.ndarray:
    """Reads the AVEC release's gold standard: columns `Instance_name`, `frameTime`, `GoldStandard`."""
    return _from_dimensions(_read_gold_arff, arousal, valence)


def from_gold_csv(arousal: Path, valence: Path) -> np.ndarray:
    """Reads the authors' gold standard: time and value, comma separated, no header."""
    return _from_dimensions(_read_gold_csv, arousal, valence)


def individual_ratings(files: tuple[str, ...], method: str) -> Source:
    """Returns the source of labels that are combined from individual ratings; see `from_individual_ratings`."""
    read = partial(from_individual_ratings, method=method)
    return Source(read, files, rater_remarks if method == "avec" else None)


def from_individual_ratings(arousal: Path, valence: Path, method: str) -> np.ndarray:
    """Combines RECOLA's individual ratings, `time;FM1 ;FM2 ;...`; ratings after the 300 s of a recording are dropped.

    Args:
      arousal: the ratings of arousal.
      valence: the ratings of valence.
      method: "avec" (`gold_standard`) or "mean" (the plain mean of the raters).
    """
    return _from_dimensions(lambda path: _combine_raters(path, method), arousal, valence)


def rater_remarks(arousal: Path, valence: Path) -> list[str]:
    """Returns remarks on raters who contradict the others, as the gold standard of AVEC weighs them."""
    remarks = []
    for dimension, path in zip(DIMENSIONS, (arousal, valence), strict=True):
        raters, _, ratings, _ = _read_raters(path)
        agreement = mean_agreement(ratings)
        for rater, value in zip(raters, agreement, strict=True):
            if value < 0:
                remarks.append(
                    f"rater {rater}'s mean agreement on {dimension} with the others is {value:.2g}; check these "
                    "ratings: the gold standard weighs them negatively, as AVEC does"
                )
        if len(raters) > 1 and not has_agreement(agreement):
            remarks.append(
                f"the raters do not agree on {dimension} (weights of the gold standard sum to {agreement.sum():.2g}): "
                "their means count equally"
            )
    return remarks


def constant_remarks(labels: np.ndarray) -> list[str]:
    """Returns a remark for each dimension that does not change in a recording, given its labels [frames, 2]."""
    return [  # + 0.0: a zero without a sign
        f"{dimension} is {labels[0, axis] + 0.0:g} in every frame; check its labels"
        for axis, dimension in enumerate(DIMENSIONS)
        if np.ptp(labels[:, axis]) == 0
    ]


def scale_remarks(lowest: np.ndarray, highest: np.ndarray) -> list[str]:
    """Returns a remark for each dimension whose labels look like those of another scale than [-1, 1].

    Args:
      lowest: the lowest label of a corpus in each dimension, [2].
      highest: the highest one, [2].
    """
    remarks = []
    for dimension, low, high in zip(DIMENSIONS, lowest, highest, strict=True):
        if low == high:
            remarks.append(f"{dimension} is {low + 0.0:g} in all labels of the corpus: nothing can be learnt from it")
        elif low >= 0:
            remarks.append(
                f"{dimension} is never below 0 in the whole corpus ({low:.3g} to {high:.3g}): labels should lie in "
                "[-1, 1] with 0 as neutral; if the scale goes from a to b, write 2 (x - a) / (b - a) - 1 instead of x"
            )
    return remarks


def from_regular_csv(path: Path) -> np.ndarray:
    """Reads a table `time,arousal,valence` at any regular rate; interpolates it linearly at the end of each frame."""
    table = read_numbers(path, ANY_SEPARATOR, header=True)
    names = tuple(name.lower() for name in table.columns)
    if names != ("time", *DIMENSIONS):
        raise UserError(f"{path}: expected the header time,arousal,valence, got {','.join(table.columns)}")
    times, values = table.values[:, 0], table.values[:, 1:]
    check_times(times, table.lines, path)
    for axis, dimension in enumerate(DIMENSIONS):
        _check_ratings(values[:, axis], table.lines, dimension, path)
    _check_regular(times, table.lines, path)
    frames = int((times[-1] + _TIME_TOLERANCE_SECS) * FRAME_RATE_HZ)
    ends_secs = np.arange(1, frames + 1) / FRAME_RATE_HZ
    return np.stack([np.interp(ends_secs, times, values[:, axis]) for axis in range(2)], axis=1).astype(np.float32)


def _check_regular(times: np.ndarray, lines: np.ndarray, path: Path) -> None:
    """Checks that labels are in seconds, regularly spaced, start at the beginning, and do not end too late."""
    if len(times) < 2:
        raise UserError(f"{path}: the file has a single label; at least two are needed to determine their rate")
    period = float(np.median(np.diff(times)))
    if period > _MAX_PERIOD_SECS:
        raise UserError(f"{path}: labels are {period:g} s apart; are the times in milliseconds? Give seconds")
    uneven = np.flatnonzero(np.abs(np.diff(times) - period) > _MAX_JITTER * period + _TIME_TOLERANCE_SECS)
    if uneven.size:
        row = uneven[0] + 1
        raise UserError(
            f"{path}, line {lines[row]}: this label is {times[row] - times[row - 1]:g} s after the previous one; "
            f"labels must come at a regular rate; the median interval is {period:g} s"
        )
    if not -_TIME_TOLERANCE_SECS <= times[0] <= period + _TIME_TOLERANCE_SECS:
        raise UserError(
            f"{path}: labels start at {times[0]:g} s; they must start at 0 or one period ({period:g} s) later"
        )
    if times[-1] > MAX_HOURS * 3600:
        raise UserError(f"{path}: labels end at {times[-1]:g} s; recordings may last up to {MAX_HOURS} hours")


def _read_gold_arff(path: Path) -> np.ndarray:
    table = read_arff(path)
    columns = {name.lower(): values for name, values in zip(table.columns, table.values.T, strict=True)}
    if not {"frametime", "goldstandard"} <= set(columns):
        names = ", ".join([*table.text_columns, *table.columns])
        raise UserError(f"{path}: expected columns frameTime and GoldStandard, got {names}")
    return _to_labels(columns["frametime"], columns["goldstandard"], table.lines, path)


def _read_gold_csv(path: Path) -> np.ndarray:
    table = read_numbers(path, ANY_SEPARATOR, header=False)
    if table.values.shape[1] != 2:
        raise UserError(f"{path}: expected two columns, time and gold standard, got {table.values.shape[1]}")
    return _to_labels(table.values[:, 0], table.values[:, 1], table.lines, path)


def _combine_raters(path: Path, method: str) -> np.ndarray:
    _, times, ratings, lines = _read_raters(path)
    combined = gold_standard(ratings) if method == "avec" else ratings.mean(axis=1)
    if np.abs(combined).max() > _MAX_RATING:
        raise UserError(
            f"{path}: the raters contradict each other so much that their gold standard reaches "
            f"{combined[np.abs(combined).argmax()]:.3g}; check the ratings, or use --gold_standard=mean"
        )
    return _to_labels(times, combined, lines, path)


def _read_raters(path: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Returns the raters' names, and of the rows that count: times [rows], ratings [rows, raters], lines [rows]."""
    table = read_numbers(path, ";", header=True)
    if not table.columns or table.columns[0].lower() != "time" or len(table.columns) < 2:
        raise UserError(f"{path}: expected the header time;FM1;FM2;..., got {';'.join(table.columns)}")
    check_names(table)
    kept = table.values[:, 0] <= RECOLA_SECS + _TIME_TOLERANCE_SECS
    if not kept.any():
        raise UserError(f"{path}: there are no ratings in the first {RECOLA_SECS:.0f} s")
    times, ratings, lines = table.values[kept, 0], table.values[kept, 1:], table.lines[kept]
    for rater, column in zip(table.columns[1:], ratings.T, strict=True):
        _check_ratings(column, lines, f"the rating of {rater}", path)
    return table.columns[1:], times, ratings, lines


def _to_labels(times: np.ndarray, ratings: np.ndarray, lines: np.ndarray, path: Path) -> np.ndarray:
    """Checks that ratings come at t = 0, 0.04, ... and returns all but the first: one label per frame, float32."""
    check_times(times, lines, path)
    expected = np.arange(len(times)) / FRAME_RATE_HZ
    displaced = np.abs(times - expected) > _TIME_TOLERANCE_SECS
    if displaced.any():
        row = int(np.argmax(displaced))
        raise UserError(
            f"{path}, line {lines[row]}: a rating at {times[row]:g} s where {expected[row]:g} s was expected; ratings "
            "must start at 0 and follow every 0.04 s"
        )
    if len(times) < 2:
        raise UserError(f"{path}: the file has fewer than two ratings")
    _check_ratings(ratings, lines, "the rating", path)
    return ratings[1:].astype(np.float32)


def _check_ratings(values: np.ndarray, lines: np.ndarray, what: str, path: Path) -> None:
    check_finite(values, lines, what, path)
    out_of_range = np.abs(values) > _MAX_RATING
    if out_of_range.any():
        row = int(np.argmax(out_of_range))
        raise UserError(
            f"{path}, line {lines[row]}: {what} is {values[row]:g}; ratings lie in [-1, 1]; write "
            "(x - 3) / 2 for a scale from 1 to 5, (x - 5) / 4 for 1 to 9, and interpolate missing labels"
        )


def _from_dimensions(read: Callable[[Path], np.ndarray], arousal_path: Path, valence_path: Path) -> np.ndarray:
    """Reads one file per dimension and stacks them, [frames, 2]."""
    arousal, valence = read(arousal_path), read(valence_path)
    if len(arousal) != len(valence):
        raise UserError(
            f"{arousal_path} has {len(arousal) + 1} ratings but {valence_path} has {len(valence) + 1}; "
            "was one of them truncated?"
        )
    return np.stack([arousal, valence], axis=1)
