"""Run folders for the tests of evaluation."""

import shutil

import pytest

from tests.helpers.commands import made_once, run_command


@pytest.fixture(scope="session")
def evaluated(audio_run, tmp_path_factory, worker_id):
    def make(run_dir):
        shutil.copytree(audio_run, run_dir)
        # The one real process: a threshold that no network reaches, so that its exit code is 3 and not 0.
        done = run_command("eval.py", f"--run_dir={run_dir}", "--partitions=dev,test", "--fail_under_ccc=0.999")
        assert done.returncode == 3, done.stderr
        assert "SYNTHETIC corpus, test" in done.stdout
        assert "is below 0.999" in done.stdout

    return made_once(tmp_path_factory, worker_id, "evaluated", make)


@pytest.fixture
def run_dir(audio_run, tmp_path):
    """A copy of `audio_run`, which is not evaluated."""
    shutil.copytree(audio_run, tmp_path / "run")
    return tmp_path / "run"
