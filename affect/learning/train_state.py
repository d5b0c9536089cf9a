"""How far a run has come: the counters and scores that a checkpoint holds beside weights and optimizer.

Data order, augmentation and dropout are functions of seed, epoch and step, so these few numbers, as JSON, are all that
an exact continuation needs.
"""

import dataclasses
import json
from dataclasses import dataclass, field


@dataclass
class TrainState:
    """Changed as training goes on.

    Attributes:
      epoch: finished epochs.
      step: finished updates of the next epoch.
      updates: finished updates since the run began.
      totals: what the unfinished epoch has seen (`affect.learning.loop.Totals.to_list`).
      best_score: best mean dev CCC so far.
      best_epoch: finished epochs when it was reached.
      reduced_epoch: finished epochs when the learning rate was last reduced.
      stopped: whether training ended before its last epoch.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    totals: list[float] = field(default_factory=list)
    best_score: float = -2.0  # below any CCC
    best_epoch: int = 0
    reduced_epoch: int = 0
    stopped: bool = False

    def finish_step(self, totals: list[float]) -> None:
        """After an update of the weights."""
        self.step += 1
        self.updates += 1
        self.totals = totals

    def finish_epoch(self) -> None:
        """After its evaluation."""
        self.epoch += 1
        self.step = 0
        self.totals = []

    def to_json(self) -> str:
        """`from_json` gives an equal one: floats keep every bit."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainState":
        """Reads `to_json`'s output.

        Raises:
          ValueError, TypeError: anything else.
        """
        return cls(**json.loads(text))
