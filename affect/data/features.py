"""Handcrafted features from the corpus: one HDF5 file per recording, beside the shards.

features/train_1.h5
features_audio.arousal/      one group per table of the corpus, named after the table's folders
values       float32 [rows, columns]; NaN where the corpus marks a value as missing
times_secs   float64 [rows]
columns      bytes [columns]; the names of the columns
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from affect.errors import UserError


@dataclass(frozen=True)
class FeatureTable:
    """One table of features.

    Attributes:
      columns: names, [columns].
      times_secs: float64 [rows].
      values: float32 [rows, columns].
    """

    columns: tuple[str, ...]
    times_secs: np.ndarray
    values: np.ndarray


def write_features(path: Path, tables: dict[str, FeatureTable]) -> None:
    """Writes all tables of one recording; equal tables give equal bytes."""
    with h5py.File(path, "w") as file:
        for name in sorted(tables):
            table, group = tables[name], file.create_group(name.replace("/", "."))
            group.create_dataset("times_secs", data=table.times_secs.astype(np.float64), track_times=False)
            group.create_dataset("columns", data=np.array([name.encode() for name in table.columns]), track_times=False)
            group.create_dataset(
                "values", data=table.values.astype(np.float32), compression="gzip", compression_opts=1, shuffle=True,
                track_times=False,
            )  # fmt: skip


def read_features(path: Path, names: Collection[str] | None = None) -> dict[str, FeatureTable]:
    """Reads the tables of one recording: all of them, or those of the given names that it has.

    Raises:
      UserError: the file does not exist or is not a file of features.
    """
    tables = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        wanted = names is None or name in names
        if wanted and isinstance(item, h5py.Group) and "values" in item:
            columns = tuple(column.decode() for column in item["columns"][:])
            tables[name] = FeatureTable(columns, item["times_secs"][:], item["values"][:])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: not a file of features ({error})") from error
    return tables
