"""Text tables to arrays of numbers, with errors that name the line: whatever an annotation tool or a person wrote."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affect.errors import UserError

_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Table:
    """Numbers as read from a text file.

    Attributes:
      path: of the file.
      columns: their names, stripped of blanks; empty where the file has no header.
      values: float64 [rows, columns].
      lines: int [rows], the line of each row in the file, from 1.
    """

    path: Path
    columns: tuple[str, ...]
    values: np.ndarray
    lines: np.ndarray


def read_text(path: Path) -> str:
    """Reads a whole UTF-8 file, with or without a byte-order mark.

    Raises:
      UserError: missing, larger than 1 GiB, or not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size > _MAX_BYTES:
        raise UserError(f"{path}: {path.stat().st_size} bytes are too many for a table")
    return decode_text(path.read_bytes(), str(path))


def decode_text(content: bytes, name: str) -> str:
    """UTF-8, with or without a byte-order mark, to text.

    Raises:
      UserError: it is something else; names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name}, line {line}: byte 0x{content[error.start]:02X} is not UTF-8; save the file as UTF-8 text"
        ) from error


def read_numbers(path: Path, separator: str, header: bool) -> Table:
    """Reads a table of numbers.

    Args:
      path: the file.
      separator: between cells.
      header: whether the first line names the columns.

    Raises:
      UserError: unreadable, empty, or a row (named by its line) with too few or too many cells, or no number in one.
    """
    reader = csv.reader(read_text(path).splitlines(), delimiter=separator)
    rows, lines, columns = [], [], ()
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if header and not columns:
                columns = tuple(cell.strip() for cell in row)
                if len(columns) == 1:
                    raise UserError(f"{path}, line {reader.line_num}: one column; are they separated by {separator!r}?")
                continue
            _check_width(row, len(columns) or len(rows[0] if rows else row), separator, reader.line_num, path)
            rows.append([_number(cell, reader.line_num, path) for cell in row])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise UserError(f"{path}: holds no rows of numbers")
    return Table(path, columns, np.array(rows), np.array(lines))


def check_times(times_secs: np.ndarray, lines: np.ndarray, path: Path) -> None:
    """Times of a table must be numbers that increase.

    Raises:
      UserError: names file, line and both times.
    """
    if not np.isfinite(times_secs).all():
        line = lines[np.argmin(np.isfinite(times_secs))]
        raise UserError(f"{path}, line {line}: the time is not a finite number")
    back = np.flatnonzero(np.diff(times_secs) <= 0.0)
    if back.size:
        row = back[0] + 1
        what = "again" if times_secs[row] == times_secs[row - 1] else f"after {times_secs[row - 1]:g}"
        now = f"time {times_secs[row]:g} {what}"
        raise UserError(f"{path}, line {lines[row]}: {now}; rows must be sorted by time, once each")


def check_finite(values: np.ndarray, lines: np.ndarray, what: str, path: Path) -> None:
    """A column of a table must hold finite numbers.

    Raises:
      UserError: names file, line and value.
    """
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise UserError(f"{path}, line {lines[row]}: {what} is {values[row]:g}")


def _check_width(row: list[str], expected: int, separator: str, line: int, path: Path) -> None:
    if len(row) != expected:
        hint = f"; are the cells separated by {separator!r}?" if len(row) == 1 else "; was it cut?"
        raise UserError(f"{path}, line {line}: {len(row)} cell(s) where {expected} were expected{hint}")


def _number(cell: str, line: int, path: Path) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {cell.strip()!r} is not a number") from error
