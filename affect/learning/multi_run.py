"""Runs several trainings: the paper's pretraining schedule, and repetitions with different seeds.

RUN_DIR/{audio,video,audiovisual}/     `pretrain`: each modality alone, then both together (section 4)
RUN_DIR/seed0/ seed1/ ... seeds.json   `repeat`: one folder per seed; mean and standard deviation of the scores

Each of these folders is a run folder of its own. Running the same command again continues where it stopped.

Importing this module does not load TensorFlow, so that invalid settings are reported immediately.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affect.config import MODALITIES, Experiment, override
from affect.errors import UserError
from affect.learning.options import RunOptions
from affect.presets import get_preset
from affect.runs import RunFolder
from affect.storage import write_json

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class TrainingPlan:
    """What to train: a network of one modality, or with `pretrain` all three, once or with several seeds.

    Attributes:
      preset: name of the base preset.
      modality: "audio", "video" or "audiovisual".
      settings: assignments `section.field=value` that override the preset, including the data folder.
      run_dir: the run folder; with `pretrain` or several seeds, the parent of several run folders.
      initial_runs: run folders of trained unimodal networks, by modality.
      pretrain: whether to train audio and video first, and then the audiovisual network from their nets.
      seeds: number of repetitions, with consecutive seeds from `train.seed` on.
    """

    preset: str
    modality: str
    settings: list[str]
    run_dir: Path
    initial_runs: dict[str, Path] = field(default_factory=dict)
    pretrain: bool = False
    seeds: int = 1

    def experiments(self) -> dict[int, dict[str, Experiment]]:
        """Returns the experiments by seed and modality, in training order.

        Raises:
          UserError: an unknown preset or setting, a value out of range, or conflicting options.
        """
        if self.pretrain and (self.modality != "audiovisual" or self.initial_runs):
            raise UserError("--pretrain trains audio and video itself; use --modality=audiovisual and no --init_*")
        modalities = MODALITIES if self.pretrain else [self.modality]
        first_seed = override(get_preset(self.preset, self.modality), self.settings).train.seed
        return {
            seed: {
                modality: override(get_preset(self.preset, modality), [*self.settings, f"train.seed={seed}"])
                for modality in modalities
            }
            for seed in range(first_seed, first_seed + self.seeds)
        }


def train_plan(plan: TrainingPlan, options: RunOptions, strategy_name: str = "auto", tpu: str | None = None) -> None:
    """Trains everything in a plan, and prints the scores.

    Args:
      plan: what to train.
      options: options of every training.
      strategy_name: one of `affect.learning.options.STRATEGIES`.
      tpu: name or address of a TPU.

    Raises:
      UserError: see `TrainingPlan.experiments`, `run_operations_in_order`, `make_strategy` and `train`.
    """
    experiments = plan.experiments()

    from affect.learning.determinism import run_operations_in_order
    from affect.learning.strategy import WorkerContext, make_strategy
    from affect.learning.training import train

    trainings = [experiment for of_seed in experiments.values() for experiment in of_seed.values()]
    if any(experiment.train.deterministic for experiment in trainings):
        run_operations_in_order()
    strategy = make_strategy(strategy_name, tpu)

    def train_one(seed: int, run_dir: Path) -> float:
        if plan.pretrain:
            return pretrain(experiments[seed], run_dir, strategy, options)
        return train(experiments[seed][plan.modality], run_dir, plan.initial_runs, strategy, options)

    if plan.seeds > 1:
        repeat(train_one, list(experiments), plan.run_dir, WorkerContext.of(strategy).is_chief)
        return
    (seed,) = experiments
    score = train_one(seed, plan.run_dir)
    final = plan.run_dir / "audiovisual" if plan.pretrain else plan.run_dir
    print(f"best mean dev CCC {score:.3f}; next: python eval.py --run_dir={final}")


def pretrain(
    experiments: dict[str, Experiment], run_dir: Path, strategy: "tf.distribute.Strategy", options: RunOptions
) -> float:
    """Trains the audio network, the video network, and then the audiovisual network, starting from their nets.

    Args:
      experiments: one experiment for each of the three modalities.
      run_dir: parent folder; one run folder per modality is created in it.
      strategy: used for all three trainings.
      options: used for all three trainings.

    Returns:
      The best mean dev CCC of the audiovisual network.

    Raises:
      UserError: `run_dir` is the folder of a single run, or the data does not fit one of the networks; see `train`.
    """
    from affect.learning.input_pipeline import open_training_data
    from affect.learning.training import train

    if RunFolder(run_dir).config.exists():
        raise UserError(f"{run_dir} holds a single run; --pretrain needs another --run_dir, for three of them")
    # The audio network must not train for hours before the data is found unfit for the video network.
    open_training_data(experiments["audiovisual"], options.allow_faceless)
    scores, initial_runs = {}, {}
    for modality in MODALITIES:
        print(f"{modality}: {run_dir / modality}")
        initial = initial_runs if modality == "audiovisual" else {}
        scores[modality] = train(experiments[modality], run_dir / modality, initial, strategy, options)
        initial_runs = initial_runs | {modality: run_dir / modality}
    print("best mean dev CCC: " + ", ".join(f"{modality} {score:.3f}" for modality, score in scores.items()))
    return scores["audiovisual"]


def repeat(train_one: Callable[[int, Path], float], seeds: list[int], run_dir: Path, is_chief: bool) -> None:
    """Trains with each seed; prints mean and sample standard deviation of the best dev CCCs.

    Args:
      train_one: called with a seed and a run folder; trains, and returns the best mean dev CCC.
      seeds: two or more seeds.
      run_dir: parent folder; one folder per seed and `seeds.json` are created in it.
      is_chief: whether this process writes `seeds.json`; true on exactly one worker.
    """
    scores = {}
    for seed in seeds:
        print(f"seed {seed}: {run_dir / f'seed{seed}'}")
        scores[seed] = train_one(seed, run_dir / f"seed{seed}")
    mean, std = float(np.mean(list(scores.values()))), float(np.std(list(scores.values()), ddof=1))
    if is_chief:
        write_json(run_dir / "seeds.json", {"best_dev_ccc": scores, "mean": mean, "std": std})
    print(f"best mean dev CCC over {len(seeds)} seeds: mean {mean:.3f}, std {std:.3f}")
