r"""A corpus on disk to TFRecord shards and a manifest.

    CORPUS_DIR (avec2016)                        OUTPUT_DIR
      recordings_audio/train_1.wav                 manifest.json                    written last
      recordings_video/train_1.mp4          ->     train/train_1-00000-of-00001.tfrecord ...
      ratings_gold_standard/...                    features/train_1.h5              if the corpus ships any
      features_audio/...                           contact_sheets/train_1.png       to look at

Per recording: sound to 16 kHz mono PCM; pictures to 25 fps by presentation time; one face followed and cropped to
96 x 96; one label per 40 ms frame. Layouts: avec2016 (AVEC 2015/2016), recola (the original release), tzirakis (the
authors' tree), table (a CSV `recording,partition,audio,video,labels`); auto recognises them.

A run that was stopped is continued by the same command and ends with the same bytes. What is missing is listed before
anything is decoded; recordings that fail are listed at the end, and the others are kept for the next try.

Example:
  python -m tfrecords_tools.make_tfrecords --layout=avec2016 --corpus_dir=data/synthetic --output_dir=data/records
  python -m tfrecords_tools.make_tfrecords --corpus_dir=study/recordings.csv --output_dir=data/study
"""

import atexit
import dataclasses
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import active_children, connection, get_context, parent_process
from pathlib import Path

import cv2
from absl import flags
from tqdm import tqdm

from affect import cli, storage
from affect.data.manifest import WRITTEN_BY, Manifest, entry_from_json, read_manifest
from affect.errors import UserError
from affect.media.faces import DETECTORS
from affect.timebase import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ
from tfrecords_tools.corpora.layouts import LAYOUTS, FoundCorpus, find_corpus
from tfrecords_tools.corpora.recording import Recording
from tfrecords_tools.shard_folder import MadeOf, OutputFolder
from tfrecords_tools.shards import Preprocessing, preprocess

# An error is one line; the command prints everything before it.
_MAX_LISTED = 3

# What became of a recording: its entry in the manifest, or why it failed.
_Outcome = dict | str


def make_tfrecords(
    corpus: FoundCorpus,
    output_dir: str | Path,
    settings: Preprocessing,
    overwrite: bool = False,
    allow_missing: bool = False,
    processes: int | None = None,
) -> dict[str, str]:
    """Preprocesses a whole corpus, or what an earlier run has left of it.

    Args:
      corpus: from `find_corpus`.
      output_dir: new, or unfinished with the same settings; here or on an object store.
      settings: of the preprocessing.
      overwrite: replace complete shards, or ones of other settings.
      allow_missing: go on without recordings that lack a piece or fail.
      processes: at most so many at a time; None: one per core.

    Returns:
      Recordings that were left out, with the reason.

    Raises:
      UserError: missing pieces (each is named), recordings that failed (each with its cause), an output folder in the
        way.
    """
    incomplete = {name: f"missing: {', '.join(pieces)}" for name, pieces in corpus.found.missing.items()}
    incomplete |= _unreadable(corpus)
    for name, reason in incomplete.items():
        print(f"{name}: {reason}")
    if incomplete and not allow_missing:
        raise UserError(
            f"{corpus.root}: {len(incomplete)} recording(s) are not complete: {_listed(incomplete)}; complete them, or "
            "go on without them with --allow_missing"
        )
    recordings = [one for one in corpus.found.recordings if one.name not in incomplete]
    if not recordings:
        raise UserError(f"{corpus.root}: no complete recording")
    if not str(output_dir):
        raise UserError("--output_dir is empty")
    output = OutputFolder(str(output_dir))
    try:
        return _make(corpus, recordings, incomplete, output, settings, overwrite, allow_missing, processes)
    except OSError as error:  # of the output folder: no room, no rights, something else in its place
        raise UserError(f"{output_dir}: cannot be written ({error})") from error


def _make(
    corpus: FoundCorpus,
    recordings: list[Recording],
    incomplete: dict[str, str],
    output: OutputFolder,
    settings: Preprocessing,
    overwrite: bool,
    allow_missing: bool,
    processes: int | None,
) -> dict[str, str]:
    made_with = _preprocessing_of(corpus, settings)
    with output.locked():
        if output.start(_settings_of(corpus, made_with), overwrite):
            return _left_out_before(recordings, output)
        outcomes = _preprocess_all(corpus.root, recordings, settings, output, processes)
        failed = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)}
        entries = [outcomes[one.name] for one in recordings if one.name not in failed]
        for name, cause in failed.items():
            print(f"failed {name}: {cause}")
        if not entries:
            output.abandon()
            raise UserError(f"every recording failed: {_listed(failed)}")
        if failed and not allow_missing:
            raise UserError(
                f"{len(failed)} of {len(outcomes)} recording(s) failed: {_listed(failed)}; the others are kept in "
                f"{output.path}: mend these and start again, or leave them out with --allow_missing"
            )
        _complete(corpus, output, entries, made_with, incomplete | failed)
    return incomplete | failed


def _unreadable(corpus: FoundCorpus) -> dict[str, str]:
    """Recordings whose labels, frame times or face boxes cannot be read: known before hours of decoding."""
    faults = {}
    for recording in corpus.found.recordings:
        with tempfile.TemporaryDirectory(prefix="affect-") as fetched:
            local = partial(_local, corpus.root, Path(fetched))
            try:
                for source in filter(None, (recording.labels, recording.frame_times, recording.face_boxes)):
                    source.read(*map(local, source.files))
            except (UserError, OSError) as error:
                faults[recording.name] = str(error)
    return faults


def _preprocess_all(
    root: str, recordings: list[Recording], settings: Preprocessing, output: OutputFolder, processes: int | None
) -> dict[str, _Outcome]:
    """Every recording's outcome; what an earlier run has finished is taken from there."""
    outcomes: dict[str, _Outcome] = {}
    to_do: list[tuple[Recording, MadeOf]] = []
    for recording in recordings:
        made_of = _made_of(recording, root)
        entry = output.finished(recording.name, made_of)
        if entry is None:
            to_do.append((recording, made_of))
        else:
            outcomes[recording.name] = entry
    if outcomes:
        print(f"continuing {output.path}: {len(outcomes)} of {len(recordings)} recordings are finished")
    work = partial(_preprocess_one, root, output, settings)
    workers = min(processes or os.cpu_count() or 1, len(to_do))
    with tqdm(total=len(to_do), desc="recordings", unit="rec", disable=not to_do) as progress:
        for name, outcome in _in_processes(work, to_do, workers) if workers > 1 else map(work, to_do):
            outcomes[name] = outcome
            progress.update()
    return outcomes


def _made_of(recording: Recording, root: str) -> MadeOf:
    """Everything that decides a recording's shards beside the settings; files by size and time of change."""
    return {
        "partition": recording.partition,
        "subject": recording.subject,
        "audio": recording.audio,
        "video": recording.video,
        "files": {name: list(storage.stamp(storage.join(root, name))) for name in recording.files},
    }


def _in_processes(work, to_do: list, workers: int) -> Iterator[tuple[str, _Outcome]]:
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        waiting = {pool.submit(work, item): item[0].name for item in to_do}
        try:
            for done in as_completed(waiting):
                yield done.result()
        except KeyboardInterrupt as interrupt:
            for worker in active_children():  # to wait for them would take as long as their recordings
                worker.terminate()
            raise KeyboardInterrupt(
                "interrupted; finished recordings are kept, the same command goes on"
            ) from interrupt
        except BrokenProcessPool as error:
            raise UserError(
                "a process was killed from outside, perhaps for want of memory; start again with fewer --processes, "
                "finished recordings are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leaves interrupts to the parent, and ends with it: nobody goes on writing into a folder that was given up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(cli.leave_without_destructors, 0)

    def end_with_parent():
        connection.wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _preprocess_one(
    root: str, output: OutputFolder, settings: Preprocessing, item: tuple[Recording, MadeOf]
) -> tuple[str, _Outcome]:
    """Makes one recording; a failure is its outcome, so that the others go on."""
    recording, made_of = item
    try:
        with output.staging() as staging, tempfile.TemporaryDirectory(prefix="affect-") as fetched:
            entry = preprocess(recording, partial(_local, root, Path(fetched)), settings, staging)
            output.commit(staging, entry, made_of)
    except (UserError, OSError, MemoryError, cv2.error) as error:
        return recording.name, str(error) or type(error).__name__
    return recording.name, entry


def _local(root: str, fetched: Path, relative: str) -> Path:
    """Where a corpus file lies on this machine; a remote one is fetched, once."""
    if not storage.is_remote(root):
        return Path(root) / relative
    path = fetched / relative
    if not path.exists():
        storage.fetch(storage.join(root, relative), path)
    return path


def _preprocessing_of(corpus: FoundCorpus, settings: Preprocessing) -> dict:
    return {**dataclasses.asdict(settings), "split": corpus.split, "gold_standard": corpus.gold_standard}


def _settings_of(corpus: FoundCorpus, made_with: dict) -> dict:
    return {"written_by": WRITTEN_BY, "layout": corpus.layout, "synthetic": corpus.synthetic, **made_with}


def _complete(
    corpus: FoundCorpus, output: OutputFolder, entries: list[dict], made_with: dict, left_out: dict[str, str]
) -> None:
    manifest = Manifest(
        layout=corpus.layout,
        synthetic=corpus.synthetic,
        frame_rate_hz=FRAME_RATE_HZ,
        sample_rate_hz=SAMPLE_RATE_HZ,
        frame_samples=FRAME_SAMPLES,
        crop_size=made_with["crop_size"],
        frames_per_record=made_with["frames_per_record"],
        preprocessing=made_with,
        left_out={name: _without_folders(reason, corpus.root) for name, reason in left_out.items()},
        recordings=tuple(entry_from_json(entry) for entry in entries),
    )
    expected = {path for entry in manifest.recordings for path in (*entry.shards, entry.features)}
    expected |= {f"contact_sheets/{entry.name}.png" for entry in manifest.recordings if entry.has_video}
    output.complete(manifest.to_json(), expected)


def _left_out_before(recordings: list[Recording], output: OutputFolder) -> dict[str, str]:
    """What a complete folder had to leave out; it is what was asked for only if it has the recordings of now."""
    manifest = read_manifest(output.path)
    there = {(entry.name, entry.partition) for entry in manifest.recordings}
    # What was missing and is there now was mended; of what failed, only another try could tell.
    failed = {name for name, reason in manifest.left_out.items() if not reason.startswith("missing")}
    now = {(one.name, one.partition) for one in recordings if one.name not in failed}
    if there != now:
        names = sorted({name for name, _ in there ^ now})
        raise UserError(
            f"{output.path} is complete, but the corpus has other recordings or partitions now ({', '.join(names)}); "
            "replace it with --overwrite, or choose another --output_dir"
        )
    print(
        f"{output.path} is complete already, nothing was done; if files of the corpus have changed since, "
        "--overwrite makes it anew"
    )
    return manifest.left_out


def _without_folders(reason: str, root: str) -> str:
    """No path of this machine in a manifest."""
    return reason.replace(f"{root.rstrip('/')}/", "")


def _listed(reasons: dict[str, str]) -> str:
    first = [f"{name}: {reason}" for name, reason in islice(reasons.items(), _MAX_LISTED)]
    more = [f"and {len(reasons) - len(first)} more"] if len(reasons) > len(first) else []
    return "; ".join(first + more)


def _main() -> None:
    args = flags.FLAGS
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a batch system sends is no other than Ctrl-C
    corpus = find_corpus(args.corpus_dir, args.layout, args.split, args.gold_standard or "")
    parts = [f"layout {corpus.layout}", f"{len(corpus.found.recordings)} complete recordings"]
    parts += [f"split {corpus.split}"] if corpus.split else []
    print(", ".join([*parts, f"gold standard: {corpus.gold_standard}"]))
    print("\n".join(corpus.found.remarks), end="\n" if corpus.found.remarks else "")
    settings = Preprocessing(
        face_detector=args.face_detector, detect_every=args.detect_every, face_margin=args.face_margin
    )
    left_out = make_tfrecords(
        corpus, args.output_dir, settings, args.overwrite, args.allow_missing, args.processes or None
    )
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}")
    _print_remarks(args.output_dir)
    print(f"look at it with: python -m tfrecords_tools.inspect_tfrecords --data_dir={args.output_dir}")
    failed = set(left_out) - set(corpus.found.missing)
    if failed:
        raise UserError(
            f"{len(failed)} recording(s) failed and are not in {args.output_dir}: {', '.join(sorted(failed))}"
        )


def _print_remarks(output_dir: str) -> None:
    for entry in read_manifest(output_dir).recordings:
        for remark in entry.remarks:
            print(f"{entry.name}: {remark}")


if __name__ == "__main__":
    flags.DEFINE_enum("layout", "auto", ["auto", *LAYOUTS], "How the corpus lies on disk.")
    flags.DEFINE_string("corpus_dir", None, "Folder of the corpus, or a table of recordings (.csv).", required=True)
    flags.DEFINE_string("output_dir", None, "Folder to write; new, or one to be continued.", required=True)
    flags.DEFINE_string(
        "split",
        "",
        "For recola (avec2016) and tzirakis (authors): avec2016, authors, or a .csv subject,partition.",
    )
    flags.DEFINE_enum(
        "gold_standard", None, ["avec", "mean"],
        "For avec2016 and recola: how single ratings are combined, AVEC's way (the default for recola) or their mean.",
    )  # fmt: skip
    flags.DEFINE_bool("overwrite", False, "Replace complete shards, or ones made with other settings.")
    flags.DEFINE_bool("allow_missing", False, "Go on without recordings that lack a piece, labels too, or fail.")
    flags.DEFINE_enum(
        "face_detector", "haar", DETECTORS, "Where the corpus ships no boxes; mtcnn: extra faces, slower."
    )
    flags.DEFINE_integer("detect_every", 5, "Frames between two looks of the face detector.", lower_bound=1)
    flags.DEFINE_float("face_margin", 0.2, "Crop beyond the face box, in parts of its edge.", lower_bound=0.0)
    flags.DEFINE_integer("processes", 0, "Recordings at a time; 0: one per core.", lower_bound=0)
    cli.run(_main)
