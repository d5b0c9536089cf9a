"""Options of a training run that do not affect the learned weights. Importing this module does not load TensorFlow."""

from dataclasses import dataclass

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


@dataclass(frozen=True)
class TensorBoardOptions:
    """What is written for TensorBoard besides the curves.

    Attributes:
      picture_epochs: epochs between two sets of pictures; 0 draws none.
      histogram_epochs: epochs between two sets of weight histograms; 0 draws none.
      profile_steps: first and last update to profile, counted from the start of this process; None profiles nothing.
    """

    picture_epochs: int = 1
    histogram_epochs: int = 0
    profile_steps: tuple[int, int] | None = None


@dataclass(frozen=True)
class RunOptions:
    """Options for saving, continuing and monitoring a run.

    Attributes:
      checkpoint_steps: updates between checkpoints within an epoch; 0 saves after epochs only.
      fresh: whether to refuse a non-empty run folder instead of continuing the run in it.
      tensorboard: what is written for TensorBoard.
      allow_faceless: whether a network that sees may train on recordings in which hardly any frame shows a face.
    """

    checkpoint_steps: int = 200
    fresh: bool = False
    tensorboard: TensorBoardOptions = TensorBoardOptions()
    allow_faceless: bool = False
