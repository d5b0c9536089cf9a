"""Reads the AVEC 2015/2016 release of RECOLA.

    CORPUS_DIR/
      recordings_audio/train_1.wav
      recordings_video/train_1.mp4
      recordings_video_frame_time/train_1.csv           optional: ';', header, second column = time of that frame
      ratings_gold_standard/{arousal,valence}/train_1.arff   withheld for test

Recordings are `{train,dev,test}_{1..9}` there; any number is accepted here. Which exist is told by the video files.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from affect.errors import UserError
from affect.media.arff import read_arff
from tfrecords_tools.corpora.recording import Ratings, Recording

_NAME = re.compile(r"(train|dev|test)_(\d+)")
_GOLD_COLUMNS = {"frametime", "goldstandard"}


def find_recordings(corpus_dir: Path) -> list[Recording]:
    """Lists the recordings, train before dev before test, each by number.

    Raises:
      UserError: no such folder, nothing in it that looks like a recording, or missing pieces (all are named).
    """
    if not corpus_dir.is_dir():
        raise UserError(f"corpus folder {corpus_dir} does not exist")
    names = {path.stem for folder in ("video", "audio") for path in (corpus_dir / f"recordings_{folder}").glob("*")}
    matches = sorted(
        (match for name in names if (match := _NAME.fullmatch(name))),
        key=lambda match: (("train", "dev", "test").index(match[1]), int(match[2])),
    )
    if not matches:
        raise UserError(
            f"{corpus_dir}: no recordings_video/{{train,dev,test}}_N.mp4; is this the AVEC 2015/2016 release?"
        )
    recordings = [_recording(corpus_dir, match[0], match[1]) for match in matches]
    missing = [str(path) for recording in recordings for path in _missing(corpus_dir, recording)]
    if missing:
        raise UserError(f"{corpus_dir}: {len(missing)} file(s) missing: {', '.join(missing)}")
    return recordings


def read_gold_standard(arousal: Path, valence: Path) -> Ratings:
    """Reads both dimensions of one recording.

    Raises:
      UserError: an unreadable file, missing columns, or two files that do not cover the same times.
    """
    times, values = zip(*(_read_dimension(path) for path in (arousal, valence)), strict=True)
    if len(times[0]) != len(times[1]):
        raise UserError(
            f"{arousal} has {len(times[0])} ratings but {valence} has {len(times[1])}; was one of them cut?"
        )
    if not np.allclose(times[0], times[1], atol=1e-3):
        raise UserError(f"{arousal} and {valence} give different times")
    return Ratings(times[0], np.stack(values, axis=1))


def read_frame_times(path: Path) -> np.ndarray:
    """Reads the corrected times in seconds, [pictures]."""
    try:
        times = pd.read_csv(path, sep=";", header=0).iloc[:, 1].to_numpy(dtype=np.float64)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected ';' separated columns with times in the second ({error})") from error
    if not np.all(np.isfinite(times)) or np.any(np.diff(times) < 0.0):
        raise UserError(f"{path}: frame times must be finite and ascending")
    return times


def _recording(corpus_dir: Path, name: str, partition: str) -> Recording:
    gold = _gold_paths(corpus_dir, name)
    frame_times = corpus_dir / "recordings_video_frame_time" / f"{name}.csv"
    withheld = partition == "test" and not any(path.exists() for path in gold)
    return Recording(
        name=name,
        partition=partition,
        subject=name,
        audio=corpus_dir / "recordings_audio" / f"{name}.wav",
        video=corpus_dir / "recordings_video" / f"{name}.mp4",
        read_ratings=None if withheld else partial(read_gold_standard, *gold),
        read_frame_times=partial(read_frame_times, frame_times) if frame_times.exists() else None,
    )


def _gold_paths(corpus_dir: Path, name: str) -> list[Path]:
    return [corpus_dir / "ratings_gold_standard" / dimension / f"{name}.arff" for dimension in ("arousal", "valence")]


def _missing(corpus_dir: Path, recording: Recording) -> list[Path]:
    needed = [recording.audio, recording.video]
    if recording.read_ratings is not None:
        needed += _gold_paths(corpus_dir, recording.name)
    return [path for path in needed if not path.is_file()]


def _read_dimension(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times and values, [ratings] each."""
    table = read_arff(path)
    table.columns = [str(name).lower() for name in table.columns]
    if not _GOLD_COLUMNS <= set(table.columns):
        raise UserError(f"{path}: expected columns frameTime and GoldStandard, got {', '.join(table.columns)}")
    return table["frametime"].to_numpy(), table["goldstandard"].to_numpy()
