"""What RECOLA's releases by subject have in common: files P16.*, in one folder per kind, partitioned by a split."""

import re
from collections.abc import Callable

import numpy as np

from affect.config import DIMENSIONS
from affect.errors import UserError
from tfrecords_tools.corpora.recording import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    Corpus,
    CorpusListing,
    Recording,
    Source,
)
from tfrecords_tools.corpora.split import Split

_SUBJECT = re.compile(r"P(\d+)")


def subjects_in(corpus: Corpus, folders: list[str]) -> list[str]:
    """Subjects that have a file in one of the folders, by number."""
    stems = {stem for folder in folders for stem in corpus.stems(folder)}
    return sorted(filter(_SUBJECT.fullmatch, stems), key=lambda stem: int(_SUBJECT.fullmatch(stem)[1]))


def find_by_subject(
    corpus: Corpus,
    split: Split,
    audio_folder: str | None,
    video_folder: str,
    ratings_folder: str,
    read_labels: Callable[..., np.ndarray],
) -> CorpusListing:
    """Lists the split's subjects by number; one without ratings is kept, to be predicted.

    Args:
      corpus: the folder.
      split: partition by subject.
      audio_folder: None: the sound is the video's own.
      video_folder: of the videos.
      ratings_folder: with a folder per dimension.
      read_labels: reads one subject's labels from its files of arousal and valence.

    Raises:
      UserError: nothing looks like a recording, or the split has none of its subjects.
    """
    media = [(video_folder, VIDEO_SUFFIXES)]
    if audio_folder:
        media = [(audio_folder, AUDIO_SUFFIXES), *media]
    ratings_folders = [f"{ratings_folder}/{dimension}" for dimension in DIMENSIONS]
    subjects = subjects_in(corpus, [folder for folder, _ in media] + ratings_folders)
    if not subjects:
        raise UserError(f"{corpus.root}: no {video_folder}/PN.mp4; is this the right --layout?")
    placed = [subject for subject in subjects if subject in split.partitions]
    if not placed:
        raise UserError(f"{corpus.root}: split {split.name} has none of its subjects ({', '.join(subjects)})")

    found = CorpusListing([], remarks=_split_remarks(subjects, split))
    for subject in placed:
        ratings = [corpus.pick(folder, subject, (".csv",)) for folder in ratings_folders]
        wanted = media + ([(folder, (".csv",)) for folder in ratings_folders] if any(ratings) else [])
        if not any(ratings):
            found.remarks.append(f"{subject} has no ratings and is kept without labels")
        missing = [f"{at}/{subject}{suffixes[0]}" for at, suffixes in wanted if not corpus.pick(at, subject, suffixes)]
        if missing:
            found.missing[subject] = missing
            continue
        video = corpus.pick(video_folder, subject, VIDEO_SUFFIXES)
        audio = corpus.pick(audio_folder, subject, AUDIO_SUFFIXES) if audio_folder else video
        source = Source(read_labels, tuple(ratings)) if all(ratings) else None
        found.recordings.append(Recording(subject, split.partitions[subject], subject, audio, video, source))
    if found.recordings and not any(one.labels for one in found.recordings):
        found.remarks.append(f"no recording has ratings: is {ratings_folder} there?")
    return found


def _split_remarks(subjects: list[str], split: Split) -> list[str]:
    """What a split and a corpus do not have in common."""
    unplaced = [subject for subject in subjects if subject not in split.partitions]
    absent = [subject for subject in split.partitions if subject not in subjects]
    remarks = [f"left out, not in split {split.name}: {', '.join(unplaced)}"] if unplaced else []
    return remarks + ([f"in split {split.name}, but not in this corpus: {', '.join(absent)}"] if absent else [])
