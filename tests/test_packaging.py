"""What the package promises about itself: light imports, the user's package list, honest help."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

from tests.helpers.commands import REPOSITORY, run_command

COMMANDS = [
    ["train.py"],
    ["eval.py"],
    ["-m", "tfrecords_tools.synthetic"],
    ["-m", "tfrecords_tools.make_tfrecords"],
    ["-m", "tfrecords_tools.inspect_tfrecords"],
    ["-m", "affect.evaluation.baseline"],
    ["-m", "affect.evaluation.report"],
    ["-m", "affect.models.describe"],
    ["-m", "affect.serving.export"],
]


def test_importing_affect_brings_in_nothing_heavy():
    code = "import affect, sys; print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True) == "[]\n"


@pytest.mark.parametrize("module", ["affect.metrics", "affect.config", "affect.figures", "affect.media.audio"])
def test_the_ground_floor_does_not_need_tensorflow(module):
    code = f"import {module}, sys; print('tensorflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True) == "False\n"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_help_shows_an_example_that_names_only_flags_that_exist(command):
    shown = run_command(*command, "--help").stdout
    assert "Example:" in shown
    example = shown[shown.index("Example:") :].splitlines()[1]
    for flag in [word.split("=")[0] for word in example.split() if word.startswith("--")]:
        assert f"\n  {flag}:" in shown or f"\n  {flag}: " in shown or f"--[no]{flag[2:]}" in shown, flag


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_io") is None, reason="installed without the extra io")
def test_tensorflow_io_loads_beside_this_tensorflow():
    code = "import tensorflow_io as tfio; print(tfio.experimental is not None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_tensorboard_starts():
    """Installed is not enough: it needs a setuptools that still has pkg_resources."""
    done = run_command("-m", "tensorboard.main", "--version_tb")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == importlib.metadata.version("tensorboard")
