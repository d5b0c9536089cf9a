"""What a system predicts for a partition: one curve per recording and dimension, with its gold standard."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Prediction of one recording.

    Attributes:
      recording: its name.
      predicted: [frames, 2], arousal and valence.
      gold: [frames, 2], or None if the labels are withheld.
    """

    recording: str
    predicted: np.ndarray
    gold: np.ndarray | None


# The curves of a partition by kind ("raw", "postprocessed", ...): the same recordings in the same order under each.
Curves = dict[str, list[Prediction]]
