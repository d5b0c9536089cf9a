"""A whole corpus to a folder of shards and a manifest: the library call behind the command `make_tfrecords`.

    Corpus  ->  one `Task` per recording  ->  runner  ->  an entry or an error message each  ->  manifest

`preprocess_recording` is the unit of work: it turns one task into committed files and depends on nothing else, so that
a runner may call it anywhere and in any order. The runner is a plain callable; `tfrecords_tools.run_local` uses the
processes of this machine.
"""

import dataclasses
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from affect import storage
from affect.data.manifest import Manifest, RecordingEntry, read_manifest
from affect.errors import UserError
from affect.media.feature_tables import read_feature_table
from affect.timebase import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ
from tfrecords_tools.corpora.labels import scale_remarks
from tfrecords_tools.corpora.layouts import Corpus
from tfrecords_tools.corpora.recording import Recording
from tfrecords_tools.run_local import run_local
from tfrecords_tools.shard_folder import MadeOf, OutputFolder
from tfrecords_tools.shards import PREPROCESSING_VERSION, Preprocessing, preprocess

# An error message is one line; if there are more, all of them are printed before it.
_MAX_LISTED = 3
_MAX_CAUSE_CHARACTERS = 500
# Errors whose message says by itself what is wrong: of our own code, of files, of memory, of OpenCV.
_EXPECTED_ERRORS = (UserError, OSError, MemoryError, cv2.error)

# The result for one recording: its entry in the manifest, or why it failed.
Outcome = RecordingEntry | str


@dataclass(frozen=True)
class Task:
    """Everything that is needed to preprocess one recording; picklable.

    Attributes:
      root: the corpus folder.
      recording: the recording.
      made_of: what the recording is made of, to recognise it in a later run.
      settings: settings of the preprocessing.
      output: the folder to which the files are committed.
    """

    root: str
    recording: Recording
    made_of: MadeOf
    settings: Preprocessing
    output: OutputFolder


# Calls the function once for every task and yields the results, (name of the recording, outcome), in any order.
Runner = Callable[[Callable[[Task], tuple[str, Outcome]], Sequence[Task]], Iterable[tuple[str, Outcome]]]


def make_tfrecords(
    corpus: Corpus,
    output_dir: str | Path,
    settings: Preprocessing,
    overwrite: bool = False,
    allow_missing: bool = False,
    processes: int | None = None,
) -> dict[str, str]:
    """Preprocesses a whole corpus, or the part of it that an earlier run did not finish.

    Args:
      corpus: from `find_corpus`.
      output_dir: a new folder, or an unfinished one with the same settings; local or on an object store.
      settings: settings of the preprocessing.
      overwrite: replace complete shards, or shards with other settings.
      allow_missing: leave out recordings that are incomplete or fail, and print them, instead of raising an error.
      processes: maximum number of recordings at a time; None means one per core.

    Returns:
      The recordings that were left out, each with the reason.

    Raises:
      UserError: recordings are incomplete or failed (the first ones are named, with the cause), or the output folder
        cannot be used.
    """
    missing = {name: f"missing: {', '.join(pieces)}" for name, pieces in corpus.listing.missing.items()}
    unreadable, remarks = _check_before_decoding(corpus)
    incomplete = missing | unreadable
    if allow_missing:
        _print_left_out(incomplete)
    elif incomplete:
        if len(incomplete) > _MAX_LISTED:
            for name, reason in incomplete.items():
                print(f"{name}: {reason}")
        counts = [f"{len(missing)} recording(s) are incomplete"] if missing else []
        counts += [f"files of {len(unreadable)} recording(s) cannot be used"] if unreadable else []
        raise UserError(
            f"{corpus.root}: {' and '.join(counts)}: {_listed(incomplete)}; complete or correct them, or leave them "
            "out with --allow_missing"
        )
    for remark in remarks:
        print(remark)
    recordings = [recording for recording in corpus.listing.recordings if recording.name not in incomplete]
    if not recordings:
        raise UserError(f"{corpus.root}: no complete recording")
    if not str(output_dir):
        raise UserError("--output_dir is empty")
    output = OutputFolder(str(output_dir))
    try:
        with output.locked():
            if output.start(_folder_settings(corpus, settings), overwrite):
                left_out = _left_out_before(recordings, output)
                _print_left_out({name: reason for name, reason in left_out.items() if name not in incomplete})
                return left_out
            runner = partial(run_local, processes=processes)
            outcomes = _preprocess_all(corpus.root, recordings, settings, output, runner)
            return _finish(corpus, settings, output, recordings, outcomes, incomplete, allow_missing)
    except OSError as error:  # of the output folder: disk full, no permission, a file in its place
        raise UserError(f"{output_dir}: cannot be written ({error})") from error


def preprocess_recording(task: Task) -> tuple[str, Outcome]:
    """Makes and commits the files of one recording.

    Returns:
      The name of the recording with its manifest entry, or with the message of the error that made it fail.
    """
    recording = task.recording
    try:
        with task.output.staging() as staging, tempfile.TemporaryDirectory(prefix="affect-") as fetched:
            entry = preprocess(recording, partial(_local, task.root, Path(fetched)), task.settings, staging)
            task.output.commit(staging, entry, task.made_of)
    except Exception as error:  # whatever a file does to a decoder, the other recordings are not affected
        return recording.name, _cause(error)
    return recording.name, entry


def _cause(error: Exception) -> str:
    """Returns one line that says what went wrong; of an error that no code here expects, also its type and origin."""
    message = " ".join(str(error).split())[:_MAX_CAUSE_CHARACTERS]
    if isinstance(error, _EXPECTED_ERRORS):
        return message or type(error).__name__
    origin = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(origin.filename).name}, line {origin.lineno}"
    return f"unexpected {type(error).__name__} in {where}" + (f": {message}" if message else "")


def _check_before_decoding(corpus: Corpus) -> tuple[dict[str, str], list[str]]:
    """Reads all labels, frame times and face boxes, and the beginning of feature tables, before hours of decoding.

    Feature tables on an object store are not fetched twice; their recordings fail before they are decoded.

    Returns:
      The recordings with unreadable files, each with the reason, and remarks on the scale of the labels.
    """
    faults = {}
    lowest, highest = [], []
    for recording in corpus.listing.recordings:
        with tempfile.TemporaryDirectory(prefix="affect-") as fetched:
            local = partial(_local, corpus.root, Path(fetched))
            try:
                for source in filter(None, (recording.frame_times, recording.face_boxes)):
                    source.read(*map(local, source.files))
                for file in recording.features.values() if not storage.is_remote(corpus.root) else ():
                    read_feature_table(local(file), head_only=True)
                if recording.labels:
                    labels = recording.labels.read(*map(local, recording.labels.files))
                    lowest.append(labels.min(axis=0))
                    highest.append(labels.max(axis=0))
            except Exception as error:
                faults[recording.name] = _cause(error)
    return faults, scale_remarks(np.min(lowest, axis=0), np.max(highest, axis=0)) if lowest else []


def _preprocess_all(
    root: str, recordings: list[Recording], settings: Preprocessing, output: OutputFolder, runner: Runner
) -> dict[str, Outcome]:
    """Returns the outcome of every recording; recordings that an earlier run finished are not made again."""
    outcomes: dict[str, Outcome] = {}
    tasks = []
    for recording in recordings:
        try:
            made_of = _made_of(recording, root)
        except OSError as error:  # removed since the corpus was listed
            outcomes[recording.name] = _cause(error)
            continue
        entry = output.finished(recording.name, made_of)
        if entry is None:
            tasks.append(Task(root, recording, made_of, settings, output))
        else:
            outcomes[recording.name] = entry
    finished = sum(isinstance(outcome, RecordingEntry) for outcome in outcomes.values())
    if finished:
        print(f"continuing {output.path}: {finished} of {len(recordings)} recordings are finished")
    with tqdm(total=len(tasks), desc="recordings", unit="rec", disable=not tasks) as progress:
        for name, outcome in runner(preprocess_recording, tasks):
            outcomes[name] = outcome
            progress.update()
    return outcomes


def _finish(
    corpus: Corpus,
    settings: Preprocessing,
    output: OutputFolder,
    recordings: list[Recording],
    outcomes: dict[str, Outcome],
    incomplete: dict[str, str],
    allow_missing: bool,
) -> dict[str, str]:
    """Writes the manifest, unless recordings failed and may not be left out; returns those that were left out."""
    failed = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)}
    in_order = (outcomes[recording.name] for recording in recordings)
    entries = tuple(outcome for outcome in in_order if isinstance(outcome, RecordingEntry))
    if allow_missing:
        _print_left_out(failed)
    elif len(failed) > _MAX_LISTED:
        for name, cause in failed.items():
            print(f"failed {name}: {cause}")
    if not entries:
        output.abandon()
        raise UserError(f"every recording failed: {_listed(failed)}")
    if failed and not allow_missing:
        raise UserError(
            f"{len(failed)} of {len(outcomes)} recording(s) failed: {_listed(failed)}; the others are kept in "
            f"{output.path}: repair the failed ones and run the command again, or leave them out with --allow_missing"
        )
    left_out = incomplete | failed
    manifest = Manifest(
        layout=corpus.layout,
        synthetic=corpus.synthetic,
        frame_rate_hz=FRAME_RATE_HZ,
        sample_rate_hz=SAMPLE_RATE_HZ,
        frame_samples=FRAME_SAMPLES,
        crop_size=settings.crop_size,
        frames_per_record=settings.frames_per_record,
        preprocessing=_manifest_settings(corpus, settings),
        left_out={name: _without_folders(reason, corpus.root) for name, reason in left_out.items()},
        recordings=entries,
    )
    expected = {path for entry in entries for path in (*entry.shards, entry.features)}
    expected |= {f"contact_sheets/{entry.name}.png" for entry in entries if entry.has_video}
    output.complete(manifest.to_json(), expected)
    return left_out


def _left_out_before(recordings: list[Recording], output: OutputFolder) -> dict[str, str]:
    """Returns what a complete folder left out, after checking that it has the recordings that the corpus has now."""
    manifest = read_manifest(output.path)
    before = {(entry.name, entry.partition) for entry in manifest.recordings}
    # A recording that was incomplete and is complete now is a difference. One that failed would have to be tried again.
    failed = {name for name, reason in manifest.left_out.items() if not reason.startswith("missing")}
    now = {(recording.name, recording.partition) for recording in recordings if recording.name not in failed}
    if before != now:
        names = sorted({name for name, _ in before ^ now})
        raise UserError(
            f"{output.path} is complete, but the corpus has other recordings or partitions now ({', '.join(names)}); "
            "replace the folder with --overwrite, or choose another --output_dir"
        )
    print(
        f"{output.path} is already complete; nothing was done. If files of the corpus have changed since, make it "
        "again with --overwrite"
    )
    return manifest.left_out


def _made_of(recording: Recording, root: str) -> MadeOf:
    """Returns everything that determines a recording's shards, apart from the settings."""
    return MadeOf(
        partition=recording.partition,
        subject=recording.subject,
        audio=recording.audio,
        video=recording.video,
        files={name: storage.stamp(storage.join(root, name)) for name in recording.files},
    )


def _local(root: str, fetched: Path, relative: str) -> Path:
    """Returns the local path of a corpus file; a remote file is fetched into the folder `fetched` once."""
    if not storage.is_remote(root):
        return Path(root) / relative
    path = fetched / relative
    if not path.exists():
        storage.fetch(storage.join(root, relative), path)
    return path


def _manifest_settings(corpus: Corpus, settings: Preprocessing) -> dict[str, Any]:
    content = {**dataclasses.asdict(settings), "split": corpus.split, "gold_standard": corpus.gold_standard}
    return content | {"version": PREPROCESSING_VERSION}


def _folder_settings(corpus: Corpus, settings: Preprocessing) -> dict[str, Any]:
    """Returns what must be the same for a folder to be continued."""
    return {"layout": corpus.layout, "synthetic": corpus.synthetic} | _manifest_settings(corpus, settings)


def _without_folders(reason: str, root: str) -> str:
    """Removes the corpus folder from a reason: a manifest holds no paths of the machine that wrote it."""
    return reason.replace(f"{root.rstrip('/')}/", "")


def _print_left_out(reasons: dict[str, str]) -> None:
    for name, reason in reasons.items():
        print(f"left out {name}: {reason}")


def _listed(reasons: dict[str, str]) -> str:
    first = [f"{name}: {reason}" for name, reason in islice(reasons.items(), _MAX_LISTED)]
    more = [f"and {len(reasons) - len(first)} more"] if len(reasons) > len(first) else []
    return "; ".join(first + more)
