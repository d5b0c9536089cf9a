"""Handcrafted features that a corpus ships, one value per column and instant: ARFF files, or text such as openSMILE's.

name;frameTime;pcm_loudness_sma;F0final_sma        openSMILE: `name` in single quotes, or `frameIndex`, or neither
'unknown';0.000000;1.281e-01;0.000000e+00
"""

from pathlib import Path

import numpy as np

from affect.errors import UserError
from affect.media import arff
from affect.media.tables import ANY_SEPARATOR, Table, check_names, check_times, read_numbers

_TIME_COLUMNS = ("frametime", "time")
_INDEX_COLUMN = "frameindex"
_TEXT_COLUMNS = ("name", "instance_name")
# openSMILE writes it unless it is told the name of the instance.
_NO_NAME = "unknown"
_MAX_PERIOD_SECS = 10.0


def read_feature_table(path: Path, head_only: bool = False) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Reads one table.

    Args:
      path: a `.arff` file; any other suffix means text with a header, separated by semicolons, tabs or commas. The
        first column of numbers, apart from `frameIndex`, is the time in seconds and is called `frameTime` or `time`.
      head_only: reads the beginning only, to recognise a file that cannot be read.

    Returns:
      Names of the features, times in seconds [rows], values [rows, features]; NaN where the file has no value.

    Raises:
      UserError: the file is unreadable, its first column is not the time, two columns have the same name, or its times
        do not increase or are not in seconds.
    """
    table = _read(path, head_only)
    check_names(table)
    names = [name.lower() for name in table.columns]
    at = 1 if names[:1] == [_INDEX_COLUMN] else 0
    if len(names) < at + 2 or names[at] not in _TIME_COLUMNS:
        raise UserError(f"{path}: expected frameTime and then values, got {', '.join(table.columns[:5])}")
    times_secs = table.values[:, at]
    check_times(times_secs, table.lines, path)
    if len(times_secs) > 1 and np.median(np.diff(times_secs)) > _MAX_PERIOD_SECS:
        period = np.median(np.diff(times_secs))
        raise UserError(f"{path}: rows are {period:g} s apart; are the times in milliseconds? Give seconds")
    return table.columns[at + 1 :], times_secs, table.values[:, at + 1 :]


def instance_names(path: Path) -> list[str]:
    """Returns the names of the instances in the rows, each once; of a text table, those in its beginning.

    Raises:
      UserError: the file is unreadable.
    """
    if path.suffix.lower() == ".arff":
        names = arff.instance_names(path)
    else:
        names = [name for column in _read(path, head_only=True).text_columns.values() for name in column]
    return [name for name in dict.fromkeys(names) if name != _NO_NAME]


def _read(path: Path, head_only: bool = False) -> Table:
    if path.suffix.lower() == ".arff":
        return arff.read_arff(path, head_only)
    return read_numbers(path, ANY_SEPARATOR, True, _TEXT_COLUMNS, missing=True, head_only=head_only)
