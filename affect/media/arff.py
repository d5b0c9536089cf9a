"""ARFF tables of the AVEC releases to data frames.

`scipy.io.arff` rejects their string attribute, so a header parser names the columns and pandas reads the rows.
"""

import csv
from pathlib import Path

import pandas as pd

from affect.errors import UserError

_NUMERIC_TYPES = ("numeric", "real", "integer")


def read_arff(path: Path) -> pd.DataFrame:
    """Reads one table.

    Returns:
      One column per attribute, named as in the header; numeric ones as float64, others as str.

    Raises:
      UserError: missing, no header or no rows, or a row (named by its line) with missing, extra or bad values.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error})") from error
    attributes, first_row = _parse_header(lines, path)
    rows, numbers = [], []
    for number, line in enumerate(lines[first_row:], start=first_row + 1):
        if line.strip() and not line.lstrip().startswith("%"):
            rows.append(line)
            numbers.append(number)
    if not rows:
        raise UserError(f"{path}: has no rows after @data; was it cut?")
    return _to_frame(rows, numbers, attributes, path)


def _parse_header(lines: list[str], path: Path) -> tuple[dict[str, str], int]:
    """Attribute names with their lower-case types, and the index of the first line after @data."""
    attributes: dict[str, str] = {}
    for index, line in enumerate(lines):
        keyword = line.strip().split(maxsplit=1)
        if not keyword:
            continue
        if keyword[0].lower() == "@data":
            return attributes, index + 1
        if keyword[0].lower() == "@attribute":
            parts = next(csv.reader([keyword[1] if len(keyword) > 1 else ""], delimiter=" ", quotechar="'"))
            parts = [part for part in parts if part]
            if len(parts) < 2:
                raise UserError(f"{path}, line {index + 1}: expected '@attribute NAME TYPE', got {line.strip()!r}")
            attributes[parts[0]] = parts[1].lower()
    raise UserError(f"{path}: has no @data line; is it an ARFF file, or was it cut?")


def _to_frame(rows: list[str], numbers: list[int], attributes: dict[str, str], path: Path) -> pd.DataFrame:
    cells = list(csv.reader(rows, quotechar="'", skipinitialspace=True))
    for row, number in zip(cells, numbers, strict=True):
        if len(row) != len(attributes):
            raise UserError(
                f"{path}, line {number}: {len(row)} values where the header names {len(attributes)}; was it cut?"
            )
    frame = pd.DataFrame(cells, columns=list(attributes))
    for name, kind in attributes.items():
        if kind in _NUMERIC_TYPES:
            values = pd.to_numeric(frame[name], errors="coerce")
            bad = values.isna().to_numpy().nonzero()[0]
            if bad.size:
                raise UserError(f"{path}, line {numbers[bad[0]]}: {name!r} is {frame[name][bad[0]]!r}, not a number")
            frame[name] = values.astype("float64")
    return frame
