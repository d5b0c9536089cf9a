"""The output folder: complete, or marked as unfinished and ready to be continued; never something between.

    OUTPUT_DIR/
      manifest.json                  written last: with it the folder is complete
      train/ dev/ test/              shards, each moved here whole
      features/ contact_sheets/
      .unfinished/                   gone once the manifest stands
        settings.json                what the shards are made with
        recordings/{recording}.json  a finished one: its entry, and what it was made of
        staging-{process}/           where a shard lies while it is written (not on object stores)

A run that was killed anywhere is continued by the same command, and the end has the same bytes. A recording whose files
have changed since is made again.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affect import storage
from affect.config import PARTITIONS
from affect.data.manifest import MANIFEST_NAME, entry_from_json
from affect.errors import UserError

_UNFINISHED = ".unfinished"
_FINISHED = f"{_UNFINISHED}/recordings"
# Folders that we write, and what the names of our files in them end in.
_OURS = dict.fromkeys(PARTITIONS, ".tfrecord") | {"features": ".h5", "contact_sheets": ".png"}

# What a recording is made of, as JSON: if it is the same, its shards are.
MadeOf = dict[str, Any]


@dataclass(frozen=True)
class OutputFolder:
    """A folder of shards while it is written; every process has its own copy.

    Attributes:
      path: of the folder, here or on an object store.
    """

    path: str

    def start(self, settings: dict[str, Any], overwrite: bool) -> bool:
        """Makes the folder ready, after checking that nothing else is lost by it.

        Args:
          settings: what the shards are to be made with.
          overwrite: throw away complete shards, or ones made with other settings.

        Returns:
          Whether the folder is complete already.

        Raises:
          UserError: a folder that is not ours or holds shards of other settings; both are shown.
        """
        storage.check_writable(self.path)
        complete, unfinished = self._read(MANIFEST_NAME), self._read(f"{_UNFINISHED}/settings.json")
        foreign = any(not _is_ours(content) for content in (complete, unfinished) if content is not None)
        if foreign or (complete is None and unfinished is None and self._holds_anything()):
            raise UserError(
                f"{self.path} is not empty, and make_tfrecords did not write it; choose another --output_dir"
            )
        theirs = _settings_of(complete) if complete is not None else unfinished
        if theirs is not None and theirs != settings and not overwrite:
            raise UserError(
                f"{self.path} was made with other settings: {_differences(theirs, settings)}; replace it with "
                "--overwrite, or choose another --output_dir"
            )
        if complete is not None and not overwrite:
            storage.remove(storage.join(self.path, _UNFINISHED))  # killed between the manifest and the end
            return True
        if overwrite and (complete is not None or unfinished != settings):
            self._clear()
        storage.write_bytes(storage.join(self.path, f"{_UNFINISHED}/settings.json"), _as_json(settings))
        if not storage.is_remote(self.path):
            for leftover in (Path(self.path) / _UNFINISHED).glob("staging-*"):
                shutil.rmtree(leftover)
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second run out of the same folder of this machine.

        Raises:
          UserError: another run is at work in it.
        """
        if storage.is_remote(self.path):
            yield
            return
        folder = Path(self.path) / _UNFINISHED
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UserError(f"{self.path}: another make_tfrecords is writing it") from error
        try:
            yield
        finally:
            (folder / "lock").unlink(missing_ok=True)
            os.close(lock)
            for empty in (folder, folder.parent):
                if empty.is_dir() and not any(empty.iterdir()):
                    empty.rmdir()

    def finished(self, name: str, made_of: MadeOf) -> dict[str, Any] | None:
        """The entry of a recording that an earlier run finished from the same things, if its files are still there."""
        done = self._read(f"{_FINISHED}/{name}.json")
        if done is None or done.get("made_of") != made_of:
            return None
        try:
            entry = entry_from_json(done["entry"])
        except (TypeError, ValueError, KeyError):
            return None
        files = [*zip(entry.shards, entry.sha256, strict=True), (entry.features, entry.features_sha256)]
        there = all(self._holds(relative, digest) for relative, digest in files if relative)
        return done["entry"] if there else None

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of this machine to write a recording's files into."""
        if storage.is_remote(self.path):
            with tempfile.TemporaryDirectory(prefix="affect-") as folder:
                yield Path(folder)
            return
        folder = Path(self.path) / _UNFINISHED / f"staging-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, staging: Path, entry: dict[str, Any], made_of: MadeOf) -> None:
        """Moves a recording's files to their places, and then says that it is finished."""
        for path in sorted(staging.rglob("*")):
            if path.is_file():
                storage.put(path, storage.join(self.path, path.relative_to(staging).as_posix()))
        done = _as_json({"entry": entry, "made_of": made_of})
        storage.write_bytes(storage.join(self.path, f"{_FINISHED}/{entry['name']}.json"), done)

    def complete(self, manifest_json: str, expected: set[str]) -> None:
        """Removes files of recordings that are no longer there, writes the manifest, and ends the unfinished state.

        Args:
          manifest_json: the manifest.
          expected: paths below the folder of everything that belongs to it.
        """
        self._remove_ours(expected)
        storage.write_bytes(storage.join(self.path, MANIFEST_NAME), manifest_json.encode())
        storage.remove(storage.join(self.path, _UNFINISHED))
        if not storage.is_remote(self.path):
            for leftover in Path(self.path).glob(f".*.{MANIFEST_NAME}"):
                leftover.unlink()  # a manifest that a killed run was writing

    def abandon(self) -> None:
        """Leaves nothing behind of a run that finished no recording."""
        storage.remove(storage.join(self.path, _UNFINISHED))

    def _holds_anything(self) -> bool:
        if storage.is_remote(self.path):
            return bool(storage.list_files(self.path))
        path = Path(self.path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{self.path} is a file; choose another --output_dir")
        # Our own lock, or what a run left that was killed before it could say what it was doing.
        return path.is_dir() and any(item.name != _UNFINISHED for item in path.iterdir())

    def _clear(self) -> None:
        """Removes what we wrote, the manifest first; other files in the folder are left alone."""
        for name in (MANIFEST_NAME, _UNFINISHED):
            storage.remove(storage.join(self.path, name))
        self._remove_ours(expected=set())

    def _remove_ours(self, expected: set[str]) -> None:
        """Removes files of our kinds from our folders, but for the expected ones; never through a link."""
        if storage.is_remote(self.path):
            listed = [relative for relative in storage.list_files(self.path) if relative.count("/") == 1]
        else:
            folders = [folder for folder in _OURS if not (Path(self.path) / folder).is_symlink()]
            paths = [path for folder in folders for path in (Path(self.path) / folder).glob("*") if path.is_file()]
            listed = [path.relative_to(self.path).as_posix() for path in paths]
        for relative in set(listed) - expected:
            folder, _, name = relative.partition("/")
            if folder in _OURS and name.endswith(_OURS[folder]):
                storage.remove(storage.join(self.path, relative))
        if not storage.is_remote(self.path):
            for folder in _OURS:
                path = Path(self.path) / folder
                if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                    path.rmdir()

    def _holds(self, relative: str, digest: str) -> bool:
        """Whether a file is there; on this machine also whether it is still the same."""
        path = storage.join(self.path, relative)
        if not storage.exists(path):
            return False
        return storage.is_remote(path) or sha256_of(Path(path)) == digest

    def _read(self, relative: str) -> dict[str, Any] | None:
        """A JSON file of ours; None where it is missing."""
        path = storage.join(self.path, relative)
        if not storage.exists(path):
            return None
        try:
            content = json.loads(storage.read_bytes(path))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: not JSON ({type(error).__name__}: {error}); choose another --output_dir"
            ) from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: not what make_tfrecords writes; choose another --output_dir")
        return content


def sha256_of(path: Path) -> str:
    """Of a file of this machine."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_ours(content: dict[str, Any]) -> bool:
    """Whether we wrote a manifest, or the settings of an unfinished run."""
    program = str(content.get("written_by")).split(" ")
    return (
        program[0] == "affect"
        and program[-1] == "make_tfrecords"
        and isinstance(content.get("preprocessing", {}), dict)
    )


def _settings_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says that `OutputFolder.start` is given."""
    return {
        "written_by": manifest.get("written_by"),
        "layout": manifest.get("layout"),
        "synthetic": manifest.get("synthetic"),
        **manifest.get("preprocessing", {}),
    }


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    names = [name for name in ours | theirs if theirs.get(name) != ours.get(name)]
    return ", ".join(f"{name} {theirs.get(name)!r} there and {ours.get(name)!r} now" for name in names)


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
