"""Prosody per frame, from the sound in the shards: energy, its range, loudness and pitch.

rms_energy   root mean square of the frame's samples; full scale is 1
rms_range    largest minus smallest rms_energy of the last second, this frame included
loudness     perceived loudness, see `affect.evaluation.descriptors.acoustic`; mean over the frame
f0           fundamental frequency in semitones above 27.5 Hz, mean over the voiced part of the frame; NaN where
nothing is voiced
"""

import numpy as np

from affect import storage
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.records import read_frames
from affect.evaluation.descriptors.acoustic import ROWS_PER_FRAME, low_level_descriptors
from affect.evaluation.descriptors.functionals import F0, LOUDNESS

FEATURES = ("rms_energy", "rms_range", "loudness", "f0")
RANGE_SECS = 1.0


def read_prosody(data_dir: str, manifest: Manifest, entry: RecordingEntry) -> np.ndarray:
    """Returns the prosody of one recording of the shards, float64 [frames, 4]; see `prosody`.

    Raises:
      tf.errors.OpError: a shard cannot be read.
    """
    frames = read_frames(
        [storage.join(data_dir, shard) for shard in entry.shards],
        entry.name,
        entry.frames,
        ("pcm",),
        frame_samples=manifest.frame_samples,
        frames_per_record=manifest.frames_per_record,
    )
    (whole,) = frames.batch(entry.frames).as_numpy_iterator()
    return prosody(whole["pcm"], manifest.sample_rate_hz)


def prosody(pcm: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Returns the features of every frame, float64 [frames, 4], in the order of `FEATURES`.

    Args:
      pcm: int16 [frames, frame_samples], a whole recording.
      sample_rate_hz: its sampling rate.
    """
    descriptors = low_level_descriptors(pcm, sample_rate_hz)
    energy = np.sqrt(_rows(descriptors.power).mean(axis=1))
    loudness, f0 = (_rows(descriptors.values[:, descriptors.names.index(name)]) for name in (LOUDNESS, F0))
    voiced = f0 > 0.0
    voiced_rows = voiced.sum(axis=1)
    pitch = np.where(voiced_rows, np.sum(f0 * voiced, axis=1) / np.maximum(voiced_rows, 1), np.nan)
    window = round(RANGE_SECS * sample_rate_hz / pcm.shape[1])
    return np.column_stack([energy, trailing_range(energy, window), loudness.mean(axis=1), pitch])


def trailing_range(values: np.ndarray, frames: int) -> np.ndarray:
    """Returns the largest minus the smallest of the last `frames` values (fewer at the beginning), for every value."""
    padded = np.concatenate([np.repeat(values[:1], frames - 1), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames)
    return windows.max(axis=1) - windows.min(axis=1)


def _rows(values: np.ndarray) -> np.ndarray:
    """Returns the rows of each frame, float64 [frames, ROWS_PER_FRAME]."""
    return values.reshape(-1, ROWS_PER_FRAME).astype(np.float64)
