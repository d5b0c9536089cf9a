"""Text tables to arrays of numbers, with errors that name the line: files that annotation tools and people write."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from affect.errors import UserError

_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Table:
    """Numbers as read from a text file.

    Attributes:
      path: the file.
      columns: names of the columns of `values`, without surrounding blanks; empty if the file has no header.
      values: float64 [rows, columns].
      lines: int [rows], the line of each row in the file, counted from 1.
      text_columns: the columns that hold text, by name; only ARFF files have any.
    """

    path: Path
    columns: tuple[str, ...]
    values: np.ndarray
    lines: np.ndarray
    text_columns: dict[str, list[str]] = field(default_factory=dict)


def read_text(path: Path) -> str:
    """Reads a whole UTF-8 file, with or without a byte-order mark.

    Raises:
      UserError: the file is missing, larger than 1 GiB, or not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise UserError(f"{path}: {size} bytes are too many for a table; the limit is {_MAX_BYTES}")
    return decode_text(path.read_bytes(), str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decodes UTF-8, with or without a byte-order mark.

    Args:
      content: the bytes of a file.
      name: the file's name, for errors.

    Raises:
      UserError: the bytes are not UTF-8; the message names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name}, line {line}: byte 0x{content[error.start]:02X} is not UTF-8; save the file as UTF-8 text"
        ) from error


def read_rows(text: str, name: str, separator: str = ",", quotes: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number, counted from 1, and the cells of each row that is not blank.

    Args:
      text: the whole table.
      name: the file's name, for errors.
      separator: the character between cells.
      quotes: whether a quotation mark encloses a cell; if not, it is a character like any other.

    Raises:
      UserError: the text is not a table; the message names the line.
    """
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(text.splitlines(), delimiter=separator, quoting=quoting)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: {error}; is a quotation mark not closed?") from error


def read_numbers(path: Path, separator: str, header: bool) -> Table:
    """Reads a table of numbers.

    Args:
      path: the file.
      separator: the character between cells.
      header: whether the first line names the columns.

    Raises:
      UserError: the file is unreadable or empty, or a row (named by its line) has too few or too many cells or a cell
        that is not a number.
    """
    table = read_rows(read_text(path), str(path), separator)
    columns: tuple[str, ...] = ()
    if header:
        line, cells = next(table, (1, []))
        columns = tuple(cells)
        if len(columns) == 1:
            raise UserError(f"{path}, line {line}: only one column; are the cells separated by {separator!r}?")
    rows, lines = [], []
    for line, cells in table:
        width = len(columns) or len(rows[0] if rows else cells)
        if len(cells) != width:
            hint = f"are the cells separated by {separator!r}?" if len(cells) == 1 else "was it cut?"
            raise UserError(f"{path}, line {line}: {len(cells)} cell(s) where {width} were expected; {hint}")
        rows.append([_number(cell, line, path) for cell in cells])
        lines.append(line)
    if not rows:
        raise UserError(f"{path}: contains no rows of numbers")
    return Table(path, columns, np.array(rows), np.array(lines))


def check_times(times_secs: np.ndarray, lines: np.ndarray, path: Path) -> None:
    """Checks that the times of a table are finite and increase.

    Raises:
      UserError: they do not; the message names the file, the line and both times.
    """
    if not np.isfinite(times_secs).all():
        line = lines[np.argmin(np.isfinite(times_secs))]
        raise UserError(f"{path}, line {line}: the time is not a finite number")
    not_later = np.flatnonzero(np.diff(times_secs) <= 0.0)
    if not_later.size:
        row = not_later[0] + 1
        time, previous = times_secs[row], times_secs[row - 1]
        what = f"time {time:g} is repeated" if time == previous else f"time {time:g} follows {previous:g}"
        raise UserError(f"{path}, line {lines[row]}: {what}; rows must be sorted by time, each time once")


def check_finite(values: np.ndarray, lines: np.ndarray, what: str, path: Path) -> None:
    """Checks that a column of a table holds finite numbers.

    Raises:
      UserError: it does not; the message names the file, the line and the value.
    """
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise UserError(f"{path}, line {lines[row]}: {what} is {values[row]:g}, not a finite number")


def _number(cell: str, line: int, path: Path) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {cell!r} is not a number") from error
