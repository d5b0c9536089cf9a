"""The packages of an environment work together: versions that install side by side may still fail to load."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

from tests.helpers.commands import run_command


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_io") is None, reason="installed without the extra io")
def test_tensorflow_io_loads_beside_this_tensorflow():
    code = "import tensorflow_io as tfio; print(tfio.experimental is not None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_tensorboard_starts():
    """TensorBoard may be installed and still fail: it needs a setuptools that still has pkg_resources."""
    done = run_command("-m", "tensorboard.main", "--version_tb")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == importlib.metadata.version("tensorboard")
