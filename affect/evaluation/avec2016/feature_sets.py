"""The feature sets of the handcrafted baseline: their tables, aligned with the frames of the shards.

Tables of `affect.data.features` flow in, one per feature set and dimension, because the windows of the functionals
differ; tables with one row for every frame of the recording flow out.

    set          AVEC's own, where the shards carry it     ours (`affect.evaluation.handcrafted`)
    audio        features_audio.DIMENSION                  handcrafted_audio.DIMENSION
    appearance   features_video_appearance.DIMENSION       handcrafted_appearance.DIMENSION
    geometric    features_video_geometric.DIMENSION        handcrafted_geometric.DIMENSION

AVEC's tables begin at t = 0, while frame k carries the label at its end, 0.04 (k + 1) s: the row of that time is taken.
In AVEC's video tables, rows are 0 where the whole window had no face. Such rows are interpolated (piecewise cubic
Hermite, the nearest row at the ends), for training as well, and count as frames without video in the fusion. Our
features are interpolated between faces before windows are taken, so only a recording without any face has no video.
"""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.interpolate import PchipInterpolator

from affect import storage
from affect.config import DIMENSIONS
from affect.data.features import FeatureTable, read_features
from affect.data.manifest import Manifest, RecordingEntry
from affect.errors import UserError
from affect.evaluation.avec2016.protocol import Standardisation

Source = Literal["corpus", "ours"]


@dataclass(frozen=True)
class FeatureSet:
    """One feature set.

    Attributes:
      name: also the name of the system that uses nothing else.
      modality: "audio" or "video".
      corpus_table: beginning of the names of AVEC's own tables.
      our_table: beginning of the names of ours.
      per_recording: dimensions for which features are standardised per recording instead of by train's statistics.
    """

    name: str
    modality: Literal["audio", "video"]
    corpus_table: str
    our_table: str
    per_recording: tuple[str, ...] = ()

    def table(self, source: Source, dimension: str) -> str:
        """Returns the name of a table."""
        return f"{self.corpus_table if source == 'corpus' else self.our_table}.{dimension}"

    def standardisation(self, dimension: str) -> Standardisation:
        """Returns how the features are standardised for a dimension."""
        return "recording" if dimension in self.per_recording else "train"

    def recordings(self, entries: Sequence[RecordingEntry]) -> list[RecordingEntry]:
        """Returns the recordings that have the modality."""
        return [entry for entry in entries if getattr(entry, f"has_{self.modality}")]


FEATURE_SETS = (
    FeatureSet("audio", "audio", "features_audio", "handcrafted_audio"),
    FeatureSet("appearance", "video", "features_video_appearance", "handcrafted_appearance", ("arousal",)),
    FeatureSet("geometric", "video", "features_video_geometric", "handcrafted_geometric", ("arousal",)),
)


@dataclass(frozen=True)
class RecordingFeatures:
    """One table on the frames of its recording.

    Attributes:
      columns: names of the features, [columns].
      values: float32 [frames, columns]; NaN where a value is missing. Missing rows are interpolated.
      measured: bool [frames]; False where the row was missing.
    """

    columns: tuple[str, ...]
    values: np.ndarray
    measured: np.ndarray


@dataclass(frozen=True)
class FeatureFiles:
    """The files of the features of one data folder.

    Attributes:
      data_dir: folder of the shards, local or remote.
      manifest: its manifest.
      our_folder: folder of the files that `affect.evaluation.handcrafted.extract` wrote; needed for our tables only.
    """

    data_dir: str | Path
    manifest: Manifest
    our_folder: Path

    def source(self, feature_set: FeatureSet) -> Source | None:
        """Returns which tables of a set exist: AVEC's own, else ours, else None.

        The first recording with the modality decides.
        """
        entries = feature_set.recordings(self.manifest.recordings)
        if not entries:
            return None
        sources: list[Source] = ["corpus", "ours"] if all(entry.features for entry in entries) else ["ours"]
        for source in sources:
            wanted = {feature_set.table(source, dimension) for dimension in DIMENSIONS}
            is_there = storage.exists(self._path(entries[0], source))
            if is_there and wanted <= set(self._tables(entries[0], source, wanted)):
                return source
        return None

    def read(self, feature_set: FeatureSet, source: Source, dimension: str, entry: RecordingEntry) -> RecordingFeatures:
        """Reads one table of one recording.

        Raises:
          UserError: the file is missing or damaged, lacks the table, or has other times than the recording.
        """
        name = feature_set.table(source, dimension)
        tables = self._tables(entry, source, {name})
        path = self._path(entry, source)
        if name not in tables:
            way_out = "make the shards again" if source == "corpus" else "remove the file and run again"
            raise UserError(f"{path}: recording {entry.name} has no table {name}; {way_out}")
        values = _on_frames(tables[name], entry.frames, self.manifest.frame_rate_hz, f"{path}, table {name}")
        measured = ~np.isnan(values).all(axis=1)
        if source == "corpus" and feature_set.modality == "video":
            measured &= ~(values == 0.0).all(axis=1)
        if source == "ours" and feature_set.modality == "video" and not entry.faces_found:
            measured[:] = False  # the tables then hold constants
        return RecordingFeatures(tables[name].columns, _interpolated(values, measured), measured)

    def _path(self, entry: RecordingEntry, source: Source) -> str:
        if source == "corpus":
            return storage.join(self.data_dir, entry.features)
        return str(self.our_folder / f"{entry.name}.h5")

    def _tables(self, entry: RecordingEntry, source: Source, names: Collection[str]) -> dict[str, FeatureTable]:
        path = self._path(entry, source)
        if not storage.is_remote(path):
            return read_features(Path(path), names)
        with tempfile.TemporaryDirectory(prefix="affect-") as folder:  # h5py reads local files only
            local = Path(folder) / f"{entry.name}.h5"
            storage.fetch(path, local)
            return read_features(local, names)


def _on_frames(table: FeatureTable, frames: int, frame_rate_hz: float, source: str) -> np.ndarray:
    """Returns the row nearest to each frame's end, float32 [frames, columns]; NaN if none is within half a frame."""
    ends = (np.arange(frames) + 1) / frame_rate_hz
    if len(table.times_secs) == 0:
        raise UserError(f"{source}: the table has no rows")
    after = np.searchsorted(table.times_secs, ends).clip(1, max(1, len(table.times_secs) - 1))
    around = np.stack([after - 1, np.minimum(after, len(table.times_secs) - 1)])
    distance = np.abs(table.times_secs[around] - ends)
    nearest = np.where(distance[0] <= distance[1], around[0], around[1])
    found = distance.min(axis=0) < 0.5 / frame_rate_hz
    if np.count_nonzero(found) < 0.5 * frames:
        raise UserError(
            f"{source}: its times, {table.times_secs[0]:g} to {table.times_secs[-1]:g} s, cover less than half of the "
            f"{frames} frames at {frame_rate_hz:g} Hz"
        )
    values = np.full((frames, len(table.columns)), np.nan, dtype=np.float32)
    values[found] = table.values[nearest[found]]
    values[np.isinf(values)] = np.nan
    return values


def _interpolated(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Fills the rows that were not measured, column by column; rows stay NaN if none was measured."""
    rows, missing = np.flatnonzero(measured), np.flatnonzero(~measured)
    if not len(rows) or not len(missing):
        return values if len(rows) else np.full_like(values, np.nan)
    filled = values.copy()
    inside = missing.clip(rows[0], rows[-1])  # the nearest row at the ends
    for column in range(values.shape[1]):
        known = rows[~np.isnan(values[rows, column])]
        if len(known) > 1:
            filled[missing, column] = PchipInterpolator(known, values[known, column])(inside.clip(known[0], known[-1]))
        elif len(known):
            filled[missing, column] = values[known[0], column]
    return filled
