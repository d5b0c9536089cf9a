"""What every corpus reader yields: which files make a recording, and how to read them. Nothing is decoded here.

All paths are relative to the corpus folder, so that they mean the same on disk, on an object store and in an error.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from affect import storage
from affect.config import PARTITIONS
from affect.data.manifest import is_recording_name
from affect.errors import UserError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".ts")
TABLE_SUFFIXES = (".arff", ".csv")


@dataclass(frozen=True)
class Source:
    """Files and what reads them: `read(*paths)`; it must be picklable, since another process calls it."""

    read: Callable[..., Any]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Recording:
    """One recording of a corpus.

    Attributes:
      name: unique in the corpus; names the shards.
      partition: "train", "dev" or "test".
      subject: who is heard and seen, where the corpus says so; else the name.
      audio: a sound file, or a video file with a sound track; None: the video's own sound, if it has any.
      video: a video file; None where there is none.
      labels: reads float32 [frames, 2]; None where the corpus withholds them.
      frame_times: reads the corrected time in seconds of every picture; None: the video's own count.
      face_boxes: reads (times in seconds [rows], boxes [rows, 4]); None: faces are detected.
      features: handcrafted ones that the corpus ships, file by name of the table.
    """

    name: str
    partition: str
    subject: str
    audio: str | None
    video: str | None
    labels: Source | None = None
    frame_times: Source | None = None
    face_boxes: Source | None = None
    features: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if not is_recording_name(self.name):
            raise UserError(
                f"recording {self.name!r}: a name has letters, digits, '_', '-' and '.', up to 100 bytes and no '.' "
                "first; it becomes the name of files"
            )
        if self.partition not in PARTITIONS:
            raise UserError(f"recording {self.name}: partition {self.partition!r} is none of {', '.join(PARTITIONS)}")

    @property
    def files(self) -> list[str]:
        """All files of the recording, each once."""
        sources = [source for source in (self.labels, self.frame_times, self.face_boxes) if source]
        listed = [
            self.audio,
            self.video,
            *(name for source in sources for name in source.files),
            *self.features.values(),
        ]
        return list(dict.fromkeys(name for name in listed if name))


@dataclass(frozen=True)
class CorpusListing:
    """What a layout found.

    Attributes:
      recordings: complete ones, in the corpus' order.
      missing: pieces that are not there, by recording.
      remarks: what a person should know before hours of work start.
    """

    recordings: list[Recording]
    missing: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class Corpus:
    """The files of a corpus folder, here or elsewhere, listed once and only where somebody asks."""

    def __init__(self, root: str):
        self.root = root
        self._files: frozenset[str] | None = None

    @property
    def files(self) -> frozenset[str]:
        """All files, relative to the folder."""
        if self._files is None:
            self._files = storage.list_files(self.root)
        return self._files

    def has(self, relative: str) -> bool:
        """Whether there is this file; the folder need not be listed for it."""
        return relative in self._files if self._files is not None else storage.exists(storage.join(self.root, relative))

    def pick(self, folder: str, stem: str, suffixes: tuple[str, ...]) -> str | None:
        """The file of that name with the first suffix that there is, in upper or lower case."""
        candidates = (f"{folder}/{stem}{form}" for suffix in suffixes for form in (suffix, suffix.upper()))
        return next((candidate for candidate in candidates if candidate in self.files), None)

    def stems(self, folder: str) -> set[str]:
        """Names of the files that lie in a folder itself, without their suffix."""
        paths = (PurePosixPath(name) for name in self.files if name.startswith(f"{folder}/"))
        return {path.stem for path in paths if path.parent == PurePosixPath(folder)}

    def top_level(self) -> list[str]:
        """What lies in the folder itself; folders end in a slash."""
        return sorted({name.split("/", 1)[0] + ("/" if "/" in name else "") for name in self.files})
