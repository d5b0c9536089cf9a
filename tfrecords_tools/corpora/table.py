"""Finds the recordings of a corpus of your own: one CSV file lists them.

    recording,partition,audio,video,labels
    anna,train,anna.wav,anna.mp4,anna.csv
    ben,dev,,ben.mp4,ben.csv                  no sound file: the video's own sound, if it has any
    carla,test,carla.flac,,                   no video; no labels: for prediction only

Paths are relative to the CSV and must stay below its folder; to use files elsewhere, link their folder there. A labels
file is a CSV `time,arousal,valence` at any regular rate. An optional column `subject` says who is in the recording.
"""

import re
from pathlib import PurePosixPath

from affect import storage
from affect.errors import UserError
from affect.media.tables import decode_text, read_rows
from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.layout import CorpusFolder, LayoutOptions
from tfrecords_tools.corpora.recording import CorpusListing, Recording, Source

DEFAULT_SPLIT: str = ""
GOLD_STANDARDS: tuple[str, ...] = ("shipped",)
LISTED_IN_TABLE: bool = True

_COLUMNS = ["recording", "partition", "audio", "video", "labels"]
_OPTIONAL_COLUMN = "subject"


def recognises(folder: CorpusFolder) -> bool:
    """Returns whether the user gave a table, or the folder contains one."""
    return bool(folder.table or _tables_in(folder))


def find_recordings(folder: CorpusFolder, options: LayoutOptions) -> CorpusListing:
    """Lists the recordings in the table's order.

    Args:
      folder: the folder of the table.
      options: ignored; this layout has none.

    Raises:
      UserError: the folder does not contain exactly one table, its header is wrong, or a row (named by its line) has
        missing cells, a bad or repeated name, a path that leaves the folder, or neither audio nor video.
    """
    table_name = folder.table or _only_table_in(folder)
    path = storage.join(folder.root, table_name)
    rows = read_rows(_read_text(folder, table_name), path)
    _, first = next(rows, (1, []))
    header = [cell.lower() for cell in first]
    if not set(_COLUMNS) <= set(header) <= {*_COLUMNS, _OPTIONAL_COLUMN} or len(set(header)) != len(header):
        raise UserError(f"{path}: expected the header {','.join(_COLUMNS)}, got {','.join(header) or 'nothing'}")
    listing = CorpusListing([])
    line_of: dict[str, int] = {}
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(header):
            raise UserError(f"{where}: {len(cells)} cell(s), but the header has {len(header)}")
        try:
            recording = _recording(dict(zip(header, cells, strict=True)))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        key = recording.name.lower()  # some file systems ignore case
        if key in line_of:
            raise UserError(f"{where}: recording {recording.name} is already in line {line_of[key]}")
        line_of[key] = line
        missing = [file for file in recording.files if not folder.has(file)]
        if missing:
            listing.missing[recording.name] = missing
        else:
            listing.recordings.append(recording)
    if not line_of:
        raise UserError(f"{path}: lists no recordings")
    return listing


def _tables_in(folder: CorpusFolder) -> list[str]:
    names = sorted(name for name in folder.files if "/" not in name and name.lower().endswith(".csv"))
    return [name for name in names if _is_table(_read_text(folder, name))]


def _is_table(text: str) -> bool:
    """Returns whether the first line names the columns, with any separator; `find_recordings` reports what is wrong."""
    return set(_COLUMNS) <= {cell.strip(' "\r').lower() for cell in re.split("[,;\t]", text.split("\n", 1)[0])}


def _only_table_in(folder: CorpusFolder) -> str:
    tables = _tables_in(folder)
    if len(tables) != 1:
        found = f"{', '.join(tables)} are tables" if tables else "no .csv in it is a table"
        raise UserError(f"{folder.root}: {found} of recordings; give the one to use as --corpus_dir=DIR/NAME.csv")
    return tables[0]


def _read_text(folder: CorpusFolder, name: str) -> str:
    path = storage.join(folder.root, name)
    if not storage.exists(path):
        raise UserError(f"{path}: no such file")
    return decode_text(storage.read_bytes(path), path)


def _recording(row: dict[str, str]) -> Recording:
    for column in ("audio", "video", "labels"):
        path = PurePosixPath(row[column])
        if path.is_absolute() or ".." in path.parts or "\\" in row[column] or "\0" in row[column]:
            raise UserError(f"{column} {row[column]!r} must be a path below the table's folder, with forward slashes")
    if not row["audio"] and not row["video"]:
        raise UserError(f"recording {row['recording']!r} has neither audio nor video")
    return Recording(
        name=row["recording"],
        partition=row["partition"],
        subject=row.get(_OPTIONAL_COLUMN) or row["recording"],
        audio=row["audio"] or None,
        video=row["video"] or None,
        labels=Source(labels.from_regular_csv, (row["labels"],)) if row["labels"] else None,
    )
