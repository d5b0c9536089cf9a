"""Finds the recordings of the AVEC 2015/2016 release of RECOLA.

    CORPUS_DIR/
      recordings_audio/train_1.wav
      recordings_video/train_1.mp4
      recordings_video_frame_time/train_1.csv                optional: ';', header, second column = time of that picture
      ratings_gold_standard/{arousal,valence}/train_1.arff   withheld for test
      ratings_individual/{arousal,valence}/train_1.csv       instead, with --gold_standard=avec or mean
      features_video_face_bounding_box/train_1.arff          optional: left, top, width, height; 0 without a face
      features_*/**/train_1.arff                             optional: handcrafted features

Recordings are `{train,dev,test}_{1..9}` there; any number is accepted here. An optional folder is all or nothing: where
it has files of some recordings, the others' are missing.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from affect.config import DIMENSIONS, PARTITIONS
from affect.errors import UserError
from affect.media.arff import read_arff
from affect.media.tables import check_times, read_numbers
from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.recording import (
    AUDIO_SUFFIXES,
    TABLE_SUFFIXES,
    VIDEO_SUFFIXES,
    Corpus,
    CorpusListing,
    Recording,
    Source,
)

_NAME = re.compile(r"(train|dev|test)_(\d+)")
_BOXES = "features_video_face_bounding_box"
_BOX_COLUMNS = 4


def recognises(corpus: Corpus) -> bool:
    """Whether the folder looks like this release."""
    return any(_NAME.fullmatch(stem) for kind in ("video", "audio") for stem in corpus.stems(f"recordings_{kind}"))


def find_recordings(corpus: Corpus, gold_standard: str) -> CorpusListing:
    """Lists the recordings, train before dev before test, each by number.

    Args:
      corpus: the folder.
      gold_standard: "shipped", or "avec" or "mean" of the single ratings.

    Raises:
      UserError: nothing in it looks like a recording.
    """
    names = {stem for kind in ("video", "audio") for stem in corpus.stems(f"recordings_{kind}")}
    matches = sorted(
        (match for name in names if (match := _NAME.fullmatch(name))),
        key=lambda match: (PARTITIONS.index(match[1]), int(match[2])),
    )
    if not matches:
        raise UserError(
            f"{corpus.root}: no recordings_video/{{train,dev,test}}_N.mp4; is this the AVEC 2015/2016 release?"
        )
    optional = _optional_folders(corpus)
    found = CorpusListing([])
    others = sorted(names - {match[0] for match in matches})
    if others:
        found.remarks.append(f"not read, names other than train_N, dev_N and test_N: {', '.join(others)}")
    for match in matches:
        missing: list[str] = []
        recording = _recording(corpus, match[0], match[1], gold_standard, optional, missing)
        if missing:
            found.missing[match[0]] = missing
        else:
            found.recordings.append(recording)
    return found


def read_frame_times(path: Path) -> np.ndarray:
    """Reads the corrected times in seconds, [pictures]."""
    table = read_numbers(path, ";", header=True)
    if table.values.shape[1] < 2:
        raise UserError(f"{path}: expected ';' separated columns with times in the second")
    times = table.values[:, 1]
    check_times(times, table.lines, path)
    return times


def read_face_boxes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads times in seconds [rows] and boxes [rows, 4]: left, top, width, height."""
    columns, times, values = read_table(path)
    if len(columns) != _BOX_COLUMNS:
        raise UserError(f"{path}: expected left, top, width and height, got {', '.join(columns)}")
    if any(word in name.lower() for name in columns for word in ("right", "bottom", "max", "x2", "y2")):
        raise UserError(f"{path}: boxes must be left, top, width and height, got {', '.join(columns)}")
    if not np.isfinite(values).all() or (values[:, 2:] < 0).any():
        raise UserError(f"{path}: a face box is not finite, or narrower than nothing")
    if 0 < values[:, 2:].max() <= 2.0:
        raise UserError(f"{path}: no face is wider than 2; boxes must be in pixels")
    return times, values


def read_table(path: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Reads a table of features, ARFF or ';' separated: names, times in seconds [rows], values [rows, names]."""
    if path.suffix.lower() == ".arff":
        frame = read_arff(path)
        numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
        names, values = tuple(numbers), frame.select(numbers).to_numpy()
    else:
        table = read_numbers(path, ";", header=True)
        names, values = table.columns, table.values
    if len(names) < 2 or names[0].lower() not in ("frametime", "time"):
        raise UserError(f"{path}: expected frameTime and then values, got {', '.join(names[:5])}")
    if not np.isfinite(values[:, 0]).all() or np.any(np.diff(values[:, 0]) <= 0):
        raise UserError(f"{path}: its times are not sorted, or not numbers")
    return names[1:], values[:, 0], values[:, 1:]


def _optional_folders(corpus: Corpus) -> list[str]:
    """Folders with a file per recording that a release may or may not have."""
    folders = {name.rsplit("/", 1)[0] for name in corpus.files if name.startswith("features_") and "/" in name}
    return [folder for folder in sorted(folders) if any(map(_NAME.fullmatch, corpus.stems(folder)))]


def _recording(
    corpus: Corpus, name: str, partition: str, gold_standard: str, optional: list[str], missing: list[str]
) -> Recording:
    """One recording; adds to `missing` what it needs and has not."""

    def need(folder: str, suffixes: tuple[str, ...]) -> str:
        path = corpus.pick(folder, name, suffixes)
        if path is None:
            missing.append(f"{folder}/{name}{suffixes[0]}")
        return path or ""

    folder, suffix, read = _ratings(gold_standard)
    withheld = partition == "test" and not any(corpus.pick(f"{folder}/{d}", name, (suffix,)) for d in DIMENSIONS)
    has_frame_times = bool(corpus.stems("recordings_video_frame_time"))
    features = {table: need(table, TABLE_SUFFIXES) for table in optional}
    return Recording(
        name=name,
        partition=partition,
        subject=name,
        audio=need("recordings_audio", AUDIO_SUFFIXES),
        video=need("recordings_video", VIDEO_SUFFIXES),
        labels=None if withheld else Source(read, tuple(need(f"{folder}/{d}", (suffix,)) for d in DIMENSIONS)),
        frame_times=Source(read_frame_times, (need("recordings_video_frame_time", (".csv",)),))
        if has_frame_times
        else None,
        face_boxes=Source(read_face_boxes, (features[_BOXES],)) if _BOXES in features else None,
        features=features,
    )


def _ratings(gold_standard: str):
    """Folder, suffix and reader of the labels."""
    if gold_standard == "shipped":
        return "ratings_gold_standard", ".arff", labels.from_gold_arff
    return "ratings_individual", ".csv", partial(labels.from_individual_ratings, method=gold_standard)
