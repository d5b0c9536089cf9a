"""Several trainings in a row: the paper's schedule, and repetition with other seeds.

RUN_DIR/{audio,video,audiovisual}/     `pretrain`: each modality alone, then both from their nets (section 4)
RUN_DIR/seed0/ seed1/ ... seeds.json   `repeat`: whatever is repeated, and mean and deviation of its scores

Every folder is a run of its own; the same command again continues where it stopped.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from affect.config import MODALITIES, Experiment
from affect.errors import UserError
from affect.learning.training import RunOptions, train
from affect.runs import RunFolder
from affect.storage import atomic_write


def pretrain(
    experiments: dict[str, Experiment], run_dir: Path, strategy: tf.distribute.Strategy, options: RunOptions
) -> float:
    """Trains audio, video, and then both together, starting from the nets of the two.

    Args:
      experiments: by modality, all three.
      run_dir: gets a run folder per modality.
      strategy: of all three trainings.
      options: of all three.

    Returns:
      The best mean dev CCC of the audiovisual network.

    Raises:
      UserError: `run_dir` is a single run, and all that `train` raises.
    """
    if RunFolder(run_dir).config.exists():
        raise UserError(f"{run_dir} holds a single run; --pretrain needs another --run_dir, for three of them")
    scores, initial_runs = {}, {}
    for modality in MODALITIES:
        print(f"{modality}: {run_dir / modality}")
        initial = initial_runs if modality == "audiovisual" else {}
        scores[modality] = train(experiments[modality], run_dir / modality, initial, strategy, options)
        initial_runs = initial_runs | {modality: run_dir / modality}
    print("best mean dev CCC: " + ", ".join(f"{modality} {score:.3f}" for modality, score in scores.items()))
    return scores["audiovisual"]


def repeat(train_one: Callable[[int, Path], float], seeds: list[int], run_dir: Path, writes: bool) -> None:
    """Trains with each seed and reports mean and standard deviation (of the sample) of the best dev CCCs.

    Args:
      train_one: trains with a seed in a folder, and returns the best mean dev CCC.
      seeds: two or more.
      run_dir: gets a folder per seed and `seeds.json`.
      writes: whether this process writes the summary; among several workers one does.
    """
    scores = {}
    for seed in seeds:
        print(f"seed {seed}: {run_dir / f'seed{seed}'}")
        scores[seed] = train_one(seed, run_dir / f"seed{seed}")
    values = list(scores.values())
    summary = {"best_dev_ccc": scores, "mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1))}
    if writes:
        with atomic_write(run_dir / "seeds.json") as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"best mean dev CCC over {len(seeds)} seeds: {summary['mean']:.3f} +- {summary['deviation']:.3f}")
