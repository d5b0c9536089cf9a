"""ARFF tables of the AVEC releases to data frames.

`scipy.io.arff` rejects their string attribute, so a header parser names the columns. Polars reads the rows, several
times faster than anything else at hand (feature tables have 7501 x 633 numbers); a file that it cannot read is gone
through line by line, for odd blanks, and to say which line is at fault.
"""

import csv
import re
from pathlib import Path

import numpy as np
import polars as pl

from affect.errors import UserError
from affect.media.tables import read_text

_NUMERIC_TYPES = ("numeric", "real", "integer")
_MISSING = "?"


def read_arff(path: Path) -> pl.DataFrame:
    """Reads one table.

    Returns:
      One column per attribute, named as in the header; numeric ones as float64 (missing values, `?`, are NaN), others
      as strings.

    Raises:
      UserError: missing, no header or no rows, or a row (named by its line) with missing, extra or bad values.
    """
    text = read_text(path)
    attributes, body = _parse_header(text, path)
    schema = {name: pl.Float64 if kind in _NUMERIC_TYPES else pl.String for name, kind in attributes.items()}
    frame = _read_fast(body, schema)
    if frame is None:
        first_line = text.count("\n", 0, len(text) - len(body)) + 1
        frame = _read_line_by_line(body, first_line, schema, path)
    return frame


def line_of_row(path: Path, row: int) -> int:
    """The line, from 1, that row `row` of a table stands on; for error messages."""
    text = read_text(path)
    _, body = _parse_header(text, path)
    lines = enumerate(body.splitlines(), start=text.count("\n", 0, len(text) - len(body)) + 1)
    return [number for number, line in lines if _is_row(line)][row]


def _parse_header(text: str, path: Path) -> tuple[dict[str, str], str]:
    """Attribute names with their lower-case types, and what follows the @data line."""
    data = re.search(r"^[ \t]*@data[ \t]*\r?$\n?", text, re.IGNORECASE | re.MULTILINE)
    if data is None:
        raise UserError(f"{path}: has no @data line; is it an ARFF file, or was it cut?")
    attributes: dict[str, str] = {}
    for number, line in enumerate(text[: data.start()].splitlines(), start=1):
        keyword = line.strip().split(maxsplit=1)
        if not keyword or keyword[0].lower() != "@attribute":
            continue
        parts = next(
            csv.reader([keyword[1].replace("\t", " ") if len(keyword) > 1 else ""], delimiter=" ", quotechar="'")
        )
        parts = [part for part in parts if part]
        if len(parts) < 2:
            raise UserError(f"{path}, line {number}: expected '@attribute NAME TYPE', got {line.strip()!r}")
        if parts[0] in attributes:
            raise UserError(f"{path}, line {number}: a second attribute is called {parts[0]!r}")
        attributes[parts[0]] = parts[1].lower()
    if not attributes:
        raise UserError(f"{path}: its header names no attributes")
    return attributes, text[data.end() :]


def _read_fast(body: str, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame | None:
    """The rows, or None where anything about them is unusual."""
    try:
        frame = pl.read_csv(body.strip().encode(), has_header=False, schema=schema, quote_char="'")
    except pl.exceptions.PolarsError:
        return None
    # A missing cell: the row was cut, or it is a `?`.
    missing = any(column.null_count() for column in frame.iter_columns())
    return None if missing or frame.is_empty() else frame


def _read_line_by_line(body: str, first_line: int, schema: dict[str, type[pl.DataType]], path: Path) -> pl.DataFrame:
    columns: dict[str, list] = {name: [] for name in schema}
    for number, line in enumerate(body.splitlines(), start=first_line):
        if not _is_row(line):
            continue
        try:
            cells = next(csv.reader([line.strip()], quotechar="'", skipinitialspace=True))
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        if len(cells) != len(schema):
            raise UserError(
                f"{path}, line {number}: {len(cells)} values where the header names {len(schema)}; was it cut?"
            )
        for cell, (name, kind) in zip(cells, schema.items(), strict=True):
            columns[name].append(_number(cell.strip(), name, number, path) if kind is pl.Float64 else cell.strip())
    if not next(iter(columns.values())):
        raise UserError(f"{path}: has no rows after @data; was it cut?")
    return pl.DataFrame(columns, schema=schema)


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("%")


def _number(cell: str, name: str, line: int, path: Path) -> float:
    try:
        return np.nan if cell == _MISSING else float(cell)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {name!r} is {cell!r}, not a number") from error
