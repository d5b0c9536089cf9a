"""What a person should know about the files of one recording that were read without an error."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import numpy as np

from affect.media.feature_tables import instance_names
from affect.timebase import FRAME_RATE_HZ
from tfrecords_tools.corpora.labels import constant_remarks
from tfrecords_tools.corpora.recording import Recording

# Features of a sliding window may end before the recording by the length of the window: up to 8 s in AVEC.
_MAX_WINDOW_SECS = 10.0


def file_remarks(
    recording: Recording,
    local: Callable[[str], Path],
    labels: np.ndarray | None,
    features_end_secs: dict[str, float],
    frames: int,
) -> Iterator[str]:
    """Yields the remarks.

    Args:
      recording: its files.
      local: returns the local path of a corpus file.
      labels: float32 [frames, 2]; None without labels.
      features_end_secs: time of the last row of each file of features.
      frames: number of frames that are kept.
    """
    for source in filter(None, (recording.labels, recording.frame_times, recording.face_boxes)):
        if source.remarks:
            yield from source.remarks(*map(local, source.files))
    if labels is not None:
        yield from constant_remarks(labels[:frames])
    secs = frames / FRAME_RATE_HZ
    for file, end_secs in features_end_secs.items():
        if secs - end_secs > _MAX_WINDOW_SECS:
            yield f"{file} ends at {end_secs:.2f} s, but the recording at {secs:.2f} s; was the file cut?"
    yield from _name_remarks(recording, local)


def _name_remarks(recording: Recording, local: Callable[[str], Path]) -> Iterator[str]:
    """Yields a remark for each file whose rows are named after another recording: it may be the wrong file."""
    for file in recording.files:
        if not file.lower().endswith(".arff") and file not in recording.features.values():
            continue
        # Some tools write the name of the sound file.
        names = instance_names(local(file))
        others = [name for name in names if recording.name not in (name, PurePath(name).stem)]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            yield f"the rows of {file} are named {others[0]!r}{more}; check that they belong to this recording"
