"""Runs make_tfrecords in one process and kills it while it writes a certain file.

    python -m tests.helpers.killed_while_writing CORPUS_DIR OUTPUT_DIR NAME

The process is killed when the first file whose final name ends in NAME is complete under its temporary name, just
before it is renamed.
"""

import os
import signal
import sys

from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing

_replace = os.replace


def _die_at(name):
    def replace(source, target):
        if str(target).endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)
        _replace(source, target)

    return replace


if __name__ == "__main__":
    corpus_dir, output_dir, name = sys.argv[1:]
    os.replace = _die_at(name)
    make_tfrecords(find_corpus(corpus_dir), output_dir, Preprocessing(), processes=1)
