"""Plans which frames form a window and which worker reads it. Uses only the manifest; no shard is read.

All random choices are functions of (seed, epoch, worker), so an interrupted run continues with its windows.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from affect.data.manifest import RecordingEntry
from affect.errors import UserError


@dataclass(frozen=True)
class Window:
    """Consecutive frames of one recording.

    Attributes:
      recording: name of the recording.
      start: index of the first frame.
      frames: number of frames; a window with fewer than the window size is padded when it is read.
    """

    recording: str
    start: int
    frames: int


@dataclass(frozen=True)
class Share:
    """One worker's share of the data; the default is the whole dataset, for one device.

    Attributes:
      worker: index of this worker; it takes every `workers`-th recording, starting with this index.
      workers: number of processes that each run an input pipeline.
      replicas: number of devices of this worker; successive batches go to successive devices.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1

    def recordings(self, entries: list[RecordingEntry]) -> list[RecordingEntry]:
        """Returns this worker's recordings."""
        return entries[self.worker :: self.workers]

    def windows(self, batch_size: int) -> int:
        """Returns how many windows of the global batch this worker reads."""
        return batch_size // self.workers


WHOLE_DATASET = Share()


class EpochPlan(NamedTuple):
    """Random choices for one epoch of one worker: the order of its recordings, and two seeds."""

    order: np.ndarray
    shuffle_seed: int
    augment_seed: int

    @classmethod
    def draw(cls, seed: int, epoch: int, share: Share, recordings: int) -> "EpochPlan":
        """Draws the plan, a pure function of the arguments; `recordings` is the worker's number of recordings."""
        rng = np.random.default_rng([seed, epoch, 1 + share.worker])
        return cls(rng.permutation(recordings), *(int(seed) for seed in rng.integers(2**31, size=2)))


def with_delayed_labels(entries: list[RecordingEntry], delay_frames: int) -> list[RecordingEntry]:
    """Returns the entries without their last `delay_frames` frames, whose delayed labels lie beyond the end.

    Raises:
      UserError: a recording is not longer than the delay.
    """
    for entry in entries:
        if entry.frames <= delay_frames:
            raise UserError(
                f"recording {entry.name} has {entry.frames} frames; a label delay of {delay_frames} frames "
                "leaves none; reduce data.label_delay_secs"
            )
    return [replace(entry, frames=entry.frames - delay_frames) for entry in entries]


def evaluation_windows(entries: list[RecordingEntry], window_frames: int) -> list[Window]:
    """Returns the windows of `evaluation_dataset`, in its order."""
    return [
        Window(entry.name, start, min(window_frames, entry.frames - start))
        for entry in entries
        for start in range(0, entry.frames, window_frames)
    ]


def training_windows(entries: list[RecordingEntry], window_frames: int, seed: int, epoch: int) -> list[list[Window]]:
    """Returns the windows of each recording for one epoch, before shuffling.

    The first window of a recording starts at a random offset, so that window borders differ between epochs. Frames left
    over at either end are not used in that epoch. A recording shorter than a window gives a single padded window.
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
    """Returns the number of steps per epoch, at least 1.

    Whatever offsets are drawn, every worker has enough windows for this many global batches.
    """

    def min_windows(share: list[RecordingEntry]) -> int:
        return sum((entry.frames - _largest_offset(entry, window_frames)) // window_frames or 1 for entry in share)

    shares = (Share(worker, workers).recordings(entries) for worker in range(workers))
    return max(1, min(min_windows(share) for share in shares) // (batch_size // workers))


def _largest_offset(entry: RecordingEntry, window_frames: int) -> int:
    """Returns the largest offset; a larger one would needlessly drop a window, or even the only one."""
    return min(window_frames - 1, max(entry.frames - window_frames, 0))


def _offsets(entries: list[RecordingEntry], window_frames: int, seed: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([seed, epoch, 0])
    return rng.integers([_largest_offset(entry, window_frames) + 1 for entry in entries])
