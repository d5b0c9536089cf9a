"""Shared fixtures: one tiny synthetic corpus, its shards, and a briefly trained run, made once for all test processes.

Tests copy what they change.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fcntl
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affect.data.manifest import read_manifest
from affect.data.records import parse
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.make_tfrecords import make_tfrecords
from tfrecords_tools.shards import Preprocessing
from tfrecords_tools.synthetic.corpus import SyntheticConfig, write_corpus

REPOSITORY = Path(__file__).parents[1]


def pytest_addoption(parser):
    """`--slow` runs what takes minutes."""
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")


def pytest_collection_modifyitems(config, items):
    """Skips slow tests unless asked for."""
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --slow"))


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    """Runs `python ...` in the repository, as a user would."""
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)


def error_lines(done: subprocess.CompletedProcess) -> list[str]:
    """What a command wrote to stderr, without progress bars and without TensorFlow's own notices.

    TensorFlow 2.21 prints some while it is imported, before any setting can silence it.
    """
    notice = re.compile(r"WARNING: All log messages before absl|[IWE]0000 ")
    lines = done.stderr.replace("\r", "\n").splitlines()
    return [line for line in lines if line and not line.startswith("recordings:") and not notice.match(line)]


def read_recording(data_dir: Path, name: str) -> dict[str, np.ndarray]:
    """All records of one recording, concatenated."""
    import tensorflow as tf

    entry = next(item for item in read_manifest(data_dir).recordings if item.name == name)
    shards = tf.data.TFRecordDataset([str(Path(data_dir) / shard) for shard in entry.shards])
    parts = [{field: value.numpy() for field, value in parse(record, 640).items()} for record in shards]
    return {
        field: np.concatenate([part[field] for part in parts])
        for field in ("pcm", "labels", "jpeg", "square", "face_found")
    }


def made_once(tmp_path_factory, worker_id: str, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process to ask for it makes; pytest-xdist gives every process its own session."""
    base = tmp_path_factory.getbasetemp()
    path = (base if worker_id == "master" else base.parent) / name
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            make(unfinished)
            unfinished.rename(path)
    return path


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


def train_flags(data_dir: Path, run_dir: Path, *more: str) -> list[str]:
    """Flags of a training run of seconds."""
    return [
        "--preset=demo", "--modality=audio", f"--data_dir={data_dir}", f"--run_dir={run_dir}",
        "--set=train.epochs=2", "--set=train.batch_size=2", "--set=data.window_frames=50", *more,
    ]  # fmt: skip
