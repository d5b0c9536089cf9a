"""Which frames a batch holds, in which order and for whom: plain arithmetic on the manifest, before anything is read.

Everything drawn is a function of (seed, epoch, worker), so that a stopped run continues exactly.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from affect.data.manifest import RecordingEntry
from affect.errors import UserError


@dataclass(frozen=True)
class Window:
    """`frames` consecutive frames of one recording from `start` on; fewer than the window size: a padded tail."""

    recording: str
    start: int
    frames: int


@dataclass(frozen=True)
class Share:
    """One worker's part of the data; the default is everything, for one device.

    Attributes:
      worker: number of this worker; it takes every `workers`-th recording from this one on.
      workers: processes with an input pipeline of their own.
      replicas: devices of this worker; each takes a batch of its own, one after the other.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1

    def recordings(self, entries: list[RecordingEntry]) -> list[RecordingEntry]:
        """This worker's recordings."""
        return entries[self.worker :: self.workers]

    def windows(self, batch_size: int) -> int:
        """Windows of the global batch that this worker takes."""
        return batch_size // self.workers


WHOLE_DATASET = Share()


class EpochPlan(NamedTuple):
    """What is drawn for an epoch of one worker: the order of its recordings, and two seeds."""

    order: np.ndarray
    shuffle_seed: int
    augment_seed: int

    @classmethod
    def draw(cls, seed: int, epoch: int, share: Share, recordings: int) -> "EpochPlan":
        """A function of its arguments alone; `recordings` is how many the worker has."""
        rng = np.random.default_rng([seed, epoch, 1 + share.worker])
        return cls(rng.permutation(recordings), *(int(seed) for seed in rng.integers(2**31, size=2)))


def with_delayed_labels(entries: list[RecordingEntry], delay_frames: int) -> list[RecordingEntry]:
    """The entries without their last frames, whose delayed labels lie beyond the end.

    Raises:
      UserError: a recording that has no frame left.
    """
    for entry in entries:
        if entry.frames <= delay_frames:
            frames = f"recording {entry.name} has {entry.frames} frames"
            raise UserError(f"{frames}; a label delay of {delay_frames} frames (data.label_delay_secs) leaves none")
    return [replace(entry, frames=entry.frames - delay_frames) for entry in entries]


def evaluation_windows(entries: list[RecordingEntry], window_frames: int) -> list[Window]:
    """The windows of `evaluation_dataset`, in its order."""
    return [
        Window(entry.name, start, min(window_frames, entry.frames - start))
        for entry in entries
        for start in range(0, entry.frames, window_frames)
    ]


def training_windows(entries: list[RecordingEntry], window_frames: int, seed: int, epoch: int) -> list[list[Window]]:
    """One epoch's windows of every recording, before shuffling.

    A recording starts at a random offset, so that window borders fall elsewhere every epoch; what is left over at
    either end is not seen in that epoch. One shorter than a window gives a single padded window.
    """
    offsets = _offsets(entries, window_frames, seed, epoch)
    return [
        [
            Window(entry.name, start, min(window_frames, entry.frames))
            for start in range(offset, max(entry.frames - window_frames, 0) + 1, window_frames)
        ]
        for entry, offset in zip(entries, offsets, strict=True)
    ]


def steps_per_epoch(entries: list[RecordingEntry], window_frames: int, batch_size: int, workers: int = 1) -> int:
    """Full global batches that every epoch has for every worker, whatever its offsets; at least one."""

    def fewest(share: list[RecordingEntry]) -> int:
        return sum((entry.frames - _largest_offset(entry, window_frames)) // window_frames or 1 for entry in share)

    shares = (Share(worker, workers).recordings(entries) for worker in range(workers))
    return max(1, min(fewest(share) for share in shares) // (batch_size // workers))


def _largest_offset(entry: RecordingEntry, window_frames: int) -> int:
    """An offset beyond this would lose a window for nothing, or the only one."""
    return min(window_frames - 1, max(entry.frames - window_frames, 0))


def _offsets(entries: list[RecordingEntry], window_frames: int, seed: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([seed, epoch, 0])
    return rng.integers([_largest_offset(entry, window_frames) + 1 for entry in entries])
