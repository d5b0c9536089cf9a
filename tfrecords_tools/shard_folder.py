"""The output folder of make_tfrecords: either complete, or marked as unfinished so that a later run can continue it.

    OUTPUT_DIR/
      manifest.json                  written last; its presence means that the folder is complete
      train/ dev/ test/              shards, each moved here when it is complete
      features/ contact_sheets/
      .unfinished/                   removed once the manifest is written
        settings.json                the settings of the shards
        recordings/{recording}.json  one per finished recording: its manifest entry and its source files
        staging-{process}/           shards that are being written (a temporary folder for object stores)
        lock                         held by the run that is writing

The same command continues a run that was killed at any point, and the result is byte-identical to that of an
uninterrupted run. A recording whose source files have changed in the meantime is converted again.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from affect import storage
from affect.config import PARTITIONS
from affect.data.manifest import MANIFEST_NAME, WRITTEN_BY, RecordingEntry
from affect.errors import UserError

_UNFINISHED = ".unfinished"
_FINISHED = f"{_UNFINISHED}/recordings"
_LOCK = "lock"
# The folders that make_tfrecords writes, and the suffix of its files in each of them.
_OURS = dict.fromkeys(PARTITIONS, ".tfrecord") | {"features": ".h5", "contact_sheets": ".png"}


class MadeOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sources of a recording's shards; equal sources and equal settings give equal shards.

    Attributes:
      partition, subject, audio, video: as in `tfrecords_tools.corpora.recording.Recording`.
      files: by path relative to the corpus folder, each file's size in bytes and modification time in ns.
    """

    partition: str
    subject: str
    audio: str | None
    video: str | None
    files: dict[str, tuple[int, int]]


class _FinishedRecording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of `recordings/{recording}.json`."""

    entry: RecordingEntry
    made_of: MadeOf


@dataclass(frozen=True)
class OutputFolder:
    """A folder of shards that is being written. It can be pickled, because every worker process gets a copy.

    Attributes:
      path: path of the folder, local or on an object store.
    """

    path: str

    def start(self, settings: dict[str, Any], overwrite: bool) -> bool:
        """Prepares the folder for writing, after checking that nothing is deleted that should be kept.

        Args:
          settings: everything besides the corpus that determines the shards.
          overwrite: delete complete shards, or shards with other settings.

        Returns:
          Whether the folder is already complete.

        Raises:
          UserError: make_tfrecords did not write the folder, or it holds shards with other settings and
            `overwrite` is False.
        """
        storage.check_writable(self.path)
        complete, unfinished = self._read(MANIFEST_NAME), self._read(f"{_UNFINISHED}/settings.json")
        foreign = any(not _is_ours(content) for content in (complete, unfinished) if content is not None)
        if foreign or (complete is None and unfinished is None and self._holds_anything()):
            raise UserError(
                f"{self.path} is not empty and was not written by make_tfrecords; choose another --output_dir"
            )
        differences = _differences(complete if complete is not None else unfinished, settings)
        if differences and not overwrite:
            raise UserError(
                f"{self.path} was made with other settings: {differences}; replace it with --overwrite, or choose "
                "another --output_dir"
            )
        if complete is not None and not overwrite:
            storage.remove(storage.join(self.path, _UNFINISHED))  # left by a run killed after writing the manifest
            return True
        if overwrite and (complete is not None or unfinished is None or differences):
            self._clear()
        content = {"written_by": WRITTEN_BY, **settings}
        storage.write_json(storage.join(self.path, f"{_UNFINISHED}/settings.json"), content)
        if not storage.is_remote(self.path):
            for leftover in (Path(self.path) / _UNFINISHED).glob("staging-*"):
                shutil.rmtree(leftover)
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Prevents a second run from writing into the same local folder; folders on object stores are not locked.

        Raises:
          UserError: another run is writing into the folder.
        """
        if storage.is_remote(self.path):
            yield
            return
        folder = Path(self.path) / _UNFINISHED
        refusal = (
            f"{self.path}: another make_tfrecords is writing into this folder; wait for it, or choose another "
            "--output_dir"
        )
        with storage.locked(folder / _LOCK, refusal):
            try:
                yield
            finally:
                (folder / _LOCK).unlink(missing_ok=True)
                for empty in (folder, folder.parent):
                    if empty.is_dir() and not any(empty.iterdir()):
                        empty.rmdir()

    def finished(self, name: str, made_of: MadeOf) -> RecordingEntry | None:
        """Returns the entry of a recording that an earlier run finished from the same files.

        None means that the recording must be converted (again): it is not finished, its source files have changed, or
        its shards or its entry are missing or damaged.
        """
        content = self._read(f"{_FINISHED}/{name}.json")
        if content is None:
            return None
        try:
            done = msgspec.convert(content, _FinishedRecording)
        except msgspec.ValidationError:
            return None
        entry = done.entry
        if done.made_of != made_of or len(entry.shards) != len(entry.sha256):
            return None
        files = [*zip(entry.shards, entry.sha256, strict=True), (entry.features, entry.features_sha256)]
        intact = all(self._holds(relative, digest) for relative, digest in files if relative)
        return entry if intact else None

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yields a local folder for the files of one recording; it is removed afterwards."""
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

    def commit(self, staging: Path, entry: RecordingEntry, made_of: MadeOf) -> None:
        """Moves the files of a recording from the staging folder to their final places, and marks it as finished."""
        for path in sorted(staging.rglob("*")):
            if path.is_file():
                storage.put(path, storage.join(self.path, path.relative_to(staging).as_posix()))
        done = _FinishedRecording(entry, made_of)
        storage.write_json(storage.join(self.path, f"{_FINISHED}/{entry.name}.json"), done)

    def complete(self, manifest_json: str, expected: set[str]) -> None:
        """Completes the folder: removes files of recordings that are no longer in the corpus, and writes the manifest.

        Args:
          manifest_json: the manifest.
          expected: paths, relative to the folder, of all files that the manifest names.
        """
        self._remove_ours(expected)
        storage.write_bytes(storage.join(self.path, MANIFEST_NAME), manifest_json.encode())
        storage.remove(storage.join(self.path, _UNFINISHED))
        if not storage.is_remote(self.path):
            # Only temporary manifests: the folder may hold other people's hidden files.
            for leftover in Path(self.path).glob(f".*.{MANIFEST_NAME}"):
                leftover.unlink()  # left by a run that was killed while writing it

    def abandon(self) -> None:
        """Removes the traces of a run that finished no recording."""
        storage.remove(storage.join(self.path, _UNFINISHED))

    def _holds_anything(self) -> bool:
        if storage.is_remote(self.path):
            return bool(storage.list_files(self.path))
        path = Path(self.path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{self.path} is a file; choose another --output_dir")
        # `.unfinished` does not count: it may hold only our lock, or come from a run killed before it wrote settings.
        return path.is_dir() and any(item.name != _UNFINISHED for item in path.iterdir())

    def _clear(self) -> None:
        """Removes everything that make_tfrecords wrote, starting with the manifest; keeps the lock and other files."""
        storage.remove(storage.join(self.path, MANIFEST_NAME))
        if storage.is_remote(self.path):
            storage.remove(storage.join(self.path, _UNFINISHED))
        else:
            for path in (Path(self.path) / _UNFINISHED).glob("*"):
                if path.name != _LOCK:
                    storage.remove(str(path))
        self._remove_ours(expected=set())

    def _remove_ours(self, expected: set[str]) -> None:
        """Removes our files from our folders, except for the expected ones; does not follow links to other folders."""
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
        """Whether a file exists and, for local files, has this SHA-256."""
        path = storage.join(self.path, relative)
        if not storage.exists(path):
            return False
        return storage.is_remote(path) or storage.sha256_of(Path(path)) == digest

    def _read(self, relative: str) -> dict[str, Any] | None:
        """Returns the JSON object in a file of the folder; None if the file does not exist."""
        path = storage.join(self.path, relative)
        if not storage.exists(path):
            return None
        try:
            return storage.read_json(path, dict[str, Any])
        except UserError as error:
            raise UserError(f"{error}; make_tfrecords did not write this file; choose another --output_dir") from error


def _is_ours(content: dict[str, Any]) -> bool:
    """Whether make_tfrecords wrote this manifest, or these settings of an unfinished run."""
    program = str(content.get("written_by")).split(" ")
    return (
        program[0] == "affect"
        and program[-1] == "make_tfrecords"
        and isinstance(content.get("preprocessing", {}), dict)
    )


def _settings_of(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings in a manifest, or of an unfinished run, in the form that `OutputFolder.start` takes."""
    if "preprocessing" in content:
        content = {name: content.get(name) for name in ("layout", "synthetic")} | content["preprocessing"]
    # Which release wrote the folder says nothing about its shards; "version" does, which 0.1.0 did not write.
    return {"version": 1} | {name: value for name, value in content.items() if name != "written_by"}


def _differences(content: dict[str, Any] | None, settings: dict[str, Any]) -> str:
    """Returns how these settings differ from those that `_settings_of` finds; empty if nothing does."""
    if content is None:
        return ""
    theirs = _settings_of(content)
    names = [name for name in settings | theirs if theirs.get(name) != settings.get(name)]
    return ", ".join(f"{name} was {theirs.get(name)!r} and is now {settings.get(name)!r}" for name in names)
