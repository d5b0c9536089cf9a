"""The post-processing of the AVEC 2016 baseline: median filter, centring, scaling.

It differs from the chain of the paper (`affect.evaluation.chain`) in three ways, as in AVEC's own scripts:

- the recordings of a partition are filtered as one signal, so the window reaches from one into the next;
- scaling multiplies the values, not their distances from the mean, so it also moves the mean;
- there is no shift: the prediction is moved by the delay of the gold standard (see `protocol`).

The steps are fitted on dev one after the other, and each is kept if it raises the pooled CCC. AVEC finds the window of
the median filter by bisection; here windows in steps of 0.4 s up to 20 s are tried, each rounded down to an odd number
of frames.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from affect.evaluation.chain import median
from affect.evaluation.moments import Moments
from affect.metrics import concordance_cc

_WINDOW_STEP_SECS = 0.4
_LONGEST_WINDOW_SECS = 20.0


class AvecChain(msgspec.Struct, frozen=True):
    """A fitted chain of one dimension; the default values change nothing.

    Attributes:
      median_frames: window of the median filter, odd; 1 means no filter.
      offset: added to every value (centring).
      factor: multiplies every value after that (scaling).
    """

    median_frames: int = 1
    offset: float = 0.0
    factor: float = 1.0

    def apply(self, predicted: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Post-processes the recordings of a partition, [frames] each, in their order."""
        joined = (median(np.concatenate(predicted), self.median_frames) + self.offset) * self.factor
        return np.split(joined, np.cumsum([len(signal) for signal in predicted])[:-1])


def fit_avec_chain(
    gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], frame_rate: float
) -> tuple[AvecChain, float]:
    """Fits the chain on the development recordings.

    Args:
      gold: one [frames] array per recording, one dimension.
      predicted: arrays of the same shapes, float64.
      frame_rate: frame rate of both, in Hz.

    Returns:
      The chain and its pooled CCC on these recordings, which is never below that of the raw prediction.
    """
    joined_gold, joined = np.concatenate(gold), np.concatenate(predicted)
    windows = [1, *_windows(frame_rate, len(joined))]
    cccs = Moments.of(joined_gold, (median(joined, window) for window in windows)).ccc()
    chain = AvecChain(median_frames=windows[int(np.argmax(cccs))])
    ccc, smooth = float(cccs.max()), median(joined, chain.median_frames)

    offset = float(joined_gold.mean() - smooth.mean())
    centred_ccc = concordance_cc(joined_gold, smooth + offset)
    if centred_ccc > ccc:
        chain, ccc, smooth = AvecChain(chain.median_frames, offset), centred_ccc, smooth + offset

    deviation = float(smooth.std())
    if deviation > 0.0:
        factor = float(joined_gold.std()) / deviation
        scaled_ccc = concordance_cc(joined_gold, smooth * factor)
        if scaled_ccc > ccc:
            chain, ccc = AvecChain(chain.median_frames, chain.offset, factor), scaled_ccc
    return chain, ccc


def _windows(frame_rate: float, frames: int) -> list[int]:
    """Returns the odd windows that are tried, in frames."""
    count = round(_LONGEST_WINDOW_SECS / _WINDOW_STEP_SECS)
    windows = [(round(index * _WINDOW_STEP_SECS * frame_rate) - 1) | 1 for index in range(1, count + 1)]
    return [window for window in dict.fromkeys(windows) if 1 < window <= frames]
