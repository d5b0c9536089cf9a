"""The networks, LongConv1D and the CCC do not depend on TensorFlow: Keras on JAX gives the same numbers.

Runs with `make test TF=latest`, whose environment has JAX.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.backend_outputs import outputs
from tests.helpers.commands import REPOSITORY


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_keras_on_jax_gives_the_same_numbers(tmp_path):
    path = tmp_path / "jax.npz"
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.backend_outputs", str(path)],
        cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(path, allow_pickle=False) as file:
        assert str(file["backend"]) == "jax"
        for name, expected in outputs().items():
            assert np.std(expected) > 0 or np.ndim(expected) == 0
            np.testing.assert_allclose(file[name], expected, atol=1e-4, rtol=1e-4, err_msg=name)
