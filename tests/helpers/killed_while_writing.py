"""Runs make_tfrecords in a process that is killed while it writes a certain file, once for each name.

    python -m tests.helpers.killed_while_writing CORPUS_DIR OUTPUT_DIR NAME...

Each process is killed when the first file whose final name ends in NAME is complete under its temporary name, just
before it is renamed. Prints a line per kill: the signal, how many recordings are finished, whether there is a manifest.
"""

import os
import signal
import sys
from pathlib import Path

import affect.data.records  # noqa: F401 - loads TensorFlow once, for all the processes that are forked below
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


def main(corpus_dir, output_dir, names):
    """Forks, waits and reports, name by name."""
    for name in names:
        child = os.fork()
        if child == 0:
            os.replace = _die_at(name)
            make_tfrecords(find_corpus(corpus_dir), output_dir, Preprocessing(), processes=1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        finished = list(Path(output_dir).glob(".unfinished/recordings/[a-z]*.json"))
        manifest = (Path(output_dir) / "manifest.json").exists()
        print(os.WTERMSIG(status), len(finished), manifest, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
