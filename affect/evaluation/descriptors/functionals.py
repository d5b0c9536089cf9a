"""Functionals: descriptors summarised over a window around every frame.

Descriptors go in as rows at equal distances, functionals come out as one row per frame. A window reaches half its
length to either side of the middle of its frame; at the ends of a recording, it is cut off. AVEC 2016 does not say
where in its windows a frame lies. Another position would act like a delay, and the baseline searches the delay on dev.

`egemaps_functionals` computes the 88 functionals of eGeMAPSv02 (Eyben et al., 2016) from its 25 low-level descriptors,
under openSMILE's names. Two kinds are simpler than in openSMILE: the slopes of F0 and loudness are taken from one row
to the next and not between extrema, and loudness peaks are the maxima that stand out by a tenth of the range.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from scipy.signal import find_peaks

F0, LOUDNESS = "F0semitoneFrom27.5Hz_sma3nz", "Loudness_sma3"
# Where the mean of an MFCC is nearly 0, its coefficient of variation is meaningless but would dominate the column.
_MAX_VARIATION = 10.0
_MIN_STD = 1e-9  # smaller deviations are rounding errors, for instance in silence
_PERCENTILES = (20.0, 50.0, 80.0)
_PEAK_PROMINENCE = 0.1  # of the range of loudness in the recording
# eGeMAPS describes the balance of the spectrum in voiced and in unvoiced sound, but not in both together.
_APART = ("alphaRatio", "hammarbergIndex", "slope")

# A column of functionals: its name, and its value in every window.
Column = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Windows:
    """One window of rows per frame.

    Attributes:
      rows: number of rows of the recording.
      centres: int [windows], the row in the middle of each window.
      half: rows on either side of the middle; fewer at the ends of the recording.
    """

    rows: int
    centres: np.ndarray
    half: int

    @classmethod
    def of_frames(cls, frames: int, frame_rate_hz: float, window_secs: float, rows_per_frame: int = 1) -> "Windows":
        """Returns windows of `window_secs` around the middle of every frame."""
        centres = np.arange(frames) * rows_per_frame + rows_per_frame // 2
        return cls(frames * rows_per_frame, centres, round(window_secs / 2 * frame_rate_hz * rows_per_frame))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of `values` [rows, ...] in every window, float64 [windows, ...]."""
        total = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0, dtype=np.float64)])
        first = np.maximum(self.centres - self.half, 0)
        return total[np.minimum(self.centres + self.half + 1, self.rows)] - total[first]

    def counts(self, counted: np.ndarray | None = None) -> np.ndarray:
        """Returns how many rows of every window are True in `counted` [rows], [windows]; None counts all."""
        return self.sums(np.ones(self.rows) if counted is None else counted)

    def mean_and_std(self, values: np.ndarray, counted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean and population standard deviation of some rows in every window.

        Args:
          values: [rows] or [rows, columns].
          counted: bool [rows], which rows count; None counts all.

        Returns:
          Two arrays, [windows] or [windows, columns]; 0 where no row counts.
        """
        counted = np.ones(self.rows, bool) if counted is None else counted
        shape = (-1, *[1] * (values.ndim - 1))
        weights = counted.reshape(shape)
        count = np.maximum(self.counts(counted), 1.0).reshape(shape)
        # Relative to the mean of the recording, because differences of large sums would lose small variances.
        offset = values[counted].mean(axis=0, dtype=np.float64) if counted.any() else 0.0
        deviations = np.where(weights, values - offset, 0.0)
        mean = self.sums(deviations) / count
        std = np.sqrt(np.maximum(self.sums(np.square(deviations)) / count - np.square(mean), 0.0))
        return np.where(self.counts(counted).reshape(shape) > 0.0, mean + offset, 0.0), std

    def percentiles(self, values: np.ndarray, counted: np.ndarray | None, percents: Iterable[float]) -> np.ndarray:
        """Returns percentiles of the rows [rows] that count, [windows, percents]; 0 where no row counts."""
        kept = values if counted is None else np.where(counted, values, np.nan)
        windows = pd.Series(kept, dtype=np.float64).rolling(2 * self.half + 1, center=True, min_periods=1)
        columns = [windows.quantile(percent / 100.0).to_numpy()[self.centres] for percent in percents]
        return np.nan_to_num(np.stack(columns, axis=1))


def mean_and_std_columns(names: Iterable[str], values: np.ndarray, windows: Windows) -> list[Column]:
    """Returns mean and standard deviation of every column [rows, columns], named `NAME_mean` and `NAME_std`."""
    mean, std = windows.mean_and_std(values)
    names = list(names)
    return [*zip((f"{name}_mean" for name in names), mean.T, strict=True),
            *zip((f"{name}_std" for name in names), std.T, strict=True)]  # fmt: skip


def interpolate_missing(values: np.ndarray, known: np.ndarray, frames: int) -> np.ndarray:
    """Returns values for every frame, by piecewise cubic Hermite interpolation (PCHIP) between known frames.

    Args:
      values: [known, columns], the values of the known frames.
      known: int [known], the indices of these frames, in order.
      frames: number of frames.

    Returns:
      float64 [frames, columns]; before the first and after the last known frame their values are held; without
      any known frame, everything is 0.
    """
    if len(known) < 2:
        return np.zeros((frames, values.shape[1])) + (values[0] if len(known) else 0.0)
    return PchipInterpolator(known, values, axis=0)(np.clip(np.arange(frames), known[0], known[-1]))


def egemaps_functionals(
    names: Iterable[str], values: np.ndarray, power: np.ndarray, windows: Windows, row_secs: float
) -> list[Column]:
    """Returns the functionals of eGeMAPS for the given descriptors.

    Args:
      names: names of the low-level descriptors; those that end in `nz` exist in voiced rows only.
      values: [rows, names]; must have `F0`, which is 0 in unvoiced rows, and `LOUDNESS`.
      power: [rows], mean square of the samples of each row; full scale is 1.
      windows: the windows, in rows.
      row_secs: time from row to row.

    Returns:
      The columns. A functional over voiced rows is 0 in windows without voiced rows, as in openSMILE.
    """
    descriptors = dict(zip(names, values.T.astype(np.float64), strict=True))
    voiced = descriptors[F0] > 0.0
    columns = []
    for name, row_values in descriptors.items():
        if name == F0:
            columns += _detailed(name, row_values, voiced, windows, row_secs)
        elif name == LOUDNESS:
            columns += _detailed("loudness_sma3", row_values, None, windows, row_secs)
        elif name.endswith("nz"):
            columns += _mean_and_variation(name, row_values, voiced, windows)
        else:
            columns += _by_voicing(name, row_values, voiced, windows)
    columns += _temporal(descriptors[LOUDNESS], voiced, windows, row_secs)
    mean_power = windows.mean_and_std(power)[0]
    return [*columns, ("equivalentSoundLevel_dBp", 10.0 * np.log10(np.maximum(mean_power, 1e-10)))]


def _mean_and_variation(name: str, values: np.ndarray, counted: np.ndarray | None, windows: Windows) -> list[Column]:
    """Returns the mean and the coefficient of variation, limited to `_MAX_VARIATION`."""
    mean, std = windows.mean_and_std(values, counted)
    varies = (std > _MIN_STD) & (mean != 0.0)
    variation = np.divide(std, mean, out=np.zeros_like(std), where=varies)
    return [(f"{name}_amean", mean), (f"{name}_stddevNorm", np.clip(variation, -_MAX_VARIATION, _MAX_VARIATION))]


def _detailed(
    name: str, values: np.ndarray, counted: np.ndarray | None, windows: Windows, row_secs: float
) -> Iterator[Column]:
    """Yields the ten functionals that eGeMAPS has for F0 and loudness."""
    yield from _mean_and_variation(name, values, counted, windows)
    percentiles = windows.percentiles(values, counted, _PERCENTILES)
    for percent, column in zip(_PERCENTILES, percentiles.T, strict=True):
        yield f"{name}_percentile{percent}", column
    yield f"{name}_pctlrange0-2", percentiles[:, 2] - percentiles[:, 0]
    slope = np.diff(values, prepend=values[:1]) / row_secs
    # Only between two rows that count, because F0 does not rise from unvoiced to voiced rows; it begins there.
    inside = np.ones(len(values), bool) if counted is None else counted & np.roll(counted, 1)
    for what, chosen in (("Rising", slope > 0.0), ("Falling", slope < 0.0)):
        mean, std = windows.mean_and_std(slope, inside & chosen)
        yield f"{name}_mean{what}Slope", mean
        yield f"{name}_stddev{what}Slope", std


def _by_voicing(name: str, values: np.ndarray, voiced: np.ndarray, windows: Windows) -> Iterator[Column]:
    """Yields the functionals of a spectral descriptor: over all, over voiced and over unvoiced rows."""
    apart = name.startswith(_APART)
    if not apart:
        yield from _mean_and_variation(name, values, None, windows)
    yield from _mean_and_variation(_voicing_name(name, "V"), values, voiced, windows)
    if apart or name.startswith("spectralFlux"):
        yield f"{_voicing_name(name, 'UV')}_amean", windows.mean_and_std(values, ~voiced)[0]


def _voicing_name(name: str, voicing: str) -> str:
    """Returns openSMILE's name: slope0-500_sma3 becomes slopeV0-500_sma3nz, mfcc1_sma3 becomes mfcc1V_sma3nz."""
    stem = name.removesuffix("_sma3")
    stem = f"slope{voicing}{stem.removeprefix('slope')}" if stem.startswith("slope") else stem + voicing
    return f"{stem}_sma3nz"


def _temporal(loudness: np.ndarray, voiced: np.ndarray, windows: Windows, row_secs: float) -> Iterator[Column]:
    """Yields rates of loudness peaks and voiced segments, and the lengths of segments that begin in the window."""
    window_secs = windows.counts() * row_secs
    peaks = np.zeros(len(loudness), bool)
    peaks[find_peaks(loudness, prominence=max(_PEAK_PROMINENCE * np.ptp(loudness), 1e-12))[0]] = True
    yield "loudnessPeaksPerSec", windows.counts(peaks) / window_secs
    begins, lengths = _segments(voiced)
    yield "VoicedSegmentsPerSec", windows.counts(begins) / window_secs
    for what, (starts, rows) in (
        ("VoicedSegmentLengthSec", (begins, lengths)),
        ("UnvoicedSegmentLength", _segments(~voiced)),
    ):
        mean, std = windows.mean_and_std(rows * row_secs, starts)
        yield f"Mean{what}", mean
        yield f"Stddev{what}", std


def _segments(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where runs of True begin, bool [rows], and in these rows the length of the run, [rows]."""
    edges = np.diff(inside.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = np.zeros(len(inside))
    lengths[begins] = ends - begins
    return edges[:-1] == 1, lengths
