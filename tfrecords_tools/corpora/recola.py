"""Finds the recordings of the original RECOLA release.

    CORPUS_DIR/
      RECOLA-Audio-recordings/P16.wav
      RECOLA-Video-recordings/P16.mp4
      RECOLA-Annotation/emotional_behaviour/{arousal,valence}/P16.csv    ';', header time;FM1 ;FM2 ;..., six raters

The release has no gold standard: it is computed from the raters.
"""

from functools import partial

from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.by_subject import find_by_subject, subjects_in
from tfrecords_tools.corpora.layout import CorpusFolder, LayoutOptions
from tfrecords_tools.corpora.recording import CorpusListing

DEFAULT_SPLIT: str = "avec2016"
GOLD_STANDARDS: tuple[str, ...] = ("avec", "mean")
LISTED_IN_TABLE: bool = False

_AUDIO, _VIDEO = "RECOLA-Audio-recordings", "RECOLA-Video-recordings"
_RATINGS = "RECOLA-Annotation/emotional_behaviour"


def recognises(folder: CorpusFolder) -> bool:
    """Returns whether the folder has sound or video of a subject."""
    return bool(subjects_in(folder, [_AUDIO, _VIDEO]))


def find_recordings(folder: CorpusFolder, options: LayoutOptions) -> CorpusListing:
    """Lists the recordings of the split's subjects; see `find_by_subject`."""
    labels_from = partial(labels.individual_ratings, method=options.gold_standard)
    return find_by_subject(folder, options.split, _AUDIO, _VIDEO, _RATINGS, labels_from)
