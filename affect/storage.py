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
from typing import Any, TypeVar

import msgspec

from affect.errors import UserError

_WITH_TENSORFLOW_IO = ("s3", "http", "https", "az", "hdfs")
_SCHEMES = (*_WITH_TENSORFLOW_IO, "gs")
_READ_ONLY = ("http", "https")
_MAX_FOLDERS = 5_000

T = TypeVar("T")


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
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content)
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


def read_json(path: str | Path, kind: type[T] = dict) -> T:
    """Reads a JSON file, here or elsewhere, into a typed value.

    Args:
      path: the file.
      kind: a `msgspec.Struct`, a dataclass, or a plain type; a Struct with `forbid_unknown_fields` refuses unknown keys.

    Raises:
      UserError: missing, not JSON, or not of that kind; names the file and the field.
    """
    if not exists(str(path)):
        raise UserError(f"{path} does not exist")
    return decode_json(read_bytes(str(path)), kind, str(path))


def decode_json(content: bytes | str, kind: type[T], source: str) -> T:
    """JSON text to a typed value, as `read_json`.

    Args:
      content: the text, UTF-8.
      kind: as in `read_json`.
      source: names the content in errors.

    Raises:
      UserError: not JSON, or not of that kind.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{source}: not JSON ({error})") from error


def encode_json(content: Any) -> str:
    """A `msgspec.Struct`, a dataclass or plain values as indented JSON; equal content gives equal bytes."""
    return json.dumps(msgspec.to_builtins(content), indent=2) + "\n"


def write_json(path: str | Path, content: Any) -> None:
    """Writes `encode_json` of the content, complete or not at all."""
    write_bytes(str(path), encode_json(content).encode())


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, for a file or a new folder, and renames it once the block has ended well.

    Nothing half-written is ever found under the final name: an existing file or folder is replaced as a whole, and after
    an error it stays and what was written is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: Keras and others choose the format by it. `remove_leftovers` knows this form.
    temporary, old = (path.with_name(f".{os.getpid()}.{kind}{path.name}") for kind in ("", "old."))
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():  # os.replace takes the place of an empty folder only
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        for leftover in (temporary, old):
            remove(str(leftover))


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was writing (`atomic_write`) into this folder."""
    for path in folder.glob(".*"):
        if re.match(r"\.\d+\.", path.name):
            remove(str(path))


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
