"""Loads the trained network of a run folder: builds it from the config and loads the best weights."""

from dataclasses import dataclass
from pathlib import Path

import keras

from affect.config import Experiment
from affect.errors import UserError
from affect.models.network import build_network
from affect.runs import RunFolder


@dataclass(frozen=True)
class TrainedNetwork:
    """A run's network with its best weights.

    Attributes:
      run: the run folder.
      experiment: the run's config.
      network: built by `build_network`, with the weights of the epoch that scored best on dev.
    """

    run: RunFolder
    experiment: Experiment
    network: keras.Model

    @classmethod
    def load(cls, run_dir: Path) -> "TrainedNetwork":
        """Rebuilds the network of a run folder and loads its best weights.

        Raises:
          UserError: the run folder does not exist, has no weights yet, or its weights do not fit the architecture.
        """
        run = RunFolder(run_dir)
        experiment = run.read_config()
        if not run.best_weights.is_file():
            raise UserError(f"{run_dir} has no {run.best_weights.name} yet; training writes it after its first epoch")
        network = build_network(experiment.model, experiment.modality)
        try:
            network.load_weights(run.best_weights)
        except (ValueError, OSError, KeyError) as error:
            raise UserError(f"{run.best_weights} does not fit the network of {run.config}: {error}") from error
        return cls(run, experiment, network)
