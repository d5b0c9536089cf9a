"""Options of the test run, and fixtures that all tests share: a tiny corpus, its shards, a briefly trained run.

The fixtures are made once per test run, not once per process. Tests copy what they change.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import pytest

from affect.learning import train_command
from tests.helpers import expected_skips
from tests.helpers.commands import made_once, train_flags
from tests.helpers.in_process import call_main
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing
from tfrecords_tools.synthetic.corpus import SyntheticConfig, write_corpus

# Tests of code that does not depend on TensorFlow: parsers, layouts, media decoders, post-processing, packaging. They
# run in the default environment only. The newest TensorFlow still makes shards, for instance in the fixture `data_dir`.
WITHOUT_TENSORFLOW = (
    "evaluation/test_cautious.py",
    "evaluation/test_chain.py",
    "evaluation/test_handcrafted_acoustic.py",
    "evaluation/test_handcrafted_video.py",
    "evaluation/test_moments.py",
    "evaluation/test_postprocess.py",
    "media/test_audio.py",
    "media/test_mixing.py",
    "media/test_recording.py",
    "media/test_tables.py",
    "media/test_video.py",
    "mutants/test_mutations.py",
    "serving/test_contract.py",
    "serving/test_curve_figure.py",
    "serving/test_inputs.py",
    "serving/test_online_chain.py",
    "serving/test_outputs.py",
    "serving/test_overlay.py",
    "tfrecords_tools/test_corpus_to_shards.py",
    "tfrecords_tools/test_gold_standard.py",
    "tfrecords_tools/test_labels.py",
    "tfrecords_tools/test_layouts.py",
    "tfrecords_tools/test_malformed.py",
    "tfrecords_tools/test_restart.py",
    "tfrecords_tools/test_synchrony.py",
    "test_cli.py",
    "test_config.py",
    "test_docs.py",
    "test_figures.py",
    "test_metrics.py",
    "test_packaging.py",
    "test_presets.py",
    "test_skips.py",
)


# Tests whose promise does not depend on TensorFlow's version, although their code uses it: what a kill leaves behind
# (exact continuation is also tested with a damaged checkpoint), the process pool, and what our modules import.
SAME_WITH_EVERY_TENSORFLOW = (
    "data/test_dataset.py::test_the_dataset_module_needs_none_of_the_decoders_of_media_files",
    "learning/test_resume.py::test_a_killed_run_continues_to_the_same_weights",
    "learning/test_resume.py::test_ten_kills_at_random_points_change_nothing",
    "tfrecords_tools/test_make_tfrecords.py::test_two_runs_write_the_same_bytes",
)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")
    parser.addoption("--tensorflow-only", action="store_true", help="leave out tests that do not depend on TensorFlow")


def pytest_configure(config):
    expected_skips.pytest_configure(config)


def pytest_collection_modifyitems(config, items):
    here = Path(__file__).parent
    files = {here / name for name in WITHOUT_TENSORFLOW}
    missing = sorted(str(path) for path in files if not path.is_file())
    if missing:
        raise pytest.UsageError(f"WITHOUT_TENSORFLOW in tests/conftest.py names missing files: {', '.join(missing)}")
    if config.getoption("--tensorflow-only"):
        names = {(here / name.split("::")[0], name.split("::")[1]) for name in SAME_WITH_EVERY_TENSORFLOW}
        left_out = [item for item in items if item.path in files or (item.path, item.originalname) in names]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
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
        make_tfrecords(find_corpus(str(corpus_dir)), path, Preprocessing(), processes=1)

    return made_once(tmp_path_factory, worker_id, "records", make)


@pytest.fixture(scope="session")
def audio_run(data_dir, tmp_path_factory, worker_id) -> Path:
    """A run folder of the demo preset's audio network after two short epochs."""

    def make(path):
        assert not call_main(train_command, *train_flags(data_dir, path))

    return made_once(tmp_path_factory, worker_id, "audio_run", make)
