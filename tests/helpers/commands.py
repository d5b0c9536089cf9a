"""Helpers of many tests: run a command as a user would, read its errors, read shards, make a folder once."""

import fcntl
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from affect.data.manifest import read_manifest

REPOSITORY = Path(__file__).parents[2]


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    """Runs `python ...` in the repository, as a user would."""
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)


def error_lines(done: subprocess.CompletedProcess) -> list[str]:
    """Returns what a command wrote to stderr, without progress bars and without TensorFlow's own notices.

    TensorFlow 2.21 prints some while it is imported, and no setting silences them.
    """
    notice = re.compile(r"WARNING: All log messages before absl|[IWE]0000 ")
    lines = done.stderr.replace("\r", "\n").splitlines()
    return [line for line in lines if line and not line.startswith("recordings:") and not notice.match(line)]


def read_recording(data_dir: Path, name: str) -> dict[str, np.ndarray]:
    """Returns all records of one recording, concatenated."""
    import tensorflow as tf

    from affect.data.records import parse

    entry = next(item for item in read_manifest(data_dir).recordings if item.name == name)
    shards = tf.data.TFRecordDataset([str(Path(data_dir) / shard) for shard in entry.shards])
    parts = [{field: value.numpy() for field, value in parse(record, 640).items()} for record in shards]
    return {
        field: np.concatenate([part[field] for part in parts])
        for field in ("pcm", "labels", "jpeg", "square", "face_found")
    }


def made_once(tmp_path_factory, worker_id: str, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that is made once per test run, by the first process that needs it.

    Session fixtures alone are not enough: with pytest-xdist, every process has a session of its own.
    """
    base = tmp_path_factory.getbasetemp()
    path = (base if worker_id == "master" else base.parent) / name
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            make(unfinished)
            unfinished.rename(path)
    return path


def train_flags(data_dir: str | Path, run_dir: Path, *more: str) -> list[str]:
    """Returns the flags of a training run that takes seconds."""
    return [
        "--preset=demo", "--modality=audio", f"--data_dir={data_dir}", f"--run_dir={run_dir}",
        "--set=train.epochs=2", "--set=train.batch_size=2", "--set=data.window_frames=50", *more,
    ]  # fmt: skip
