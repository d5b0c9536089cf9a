"""The run folder: what lies where, so that training, evaluation and export agree without asking twice.

    RUN_DIR/
      config.json          the Experiment
      environment.json     versions, seed, data fingerprint
      checkpoints/         to resume from
      best.weights.h5      by mean dev CCC
      training.csv         one row per epoch
      tensorboard/
      eval/{dev,test}/     metrics.json, predictions/*.csv
      export/              SavedModel
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from affect.config import Experiment
from affect.errors import UserError


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

    def evaluation(self, partition: str) -> Path:
        """Folder of one partition's scores and predictions."""
        return self.path / "eval" / partition

    def read_config(self) -> Experiment:
        """The run's experiment.

        Raises:
          UserError: no such folder, or no readable config in it.
        """
        if not self.path.is_dir():
            raise UserError(f"run folder {self.path} does not exist; train.py writes it")
        if not self.config.is_file():
            raise UserError(f"{self.path} is no run folder: it has no {self.config.name}")
        try:
            return Experiment.from_json(self.config.read_text(encoding="utf-8"))
        except (UserError, UnicodeDecodeError) as error:
            raise UserError(f"{self.config}: {error}") from error


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder and renames it to `path` once the block has ended well.

    Nothing half-written is ever found under the final name; after an error the temporary file is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: Keras and others choose the format by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
