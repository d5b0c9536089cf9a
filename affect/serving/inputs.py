"""Which files `affect.serving.predict` reads: files, folders, and lists of both."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from affect.errors import UserError
from affect.storage import is_remote

# What is read from a folder, by name. A file that is named itself is read whatever its name is.
MEDIA_SUFFIXES = (
    ".3gp", ".aac", ".aif", ".aiff", ".avi", ".flac", ".flv", ".m4a", ".m4v", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg",
    ".mpg", ".mts", ".m2ts", ".mxf", ".oga", ".ogg", ".ogv", ".opus", ".ts", ".wav", ".webm", ".wma", ".wmv",
)  # fmt: skip
_LISTED = 5


@dataclass(frozen=True)
class Inputs:
    """The files to predict.

    Attributes:
      files: each once, in the order in which they were given; those of a folder by name.
      many: whether outputs are folders: a folder or more than one file was given.
      remarks: what was left out of a folder.
    """

    files: list[Path]
    many: bool
    remarks: list[str]


def find_inputs(given: Sequence[str]) -> Inputs:
    """Returns the files that --input names.

    A folder stands for its files with a suffix of `MEDIA_SUFFIXES`; hidden files and its subfolders are left out. A
    value with commas is a list, unless a path of that name exists.

    Raises:
      UserError: a path is empty, remote or missing, or a folder holds no media file.
    """
    paths = [path for text in given for path in _paths(text)]
    files: dict[str, Path] = {}  # by real path: the same file may be given twice
    remarks: list[str] = []
    for path in paths:
        for file in _media_in(path, remarks) if path.is_dir() else [path]:
            files.setdefault(os.path.realpath(file), file)
    many = len(paths) > 1 or paths[0].is_dir()
    return Inputs(list(files.values()), many, remarks)


def _paths(text: str) -> list[Path]:
    """Returns the existing paths that a value of --input names."""
    if not text:
        raise UserError("--input is empty; give it the path of a file or a folder")
    if is_remote(text):
        raise UserError(f"--input={text} must be a local path; copy the file to this machine first")
    parts = [text] if _exists(text) or "," not in text else text.split(",")
    for part in parts:
        if not part or not _exists(part):
            named = f"--input={text}" if part == text else f"--input={text}: {part or 'an empty name'}"
            why = "is a link that leads nowhere" if os.path.lexists(part) else "does not exist"
            raise UserError(f"{named} {why}; check the path")
    return [Path(part) for part in parts]


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError as error:  # circular links, a name that is too long
        raise UserError(f"--input={text} cannot be read ({error.strerror})") from error


def _media_in(folder: Path, remarks: list[str]) -> list[Path]:
    """Returns the media files of a folder by name, and says in `remarks` which files it left out."""
    try:
        # Broken and circular links are kept here; reading them fails with an error that names them.
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())
    except OSError as error:
        raise UserError(f"--input={folder}: the folder cannot be listed ({error.strerror})") from error
    media = [path for path in inside if path.suffix.lower() in MEDIA_SUFFIXES]
    others = [path.name for path in inside if path not in media]
    if not media:
        raise UserError(
            f"--input={folder}: the folder holds no sound or video file (suffixes such as .mp4, .mov, .mkv, .wav); "
            "subfolders are not searched"
        )
    if others:
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        remarks.append(f"{folder}: left out, neither sound nor video: {', '.join(others[:_LISTED])}{more}")
    return media
