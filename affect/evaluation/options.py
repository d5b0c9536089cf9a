"""Options of an evaluation. Importing them does not load TensorFlow, so that a wrong flag is reported immediately."""

from dataclasses import dataclass
from typing import Literal

from affect.evaluation.chain import Statistics
from affect.evaluation.scores import Chosen, Context

DEFAULT_CONTEXT: Context = "window"
Format = Literal["csv", "avec"]


@dataclass(frozen=True)
class EvaluationOptions:
    """How a run is evaluated.

    Attributes:
      context: "window" predicts windows of `data.eval_window_frames`, independently of each other; "recording" carries
        the network's state through each whole recording.
      postprocess: the chain by which the run is judged and whose curves are written: the paper's, the cautious one, or
        none. All are scored in any case.
      statistics: whether centring and scaling use the mean and the deviation of the whole partition (dev) or of each
        recording; see `affect.evaluation.chain.PostProcessing`.
      formats: "avec" adds ARFF files; CSV and HDF5 are always written.
    """

    context: Context = DEFAULT_CONTEXT
    postprocess: Chosen = "paper"
    statistics: Statistics = "partition"
    formats: tuple[Format, ...] = ("csv",)
