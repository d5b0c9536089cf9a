"""Runs tests on changed modules in forked processes, so that TensorFlow is imported once and not for every change.

Each of a few slots has its own copy of the code, in which one module is changed. A fork of this process imports that
copy and runs pytest; processes that the tests start find the copy through PYTHONPATH. This process must therefore have
imported the heavy packages, but neither the code under test nor TensorFlow's runtime, which does not survive a fork.
"""

import importlib
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.commands import REPOSITORY

# Imported before the first fork. Their own imports bring the rest.
_HEAVY_PACKAGES = (
    "tensorflow", "keras", "av", "cv2", "h5py", "jinja2", "matplotlib.pyplot", "msgspec", "mtcnn", "pandas",
    "PIL.Image", "scipy.ndimage", "skimage.data", "sklearn.svm", "soundfile", "soxr", "tensorboard", "tqdm", "xdist",
)  # fmt: skip
_COPIED = ("affect", "tfrecords_tools", "tests", "train.py", "eval.py", "pyproject.toml", "setup.py")
_PACKAGES = ("affect", "tfrecords_tools", "tests")
_WRONG_MODULE = 99


class Job(NamedTuple):
    """Tests to run.

    Attributes:
      name: a name that no other job has.
      path: path of the module under test in the repository.
      source: the source of that module.
      tests: test files.
      reused: folders of session fixtures that need not be made again, by name.
      timeout_secs: time after which the tests count as failed.
    """

    name: str
    path: str
    source: str
    tests: tuple[str, ...]
    reused: dict[str, Path]
    timeout_secs: float


class Outcome(NamedTuple):
    """What the tests said.

    Attributes:
      passed: whether all of them passed.
      noticed_by: the first test that failed, or "timeout", or how the process ended.
      seconds: how long they took.
      log: what pytest printed.
      written: the folder that holds what the tests wrote.
    """

    passed: bool
    noticed_by: str
    seconds: float
    log: str
    written: Path

    def fixtures(self) -> dict[str, Path]:
        """Returns the folders of the session fixtures that `made_once` made in this run, by name."""
        return {lock.stem: lock.with_suffix("") for lock in (self.written / "base").glob("*.lock")}


class _Slot(NamedTuple):
    code: Path
    log: Path


class _Fork(NamedTuple):
    job: Job
    slot: _Slot
    written: Path
    started: float
    original: str


class Forks:
    """Copies of the code, and the forks that test them."""

    def __init__(self, folder: Path, slots: int):
        """Imports the heavy packages and copies the code.

        Args:
          folder: an empty folder for copies of the code and for what the tests write.
          slots: maximum number of forks at a time.
        """
        for name in _HEAVY_PACKAGES:
            importlib.import_module(name)
        self._folder = folder
        self._free = [_new_slot(folder / f"slot-{number}") for number in range(slots)]

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Runs jobs and yields them as they end; each is taken from `jobs` when it can start."""
        waiting, running = iter(jobs), {}
        try:
            while True:
                while self._free and (job := next(waiting, None)) is not None:
                    slot = self._free.pop()
                    pid, fork = _start(job, slot, self._folder)
                    running[pid] = fork
                if not running:
                    return
                time.sleep(0.05)
                for pid, fork in list(running.items()):
                    outcome = _ended(pid, fork)
                    if outcome is not None:
                        del running[pid]
                        self._free.append(fork.slot)
                        yield fork.job, outcome
        finally:
            for pid in running:
                _kill_group(pid)


def _new_slot(folder: Path) -> _Slot:
    code = folder / "code"
    code.mkdir(parents=True)
    for name in _COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, code / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, code / name)
    return _Slot(code, folder / "log.txt")


def _start(job: Job, slot: _Slot, folder: Path) -> tuple[int, _Fork]:
    """Changes the module in the slot and starts the tests; the process group of the fork has its process id."""
    module = slot.code / job.path
    fork = _Fork(job, slot, folder / f"run-{job.name}", time.monotonic(), module.read_text("utf-8"))
    module.write_text(job.source, "utf-8")
    fork.written.mkdir()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            os.setsid()
            code = _test(job, slot, fork.written)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)  # without what TensorFlow and pytest do at exit
    return pid, fork


def _test(job: Job, slot: _Slot, written: Path) -> int:
    """Runs pytest in a fork; returns its exit code."""
    output = os.open(slot.log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(slot.code)
    # Bytecode is recognised by size and second of its source, and a mutant may share both with the one before.
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(slot.code), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in sys.modules if name.split(".")[0] in _PACKAGES]:
        del sys.modules[name]
    sys.path[:] = [str(slot.code)] + [entry for entry in sys.path if Path(entry).resolve() != REPOSITORY]
    importlib.invalidate_caches()
    arguments = ["-x", "-p", "no:cacheprovider", "--basetemp", str(written / "base"), *job.tests]
    code = int(pytest.main(arguments, plugins=[_Reuse(job.reused)]))
    loaded = sys.modules.get(job.path.removesuffix(".py").replace("/", "."))
    if code == 0 and not (loaded and Path(str(loaded.__file__)).is_relative_to(slot.code)):
        return _WRONG_MODULE
    return code


class _Reuse:
    """A pytest plugin that copies folders of session fixtures to where `made_once` looks for them."""

    def __init__(self, reused: dict[str, Path]):
        self._reused = reused

    @pytest.fixture(scope="session", autouse=True)
    def reused_fixtures(self, tmp_path_factory):
        """Copies them before the first other session fixture: a mutant may damage its copy."""
        for name, made in self._reused.items():
            shutil.copytree(made, tmp_path_factory.getbasetemp() / name)


def _ended(pid: int, fork: _Fork) -> Outcome | None:
    """Returns the outcome of a fork, or None while it runs; one that runs too long is killed.

    Raises:
      RuntimeError: the tests passed without the module in the slot, or there were none.
    """
    seconds = time.monotonic() - fork.started
    ended, status = os.waitpid(pid, os.WNOHANG)
    noticed_by = ""
    if not ended:
        if seconds <= fork.job.timeout_secs:
            return None
        noticed_by = "timeout"
    _kill_group(pid)  # also what the tests started and left behind
    if not ended:
        os.waitpid(pid, 0)
    (fork.slot.code / fork.job.path).write_text(fork.original, "utf-8")
    log = fork.slot.log.read_text("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status) if ended else 1
    if code in (_WRONG_MODULE, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"{fork.job.path} was not tested by {', '.join(fork.job.tests)}:\n{log}")
    if code and not noticed_by:
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", log, re.M)
        noticed_by = failed[1] if failed else f"exit code {code}"
    return Outcome(code == 0, noticed_by, seconds, log, fork.written)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
