"""Finds recordings that are named after subjects: files P16.*, one folder per kind of file, partitioned by a split."""

import re
from collections.abc import Callable

from affect.config import DIMENSIONS
from affect.errors import UserError
from tfrecords_tools.corpora.layout import CorpusFolder
from tfrecords_tools.corpora.recording import AUDIO_SUFFIXES, VIDEO_SUFFIXES, CorpusListing, Recording, Source
from tfrecords_tools.corpora.split import Split

_SUBJECT = re.compile(r"P(\d+)")


def subjects_in(folder: CorpusFolder, subfolders: list[str]) -> list[str]:
    """Returns the subjects that have a file in one of the subfolders, by number."""
    stems = {stem for subfolder in subfolders for stem in folder.stems(subfolder)}
    return sorted(filter(_SUBJECT.fullmatch, stems), key=lambda stem: int(stem[1:]))


def find_by_subject(
    folder: CorpusFolder,
    split: Split,
    audio_folder: str | None,
    video_folder: str,
    ratings_folder: str,
    labels_from: Callable[[tuple[str, ...]], Source],
) -> CorpusListing:
    """Lists the recordings of the split's subjects, by number; one without ratings is kept, for prediction only.

    Args:
      folder: the corpus.
      split: partition of each subject.
      audio_folder: folder of the sound files; None: the sound is the video's own.
      video_folder: folder of the videos.
      ratings_folder: contains one folder per dimension.
      labels_from: returns the source of one subject's labels, given its files of arousal and valence.

    Raises:
      UserError: nothing in the folder is a recording, or the split contains none of its subjects.
    """
    media = [(video_folder, VIDEO_SUFFIXES)]
    if audio_folder:
        media = [(audio_folder, AUDIO_SUFFIXES), *media]
    ratings_folders = [f"{ratings_folder}/{dimension}" for dimension in DIMENSIONS]
    subjects = subjects_in(folder, [subfolder for subfolder, _ in media] + ratings_folders)
    if not subjects:
        raise UserError(f"{folder.root}: no {video_folder}/PN.mp4; is this the right --layout?")
    selected = [subject for subject in subjects if subject in split.partitions]
    if not selected:
        raise UserError(f"{folder.root}: split {split.name} contains none of its subjects ({', '.join(subjects)})")

    listing = CorpusListing([], remarks=_split_remarks(subjects, split))
    for subject in selected:
        ratings = [folder.pick(subfolder, subject, (".csv",)) for subfolder in ratings_folders]
        wanted = media + ([(subfolder, (".csv",)) for subfolder in ratings_folders] if any(ratings) else [])
        if not any(ratings):
            listing.remarks.append(f"{subject} has no ratings and is kept without labels")
        missing = [f"{at}/{subject}{suffixes[0]}" for at, suffixes in wanted if not folder.pick(at, subject, suffixes)]
        if missing:
            listing.missing[subject] = missing
            continue
        video = folder.pick(video_folder, subject, VIDEO_SUFFIXES)
        audio = folder.pick(audio_folder, subject, AUDIO_SUFFIXES) if audio_folder else video
        labels = labels_from(tuple(filter(None, ratings))) if any(ratings) else None
        listing.recordings.append(Recording(subject, split.partitions[subject], subject, audio, video, labels))
    if listing.recordings and not any(recording.labels for recording in listing.recordings):
        listing.remarks.append(f"no recording has ratings; does the folder {ratings_folder} exist?")
    return listing


def _split_remarks(subjects: list[str], split: Split) -> list[str]:
    """Returns remarks about subjects that are only in the corpus, and subjects that are only in the split."""
    not_in_split = [subject for subject in subjects if subject not in split.partitions]
    not_in_corpus = [subject for subject in split.partitions if subject not in subjects]
    remarks = []
    if not_in_split:
        remarks.append(f"left out, not in split {split.name}: {', '.join(not_in_split)}")
    if not_in_corpus:
        remarks.append(f"in split {split.name}, but not in this corpus: {', '.join(not_in_corpus)}")
    return remarks
