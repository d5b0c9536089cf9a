"""Checks that the shards of a data folder are the files that its manifest describes.

`check_shards` looks at sizes only, before any work. `shard_errors` reads shards record by record after a failure, to
name the one at fault; `inspect_tfrecords` reads all of them with the same function, `checked_records`.
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import tensorflow as tf

from affect import storage
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.records import decode_jpeg, parse
from affect.errors import UserError

_WAY_OUT = "copy the folder of shards again, or make it again with make_tfrecords"


def check_shards(data_dir: str | Path, entries: list[RecordingEntry]) -> None:
    """Checks that every shard of some recordings can be opened and has the size in the manifest.

    Nothing is hashed, because that would read the whole corpus once more before every command: the records carry
    checksums of their own, which are compared when they are read. Manifests of earlier versions hold no sizes; their
    readers find out what is missing, as `affect.data.records.read_frames` counts.

    Raises:
      UserError: a shard is missing, cannot be opened, is empty, or has another size; names the first one.
    """
    for entry in entries:
        if not entry.shards:
            raise UserError(f"{data_dir}: recording {entry.name} has no shards in the manifest; make them again")
        for index, shard in enumerate(entry.shards):
            path = storage.join(data_dir, shard)
            size = _size(path)
            if entry.shard_bytes and size is not None and size != entry.shard_bytes[index]:
                raise UserError(
                    f"{path}: the shard has {size} bytes, but {entry.shard_bytes[index]} in the manifest; {_WAY_OUT}"
                )


def checked_records(data_dir: str | Path, manifest: Manifest, entry: RecordingEntry) -> Iterator[dict[str, tf.Tensor]]:
    """Yields the parsed records of a recording (see `affect.data.records.parse`), in order, each of them checked.

    A record must be readable, continue its recording, and hold crops, sound and labels for the same frames; every crop
    must be a picture of the right size.

    Raises:
      UserError: a shard cannot be read, or a record fails one of these checks; names the shard and the frame.
    """
    frames, previous = 0, ""
    for shard in entry.shards:
        path, first = storage.join(data_dir, shard), True
        _size(path)
        try:
            for fields in _records(path, manifest, entry):
                _check_place(path, fields, entry, frames, previous if first else "")
                _check_counts(path, fields, entry, frames)
                yield fields
                frames += len(fields["labels"])
                first = False
        except tf.errors.OpError as error:
            raise UserError(f"{path}: damaged at frame {frames} ({fault_in_shard(error)})") from error
        previous = path


@contextmanager
def shard_errors(data_dir: str | Path, manifest: Manifest, partitions: Collection[str]) -> Iterator[None]:
    """Turns TensorFlow's errors in reading shards into a `UserError`; use it around what iterates over a dataset.

    Its errors do not say which shard is at fault. Hence the shards are then read until one fails; this takes about as
    long as an epoch without the network.

    Args:
      data_dir: data folder of the shards.
      manifest: its manifest.
      partitions: the partitions that are read in the block.

    Raises:
      UserError: a shard is missing, cut or damaged, or holds other records than it should; names it.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if "IteratorGetNext" not in error.message:  # of the network, and not of the input pipeline
            raise
        for entry in manifest.recordings:
            if entry.partition in partitions:
                _check_recording(data_dir, manifest, entry)
        # Readable now: a server that did not answer, for instance.
        raise UserError(f"the shards in {data_dir} could not be read: {fault_in_shard(error)}") from error


def fault_in_shard(error: tf.errors.OpError) -> str:
    """Returns what an error in reading a shard says, in one line and without the names of TensorFlow's functions."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*|.*transformation with iterator: \S+", "", error.message.split("\n", 1)[0])
    assertion = text.partition("assertion failed: ")[2]
    # An assertion prints each of its values in brackets.
    return " ".join(re.findall(r"\[(.*?)\]", assertion)) or text.strip()


def _check_recording(data_dir: str | Path, manifest: Manifest, entry: RecordingEntry) -> None:
    """Reads all records of a recording, and counts their frames."""
    frames = sum(len(fields["labels"]) for fields in checked_records(data_dir, manifest, entry))
    if frames != entry.frames:
        path = storage.join(data_dir, entry.shards[-1])
        raise UserError(f"{path}: ends after frame {frames} of {entry.frames} of recording {entry.name}; {_WAY_OUT}")


def _size(path: str) -> int | None:
    """Returns the size of a shard in bytes, or None if the web server does not say; checks that it can be opened."""
    if storage.is_remote(path):
        size = storage.stamp(path)[0]
        if storage.is_web(path) and size <= 0:
            return None
    else:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError as error:
            raise UserError(f"{path}: the manifest names this shard, but it is missing; {_WAY_OUT}") from error
        except OSError as error:
            reason = f"it cannot be opened ({error.strerror})"
            raise UserError(f"{path}: the manifest names this shard, but {reason}") from error
    if size == 0:
        raise UserError(f"{path}: the shard is empty; {_WAY_OUT}")
    return size


def _check_place(path: str, fields: dict[str, tf.Tensor], entry: RecordingEntry, frame: int, previous: str) -> None:
    """Checks that a record continues its recording; `previous` is the shard before, if it is the first of its own."""
    recording, start = bytes(fields["recording"].numpy()).decode(errors="replace"), int(fields["start_frame"])
    if (recording, start) == (entry.name, frame):
        return
    if previous and recording == entry.name and start > frame:
        raise UserError(
            f"{previous}: ends after frame {frame}, but the next shard begins with frame {start}; {_WAY_OUT}"
        )
    raise UserError(f"{path}: expected {entry.name} from frame {frame}, found {recording} from frame {start}")


def _check_counts(path: str, fields: dict[str, tf.Tensor], entry: RecordingEntry, frame: int) -> None:
    """Checks that the fields of a record cover the same frames, at least one."""
    counts = {what: len(fields[what]) for what in ("labels", "pcm", "jpeg", "square", "face_found")}
    frames = counts["labels"]
    crops = frames if entry.has_video else 0
    if list(counts.values()) != [frames, frames if entry.has_audio else 0, crops, crops, crops] or not frames:
        raise UserError(f"{path}, frame {frame}: the fields have different numbers of frames: {counts}")


def _records(path: str, manifest: Manifest, entry: RecordingEntry) -> tf.data.Dataset:
    """Returns the parsed records; with video, also "crops", the decoded pictures: decoding is the check of them."""
    decode = partial(decode_jpeg, size=manifest.crop_size, recording=entry.name)

    def read(serialized):
        fields = parse(serialized, manifest.frame_samples)
        if not entry.has_video:
            return fields
        return fields | {"crops": tf.map_fn(decode, fields["jpeg"], fn_output_signature=tf.uint8)}

    return tf.data.TFRecordDataset(path).map(read, tf.data.AUTOTUNE)
