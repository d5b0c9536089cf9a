"""Curves of a partition as files: CSV, HDF5 and, on request, AVEC's ARFF.

A system may have several curves per recording: `curves` maps the name of each kind ("raw" and, where there is a chain,
"postprocessed", "cautious" or "avec") to the same recordings in the same order. One kind is chosen for CSV and ARFF.

    predictions/<recording>.csv                           raw: time,arousal,valence[,arousal_gold,valence_gold]
    predictions_postprocessed/<recording>.csv             the chosen kind
    predictions.h5                                        every kind, and the gold standard where known
      frame_rate_hz, dimensions, chosen                   attributes of the file
      <recording>/gold, <recording>/raw, ...              float32 [frames, 2]
    predictions_avec/{arousal,valence}/<recording>.arff   the chosen kind, in the format of AVEC's gold standard
"""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from affect.config import DIMENSIONS
from affect.data.manifest import is_recording_name
from affect.errors import UserError
from affect.evaluation.curves import Curves, Prediction

KINDS = ("raw", "postprocessed", "cautious", "avec")
FORMATS = ("avec",)  # written on request only
HDF5_NAME = "predictions.h5"
_GOLD = "gold"


class StoredCurves(NamedTuple):
    """The content of `predictions.h5`: the curves, which kind of them is chosen, and their frame rate in Hz."""

    curves: Curves
    chosen: str
    frame_rate_hz: float


def write_curves(
    folder: Path, curves: Curves, chosen: str, frame_rate_hz: float, formats: Collection[str] = ()
) -> None:
    """Writes the files that the module's docstring lists; equal curves give equal bytes.

    Args:
      folder: an existing folder that has none of them yet.
      curves: kinds among `KINDS`, with "raw" among them.
      chosen: the kind that CSV and ARFF show as post-processed; "raw" if there is no chain.
      frame_rate_hz: frame rate of the curves.
      formats: "avec" adds the ARFF files.

    Raises:
      ValueError: a kind is unknown, "raw" or the chosen kind is missing, or the kinds differ in recordings or lengths.
    """
    _check(curves, chosen)
    for subfolder, predictions in (("predictions", curves["raw"]), ("predictions_postprocessed", curves[chosen])):
        (folder / subfolder).mkdir()
        for prediction in predictions:
            write_csv(prediction, frame_rate_hz, folder / subfolder / f"{prediction.recording}.csv")
    _write_hdf5(folder / HDF5_NAME, curves, chosen, frame_rate_hz)
    if "avec" in formats:
        for axis, dimension in enumerate(DIMENSIONS):
            (folder / "predictions_avec" / dimension).mkdir(parents=True)
            for prediction in curves[chosen]:
                path = folder / "predictions_avec" / dimension / f"{prediction.recording}.arff"
                write_arff(path, prediction.recording, dimension, prediction.predicted[:, axis], frame_rate_hz)


def write_csv(prediction: Prediction, frame_rate_hz: float, path: Path) -> None:
    """Writes `time,arousal,valence` and, where known, `arousal_gold,valence_gold`.

    Time is the end of the frame in seconds, with three decimals; values have six significant digits.
    """
    times = (np.arange(len(prediction.predicted)) + 1) / frame_rate_hz
    columns: dict[str, Any] = {"time": [f"{time:.3f}" for time in times]}
    columns |= dict(zip(DIMENSIONS, prediction.predicted.T, strict=True))
    if prediction.gold is not None:
        columns |= dict(zip((f"{name}_gold" for name in DIMENSIONS), prediction.gold.T, strict=True))
    pd.DataFrame(columns).to_csv(path, index=False, float_format="%.6g")


def write_arff(path: Path, recording: str, dimension: str, predicted: np.ndarray, frame_rate_hz: float) -> None:
    """Writes one curve [frames] in the format of AVEC's gold standard, with `frames + 1` rows.

    AVEC's tables begin at t = 0, but our first frame ends at 0.04 s: the row at t = 0 repeats the first value. Times
    have two decimals, values six significant digits.
    """
    lines = [
        f"@relation PREDICTION_{dimension.upper()}\n",
        "@attribute Instance_name string",
        "@attribute frameTime numeric",
        "@attribute Prediction numeric\n",
        "@data\n",
    ]
    rows = enumerate([predicted[0], *predicted])
    lines += [f"'{recording}',{index / frame_rate_hz:.2f},{value:.6g}" for index, value in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_curves(path: Path) -> Curves:
    """Returns the curves of `predictions.h5`, float32; errors as from `read_predictions`."""
    return read_predictions(path).curves


def read_predictions(path: Path) -> StoredCurves:
    """Reads `predictions.h5`; a recording without a gold standard has gold None.

    The file may come from an untrusted source, so links to other files, which HDF5 allows, are refused, and no more
    values are read than its size allows.

    Raises:
      UserError: the file does not exist, is damaged, or is not one that `write_curves` writes.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; evaluate again to write it")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path.stat().st_size)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # what h5py raises for damaged files
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise UserError(f"{path} is not a file of predictions, or is damaged ({reason}); evaluate again") from error


def _check(curves: Curves, chosen: str) -> None:
    unknown = [kind for kind in curves if kind not in KINDS]
    if unknown or "raw" not in curves or chosen not in curves:
        raise ValueError(f"curves of kinds {', '.join(curves)}, of which {chosen!r} is chosen")
    for kind, predictions in curves.items():
        for prediction, raw in zip(predictions, curves["raw"], strict=True):
            if prediction.recording != raw.recording or len(prediction.predicted) != len(raw.predicted):
                raise ValueError(f"{kind} holds other recordings than raw: {prediction.recording}, {raw.recording}")


def _write_hdf5(path: Path, curves: Curves, chosen: str, frame_rate_hz: float) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["frame_rate_hz"] = float(frame_rate_hz)
        file.attrs["dimensions"] = np.array([name.encode() for name in DIMENSIONS])
        file.attrs["chosen"] = np.bytes_(chosen.encode())
        for index, raw in enumerate(curves["raw"]):
            arrays = {kind: predictions[index].predicted for kind, predictions in curves.items()}
            if raw.gold is not None:
                arrays[_GOLD] = raw.gold
            group = file.create_group(raw.recording)
            # HDF5 sorts names (dev_10 before dev_2). Its own order of creation would put the time into the file.
            group.attrs["index"] = index
            for name, values in arrays.items():
                # Not compressed, because the reader refuses arrays that are larger than the file.
                group.create_dataset(name, data=np.asarray(values, np.float32), track_times=False)


def _read(file: h5py.File, size: int) -> StoredCurves:
    """Reads an open file of `size` bytes; ValueError says what is wrong with it."""
    frame_rate_hz, chosen, dimensions = (file.attrs[name] for name in ("frame_rate_hz", "chosen", "dimensions"))
    if not (isinstance(frame_rate_hz, float) and math.isfinite(frame_rate_hz) and frame_rate_hz > 0):
        raise ValueError(f"its frame rate is {frame_rate_hz!r}")
    if not isinstance(chosen, bytes) or chosen.decode(errors="replace") not in KINDS:
        raise ValueError(f"its chosen kind is {chosen!r}")
    if np.asarray(dimensions).tolist() != [name.encode() for name in DIMENSIONS]:
        raise ValueError(f"its dimensions are {dimensions!r}")
    if not len(file):
        raise ValueError("it holds no recordings")
    groups = {recording: _group(file, recording) for recording in file}
    chosen, unread, curves = chosen.decode(), size, {}
    for recording in sorted(groups, key=lambda recording: int(groups[recording].attrs["index"])):
        group, arrays = groups[recording], {}
        for name in group:
            arrays[name] = _array(_own(group, name), f"{recording}/{name}", unread)
            unread -= arrays[name].nbytes
        gold, kinds = arrays.pop(_GOLD, None), set(arrays)
        if kinds != (set(curves) or kinds) or not {"raw", chosen} <= kinds <= set(KINDS):
            raise ValueError(f"recording {recording} has the curves {', '.join(sorted(kinds)) or 'none'}")
        if len({len(array) for array in (*arrays.values(), gold) if array is not None}) != 1:
            raise ValueError(f"the curves of {recording} have different numbers of frames")
        for kind, array in arrays.items():
            curves.setdefault(kind, []).append(Prediction(recording, array, gold))
    return StoredCurves({kind: curves[kind] for kind in KINDS if kind in curves}, chosen, float(frame_rate_hz))


def _group(file: h5py.File, recording: str) -> h5py.Group:
    """Returns the group of a recording."""
    if not is_recording_name(recording):
        raise ValueError(f"{recording!r} is not a valid name of a recording")
    group = _own(file, recording)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{recording} is not a group")
    return group


def _own(group: h5py.Group, name: str) -> Any:
    """Returns a member that is stored in this file under this name; links are refused."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is a link to another place")
    return group[name]


def _array(dataset: Any, name: str, max_bytes: int) -> np.ndarray:
    """Returns a dataset, float32 [frames, 2], whose values lie in this file and take at most `max_bytes`."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.float32 or dataset.ndim != 2:
        raise ValueError(f"{name} is not a table of float32")
    if dataset.shape[1] != len(DIMENSIONS) or not dataset.shape[0]:
        raise ValueError(f"{name} has the shape {dataset.shape}")
    if dataset.external or dataset.is_virtual or dataset.nbytes > max_bytes:
        raise ValueError(f"{name} is not stored in the file as it should be")
    values = dataset[:]
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite")
    return values
