"""Functions for files on this machine, on object stores and on web servers.

    s3://BUCKET/...     tensorflow-io (extra `io`): AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; S3_ENDPOINT
    http(s)://HOST/...  tensorflow-io; read-only, and folders cannot be listed
    gs://BUCKET/...     TensorFlow itself
    az://, hdfs://      tensorflow-io; untested

Every other path is local and needs no TensorFlow. Paths are strings, because pathlib would turn `//` into `/`.
"""

import json
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgspec

from affect.errors import UserError
from affect.local_files import atomic_write as atomic_write
from affect.local_files import list_local, obstacle, remove_local
from affect.local_files import locked as locked
from affect.local_files import remove_leftovers as remove_leftovers
from affect.local_files import sha256_of as sha256_of

_TENSORFLOW_IO_SCHEMES = ("s3", "http", "https", "az", "hdfs")
_SCHEMES = (*_TENSORFLOW_IO_SCHEMES, "gs")
_WEB_SCHEMES = ("http", "https")
_MAX_NAME_BYTES = 240  # 255 on most file systems, less what `atomic_write` puts before a name

T = TypeVar("T")


def is_remote(path: str | Path) -> bool:
    """Returns whether a path is an address on another machine.

    Raises:
      UserError: the path is an address with an unknown scheme.
    """
    scheme, separator, _ = str(path).partition("://")
    if separator and scheme not in _SCHEMES:
        raise UserError(f"{path}: unknown scheme {scheme}://; use a local path or one of {', '.join(_SCHEMES)}")
    return bool(separator)


def is_web(path: str | Path) -> bool:
    """Returns whether a path is on a web server, where files can be read but not listed or written."""
    return is_remote(path) and str(path).partition("://")[0] in _WEB_SCHEMES


def absolute(path: str) -> str:
    """Returns a path that stays valid when a later command starts in another folder."""
    return path.rstrip("/") if is_remote(path) else os.path.abspath(path)


def local_folder(path: str, flag: str) -> Path:
    """Returns the path of a folder if it is local, as run folders must be: their files are changed in place.

    Raises:
      UserError: the path is remote or empty, or a file is in its place or above it.
    """
    if is_remote(path):
        raise UserError(f"--{flag}={path} must be a local folder; copy it to the object store afterwards")
    _check_local(path, flag, Path(path))
    return Path(path)


def check_loadable(path: Path, flag: str) -> None:
    """Checks that TensorFlow can load a SavedModel from a folder; it takes such paths for patterns.

    `study [2024]` matches `study 2`, but not itself, and a backslash quotes what follows it. Found with TensorFlow 2.17
    and 2.21; `*` and `?` match themselves.

    Raises:
      UserError: the absolute path of the folder has such characters.
    """
    if is_pattern(path):
        raise UserError(
            f"--{flag}={path}: TensorFlow takes [ and \\ in {path.absolute()} for patterns and could not load the "
            "model from there; choose a folder without them"
        )


def is_pattern(path: Path) -> bool:
    """Returns whether TensorFlow, which takes the paths of checkpoints for patterns, may not find a path."""
    return any(letter in str(path.absolute()) for letter in "[\\")


@contextmanager
def without_patterns(folder: Path) -> Iterator[Path]:
    """Yields a path to a folder that is no pattern (see `is_pattern`): its own, or that of a temporary link to it."""
    if not is_pattern(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="affect-") as temporary:
        link = Path(temporary) / "link"
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link


def check_output_file(path: str, flag: str) -> None:
    """Checks, before the work that it takes, that a file can be written to a path; writes nothing.

    Raises:
      UserError: the path is empty, a folder, below a file or on a web server, or needs an extra that is not installed.
    """
    if is_remote(path):
        check_writable(path)
        return
    _check_local(path, flag, Path(path).parent)
    if Path(path).is_dir():
        raise UserError(f"--{flag}={path} is a folder; give the path of a file in it")


def _check_local(path: str, flag: str, folder: Path) -> None:
    """Refuses an empty path, one that cannot be written, and one for which the folder is not and cannot be there."""
    if not path:
        raise UserError(f"--{flag} is empty; give it a path")
    _check_written_name(path, f"--{flag}={path}")
    found = obstacle(folder)
    if found is not None:
        raise UserError(f"--{flag}={path}: {found} is not a folder; choose another path")


def join(folder: str | Path, relative: str) -> str:
    """Returns the path of a file in a folder."""
    if is_web(folder):
        relative = urllib.parse.quote(relative)
    return f"{str(folder).rstrip('/')}/{relative}" if is_remote(folder) else str(Path(folder) / relative)


def exists(path: str) -> bool:
    """Returns whether a path exists and is a file."""
    if not is_remote(path):
        return Path(path).is_file()
    return _call_remote("looked up", path, lambda files: files.exists(path) and not files.isdir(path))


def read_bytes(path: str) -> bytes:
    """Returns the content of a file."""
    if not is_remote(path):
        return Path(path).read_bytes()

    def read(files: ModuleType) -> bytes:
        with files.GFile(path, "rb") as file:
            return file.read()

    return _call_remote("read", path, read)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file, completely or not at all; creates its folder."""
    if not is_remote(path):
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content)
        return

    def write(files: ModuleType) -> None:
        with files.GFile(path, "wb") as file:
            file.write(content)

    _call_remote("written", path, write)


def stamp(path: str) -> tuple[int, int]:
    """Returns size in bytes and modification time in ns (0 on web servers), to detect changes of a file."""
    if not is_remote(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    status = _call_remote("looked up", path, lambda files: files.stat(path))
    return status.length, 0 if is_web(path) else status.mtime_nsec


def list_files(folder: str | Path) -> frozenset[str]:
    """Returns all files below a folder as relative paths with forward slashes.

    Raises:
      UserError: the folder is on a web server, cannot be read, or has too many folders below it.
    """
    if is_web(folder):
        raise UserError(f"{folder}: web servers cannot be listed; give the address of a table of recordings (a .csv)")
    if is_remote(folder):
        root = str(folder).rstrip("/")
        walked = _call_remote("listed", root, lambda files: list(files.walk(root)))
        paths = (f"{at.rstrip('/')}/{name}" for at, _, names in walked for name in names)
        return frozenset(path.removeprefix(f"{root}/") for path in paths)
    return list_local(Path(folder))


def fetch(path: str, local: Path) -> None:
    """Copies a remote file to this machine."""
    local.parent.mkdir(parents=True, exist_ok=True)
    _call_remote("fetched", path, lambda files: files.copy(path, str(local), overwrite=True))


def put(local: Path, path: str) -> None:
    """Uploads (remote) or moves (local) a file to its final path, where it appears completely or not at all."""
    if is_remote(path):
        _call_remote("written", path, lambda files: files.copy(str(local), path, overwrite=True))
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(local, path)


def remove(path: str) -> None:
    """Removes a file, or a folder with its content; does nothing if the path does not exist."""
    if is_remote(path):
        for name in [path] if exists(path) else [join(path, relative) for relative in list_files(path)]:
            _call_remote("removed", name, lambda files, name=name: files.remove(name))
    else:
        remove_local(Path(path))


def check_writable(path: str) -> None:
    """Checks that a path is not read-only, has a possible name, and that its file system can be loaded; writes nothing.

    Raises:
      UserError: the path is on a web server, is not a name for a file, or needs an extra that is not installed.
    """
    if is_web(path):
        raise UserError(f"{path}: web servers are read-only; write to a local folder, s3:// or gs://")
    if is_remote(path):
        file_system(path)
    else:
        _check_written_name(path, path)


def check_replaceable(
    folder: Path, marker: str, kind: type | None = None, keep: Mapping[str, str | Path] | None = None
) -> Path:
    """Checks that a folder may be replaced as a whole: it does not exist, is empty, or was written by the same command.

    Args:
      folder: the folder.
      marker: name of a file or folder that the command puts into every folder that it writes.
      kind: type of the marker's JSON content (see `read_json`); None if the marker's name is enough.
      keep: what must not be replaced with the folder, by the name that messages give it; may include paths on other
        machines. The current folder is always kept.

    Returns:
      The same folder without `..`, which has no name that `atomic_write` could use.

    Raises:
      UserError: the folder may not be replaced.
    """
    if folder.is_symlink():
        raise UserError(f"{folder} is a link and is not replaced; name the folder itself, or choose another one")
    target = folder.resolve()
    found = obstacle(folder)
    if found is not None:
        raise UserError(f"{folder} cannot be written: {found} is not a folder; choose another path")
    if target.is_mount():
        raise UserError(f"{folder} is a mount point and cannot be replaced; choose a folder in it")
    for name, kept in ({"the current folder": Path.cwd()} | dict(keep or {})).items():
        if Path(kept).resolve().is_relative_to(target):
            relation = "is" if Path(kept).resolve() == target else "contains"
            raise UserError(f"{folder} {relation} {name} and is not replaced; choose another folder")
    if not target.exists() or not any(target.iterdir()):
        return target
    if not os.path.lexists(target / marker):
        raise UserError(f"{folder} holds other files (no {marker} of ours) and is not replaced; choose another folder")
    if kind is not None:
        try:
            read_json(target / marker, kind)
        except UserError as error:
            raise UserError(f"{folder} is not replaced, because we did not write it: {error}") from error
    return target


def read_json(path: str | Path, kind: type[T] = dict, hint: str = "") -> T:
    """Reads a JSON file, local or remote, as a typed value.

    Args:
      path: the file.
      kind: a `msgspec.Struct` or a plain type; a Struct with `forbid_unknown_fields` rejects unknown keys.
      hint: advice appended to the error message if the file does not exist.

    Raises:
      UserError: the file does not exist, is not JSON, or does not fit the type; the message names the file and
        the field.
    """
    if not exists(str(path)):
        raise UserError(f"{path} does not exist" + (f"; {hint}" if hint else ""))
    return decode_json(read_bytes(str(path)), kind, str(path))


def decode_json(content: bytes | str, kind: type[T], source: str) -> T:
    """Decodes JSON text as a typed value; `kind` is as in `read_json`, and errors call the text `source`.

    Raises:
      UserError: the text is not JSON or does not fit the type.
    """
    try:
        # Not msgspec.json: it rejects lone surrogates, which stand for the bytes of file names that are not UTF-8.
        return msgspec.convert(json.loads(content), kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: the text is not JSON ({error})") from error


def encode_json(content: Any) -> str:
    """Returns a `msgspec.Struct` or plain values as indented JSON; equal content gives equal bytes."""
    return json.dumps(msgspec.to_builtins(content), indent=2) + "\n"


def write_json(path: str | Path, content: Any) -> None:
    """Writes `encode_json(content)` to a file, completely or not at all."""
    write_bytes(str(path), encode_json(content).encode())


def file_system(path: str) -> ModuleType:
    """Returns TensorFlow's file functions after loading what the path's scheme needs.

    Raises:
      UserError: the scheme needs tensorflow-io, which is missing or was built for another TensorFlow.
    """
    import tensorflow as tf

    scheme = str(path).partition("://")[0]
    if scheme in _TENSORFLOW_IO_SCHEMES:
        try:
            import tensorflow_io  # registers its file systems

            tensorflow_io.experimental  # noqa: B018 - loads the compiled part, which fails with a newer TensorFlow
        except (ImportError, NotImplementedError, AttributeError) as error:
            raise UserError(
                f"{path}: {scheme}:// needs the extra io (pip install 'affect[io]': tensorflow-io, with TensorFlow "
                "up to 2.17 on Python 3.11 or 3.12)"
            ) from error
    return tf.io.gfile


def check_utf_8(path: str | Path) -> None:
    """Checks that a path can be passed to TensorFlow.

    Raises:
      UserError: the name is not valid UTF-8; Python keeps other bytes as lone surrogates.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: the name is not valid UTF-8, which TensorFlow needs; choose another one") from error


def _check_written_name(path: str, called: str) -> None:
    """Refuses the name of a new local file or folder that is a mistake or leaves no room for `atomic_write`."""
    check_utf_8(path)
    if path.startswith("~"):
        raise UserError(f"{called}: the shell has not replaced the ~; write the path in full, or with $HOME")
    for part in Path(path).absolute().parts:
        if len(part.encode()) > _MAX_NAME_BYTES:
            raise UserError(f"{called}: {part[:20]}... has more than {_MAX_NAME_BYTES} bytes; choose a shorter name")


def _call_remote(action: str, path: str, call: Callable[[ModuleType], T]) -> T:
    """Returns `call(file_system(path))`; turns TensorFlow's errors into a `UserError`."""
    import tensorflow as tf

    try:
        return call(file_system(path))
    except tf.errors.OpError as error:
        raise UserError(f"{path}: could not be {action} ({type(error).__name__}: {error.message})") from error
