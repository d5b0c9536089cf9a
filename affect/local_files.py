"""Functions for local files: they appear complete or not at all, and one process at a time writes them."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from affect.errors import UserError

_MAX_FOLDERS = 5_000
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_HELD = (errno.EAGAIN, errno.EACCES)  # SMB says EACCES


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` for a new file or folder, and renames it when the block ends.

    A half-written result never appears under the final name. An existing file or folder is replaced as a whole; if the
    block raises, it is kept and the temporary one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the suffix: Keras and others infer the file format from it. `remove_leftovers` matches these names.
    temporary, replaced = (path.with_name(f".{os.getpid()}{mark}{path.name}") for mark in ".~")
    remove_local(temporary)  # in a container, a killed process may have had the same id
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():  # os.replace replaces a folder only if that is empty
            remove_local(replaced)
            os.replace(path, replaced)
        try:
            os.replace(temporary, path)
        except OSError:
            if replaced.exists():
                os.replace(replaced, path)
            raise
        remove_local(replaced)
    finally:
        remove_local(temporary)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Removes what a killed process left in a folder (see `atomic_write`); restores a folder that was being replaced.

    Args:
      folder: folder to clean; no other process may be writing there.
      name: final name of the file or folder whose leftovers to remove; empty for all leftovers.
    """
    for leftover in sorted(folder.glob(".*")):
        form = re.fullmatch(r"\.\d+([.~])(.+)", leftover.name)
        if form is None or name not in ("", form[2]):
            continue
        if form[1] == "~" and not (folder / form[2]).exists():
            os.replace(leftover, folder / form[2])
        else:
            remove_local(leftover)


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Holds an exclusive lock on a local file while the block runs, against processes on all machines that see it.

    The lock ends with the process and those forked from it, however they end. Linux passes it on to NFS and SMB
    servers. On a file system that has no locks, a remark on stderr says so, and the block runs all the same.

    Args:
      path: the lock file; it is created, with its folder, and stays.
      refusal: the error message if another process, or another block of this one, holds the lock.

    Raises:
      UserError: the lock is held, or the file cannot be opened for writing.
    """
    lock = _open_locked(path, refusal)
    try:
        yield
    finally:
        os.close(lock)  # ends the lock


def _open_locked(path: Path, refusal: str) -> int:
    """Returns the file descriptor of the lock file, locked."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # For writing, because NFS grants exclusive locks on such files only.
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise UserError(f"{path}: cannot be opened as a lock file ({error.strerror})") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                print(f"{path}: this file system has no locks; start no second process here", file=sys.stderr)
                return lock
            os.close(lock)
            if error.errno in _HELD:
                raise UserError(refusal) from error
            raise
        if os.fstat(lock).st_nlink > 0:
            return lock
        os.close(lock)  # the holder before us removed the file: another process may lock a new one at the path


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a local file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_local(path: Path) -> None:
    """Removes a file, a link, or a folder with its content; does nothing if the path does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def list_local(folder: Path) -> frozenset[str]:
    """Returns all files below a folder as relative paths with forward slashes; follows links, but not in circles.

    Raises:
      UserError: the folder cannot be read, or has too many folders below it.
    """
    names: dict[str, list[str]] = {}
    _list(folder, "", (), names)
    return frozenset(prefix + name for prefix, in_folder in names.items() for name in in_folder)


def obstacle(folder: Path) -> Path | None:
    """Returns the file or broken link in whose place a folder would have to be, or above it; None if there is none."""
    for path in (folder.absolute(), *folder.absolute().parents):
        if os.path.lexists(path):
            return None if path.is_dir() else path
    return None


def _list(folder: Path, prefix: str, above: tuple[str, ...], names: dict[str, list[str]]) -> None:
    """Adds the file names of a folder and its subfolders to `names`, keyed by relative path with a slash at the end."""
    real = os.path.realpath(folder)
    if real in above:  # a link to one of the folders above
        return
    if len(names) >= _MAX_FOLDERS:
        raise UserError(f"{folder}: more than {_MAX_FOLDERS} folders; check for links that lead in circles")
    try:
        items = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
    names[prefix] = []
    for item in items:
        # A broken link is neither a folder nor a file.
        if os.path.isdir(item.path):
            _list(Path(item.path), f"{prefix}{item.name}/", (*above, real), names)
        elif os.path.isfile(item.path):
            names[prefix].append(item.name)
