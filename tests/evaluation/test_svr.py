"""The support vector regression against LIBLINEAR itself, and against a general optimiser."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from scipy.optimize import minimize

from affect.evaluation.avec2016.svr import EPSILON, fit_svr

LIBLINEAR = "liblinear-official==2.50.0"  # a source distribution: needs g++ and the package registry
TRAIN_WITH_LIBLINEAR = """
import sys
import numpy as np
from liblinear.liblinearutil import train
from scipy.sparse import csr_matrix

data = np.load(sys.argv[1])
weights = []
for complexity in data["complexities"]:
    model = train(data["gold"], csr_matrix(data["features"]), f"-s 12 -B 1 -p 0.1 -e 1e-4 -q -c {complexity!r}")
    columns, bias = model.get_decfun()
    weights.append([*columns, bias])
np.save(sys.argv[2], weights)
"""


def data(frames=600, columns=12, seed=0):
    """Returns standardised features of different importance, and a noisy gold standard of the size of ratings."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((frames, columns))
    features[:, 1] += features[:, 0]  # correlated, as handcrafted features are
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    return features, 0.1 + features @ rng.normal(0, 0.15 / np.sqrt(columns), columns) + rng.normal(0, 0.1, frames)


@pytest.mark.parametrize("complexity", [1e-3, 1.0])
def test_the_weights_minimise_the_l2_loss_with_a_regularised_bias(complexity):
    features, gold = data()
    extended = np.column_stack([features, np.ones(len(features))])

    def objective(weights):
        excess = np.maximum(np.abs(extended @ weights - gold) - EPSILON, 0)
        return 0.5 * weights @ weights + complexity * np.sum(excess**2)

    best = minimize(objective, np.zeros(extended.shape[1]), tol=1e-12)
    fitted = fit_svr(features, gold, complexity, tolerance=1e-6)
    np.testing.assert_allclose([*fitted.weights, fitted.bias], best.x, atol=1e-4 * np.abs(best.x).max())
    np.testing.assert_allclose(fitted.predict(features), extended @ best.x, atol=1e-4)


def test_equal_data_give_equal_weights_at_the_loose_tolerance():
    first, second = fit_svr(*data(), 0.1), fit_svr(*data(), 0.1)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.converged


def test_a_solver_that_stops_early_is_noticed_and_prints_no_warning(recwarn):
    features, gold = data()
    assert not fit_svr(features, gold, 1e4, tolerance=1e-12).converged
    assert not recwarn.list


@pytest.mark.slow
def test_weights_and_predictions_equal_those_of_liblinear(tmp_path):
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps",
         "--target", str(tmp_path / "liblinear"), LIBLINEAR])  # fmt: skip
    features, gold = data(frames=4000, columns=44)
    complexities = [1e-5, 1e-3, 1e-1, 1.0]
    np.savez(tmp_path / "data.npz", features=features, gold=gold, complexities=complexities)
    run([sys.executable, "-c", TRAIN_WITH_LIBLINEAR, str(tmp_path / "data.npz"), str(tmp_path / "weights.npy")],
        PYTHONPATH=str(tmp_path / "liblinear"))  # fmt: skip
    for complexity, theirs in zip(complexities, np.load(tmp_path / "weights.npy"), strict=True):
        ours = fit_svr(features, gold, complexity, tolerance=1e-4)
        weights = np.array([*ours.weights, ours.bias])
        of_weights = np.linalg.norm(weights - theirs) / np.linalg.norm(theirs)
        of_predictions = np.abs(ours.predict(features) - (features @ theirs[:-1] + theirs[-1])).max()
        print(f"C = {complexity:g}: weights differ by {of_weights:.1e} relative, predictions by {of_predictions:.1e}")
        assert of_weights < 1e-2
        assert of_predictions < 1e-3


def run(command, **environment):
    """Runs a program outside the checkout, without its PYTHONPATH."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tempfile.gettempdir(), env=inherited | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
