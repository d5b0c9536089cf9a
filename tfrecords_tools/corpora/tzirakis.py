"""Finds the recordings of the folder tree that the paper's authors worked with.

    CORPUS_DIR/
      Video_recordings_MP4/P16.mp4                                        the sound is the video's own
      Ratings_affective_behaviour_CCC_centred/{arousal,valence}/P16.csv   time,gold standard; no header

The ratings are the authors' gold standard, one for each subject and dimension.
"""

from functools import partial

from affect.config import DIMENSIONS
from tfrecords_tools.corpora import labels
from tfrecords_tools.corpora.by_subject import find_by_subject, subjects_in
from tfrecords_tools.corpora.layout import CorpusFolder, LayoutOptions
from tfrecords_tools.corpora.recording import CorpusListing, Source

DEFAULT_SPLIT: str = "authors"
GOLD_STANDARDS: tuple[str, ...] = ("shipped",)
LISTED_IN_TABLE: bool = False

_VIDEO, _RATINGS = "Video_recordings_MP4", "Ratings_affective_behaviour_CCC_centred"


def recognises(folder: CorpusFolder) -> bool:
    """Returns whether the folder has video or ratings of a subject."""
    return bool(subjects_in(folder, [_VIDEO, *(f"{_RATINGS}/{dimension}" for dimension in DIMENSIONS)]))


def find_recordings(folder: CorpusFolder, options: LayoutOptions) -> CorpusListing:
    """Lists the recordings of the split's subjects; see `find_by_subject`."""
    return find_by_subject(folder, options.split, None, _VIDEO, _RATINGS, partial(Source, labels.from_gold_csv))
