"""The run folder: where training, evaluation and export find each other's files.

RUN_DIR/
  config.json          the Experiment
  environment.json     versions, seed, data fingerprint, initial weights
  .lock                held by the train.py that is working on the run
  checkpoints/         step-N/: weights, optimizer and training state, to resume from
  best.weights.h5      weights of the epoch with the best mean dev CCC
  training.csv         one row per epoch
  tensorboard/         event files
  eval/                postprocessing.json, chains.json
  eval/{dev,test}/     metrics.json, predictions.h5, predictions/*.csv
  export/              SavedModel
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from affect.config import Experiment
from affect.errors import UserError
from affect.storage import read_json, sha256_of


class TrainingOrigin(msgspec.Struct):
    """What `environment.json` says about the data that a run was trained on."""

    data_fingerprint: str
    synthetic_data: bool


@dataclass(frozen=True)
class RunFolder:
    """The paths inside one run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The Experiment as JSON."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """Versions, seed, data fingerprint and initial weights of the run."""
        return self.path / "environment.json"

    @property
    def lock(self) -> Path:
        """File that the training process locks; evaluation and export ignore it."""
        return self.path / ".lock"

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
        """CSV file with one row per epoch."""
        return self.path / "training.csv"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def postprocessing(self) -> Path:
        """The chosen post-processing chain of each dimension, fitted on dev."""
        return self.path / "eval" / "postprocessing.json"

    @property
    def chains(self) -> Path:
        """All post-processing chains, the chosen ones and the others."""
        return self.path / "eval" / "chains.json"

    @property
    def seed_scores(self) -> Path:
        """Mean and standard deviation of the scores of several seeds; in the folder above their run folders."""
        return self.path / "eval" / "seeds.json"

    def evaluation(self, partition: str) -> Path:
        """Folder of one partition's scores and predictions."""
        return self.path / "eval" / partition

    def best_weights_digest(self) -> str | None:
        """Returns the SHA-256 of the best weights; None if there are none."""
        return sha256_of(self.best_weights) if self.best_weights.is_file() else None

    def postprocessing_digest(self) -> str | None:
        """Returns the SHA-256 of the post-processing chains, chosen and others; None if there are none."""
        if not self.postprocessing.is_file():
            return None
        if not self.chains.is_file():  # before version 0.3.0 there was one chain per dimension
            return sha256_of(self.postprocessing)
        return hashlib.sha256((sha256_of(self.postprocessing) + sha256_of(self.chains)).encode()).hexdigest()

    def read_config(self, data_dir: str | None = None) -> Experiment:
        """Reads the run's experiment.

        Args:
          data_dir: replaces the data folder of the config, for data that has moved; None keeps it.

        Raises:
          UserError: the folder does not exist, or has no valid config.
        """
        if not self.path.is_dir():
            raise UserError(f"run folder {self.path} does not exist; run train.py to create it")
        if not self.config.is_file():
            raise UserError(f"{self.path} is not a run folder: it has no {self.config.name}")
        try:
            experiment = Experiment.from_json(self.config.read_text(encoding="utf-8"))
        except (UserError, UnicodeDecodeError) as error:
            raise UserError(f"{self.config}: {error}") from error
        if data_dir is None:
            return experiment
        return replace(experiment, data=replace(experiment.data, data_dir=str(data_dir)))

    def uses_synthetic_data(self) -> bool:
        """Returns whether the run was trained on a synthetic corpus; its scores must then be labelled as synthetic."""
        return bool(read_json(self.environment, hint="was the run trained by train.py?")["synthetic_data"])
