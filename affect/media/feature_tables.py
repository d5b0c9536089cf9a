"""Handcrafted features that a corpus ships, one value per column and instant: ARFF files or ';' separated text."""

from pathlib import Path

import numpy as np

from affect.errors import UserError
from affect.media.arff import read_arff
from affect.media.tables import check_times, read_numbers

_TIME_COLUMNS = ("frametime", "time")


def read_feature_table(path: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Reads one table.

    Args:
      path: a `.arff` file; any other suffix means ';' separated text with a header. The first column of numbers is
        the time in seconds and is called `frameTime` or `time`.

    Returns:
      Names of the features, times in seconds [rows], values [rows, features].

    Raises:
      UserError: the file is unreadable, its first column is not the time, or its times do not increase.
    """
    table = read_arff(path) if path.suffix.lower() == ".arff" else read_numbers(path, ";", header=True)
    if len(table.columns) < 2 or table.columns[0].lower() not in _TIME_COLUMNS:
        raise UserError(f"{path}: expected frameTime and then values, got {', '.join(table.columns[:5])}")
    times_secs = table.values[:, 0]
    check_times(times_secs, table.lines, path)
    return table.columns[1:], times_secs, table.values[:, 1:]
