"""Finds the recordings of the AVEC 2015/2016 release of RECOLA.

    CORPUS_DIR/
      recordings_audio/train_1.wav
      recordings_video/train_1.mp4
      recordings_video_frame_time/train_1.csv                optional: ';', header, second column = time of the picture
      ratings_gold_standard/{arousal,valence}/train_1.arff   withheld for test
      ratings_individual/{arousal,valence}/train_1.csv       instead of these, with --gold_standard=avec or mean
      features_video_face_bounding_box/train_1.arff          optional: left, top, width, height; 0 without a face
      features_*/**/train_1.arff                             optional: handcrafted features

The release numbers its recordings `{train,dev,test}_{1..9}`; any number is accepted here. An optional folder must be
complete: if it has files of some recordings, those of the others count as missing.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from affect.config import DIMENSIONS, PARTITIONS
from affect.errors import UserError
from affect.media.feature_tables import read_feature_table
from affect.media.tables import check_times, read_numbers
from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.layout import CorpusFolder, LayoutOptions
from tfrecords_tools.corpora.recording import (
    AUDIO_SUFFIXES,
    TABLE_SUFFIXES,
    VIDEO_SUFFIXES,
    CorpusListing,
    Recording,
    Source,
)

DEFAULT_SPLIT: str = ""
GOLD_STANDARDS: tuple[str, ...] = ("shipped", "avec", "mean")
LISTED_IN_TABLE: bool = False

_NAME = re.compile(r"(train|dev|test)_(\d+)")
_BOXES = "features_video_face_bounding_box"
_BOX_COLUMNS = 4
# Pixels; a face that is not wider is in other units.
_MIN_FACE_WIDTH = 2.0


def recognises(folder: CorpusFolder) -> bool:
    """Returns whether the folder has sound or video of a recording."""
    return any(map(_NAME.fullmatch, _names_in(folder)))


def find_recordings(folder: CorpusFolder, options: LayoutOptions) -> CorpusListing:
    """Lists the recordings, train before dev before test, each by number.

    Raises:
      UserError: the folder has no recording with such a name.
    """
    names = _names_in(folder)
    matches = sorted(
        (match for name in names if (match := _NAME.fullmatch(name))),
        key=lambda match: (PARTITIONS.index(match[1]), int(match[2])),
    )
    if not matches:
        raise UserError(
            f"{folder.root}: no recordings_video/{{train,dev,test}}_N.mp4; is this the AVEC 2015/2016 release?"
        )
    listing = CorpusListing([])
    others = sorted(names - {match[0] for match in matches})
    if others:
        listing.remarks.append(f"not read, names other than train_N, dev_N and test_N: {', '.join(others)}")
    feature_folders = _feature_folders(folder)
    for match in matches:
        recording, missing = _find_recording(folder, match[0], match[1], options.gold_standard, feature_folders)
        if missing:
            listing.missing[recording.name] = missing
        else:
            listing.recordings.append(recording)
    return listing


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
    columns, times, boxes = read_feature_table(path)
    if len(columns) != _BOX_COLUMNS:
        raise UserError(f"{path}: expected left, top, width and height, got {', '.join(columns)}")
    if any(word in name.lower() for name in columns for word in ("right", "bottom", "max", "x2", "y2")):
        raise UserError(f"{path}: boxes must be left, top, width and height, got {', '.join(columns)}")
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        raise UserError(f"{path}: a face box has a negative size, or is not finite")
    if 0 < boxes[:, 2:].max() <= _MIN_FACE_WIDTH:
        raise UserError(f"{path}: no face is wider than {_MIN_FACE_WIDTH:g}; boxes must be in pixels")
    return times, boxes


def _names_in(folder: CorpusFolder) -> set[str]:
    """Returns the names, of any form, of the sound and video files."""
    return folder.stems("recordings_video") | folder.stems("recordings_audio")


def _feature_folders(folder: CorpusFolder) -> list[str]:
    """Returns the folders of features, which a release may or may not have, each with a file per recording."""
    folders = {name.rsplit("/", 1)[0] for name in folder.files if name.startswith("features_") and "/" in name}
    return [name for name in sorted(folders) if any(map(_NAME.fullmatch, folder.stems(name)))]


def _find_recording(
    folder: CorpusFolder, name: str, partition: str, gold_standard: str, feature_folders: list[str]
) -> tuple[Recording, list[str]]:
    """Returns one recording, and the files that it lacks."""
    missing: list[str] = []

    def need(subfolder: str, suffixes: tuple[str, ...]) -> str:
        path = folder.pick(subfolder, name, suffixes)
        if path is None:
            missing.append(f"{subfolder}/{name}{suffixes[0]}")
        return path or ""

    ratings, suffix, labels_from = _ratings_source(gold_standard)
    withheld = partition == "test" and not any(folder.pick(f"{ratings}/{d}", name, (suffix,)) for d in DIMENSIONS)
    has_frame_times = bool(folder.stems("recordings_video_frame_time"))
    features = {table: need(table, TABLE_SUFFIXES) for table in feature_folders}
    recording = Recording(
        name=name,
        partition=partition,
        subject=name,
        audio=need("recordings_audio", AUDIO_SUFFIXES),
        video=need("recordings_video", VIDEO_SUFFIXES),
        labels=None if withheld else labels_from(tuple(need(f"{ratings}/{d}", (suffix,)) for d in DIMENSIONS)),
        frame_times=Source(read_frame_times, (need("recordings_video_frame_time", (".csv",)),))
        if has_frame_times
        else None,
        face_boxes=Source(read_face_boxes, (features[_BOXES],)) if _BOXES in features else None,
        features=features,
    )
    return recording, missing


def _ratings_source(gold_standard: str) -> tuple[str, str, Callable[[tuple[str, ...]], Source]]:
    """Returns the folder and suffix of the ratings, and what makes a source of a recording's files of ratings."""
    if gold_standard == "shipped":
        return "ratings_gold_standard", ".arff", partial(Source, labels.from_gold_arff)
    return "ratings_individual", ".csv", partial(labels.individual_ratings, method=gold_standard)
