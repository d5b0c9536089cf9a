"""ARFF tables of the AVEC releases to arrays of numbers.

`scipy.io.arff` rejects the string attribute of these files, so the header is parsed here. NumPy parses the rows, as
exactly as Python's `float` and several times faster than a loop (feature tables hold 7501 x 633 numbers). A file that
NumPy does not accept is parsed again row by row, which handles missing values and finds the line of an error.
"""

import csv
import re
from pathlib import Path

import numpy as np

from affect.errors import UserError
from affect.media.tables import Table, read_text, split_lines, to_number

_NUMERIC_TYPES = ("numeric", "real", "integer")
_MISSING = "?"

_Rows = list[tuple[int, str]]  # line number and text of each row


def read_arff(path: Path, head_only: bool = False) -> Table:
    """Reads one file.

    Args:
      path: the file.
      head_only: see `read_text`.

    Returns:
      Numeric attributes in `columns` and `values`, where NaN is a missing value (`?`); all others in `text_columns`.

    Raises:
      UserError: the file is missing, has no header or no rows, or a row (named by its line) has too few or too many
        values or one that is not a number.
    """
    attributes, rows = _parse(read_text(path, head_only), path)
    if not rows:
        raise UserError(f"{path}: has no rows after @data; was it cut?")
    values, text_columns = _parse_fast(rows, attributes) or _parse_row_by_row(rows, attributes, path)
    columns = tuple(name for name in attributes if name not in text_columns)
    return Table(path, columns, values, np.array([number for number, _ in rows]), text_columns)


def instance_names(path: Path) -> list[str]:
    """Returns the values of the first attribute of type string (`Instance_name` in the AVEC releases), each once.

    Raises:
      UserError: the file is missing or has no header, or a row cannot be split into cells.
    """
    attributes, rows = _parse(read_text(path), path)
    column = next((index for index, kind in enumerate(attributes.values()) if kind == "string"), None)
    if column is None:
        return []
    cells = (_cells(line, number, path) for number, line in rows)
    return list(dict.fromkeys(row[column].strip() for row in cells if len(row) > column))


def _parse(text: str, path: Path) -> tuple[dict[str, str], _Rows]:
    """Returns the lower-case type of each attribute by name, and the rows, without empty lines and comments."""
    data = re.search(r"^[ \t]*@data[ \t]*$\n?", text, re.IGNORECASE | re.MULTILINE)
    if data is None:
        raise UserError(f"{path}: has no @data line; is it an ARFF file, or was it cut?")
    attributes: dict[str, str] = {}
    lines = split_lines(text, str(path))
    first_row = text.count("\n", 0, data.end())
    for number, line in enumerate(lines[:first_row], start=1):
        keyword = line.strip().split(maxsplit=1)
        if not keyword or keyword[0].lower() != "@attribute":
            continue
        declaration = keyword[1].replace("\t", " ") if len(keyword) > 1 else ""
        parts = [part for part in next(csv.reader([declaration], delimiter=" ", quotechar="'"), []) if part]
        if len(parts) < 2:
            raise UserError(f"{path}, line {number}: expected '@attribute NAME TYPE', got {line.strip()!r}")
        if parts[0] in attributes:
            raise UserError(f"{path}, line {number}: attribute {parts[0]!r} is declared twice")
        attributes[parts[0]] = parts[1].lower()
    if not attributes:
        raise UserError(f"{path}: its header declares no attributes")
    rows = ((number, line.strip()) for number, line in enumerate(lines[first_row:], start=first_row + 1))
    return attributes, [(number, line) for number, line in rows if line and not line.startswith("%")]


def _parse_fast(rows: _Rows, attributes: dict[str, str]) -> tuple[np.ndarray, dict[str, list[str]]] | None:
    """Returns the numbers [rows, numeric attributes] and the text columns; None if a row is in any way unusual."""
    names = list(attributes)
    text_columns: dict[str, list[str]] = {name: [] for name in names if attributes[name] not in _NUMERIC_TYPES}

    def collect(cells: list[str]):
        def convert(cell: str) -> float:
            if "'" in cell or cell != cell.strip():
                raise ValueError("a quotation mark or a blank in a place where the csv module treats it differently")
            cells.append(cell)
            return 0.0

        return convert

    try:
        values = np.loadtxt(
            [line for _, line in rows],
            delimiter=",",
            quotechar="'",
            comments=None,
            converters={names.index(name): collect(cells) for name, cells in text_columns.items()},
            encoding=None,  # the converters take text; NumPy 1 would hand them bytes
            ndmin=2,
        )
    except ValueError:
        return None
    if values.shape != (len(rows), len(names)):
        return None
    # A boolean index would do the same in ten times the time.
    return np.compress([name not in text_columns for name in names], values, axis=1), text_columns


def _parse_row_by_row(rows: _Rows, attributes: dict[str, str], path: Path) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Returns the same as `_parse_fast`, or names the line that cannot be parsed."""
    text_columns: dict[str, list[str]] = {name: [] for name, kind in attributes.items() if kind not in _NUMERIC_TYPES}
    values: list[list[float]] = []
    for number, line in rows:
        cells = _cells(line, number, path)
        if len(cells) != len(attributes):
            raise UserError(
                f"{path}, line {number}: {len(cells)} value(s) where the header declares {len(attributes)}; was it cut?"
            )
        by_name = {name: cell.strip() for name, cell in zip(attributes, cells, strict=True)}
        for name, texts in text_columns.items():
            texts.append(by_name.pop(name))
        values.append([_number(cell, name, number, path) for name, cell in by_name.items()])
    return np.array(values), text_columns


def _cells(line: str, number: int, path: Path) -> list[str]:
    try:
        return next(csv.reader([line], quotechar="'", skipinitialspace=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {number}: {error}") from error


def _number(cell: str, name: str, line: int, path: Path) -> float:
    try:
        return np.nan if cell == _MISSING else to_number(cell)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {name!r} is {cell!r}, not a number") from error
