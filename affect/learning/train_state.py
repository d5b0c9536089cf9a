"""The counters and scores that a checkpoint stores along with the weights and the optimizer.

Data order, augmentation and dropout are functions of seed, epoch and step. A run can therefore continue with the
same batches and masks without saving the state of any random number generator.
"""

from typing import Annotated

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0)]


class TrainState(msgspec.Struct, forbid_unknown_fields=True):
    """Progress of a run; updated in place during training.

    Attributes:
      epoch: number of finished epochs.
      step: number of finished updates in the current epoch.
      updates: number of finished updates since the start of the run.
      totals: moments and sums of the current epoch (`affect.learning.loop.Totals.to_list`).
      best_score: best mean dev CCC so far.
      best_epoch: number of finished epochs when the best score was reached.
      reduced_epoch: number of finished epochs when the learning rate was last reduced.
      stopped: whether training was stopped early.
      learning_rate: the `train.learning_rate` from which that of the optimizer was derived; None in checkpoints of
        version 0.1.0.
    """

    epoch: _Count = 0
    step: _Count = 0
    updates: _Count = 0
    totals: list[float] = []
    best_score: float = -2.0  # below any CCC
    best_epoch: _Count = 0
    reduced_epoch: _Count = 0
    stopped: bool = False
    learning_rate: float | None = None

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
