"""Which LSTM activations follow prosody: correlations, and controls that show how large they are by chance.

The statistic is Pearson's r within a recording, averaged over the recordings with their numbers of frames as weights.
That is the correlation of all frames pooled after activation and feature have been standardised per recording.
Without that, differences in level between a handful of recordings would count as much as what happens within them.

Among thousands of activations, the best one correlates with anything to some extent. Hence two controls, in which the
best activation is selected in the same way:

    other recordings    The activations of each recording against the features of another one, frame by frame from the
                        start. Every recording is paired with the s-th after it, for s = 1, 2, ... up to
                        `MAX_PAIRINGS`; the largest value counts.
    untrained           The same network with random weights. What correlates there as well has not been learnt: the
                        energy of the sound, for instance, scales everything that a network computes.

Frames in which a feature has no value (F0 without voice, for instance) are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from affect.evaluation.introspection.activations import Activations

MAX_PAIRINGS = 10
_SHOWN = 5


class UnitCorrelation(msgspec.Struct, frozen=True):
    """How one activation follows a feature.

    Attributes:
      layer, gate, unit: the activation.
      pearson: the statistic described above.
      per_recording: Pearson's r within each recording.
    """

    layer: str
    gate: str
    unit: int
    pearson: float
    per_recording: dict[str, float]

    @property
    def name(self) -> str:
        """Name for people, as in `lstm1 cell 12`."""
        return f"{self.layer} {self.gate} {self.unit}"


class FeatureCorrelations(msgspec.Struct, frozen=True):
    """The activations that follow a feature best, and the controls.

    Attributes:
      frames: number of frames that have a value.
      best: the activations with the largest absolute correlation, best first; empty if no frame has a value.
      other_recordings: largest absolute correlation with features of other recordings; None with a single recording.
      untrained: largest absolute correlation in the untrained network; None if it was not computed.
    """

    frames: int
    best: list[UnitCorrelation]
    other_recordings: float | None
    untrained: float | None = None


@dataclass(frozen=True)
class Correlations:
    """Correlations of all activations of a network with all features.

    Attributes:
      units: (layer, gate, unit) of every activation.
      r: [recordings, pairings + 1, features, units], Pearson's r within a recording; 0 where either is constant.
        Pairing 0 is with the recording's own features, pairing s with those of the s-th recording after it.
      frames: [recordings, pairings + 1, features], number of frames that have a value.
    """

    units: list[tuple[str, str, int]]
    r: np.ndarray
    frames: np.ndarray

    def pooled(self) -> np.ndarray:
        """Returns the statistic described above, [pairings + 1, features, units]."""
        weights = self.frames / np.maximum(self.frames.sum(axis=0), 1)
        return np.sum(self.r * weights[..., None], axis=0)


def correlate(chunks: Iterator[dict[str, Activations]], features: np.ndarray) -> tuple[list, np.ndarray, np.ndarray]:
    """Correlates all activations of a recording with some features, chunk by chunk.

    Args:
      chunks: from `affect.evaluation.introspection.activations`.
      features: [frames, features], as many frames as the chunks have; NaN where there is no value.

    Returns:
      (layer, gate, unit) of every activation; Pearson's r [features, units], 0 where either is constant; and the number
      of frames that have a value, [features], 0 for constant features.
    """
    standard, known = _standardise(features)
    units, start, sums = [], 0, 0.0
    for chunk in chunks:
        gates = [(layer, gate, values) for layer, one in chunk.items() for gate, values in one.items()]
        units = [(layer, gate, unit) for layer, gate, values in gates for unit in range(values.shape[1])]
        values = np.concatenate([values for _, _, values in gates], axis=1).astype(np.float64)
        here = slice(start, start + len(values))
        weights = known[here].T.astype(np.float64)
        sums = sums + np.stack([weights @ values, weights @ values**2, standard[here].T @ values])
        start = here.stop
    frames = known.sum(axis=0)
    mean, square, product = sums / np.maximum(frames, 1)[:, None]
    variance = square - mean**2
    varies = variance > 1e-12 * np.maximum(square, 1.0)  # larger than the rounding errors of a constant
    return units, np.where(varies, product / np.sqrt(np.where(varies, variance, 1.0)), 0.0), frames


def correlations(
    recordings: Iterator[tuple[int, Iterator[dict[str, Activations]]]], features: list[np.ndarray]
) -> Correlations:
    """Correlates the activations of recordings with their own features, and with those of other recordings.

    Args:
      recordings: number of frames and activations of each recording.
      features: [frames, features] of each recording, in the same order.
    """
    pairings = range(min(len(features) - 1, MAX_PAIRINGS) + 1)
    units, r, counted = [], [], []
    for index, (frames, chunks) in enumerate(recordings):
        paired = [_with_length(features[(index + pairing) % len(features)], frames) for pairing in pairings]
        units, values, count = correlate(chunks, np.concatenate(paired, axis=1))
        r.append(values.reshape(len(pairings), -1, len(units)))
        counted.append(count.reshape(len(pairings), -1))
    return Correlations(units, np.stack(r), np.stack(counted))


def best_per_feature(
    trained: Correlations, untrained: Correlations | None, names: list[str], features: tuple[str, ...]
) -> dict[str, FeatureCorrelations]:
    """Returns the best activations of every feature with the controls.

    Args:
      trained: correlations of the trained network.
      untrained: those of the untrained one, or None.
      names: names of the recordings.
      features: names of the features.
    """
    pooled = trained.pooled()
    best = {}
    for index, feature in enumerate(features):
        frames = trained.frames[:, 0, index]
        compared = trained.frames[:, 1:, index].any(axis=0)
        others = np.abs(pooled[1:, index][compared])
        order = np.argsort(-np.abs(pooled[0, index]), kind="stable")[: _SHOWN if frames.any() else 0]
        best[feature] = FeatureCorrelations(
            frames=int(frames.sum()),
            best=[
                UnitCorrelation(
                    *trained.units[unit],
                    pearson=float(pooled[0, index, unit]),
                    per_recording={
                        name: float(trained.r[recording, 0, index, unit])
                        for recording, name in enumerate(names)
                        if frames[recording]
                    },
                )
                for unit in order
            ],
            other_recordings=float(others.max()) if others.size else None,
            untrained=float(np.abs(untrained.pooled()[0, index]).max()) if untrained and frames.any() else None,
        )
    return best


def _standardise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns features with mean 0 and deviation 1, and 0 where they have no value; and a mask of where they have one.

    Constant features count as having no value.
    """
    known = np.isfinite(features)
    low, high = np.where(known, features, np.inf).min(axis=0), np.where(known, features, -np.inf).max(axis=0)
    known &= high > low
    counts = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, features, 0.0)
    centred = np.where(known, values - values.sum(axis=0) / counts, 0.0)
    std = np.sqrt(np.sum(centred**2, axis=0) / counts)
    return centred / np.where(std > 0.0, std, 1.0), known


def _with_length(features: np.ndarray, frames: int) -> np.ndarray:
    """Returns the first `frames` frames of [frames, features]; those after the end have no value."""
    missing = max(frames - len(features), 0)
    return np.pad(features[:frames], ((0, missing), (0, 0)), constant_values=np.nan)
