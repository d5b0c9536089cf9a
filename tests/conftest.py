"""Shared fixtures: one tiny synthetic corpus, its shards, and a briefly trained run, made once for all test processes.

Tests copy what they change.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import pytest

from tests.helpers.commands import made_once, run_command, train_flags
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.make_tfrecords import make_tfrecords
from tfrecords_tools.shards import Preprocessing
from tfrecords_tools.synthetic.corpus import SyntheticConfig, write_corpus


def pytest_addoption(parser):
    """`--slow` runs what takes minutes."""
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")


def pytest_collection_modifyitems(config, items):
    """Skips slow tests unless asked for."""
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory, worker_id) -> Path:
    """Two train, two dev and two test recordings of 8 s."""
    config = SyntheticConfig(train=2, dev=2, test=2, seconds=8, delay_secs=0.2, seed=3)
    return made_once(tmp_path_factory, worker_id, "synthetic", lambda path: write_corpus(config, path))


@pytest.fixture(scope="session")
def data_dir(corpus_dir, tmp_path_factory, worker_id) -> Path:
    """The shards of `corpus_dir`."""

    def make(path):
        make_tfrecords(find_corpus(str(corpus_dir)), path, Preprocessing())

    return made_once(tmp_path_factory, worker_id, "records", make)


@pytest.fixture(scope="session")
def audio_run(data_dir, tmp_path_factory, worker_id) -> Path:
    """A run folder of the demo preset's audio network after two short epochs."""

    def make(path):
        trained = run_command("train.py", *train_flags(data_dir, path))
        assert trained.returncode == 0, trained.stderr

    return made_once(tmp_path_factory, worker_id, "audio_run", make)
