r"""Measures the time to fit the post-processing, and its effect on the test CCC of simulated corpora.

Time: the paper's chain alone, and everything that eval.py fits (paper, cautious, leave-one-out estimate), for both
dimensions of 9 recordings of 7500 frames, as in RECOLA. The exit code is 3 if the chain alone takes more than 10 s.

Simulation: corpora with 5 recordings of 40 s or 9 recordings of 5 minutes per partition. Their predictions need no
post-processing ("fine"), have a wrong gain and offset ("gain"), come 2 s early ("early") or are noisy ("noisy").
Printed are the mean change of the test CCC against the raw prediction, in how many corpora it fell by more than .002,
and the mean error of the leave-one-out estimate. These corpora are synthetic.

Example:
  OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/bench_postprocess.py --corpora=40
"""

import time
from collections.abc import Callable

import numpy as np
from absl import flags
from scipy.ndimage import gaussian_filter1d

from affect import cli
from affect.config import DIMENSIONS
from affect.evaluation.cautious import fit_dimension
from affect.evaluation.chain import PostProcessing
from affect.evaluation.postprocess import fit, pooled_ccc

FRAME_RATE, MAX_SECS = 25.0, 10.0
SIZES = {"5 recordings of 40 s": (5, 1000), "9 recordings of 5 min": (9, 7500)}
KINDS = ("fine", "gain", "early", "noisy")


def smooth_noise(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Returns noise as slow as ratings, [frames], with a standard deviation of about 0.1."""
    noise = gaussian_filter1d(rng.normal(size=frames + 400), 40.0)[200:-200]
    return 1.2 * noise


def simulate(rng: np.random.Generator, kind: str, recordings: int, frames: int) -> tuple[list, list]:
    """Returns gold standards and predictions, one [frames] array per recording; each has its own level and errors."""
    gold, predicted = [], []
    for _ in range(recordings):
        truth = smooth_noise(rng, frames) + 0.1 * rng.normal()
        error = smooth_noise(rng, frames) + 0.1 * rng.normal()
        prediction = {
            "fine": 0.75 * truth + 0.5 * error,
            "gain": 0.35 * truth + 0.15 * error + 0.15,
            "early": 0.8 * np.append(truth[50:], np.full(50, truth[-1])) + 0.4 * error,
            "noisy": 0.8 * truth + 0.3 * error + 0.1 * rng.normal(size=frames),
        }[kind]
        gold.append(truth)
        predicted.append(prediction)
    return gold, predicted


def seconds(fitted: Callable) -> float:
    """Returns the time to fit both dimensions of a corpus as large as a partition of RECOLA."""
    rng = np.random.default_rng(0)
    dimensions = [simulate(rng, "noisy", 9, 7500) for _ in DIMENSIONS]
    started = time.perf_counter()
    for gold, predicted in dimensions:
        fitted(gold, predicted, FRAME_RATE)
    return time.perf_counter() - started


def changes(kind: str, recordings: int, frames: int, corpora: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns by chain the change of the test CCC, and the error of the leave-one-out estimate, each [corpora]."""
    found: dict[str, list] = {"paper": [], "cautious": []}
    for seed in range(corpora):
        rng = np.random.default_rng(seed)
        dev, test = simulate(rng, kind, recordings, frames), simulate(rng, kind, recordings, frames)
        fitted = fit_dimension(*dev, FRAME_RATE)
        raw = pooled_ccc(PostProcessing(FRAME_RATE), *test)
        for name in found:
            ccc = pooled_ccc(getattr(fitted, name), *test)
            found[name].append((ccc - raw, getattr(fitted.leave_one_out, name) - ccc))
    return {name: tuple(np.array(values).T) for name, values in found.items()}


def main() -> int:
    """Prints time and changes; returns exit code 3 if the chain takes too long."""
    paper_secs = seconds(fit)
    all_secs = seconds(fit_dimension)
    print(f"both dimensions of 9 x 7500 frames: paper's chain {paper_secs:.1f} s, everything {all_secs:.1f} s")
    for size, (recordings, frames) in SIZES.items():
        for kind in KINDS if flags.FLAGS.corpora else ():
            for name, (change, error) in changes(kind, recordings, frames, flags.FLAGS.corpora).items():
                print(
                    f"{size}, {kind:5s}  {name:8s}  test CCC {change.mean():+.3f}, "
                    f"lower in {np.mean(change < -0.002):4.0%}; error of the estimate {error.mean():+.3f}"
                )
    return 3 if paper_secs > MAX_SECS else 0


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_integer(
        "corpora", 0, "Simulated corpora of each size and kind; 0 measures only the time.", lower_bound=0
    )


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
