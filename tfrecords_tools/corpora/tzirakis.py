"""Finds the recordings of the tree that the paper's authors worked with.

CORPUS_DIR/
Video_recordings_MP4/P16.mp4                                        the sound is the video's own
Ratings_affective_behaviour_CCC_centred/{arousal,valence}/P16.csv   time,gold standard; no header
"""

from affect.config import DIMENSIONS
from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.by_subject import find_by_subject, subjects_in
from tfrecords_tools.corpora.recording import Corpus, CorpusListing
from tfrecords_tools.corpora.split import Split

_VIDEO, _RATINGS = "Video_recordings_MP4", "Ratings_affective_behaviour_CCC_centred"


def recognises(corpus: Corpus) -> bool:
    """Whether the folder looks like this tree."""
    return bool(subjects_in(corpus, [_VIDEO, *(f"{_RATINGS}/{dimension}" for dimension in DIMENSIONS)]))


def find_recordings(corpus: Corpus, split: Split) -> CorpusListing:
    """Lists the recordings, see `find_by_subject`."""
    return find_by_subject(corpus, split, None, _VIDEO, _RATINGS, labels.from_gold_csv)
