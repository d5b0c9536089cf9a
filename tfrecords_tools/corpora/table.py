"""Finds the recordings of anyone's corpus: one CSV that lists them.

    recording,partition,audio,video,labels
    anna,train,anna.wav,anna.mp4,anna.csv
    ben,dev,,ben.mp4,ben.csv                  no sound file: the video's own sound, where it has any
    carla,test,carla.flac,,                   no video; no labels: only to be predicted

Paths are relative to the CSV and stay below its folder; to use files that lie elsewhere, link the folder there. A
labels file is a CSV `time,arousal,valence` at any regular rate. A column `subject` may say who is heard and seen.
"""

import csv
import re
from pathlib import PurePosixPath

from affect.errors import UserError
from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.recording import Corpus, CorpusListing, Recording, Source

_COLUMNS = ["recording", "partition", "audio", "video", "labels"]
_OPTIONAL_COLUMN = "subject"


def recognises(text: str) -> bool:
    """Whether a CSV's first line is this table's header, or nearly: its reader then says what is wrong."""
    return set(_COLUMNS) <= {cell.strip(' "\r').lower() for cell in re.split("[,;\t]", text.split("\n", 1)[0])}


def find_recordings(corpus: Corpus, name: str, text: str) -> CorpusListing:
    """Lists the recordings in the table's order.

    Args:
      corpus: the folder of the table.
      name: of the table, for errors.
      text: the table.

    Raises:
      UserError: another header, a row (named by its line) with missing cells, a bad or repeated name, a path that
        leaves the folder, or neither audio nor video.
    """
    reader = csv.reader(text.splitlines())
    try:
        return _read_rows(corpus, name, reader)
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: {error}; is a quotation mark not closed?") from error


def _read_rows(corpus: Corpus, name: str, reader) -> CorpusListing:
    header = [cell.strip().lower() for cell in next(reader, [])]
    if not set(_COLUMNS) <= set(header) <= {*_COLUMNS, _OPTIONAL_COLUMN} or len(set(header)) != len(header):
        raise UserError(f"{name}: expected the header {','.join(_COLUMNS)}, got {','.join(header) or 'nothing'}")
    found, lines = CorpusListing([]), {}
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        where = f"{name}, line {reader.line_num}"
        if len(row) != len(header):
            raise UserError(f"{where}: {len(row)} cell(s) where the header names {len(header)}")
        try:
            recording = _recording(dict(zip(header, (cell.strip() for cell in row), strict=True)))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if recording.name.lower() in lines:  # file systems may not tell upper from lower case
            raise UserError(f"{where}: recording {recording.name} is already in line {lines[recording.name.lower()]}")
        lines[recording.name.lower()] = reader.line_num
        missing = [path for path in recording.files if not corpus.has(path)]
        if missing:
            found.missing[recording.name] = missing
        else:
            found.recordings.append(recording)
    if not lines:
        raise UserError(f"{name}: lists no recordings")
    return found


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
