"""Applies label delay and post-processing to values as they arrive; the result equals that for the whole curve.

    network's curve -> label delay -> of each dimension: median filter, centring, scaling, shift

This is `affect.evaluation.chain` in constant memory. A median filter looks ahead by half its window, and the shift
makes up for part of that, so values come `latency_frames` late. No value is returned before its own frame has arrived,
because the recording might end before that frame.
"""

import msgspec
import numpy as np

from affect.errors import UserError
from affect.evaluation.chain import PostProcessing, median
from affect.serving.contract import Contract


class OnlineChains:
    """Post-processes one recording in progress."""

    def __init__(self, contract: Contract, raw: bool = False):
        """Begins a recording.

        Args:
          contract: gives the label delay and the chains; without chains the curve is only delayed.
          raw: leave out the chains.

        Raises:
          UserError: a chain needs statistics of the whole recording, which are unknown while it is going on.
        """
        chains = {} if raw or contract.postprocessing is None else contract.postprocessing
        for name, chain in chains.items():
            if chain.recording_mean is not None or chain.recording_deviation is not None:
                raise UserError(
                    f"the post-processing of {name} needs the mean or deviation of the whole recording, which is "
                    "unknown while it is going on; add --raw for the network's own curve, or predict from a file"
                )
        self._label_delay = _Delay(contract.label_delay_frames)
        self._chains = [_OnlineChain(chains.get(name) or _neutral(contract)) for name in contract.outputs]
        self._waiting = [np.empty(0) for _ in self._chains]

    @property
    def latency_frames(self) -> int:
        """How many frames a value comes after its own frame, in addition to the network's delay.

        The first values of a recording may come later, by up to half the window of the median filter.
        """
        return max(chain.latency_frames for chain in self._chains)

    def push(self, values: np.ndarray) -> np.ndarray:
        """Takes the next values of the network's curve, [n, 2]; returns those that are ready, float64 [m, 2]."""
        delayed = self._label_delay.push(np.asarray(values, np.float64), len(values))
        return self._ready([chain.push(column) for chain, column in zip(self._chains, delayed.T, strict=True)])

    def finish(self) -> np.ndarray:
        """Ends the recording and returns the remaining values, float64 [m, 2]."""
        return self._ready([chain.finish() for chain in self._chains])

    def _ready(self, columns: list[np.ndarray]) -> np.ndarray:
        """Returns the frames for which all dimensions have values; keeps the rest."""
        columns = [np.concatenate(parts) for parts in zip(self._waiting, columns, strict=True)]
        count = min(len(column) for column in columns)
        self._waiting = [column[count:] for column in columns]
        return np.stack([column[:count] for column in columns], axis=1)


class _OnlineChain:
    """The chain of one dimension."""

    def __init__(self, chain: PostProcessing):
        self._window = chain.median_frames
        self._reach = chain.median_frames // 2
        self._pointwise = msgspec.structs.replace(chain, median_frames=1, shift_frames=0)
        self._shift = _Delay(chain.shift_frames)
        self._recent = np.empty(0)  # the newest values, as many as the median filter needs besides the next one
        self.latency_frames = max(0, self._reach - chain.shift_frames)

    def push(self, values: np.ndarray) -> np.ndarray:
        """Takes the next values, [n]; returns those that are ready, [m]."""
        frames = len(values)
        if not len(self._recent):
            values = np.concatenate([np.repeat(values[:1], self._reach), values])
        return self._filter(values, frames)

    def finish(self) -> np.ndarray:
        """Returns the remaining values, [m]."""
        return self._filter(np.repeat(self._recent[-1:], self._reach), 0)

    def _filter(self, values: np.ndarray, frames: int) -> np.ndarray:
        values = np.concatenate([self._recent, values])
        if not len(values):
            return values
        self._recent = values[max(0, len(values) - 2 * self._reach) :]
        smooth = median(values, self._window)[self._reach : len(values) - self._reach]
        return self._shift.push(self._pointwise.apply(smooth), frames)


class _Delay:
    """Delays a signal; its first value fills the gap. Returns at most as many values as frames have arrived."""

    def __init__(self, frames: int):
        self._frames = frames
        self._queue: np.ndarray | None = None
        self._due = 0

    def push(self, values: np.ndarray, frames: int) -> np.ndarray:
        """Takes the next values, [n] or [n, dimensions], and the number of frames that arrived with them."""
        self._due += frames
        if self._queue is None:
            if not len(values):
                return values
            self._queue = np.repeat(values[:1], self._frames, axis=0)
        queue = np.concatenate([self._queue, values])
        ready, self._queue = queue[: self._due], queue[self._due :]
        self._due -= len(ready)
        return ready


def _neutral(contract: Contract) -> PostProcessing:
    return PostProcessing(contract.frame_rate_hz)
