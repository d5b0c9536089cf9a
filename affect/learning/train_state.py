"""The counters and scores that a checkpoint stores beside the weights and the optimizer.

Data order, augmentation and dropout are functions of seed, epoch and step. A run can therefore be continued exactly
from these few numbers.
"""

from typing import Annotated

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0)]


class TrainState(msgspec.Struct, forbid_unknown_fields=True):
    """How far a run has come; changed in place as training proceeds.

    Attributes:
      epoch: finished epochs.
      step: finished updates of the epoch after those.
      updates: finished updates since the run began.
      totals: moments and sums of the unfinished epoch (`affect.learning.loop.Totals.to_list`).
      best_score: best mean dev CCC so far.
      best_epoch: number of finished epochs when the best score was reached.
      reduced_epoch: number of finished epochs when the learning rate was last reduced.
      stopped: whether training was stopped early.
    """

    epoch: _Count = 0
    step: _Count = 0
    updates: _Count = 0
    totals: list[float] = []
    best_score: float = -2.0  # below any CCC
    best_epoch: _Count = 0
    reduced_epoch: _Count = 0
    stopped: bool = False

    def finish_step(self, totals: list[float]) -> None:
        """Counts an update of the weights."""
        self.step += 1
        self.updates += 1
        self.totals = totals

    def finish_epoch(self) -> None:
        """Counts an epoch, after its validation."""
        self.epoch += 1
        self.step = 0
        self.totals = []

    def assign(self, other: "TrainState") -> None:
        """Copies all values of another state."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))
