"""Handcrafted features of all recordings, computed from shards: the input of the AVEC 2016 baseline.

    OUTPUT_DIR/
      made_from.json           data, protocol and versions; a rerun reuses the files only if all are the same
      {recording}.h5           the tables, in the format of `affect.data.features`

Every table has one row per frame; `times_secs` is the time of the frame's rating, (k + 1) / 25 s for frame k. Windows
are centred on the middle of the frame (see `descriptors.functionals`). The tables of one recording:

    name                                 window   columns
    handcrafted_audio.arousal            4 s      eGeMAPS: 78 with librosa, 88 with opensmile
    handcrafted_audio.valence            6 s      the same
    handcrafted_appearance.arousal       6 s      component_K_mean and component_K_std for K = 1, 2, ...
    handcrafted_appearance.valence       4 s      the same
    handcrafted_geometric.arousal        4 s      16: NAME_mean and NAME_std for `descriptors.geometry.NAMES`
    handcrafted_geometric.valence        8 s      the same

All values are finite. A recording without sound has no audio tables, one without video has audio tables only.
Appearance is computed only if faces were found in train, because its components are fitted there. Frames without a face
are interpolated between frames with one; in a recording without any face, appearance and geometry are constant.

Protocol "avec" uses every crop and as many components as explain 98 % of the variance. "quick" uses every fifth crop
and at most 84 components. Geometry and sound are the same in both.
"""

import importlib.metadata
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import tensorflow as tf
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from affect import storage
from affect.data.features import FeatureTable, write_features
from affect.data.manifest import Manifest, RecordingEntry, read_manifest
from affect.data.records import decode_jpeg, read_frames
from affect.data.shard_check import check_shards, shard_errors
from affect.errors import UserError
from affect.evaluation.descriptors import acoustic, appearance, geometry
from affect.evaluation.descriptors.functionals import (
    Column,
    Windows,
    egemaps_functionals,
    interpolate_missing,
    mean_and_std_columns,
)

FEATURES_VERSION = 1  # to be raised whenever the same data would give other features
MADE_FROM = "made_from.json"
CROP_STEPS = {"avec": 1, "quick": 5}
MAX_COMPONENTS = {"avec": None, "quick": 84}  # 84 is the number with which AVEC's own features explain 98 %
AUDIO_WINDOW_SECS = {"arousal": 4.0, "valence": 6.0}
APPEARANCE_WINDOW_SECS = {"arousal": 6.0, "valence": 4.0}
GEOMETRIC_WINDOW_SECS = {"arousal": 4.0, "valence": 8.0}
_LIBRARIES = ("numpy", "scipy", "pandas", "opencv-python-headless", "scikit-learn")
# The components are fitted on about this many volumes of crops from train: 82 MB of histograms.
_SAMPLED_VOLUMES = 400


class MadeFrom(msgspec.Struct, frozen=True):
    """What determines the features; the content of `made_from.json`.

    Attributes:
      features_version: `FEATURES_VERSION`.
      data: fingerprint of the manifest.
      protocol: "avec" or "quick".
      acoustic: what computed the acoustic descriptors, see `acoustic.acoustic_source`.
      libraries: version of each of the other libraries.
    """

    features_version: int
    data: str
    protocol: str
    acoustic: str
    libraries: dict[str, str]


def extract(data_dir: str | Path, output_dir: str | Path, protocol: str) -> None:
    """Writes the features of all recordings, or reuses them; see the module for the files.

    Files from an earlier run with the same data, protocol and versions are kept, even if that run was interrupted.
    Equal data give equal bytes. One recording is in memory at a time.

    Args:
      data_dir: folder of the shards and their manifest; may be on an object store.
      output_dir: local folder of the features.
      protocol: "avec" or "quick".

    Raises:
      UserError: the data cannot be read, the protocol is unknown, `output_dir` holds other files or another process
        writes there, or no library for the acoustic features is installed.
    """
    if protocol not in CROP_STEPS:
        raise UserError(f"protocol {protocol!r} is unknown; it must be one of {', '.join(CROP_STEPS)}")
    manifest = read_manifest(data_dir)
    check_shards(data_dir, list(manifest.recordings))
    folder = storage.check_replaceable(
        storage.local_folder(str(output_dir), "output_dir"), MADE_FROM, MadeFrom, {"the data folder": data_dir}
    )
    made_from = MadeFrom(
        FEATURES_VERSION, manifest.fingerprint(), protocol,
        acoustic.acoustic_source() if any(entry.has_audio for entry in manifest.recordings) else "",
        {name: importlib.metadata.version(name) for name in _LIBRARIES},
    )  # fmt: skip
    lock = folder.with_name(f".{folder.name}.lock")
    with storage.locked(lock, f"another process is writing features into {folder}; wait until it ends"):
        try:
            _start(folder, made_from)
            missing = [entry for entry in manifest.recordings if not (folder / f"{entry.name}.h5").is_file()]
            with shard_errors(data_dir, manifest, {"train", *(entry.partition for entry in missing)}):
                FeatureExtractor(data_dir, manifest, protocol).write(folder, missing)
        finally:
            lock.unlink()


def _start(folder: Path, made_from: MadeFrom) -> None:
    """Empties the folder unless `made_from.json` is the same; a run killed here leaves the old or the new folder."""
    storage.remove_leftovers(folder.parent, folder.name)
    if (folder / MADE_FROM).exists() and storage.read_json(folder / MADE_FROM, MadeFrom) == made_from:
        storage.remove_leftovers(folder)
        return
    with storage.atomic_write(folder) as temporary:
        temporary.mkdir()
        storage.write_json(temporary / MADE_FROM, made_from)


class FeatureExtractor:
    """Computes the tables of recordings.

    Attributes:
      data_dir: folder of the shards.
      manifest: its manifest.
      crop_step: distance in frames between the crops that are used.
      max_components: upper limit on the number of appearance components; None sets no limit.
    """

    def __init__(self, data_dir: str | Path, manifest: Manifest, protocol: str):
        self.data_dir = data_dir
        self.manifest = manifest
        self.crop_step = CROP_STEPS[protocol]
        self.max_components = MAX_COMPONENTS[protocol]

    def write(self, folder: Path, entries: list[RecordingEntry]) -> None:
        """Writes one file per recording."""
        components = self.fit_components() if any(entry.has_video for entry in entries) else None
        for entry in tqdm(entries, desc="recordings", unit="rec", disable=not entries):
            tables = {}
            if entry.has_audio:
                tables |= self.audio_tables(entry)
            if entry.has_video:
                tables |= self.video_tables(entry, components)
            with storage.atomic_write(folder / f"{entry.name}.h5") as temporary:
                write_features(temporary, tables)

    def audio_tables(self, entry: RecordingEntry) -> dict[str, FeatureTable]:
        """Returns the acoustic tables of a recording."""
        (pcm,) = self._read(entry, ("pcm",))
        descriptors = acoustic.low_level_descriptors(pcm, self.manifest.sample_rate_hz)
        rows_per_frame = acoustic.ROWS_PER_FRAME
        row_secs = 1.0 / (self.manifest.frame_rate_hz * rows_per_frame)

        def columns(windows: Windows) -> list[Column]:
            return egemaps_functionals(descriptors.names, descriptors.values, descriptors.power, windows, row_secs)

        return {
            f"handcrafted_audio.{dimension}": self._table(columns(self._windows(entry.frames, secs, rows_per_frame)))
            for dimension, secs in AUDIO_WINDOW_SECS.items()
        }

    def video_tables(self, entry: RecordingEntry, components: appearance.Components | None) -> dict[str, FeatureTable]:
        """Returns the geometric tables of a recording, and those of appearance if there are components."""
        squares, found = self._read(entry, ("square", "face_found"))
        boxes = geometry.geometric_descriptors(squares, found, self.manifest.frame_rate_hz)
        tables = self._mean_and_std_tables("geometric", geometry.NAMES, boxes, GEOMETRIC_WINDOW_SECS)
        if components is not None:
            values = self._appearance(entry, found, components)
            names = [f"component_{index + 1}" for index in range(values.shape[1])]
            tables |= self._mean_and_std_tables("appearance", names, values, APPEARANCE_WINDOW_SECS)
        return tables

    def fit_components(self) -> appearance.Components | None:
        """Fits the components of appearance on evenly spread volumes of train; None if train has no faces."""
        entries = [entry for entry in self.manifest.partition("train") if entry.has_video and entry.faces_found]
        if not entries:
            return None
        histograms = [
            volume
            for entry in tqdm(entries, desc="recordings: components", unit="rec")
            for volume in self._sampled_histograms(entry, _SAMPLED_VOLUMES // len(entries) or 1)
        ]
        return appearance.Components.fit(np.stack(histograms), self.max_components) if len(histograms) > 1 else None

    def _sampled_histograms(self, entry: RecordingEntry, most: int) -> Iterator[np.ndarray]:
        """Yields the mean histograms of at most `most` volumes of crops with faces, spread evenly."""
        (found,) = self._read(entry, ("face_found",))
        faces = self._faces(found)
        starts = np.arange(0, len(faces) - appearance.VOLUME_CROPS + 1, appearance.VOLUME_CROPS)
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(int))]
        # A volume needs one more crop on either side, for the neighbours in time.
        around = starts[:, np.newaxis] + np.arange(-1, appearance.VOLUME_CROPS + 1)
        volumes = faces[np.clip(around, 0, len(faces) - 1)]
        frames = np.unique(volumes)
        crops = self._crops(entry, frames)
        for volume in np.searchsorted(frames, volumes):
            yield appearance.histograms(appearance.gabor_magnitudes(crops[volume])).mean(axis=0)

    def _appearance(self, entry: RecordingEntry, found: np.ndarray, components: appearance.Components) -> np.ndarray:
        """Returns the components in every frame, averaged over volumes of crops, [frames, components]."""
        faces = self._faces(found)
        values = interpolate_missing(components.describe(self._crops(entry, faces)), faces, entry.frames)
        return uniform_filter1d(values, appearance.VOLUME_CROPS * self.crop_step, axis=0, mode="nearest")

    def _faces(self, found: np.ndarray) -> np.ndarray:
        """Returns the frames whose crops are used: every `crop_step`-th one, if it shows a face, int [crops]."""
        looked_at = np.arange(0, len(found), self.crop_step)
        return looked_at[found[looked_at]]

    def _windows(self, frames: int, window_secs: float, rows_per_frame: int = 1) -> Windows:
        return Windows.of_frames(frames, self.manifest.frame_rate_hz, window_secs, rows_per_frame)

    def _mean_and_std_tables(
        self, kind: str, names: Iterable[str], values: np.ndarray, window_secs: dict[str, float]
    ) -> dict[str, FeatureTable]:
        """Returns a table per dimension from descriptors of every frame, [frames, names]."""
        return {
            f"handcrafted_{kind}.{dimension}": self._table(
                mean_and_std_columns(names, values, self._windows(len(values), secs))
            )
            for dimension, secs in window_secs.items()
        }

    def _table(self, columns: list[Column]) -> FeatureTable:
        """Returns a table of columns [frames]."""
        names, values = zip(*columns, strict=True)
        times_secs = (np.arange(len(values[0])) + 1) / self.manifest.frame_rate_hz
        return FeatureTable(names, times_secs, np.stack(values, axis=1))

    def _crops(self, entry: RecordingEntry, frames: np.ndarray) -> np.ndarray:
        """Returns the crops of some frames, grey and reduced, uint8 [frames, SIZE, SIZE]; only these are decoded."""
        wanted = np.zeros(entry.frames, bool)
        wanted[frames] = True
        wanted = tf.constant(wanted)

        def decode(_: tf.Tensor, stored: dict[str, tf.Tensor]) -> tf.Tensor:
            return decode_jpeg(stored["jpeg"], self.manifest.crop_size, entry.name)

        crops = self._frames(entry, ("jpeg",)).enumerate()
        crops = crops.filter(lambda index, _: wanted[index])  # pyright: ignore[reportArgumentType] - of one argument
        batches = crops.map(decode, tf.data.AUTOTUNE).batch(64).prefetch(1).as_numpy_iterator()
        return np.concatenate([np.empty((0, appearance.SIZE, appearance.SIZE), np.uint8),
                               *(appearance.reduced(batch) for batch in batches)])  # fmt: skip

    def _read(self, entry: RecordingEntry, fields: tuple[str, ...]) -> list[np.ndarray]:
        """Returns some fields of all frames of a recording."""
        (whole,) = self._frames(entry, fields).batch(entry.frames).as_numpy_iterator()
        return [whole[name] for name in fields]

    def _frames(self, entry: RecordingEntry, fields: tuple[str, ...]) -> tf.data.Dataset:
        return read_frames(
            [storage.join(self.data_dir, shard) for shard in entry.shards], entry.name, entry.frames, fields,
            frame_samples=self.manifest.frame_samples, frames_per_record=self.manifest.frames_per_record,
        )  # fmt: skip
