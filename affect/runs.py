"""The run folder: what lies where, so that training, evaluation and export agree without asking twice.

RUN_DIR/
  config.json          the Experiment
  environment.json     versions, seed, data fingerprint
  checkpoints/         step-N/: weights, optimizer and progress, to resume from
  best.weights.h5      by mean dev CCC
  training.csv         one row per epoch
  tensorboard/
  eval/{dev,test}/     metrics.json, predictions/*.csv
  export/              SavedModel
"""

from dataclasses import dataclass, replace
from pathlib import Path

from affect.config import Experiment
from affect.errors import UserError
from affect.storage import read_json


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The Experiment as JSON."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """What the run was made with."""
        return self.path / "environment.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best_weights(self) -> Path:
        """Weights of the epoch with the best mean dev CCC."""
        return self.path / "best.weights.h5"

    @property
    def training_log(self) -> Path:
        """One CSV row per epoch."""
        return self.path / "training.csv"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def postprocessing(self) -> Path:
        """The chain fitted on dev, per dimension."""
        return self.path / "eval" / "postprocessing.json"

    def evaluation(self, partition: str) -> Path:
        """Folder of one partition's scores and predictions."""
        return self.path / "eval" / partition

    def read_config(self, data_dir: str | None = None) -> Experiment:
        """The run's experiment; `data_dir` replaces the folder that it was trained on, if that has moved.

        Raises:
          UserError: no such folder, or no readable config in it.
        """
        if not self.path.is_dir():
            raise UserError(f"run folder {self.path} does not exist; train.py writes it")
        if not self.config.is_file():
            raise UserError(f"{self.path} is no run folder: it has no {self.config.name}")
        try:
            experiment = Experiment.from_json(self.config.read_text(encoding="utf-8"))
        except (UserError, UnicodeDecodeError) as error:
            raise UserError(f"{self.config}: {error}") from error
        if data_dir is None:
            return experiment
        return replace(experiment, data=replace(experiment.data, data_dir=str(data_dir)))

    def uses_synthetic_data(self) -> bool:
        """Whether the run was trained on a synthetic corpus, and its numbers must be called so."""
        return bool(read_json(self.environment)["synthetic_data"])
