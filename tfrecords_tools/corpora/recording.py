"""What a corpus consists of: which files make up a recording and how they are read. Nothing is decoded here.

All paths are relative to the corpus folder, so that they are valid on disk, on an object store and in an error message.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from affect.config import PARTITIONS
from affect.data.manifest import RecordingEntry, is_recording_name
from affect.errors import UserError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".ts")
TABLE_SUFFIXES = (".arff", ".csv")


@dataclass(frozen=True)
class Source:
    """Files and the functions that read them. Functions must be picklable because other processes call them.

    Attributes:
      read: `read(*paths)` returns the content.
      files: the files, relative to the corpus folder.
      remarks: `remarks(*paths)` returns what a person should know about the content; None: nothing.
    """

    read: Callable[..., Any]
    files: tuple[str, ...]
    remarks: Callable[..., list[str]] | None = None


@dataclass(frozen=True)
class Recording:
    """One recording of a corpus.

    Attributes:
      name: unique in the corpus; the shards are named after it.
      partition: "train", "dev" or "test".
      subject: the person in the recording if the corpus says who it is; otherwise the recording's name.
      audio: a sound file, or a video file with a sound track; None: the sound of `video`, if it has any.
      video: a video file; None if the recording has no video.
      labels: reads float32 [frames, 2]; None if the corpus withholds them.
      frame_times: reads the corrected time in seconds of every picture; None: the timestamps in the video file.
      face_boxes: reads (times in seconds [rows], boxes [rows, 4]); None: faces are detected.
      features: handcrafted features that the corpus ships: file by name of the table.
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
                f"recording {self.name!r}: files will have this name, so it may contain letters, digits, '_', '-' and "
                "'.', must not start with '.', and may have up to 100 bytes"
            )
        if self.partition not in PARTITIONS:
            raise UserError(
                f"recording {self.name}: partition {self.partition!r} must be one of {', '.join(PARTITIONS)}"
            )

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
    """The recordings of a corpus.

    Attributes:
      recordings: the complete ones, in the corpus' order.
      missing: by name of each incomplete recording, the files that it lacks.
      remarks: what the user should know before hours of preprocessing start.
    """

    recordings: list[Recording]
    missing: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def partition_remarks(recordings: Sequence[Recording | RecordingEntry]) -> list[str]:
    """Returns what keeps the partitions from being used as they are meant to.

    Args:
      recordings: all recordings of a corpus, or all that a manifest lists.

    Returns:
      A remark for each subject that is in several partitions, and for each of train and dev that is empty.
    """
    remarks = []
    by_subject: dict[str, list[Recording | RecordingEntry]] = {}
    for recording in recordings:
        by_subject.setdefault(recording.subject.casefold(), []).append(recording)
    for of_subject in by_subject.values():
        names = {
            partition: ", ".join(one.name for one in of_subject if one.partition == partition)
            for partition in PARTITIONS
            if any(one.partition == partition for one in of_subject)
        }
        if len(names) > 1:
            where = " and in ".join(f"{partition} ({listed})" for partition, listed in names.items())
            remarks.append(
                f"subject {of_subject[0].subject} is in {where}: scores will say less about people who are not in train"
            )
    filled = {recording.partition for recording in recordings}
    if "train" not in filled:
        remarks.append("no recording is in partition train: no network can be trained on these shards")
    if "dev" not in filled:
        remarks.append("no recording is in partition dev, which train.py and eval.py need")
    return remarks
