"""The files that `affect.serving.predict` writes: curves as CSV and JSON, and where they and the pictures go.

    talk.csv    time,arousal,valence,face_found           one row per frame of 40 ms; time is the end of the frame in
                0.040,0.1234,-0.0567,1                     seconds; face_found is empty for a model without video

    talk.json   `CurveFile`

A model that was trained on the synthetic corpus adds the column `training_data`, which says `synthetic` in every row.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from affect.errors import UserError
from affect.serving.prediction import Curve
from affect.serving.wording import MEANING, PROHIBITED
from affect.storage import atomic_write, check_output_file, is_remote, write_json

# The suffixes of each flag. A folder gets one file of each kind per input.
SUFFIXES = {"output": (".csv", ".json"), "plot": (".png",), "overlay": (".mp4",)}


class CurveFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the JSON file.

    Attributes:
      model: folder of the exported model, as it was given.
      written_by: program and version that exported the model.
      source: name of the file, without its folder.
      frame_rate_hz: frames per second.
      postprocessed: whether the post-processing chain was applied.
      synthetic: whether the model is known to be trained on the synthetic corpus; it then says nothing about people.
      remarks: what a person should know about the recording or the model.
      meaning: what the numbers mean, and where the law prohibits them.
      time: [frames], end of each frame in seconds.
      arousal, valence: [frames], in [-1, 1] in training; post-processing may lead beyond.
      face_found: [frames], whether a face was found; null for a model without video.
      face_square: [frames], left, top and edge of each face crop in pixels of the first picture; null for a model
        without video.
    """

    model: str
    written_by: str
    source: str
    frame_rate_hz: int
    postprocessed: bool
    synthetic: bool
    remarks: list[str]
    meaning: list[str]
    time: list[float]
    arousal: list[float]
    valence: list[float]
    face_found: list[bool] | None
    face_square: list[tuple[int, int, int]] | None


@dataclass(frozen=True)
class Targets:
    """Where the files of one input go.

    Attributes:
      curves: CSV and JSON files, told apart by their suffixes.
      plot: PNG; None if none is wanted.
      overlay: mp4; None if none is wanted.
    """

    curves: tuple[Path, ...]
    plot: Path | None
    overlay: Path | None

    @property
    def all(self) -> tuple[Path, ...]:
        """All paths."""
        return (*self.curves, *(path for path in (self.plot, self.overlay) if path is not None))


def write_curve(curve: Curve, path: Path, model_dir: str) -> None:
    """Writes a curve as CSV or JSON, by the suffix of the path, completely or not at all."""
    if path.suffix.lower() == ".json":
        write_json(path, curve_file(curve, model_dir))
        return
    with atomic_write(path) as temporary:
        temporary.write_text(as_csv(curve), encoding="utf-8")


def as_csv(curve: Curve) -> str:
    """Returns the CSV: times with three decimals, values with six significant digits, as evaluation writes them."""
    columns = {
        "time": [f"{time:.3f}" for time in curve.times_secs],
        **dict(zip(curve.contract.outputs, curve.predicted.T, strict=True)),
        "face_found": "" if curve.found is None else curve.found.astype(int),
    }
    if curve.contract.synthetic:
        columns["training_data"] = "synthetic"
    return pd.DataFrame(columns).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def curve_file(curve: Curve, model_dir: str) -> CurveFile:
    """Returns the content of the JSON file; numbers are rounded as in the CSV."""
    arousal, valence = ([float(f"{value:.6g}") for value in column] for column in curve.predicted.T)
    return CurveFile(
        model=model_dir,
        written_by=curve.contract.written_by,
        source=curve.source,
        frame_rate_hz=curve.contract.frame_rate_hz,
        postprocessed=curve.postprocessed,
        synthetic=curve.contract.synthetic,
        remarks=curve.remarks,
        meaning=[MEANING, PROHIBITED],
        time=np.round(curve.times_secs, 3).tolist(),
        arousal=arousal,
        valence=valence,
        face_found=None if curve.found is None else curve.found.tolist(),
        face_square=None if curve.squares is None else curve.squares.tolist(),
    )


def plan_targets(
    inputs: Sequence[Path], many: bool, flags: dict[str, str | None], model_dir: Path, others: Sequence[Path] = ()
) -> list[Targets]:
    """Decides, before any prediction, where the files of each input go, and checks that they can be written there.

    With one input, every flag names a file. With several, it names a folder, and so does a path that ends with a slash
    or is a folder already: the files in it are called after the inputs, with the suffix of the input only where two
    inputs would otherwise have the same name (talk.mp4.csv, talk.wav.csv).

    Args:
      inputs: the files to predict.
      many: whether every flag names a folder.
      flags: values of --output, --plot and --overlay; None where the flag is not given.
      model_dir: folder of the model; nothing is written into it.
      others: further files that are read.

    Returns:
      One `Targets` per input.

    Raises:
      UserError: a path has the wrong suffix, cannot be written, is an input, or lies in the folder of the model; or two
        outputs have the same name.
    """
    wanted = {flag: value for flag, value in flags.items() if value is not None}
    if not wanted:
        raise UserError("nothing to write; give --output, --plot or --overlay")
    names = _names(inputs)
    paths = {flag: [list(_paths(flag, value, name, many)) for name in names] for flag, value in wanted.items()}
    targets = [
        Targets(
            tuple(paths["output"][index]) if "output" in paths else (),
            paths["plot"][index][0] if "plot" in paths else None,
            paths["overlay"][index][0] if "overlay" in paths else None,
        )
        for index in range(len(inputs))
    ]
    read = {_inode(path) for path in (*inputs, *others) if path.exists()}
    model = Path(os.path.realpath(model_dir))
    for path in (path for target in targets for path in target.all):
        if path.exists() and _inode(path) in read:
            raise UserError(f"{path} is an input and would be overwritten; choose another path")
        if Path(os.path.realpath(path)).is_relative_to(model):
            raise UserError(f"{path} lies in the folder of the model, {model_dir}; choose another path")
    for flag, value in wanted.items():
        for path in (path for each in paths[flag] for path in each):
            check_output_file(str(path), flag)
        _check_writable(paths[flag][0][0].absolute().parent, f"--{flag}={value}")
    return targets


def _inode(path: Path) -> tuple[int, int]:
    """Returns device and inode, which are the same for all links to a file and all spellings of its path."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _names(inputs: Sequence[Path]) -> list[str]:
    """Returns the name of each input without its suffix, or with it if two would be equal; case does not count."""
    for names in ([path.stem for path in inputs], [path.name for path in inputs]):
        lower = [name.lower() for name in names]
        if len(set(lower)) == len(lower):
            return names
    twice = next(path for path in inputs if lower.count(path.name.lower()) > 1)
    raise UserError(f"two inputs are named {twice.name}, so their outputs would collide; predict them one by one")


def _paths(flag: str, value: str, name: str, many: bool) -> Iterator[Path]:
    """Yields the files that a flag names for one input."""
    if not value:
        raise UserError(f"--{flag} is empty; give it a path")
    if is_remote(value):
        raise UserError(f"--{flag}={value} must be a local path; copy the file afterwards")
    if many or value.endswith("/") or Path(value).is_dir():
        if many and Path(value).suffix.lower() in SUFFIXES[flag] and not Path(value).is_dir():
            raise UserError(f"--{flag}={value} must name a folder, because --input names a folder or several files")
        yield from (Path(value) / f"{name}{suffix}" for suffix in SUFFIXES[flag])
        return
    if Path(value).suffix.lower() not in SUFFIXES[flag]:
        raise UserError(f"--{flag}={value} must end with {' or '.join(SUFFIXES[flag])}")
    yield Path(value)


def _check_writable(folder: Path, flag: str) -> None:
    """Raises a UserError if a folder cannot be created or written to; leaves nothing behind."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{flag}: {existing} cannot be written to ({error.strerror}); choose another path") from error
