"""Finds the recordings of the original RECOLA release.

    CORPUS_DIR/
      RECOLA-Audio-recordings/P16.wav
      RECOLA-Video-recordings/P16.mp4
      RECOLA-Annotation/emotional_behaviour/{arousal,valence}/P16.csv    ';', header time;FM1 ;FM2 ;..., six raters

No gold standard is shipped: it is computed from the raters.
"""

from functools import partial

from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.by_subject import find_by_subject, subjects_in
from tfrecords_tools.corpora.recording import Corpus, CorpusListing
from tfrecords_tools.corpora.split import Split

_AUDIO, _VIDEO = "RECOLA-Audio-recordings", "RECOLA-Video-recordings"
_RATINGS = "RECOLA-Annotation/emotional_behaviour"


def recognises(corpus: Corpus) -> bool:
    """Whether the folder looks like this release."""
    return bool(subjects_in(corpus, [_AUDIO, _VIDEO]))


def find_recordings(corpus: Corpus, split: Split, gold_standard: str) -> CorpusListing:
    """Lists the recordings, see `find_by_subject`; `gold_standard` combines single ratings, "avec" or "mean"."""
    read = partial(labels.from_individual_ratings, method=gold_standard)
    return find_by_subject(corpus, split, _AUDIO, _VIDEO, _RATINGS, read)
