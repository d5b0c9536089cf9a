"""Text tables to arrays of numbers, with errors that name the line: files that annotation tools and people write.

What spreadsheets do to a table is undone where only one reading is possible: a byte-order mark, UTF-16, any line ends,
a first line `sep=;`, separators at the end of rows, and decimal commas between semicolons or tabs. Everything else that
is not a table of numbers is refused.
"""

import codecs
import csv
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from affect.errors import UserError

# Separators that a table may choose from. Commas come last: between other separators they are decimal commas.
ANY_SEPARATOR = ";\t,"
# The beginning of a file by which its format is recognised; it has the whole first line.
HEAD_BYTES = 2**22
_MAX_BYTES = 2**30
# Tables of features have lines of up to some 100 kB. Splitting a longer one takes a hundred times its size in memory.
_MAX_LINE_CHARACTERS = HEAD_BYTES
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods; .xls
_MISSING = ("", "?", "NA")
# A point beside decimal commas would mark thousands, or another table's decimals: it makes the cell unreadable.
_FROM_DECIMAL_COMMAS = str.maketrans({",": ".", ".": "?"})


@dataclass(frozen=True)
class Table:
    """Numbers as read from a text file.

    Attributes:
      path: the file.
      columns: names of the columns of `values`, without surrounding blanks; empty if the file has no header.
      values: float64 [rows, columns].
      lines: int [rows], the line of each row in the file, counted from 1.
      text_columns: the columns that hold text, by name.
    """

    path: Path
    columns: tuple[str, ...]
    values: np.ndarray
    lines: np.ndarray
    text_columns: dict[str, list[str]] = field(default_factory=dict)


def read_text(path: Path, head_only: bool = False) -> str:
    """Reads a text file; see `decode_text`.

    Args:
      path: the file.
      head_only: reads only the lines that are complete in the first `HEAD_BYTES`.

    Raises:
      UserError: the file is missing, larger than 1 GiB, or not text.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise UserError(f"{path}: {size} bytes are too many for a table; the limit is {_MAX_BYTES}")
    with path.open("rb") as file:
        content = file.read(HEAD_BYTES) if head_only else file.read()
        if len(content) < size and content.startswith(_UTF16_MARKS):
            content += file.read()  # where a line ends is not known before the text is decoded
    if len(content) < size:
        content = content[: max(content.rfind(b"\n"), content.rfind(b"\r")) + 1] or content
    return decode_text(content, str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decodes UTF-8, with or without a byte-order mark, or UTF-16 with one; all lines end in a line feed then.

    Args:
      content: the bytes of a file.
      name: the file's name, for errors.

    Raises:
      UserError: the bytes are a spreadsheet, or not text in one of these encodings; the message names the line.
    """
    if content.startswith(_SPREADSHEETS):
        raise UserError(f"{name}: is a spreadsheet or an archive, not text; export it as CSV, encoded as UTF-8")
    encoding = "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02X} is not {encoding.upper().removesuffix('-SIG')}"
        raise UserError(f"{name}, line {line}: {found}; save the file as UTF-8 text") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{name}, line {line}: contains a zero byte, which text does not; save the file as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def split_lines(text: str, name: str) -> list[str]:
    """Returns the lines of a table.

    Raises:
      UserError: a line is longer than any line of a table.
    """
    lines = text.split("\n")
    longest = max(range(len(lines)), key=lambda k: len(lines[k]))
    if len(lines[longest]) > _MAX_LINE_CHARACTERS:
        raise UserError(
            f"{name}, line {longest + 1}: a line of {len(lines[longest])} characters is too long for a table; is it "
            "another kind of file?"
        )
    return lines


def read_rows(text: str, name: str, separators: str = ",", quotes: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number, counted from 1, and the cells of each row that is not blank.

    Args:
      text: the whole table.
      name: the file's name, for errors.
      separators: the characters that may separate cells. The table has the first of them that its first row contains;
        a line `sep=;` before that row, as spreadsheets write it, can name any other.
      quotes: whether a quotation mark encloses a cell; if not, it is a character like any other.

    Raises:
      UserError: the text is not a table; the message names the line.
    """
    separator, named = _find_separator(text, separators)
    lines = split_lines(text, name)
    if named:
        lines[named - 1] = ""
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=separator, quoting=quoting)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: {error}; is a quotation mark not closed?") from error


def read_numbers(
    path: Path,
    separators: str,
    header: bool,
    text_columns: Collection[str] = (),
    missing: bool = False,
    head_only: bool = False,
) -> Table:
    """Reads a table of numbers. Separators at the end of a row, after its last cell, are ignored.

    Args:
      path: the file.
      separators: see `read_rows`.
      header: whether the first line names the columns.
      text_columns: names, in lower case, of columns that hold text, in single quotes or not.
      missing: whether cells may be empty, `?` or `NA`; they become NaN.
      head_only: see `read_text`.

    Raises:
      UserError: the file is unreadable or empty, or a row (named by its line) has too few or too many cells or a cell
        that is not a number.
    """
    text = read_text(path, head_only)
    separator, _ = _find_separator(text, separators)
    table = read_rows(text, str(path), separators)
    names: list[str] = []
    if header:
        line, cells = next(table, (1, []))
        names = _without_empty_end(cells, 1)
        if len(names) == 1:
            hint = " or ".join(map(repr, separators))
            raise UserError(f"{path}, line {line}: only one column; are the cells separated by {hint}?")
        if names and (names[0].startswith("'") or _is_number(names[0])):
            raise UserError(f"{path}, line {line}: expected the names of the columns, got {', '.join(names[:5])}")
    texts: dict[int, list[str]] = {at: [] for at, name in enumerate(names) if name.lower() in text_columns}
    width, decimal_mark = len(names), "." if separator == "," else ""
    rows, lines = [], []
    for line, cells in table:
        width = width or len(_without_empty_end(cells, 1))
        cells = _without_empty_end(cells, width)
        if len(cells) != width:
            hint = f"are the cells separated by {separators[0]!r}?" if len(cells) == 1 else "was it cut?"
            raise UserError(f"{path}, line {line}: {len(cells)} cell(s) where {width} were expected; {hint}")
        for at, column in texts.items():
            column.append(cells[at].strip("'"))
            cells[at] = "0"
        # The first mark in the table holds for all of it: mixed marks could be marks of thousands.
        if not decimal_mark:
            decimal_mark = next((mark for mark in ".," if any(mark in cell for cell in cells)), "")
        rows.append(_row_of_numbers(cells, names, decimal_mark, missing, f"{path}, line {line}"))
        lines.append(line)
    if not rows:
        raise UserError(f"{path}: contains no rows of numbers")
    values = np.delete(np.stack(rows), list(texts), axis=1)
    columns = tuple(name for at, name in enumerate(names) if at not in texts)
    return Table(path, columns, values, np.array(lines), {names[at]: column for at, column in texts.items()})


def check_names(table: Table) -> None:
    """Checks that every column of a table has a name of its own.

    Raises:
      UserError: a name is empty or is there twice; the message names the file and the column.
    """
    for at, name in enumerate(table.columns):
        if not name:
            raise UserError(f"{table.path}: column {at + 1 + len(table.text_columns)} has no name")
        if name in table.columns[:at]:
            raise UserError(f"{table.path}: two columns are named {name!r}; give each a name of its own")


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


def to_number(cell: str) -> float:
    """Converts a cell, more strictly than `float`, which accepts `1_000` and the digits of all scripts.

    Raises:
      ValueError: the cell is not a number.
    """
    if "_" in cell or not cell.isascii():
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        to_number(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _find_separator(text: str, separators: str) -> tuple[str, int]:
    """Returns the separator (see `read_rows`), and the number of the line `sep=;`, 0 without one."""
    first = re.search(r"^.*\S.*$", text, re.MULTILINE)
    if first is None:
        return separators[0], 0
    named = re.fullmatch(r"sep=([;,\t|])\s*", first[0], re.IGNORECASE)
    if named:
        return named[1], text.count("\n", 0, first.start()) + 1
    return next((one for one in separators if one in first[0]), separators[0]), 0


def _row_of_numbers(cells: list[str], names: list[str], decimal_mark: str, missing: bool, where: str) -> np.ndarray:
    """Returns the numbers of one row, float64 [columns]; names the first cell that is not a number."""
    numbers = np.empty(len(cells))
    for at, cell in enumerate(cells):
        if missing and cell in _MISSING:
            numbers[at] = np.nan
            continue
        try:
            numbers[at] = to_number(cell.translate(_FROM_DECIMAL_COMMAS) if decimal_mark == "," else cell)
        except ValueError as error:
            column = f" (column {names[at]!r})" if names else ""
            marks = f"; the decimal mark of this file is {decimal_mark!r}" if "," in cell or decimal_mark == "," else ""
            raise UserError(f"{where}: {cell!r} is not a number{column}{marks}") from error
    return numbers


def _without_empty_end(cells: list[str], width: int) -> list[str]:
    """Returns the cells without the empty ones at the end that exceed the width."""
    length = len(cells)
    while length > width and not cells[length - 1]:
        length -= 1
    return cells[:length]
