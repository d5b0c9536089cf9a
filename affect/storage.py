"""Files here, on object stores and on web servers, by one set of functions.

    s3://BUCKET/...     tensorflow-io (extra `io`): AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; S3_ENDPOINT
    http(s)://HOST/...  tensorflow-io; read-only, and folders cannot be listed
    gs://BUCKET/...     TensorFlow's own
    az:// hdfs://       tensorflow-io; never tried

Everything else is a path of this machine, and never loads TensorFlow. Paths are text: pathlib would make one slash of
two.
"""

import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from affect.errors import UserError

_WITH_TENSORFLOW_IO = ("s3", "http", "https", "az", "hdfs")
_SCHEMES = (*_WITH_TENSORFLOW_IO, "gs")
_READ_ONLY = ("http", "https")
_MAX_FOLDERS = 5_000


def is_remote(path: str | Path) -> bool:
    """Whether a path leads to another machine.

    Raises:
      UserError: it looks like an address, but of a kind that is not known.
    """
    scheme, separator, _ = str(path).partition("://")
    if separator and scheme not in _SCHEMES:
        raise UserError(f"{path}: {scheme}:// is not known; there are {', '.join(_SCHEMES)}")
    return bool(separator)


def is_web(path: str | Path) -> bool:
    """Whether a path leads to a web server: it can be read, but neither listed nor written."""
    return is_remote(path) and str(path).partition("://")[0] in _READ_ONLY


def absolute(path: str) -> str:
    """The same path wherever a later command is started."""
    return path.rstrip("/") if is_remote(path) else os.path.abspath(path)


def local_folder(path: str, flag: str) -> Path:
    """A folder that must be of this machine, as run folders are: HDF5 and CSV files are written into in place.

    Raises:
      UserError: it is not.
    """
    if is_remote(path):
        raise UserError(f"--{flag}={path}: must be a folder of this machine; copy it when it is done")
    return Path(path)


def join(folder: str | Path, relative: str) -> str:
    """A file in a folder."""
    if is_web(folder):
        relative = urllib.parse.quote(relative)
    return f"{str(folder).rstrip('/')}/{relative}" if is_remote(folder) else str(Path(folder) / relative)


def exists(path: str) -> bool:
    """Whether there is such a file."""
    if not is_remote(path):
        return Path(path).is_file()
    return _guarded("looked for", path, lambda files: files.exists(path) and not files.isdir(path))


def read_bytes(path: str) -> bytes:
    """A whole file."""
    if not is_remote(path):
        return Path(path).read_bytes()

    def read(files):
        with files.GFile(path, "rb") as file:
            return file.read()

    return _guarded("read", path, read)


def write_bytes(path: str, content: bytes) -> None:
    """A whole file, all at once or not at all; its folder is made."""
    if not is_remote(path):
        beside = Path(path).with_name(f".{os.getpid()}.{Path(path).name}")
        beside.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        return

    def write(files):
        with files.GFile(path, "wb") as file:
            file.write(content)

    _guarded("written", path, write)


def stamp(path: str) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns, to see whether a file is still the same one."""
    if not is_remote(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    status = _guarded("looked at", path, lambda files: files.stat(path))
    return status.length, 0 if is_web(path) else status.mtime_nsec


def list_files(folder: str | Path) -> frozenset[str]:
    """All files below a folder, relative to it, with forward slashes. A link back to a folder above is not followed.

    Raises:
      UserError: a web server, which cannot be listed.
    """
    if is_web(folder):
        raise UserError(f"{folder}: web servers cannot be listed; give the address of a table of recordings (a .csv)")
    if is_remote(folder):
        root = str(folder).rstrip("/")
        walked = _guarded("listed", root, lambda files: list(files.walk(root)))
        paths = (f"{at.rstrip('/')}/{name}" for at, _, names in walked for name in names)
        return frozenset(path.removeprefix(f"{root}/") for path in paths)
    found: dict[str, list[str]] = {}
    _walk(Path(folder), "", (), found)
    return frozenset(prefix + name for prefix, names in found.items() for name in names)


def fetch(path: str, local: Path) -> None:
    """Copies a remote file to this machine."""
    local.parent.mkdir(parents=True, exist_ok=True)
    _guarded("fetched", path, lambda files: files.copy(path, str(local), overwrite=True))


def put(local: Path, path: str) -> None:
    """Moves a file of this machine to its final place; there it is whole or not at all."""
    if is_remote(path):
        _guarded("written", path, lambda files: files.copy(str(local), path, overwrite=True))
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(local, path)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it; what is not there is no error."""
    if is_remote(path):
        for name in [path] if exists(path) else [join(path, relative) for relative in list_files(path)]:
            _guarded("removed", name, lambda files, name=name: files.remove(name))
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def check_writable(path: str) -> None:
    """Says early that a place cannot be written.

    Raises:
      UserError: a web server, or a missing extra.
    """
    if is_web(path):
        raise UserError(f"{path}: web servers are read-only; write to a folder, s3:// or gs://")
    if is_remote(path):
        file_system(path)


def read_json(path: Path) -> dict:
    """Reads one of a run's JSON files.

    Raises:
      UserError: missing, or not JSON.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; was the run trained, and evaluated by eval.py?")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder and renames it to `path` once the block has ended well.

    Nothing half-written is ever found under the final name; after an error what was written, a file or a new folder, is
    gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: Keras and others choose the format by it. `remove_leftovers` knows this form.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was writing (`written_beside`) into this folder."""
    for path in folder.glob(".*"):
        if re.match(r"\.\d+\.", path.name):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_system(path: str) -> ModuleType:
    """TensorFlow's file functions, after making sure that they know the path's scheme.

    Raises:
      UserError: tensorflow-io is needed, and missing or made for another TensorFlow.
    """
    import tensorflow as tf

    scheme = str(path).partition("://")[0]
    if scheme in _WITH_TENSORFLOW_IO:
        try:
            import tensorflow_io  # registers its file systems

            tensorflow_io.experimental  # noqa: B018 - loads the compiled part, which fails beside a newer TensorFlow
        except (ImportError, NotImplementedError, AttributeError) as error:
            raise UserError(
                f"{path}: {scheme}:// needs the extra io (pip install 'affect[io]': tensorflow-io, with TensorFlow "
                "up to 2.17 on Python 3.11 or 3.12)"
            ) from error
    return tf.io.gfile


def _guarded(what: str, path: str, use):
    """Calls `use(file_system)`; what the other machine answers becomes one line."""
    import tensorflow as tf

    try:
        return use(file_system(path))
    except tf.errors.OpError as error:
        raise UserError(f"{path}: could not be {what} ({type(error).__name__}: {error.message})") from error


def _walk(folder: Path, prefix: str, above: tuple[str, ...], found: dict[str, list[str]]) -> None:
    """Adds the names of a folder's files to `found`, by the folder's prefix."""
    real = os.path.realpath(folder)
    if real in above:
        return
    if len(found) >= _MAX_FOLDERS:
        raise UserError(f"{folder}: more than {_MAX_FOLDERS} folders; do links lead in circles?")
    try:
        items = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
    found[prefix] = []
    for item in items:
        # A link that leads nowhere, or to itself, is neither.
        if os.path.isdir(item.path):
            _walk(Path(item.path), f"{prefix}{item.name}/", (*above, real), found)
        elif os.path.isfile(item.path):
            found[prefix].append(item.name)
