"""make_tfrecords is killed anywhere and run again: finished recordings are kept, and the result has the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from affect import __version__
from affect.errors import UserError
from tests.helpers.commands import REPOSITORY, made_once, run_command
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shard_folder import OutputFolder
from tfrecords_tools.shards import Preprocessing


def content(folder):
    """Bytes of every file below a folder, hidden ones included."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(corpus_dir, output_dir):
    """Starts the command in its own process group."""
    command = [sys.executable, "-m", "tfrecords_tools.make_tfrecords", f"--corpus_dir={corpus_dir}",
               f"--output_dir={output_dir}"]  # fmt: skip
    return subprocess.Popen(
        command, cwd=REPOSITORY, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A test run in the background of a shell ignores interrupts, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def finish(corpus_dir, output_dir, **options):
    return make_tfrecords(find_corpus(str(corpus_dir)), output_dir, Preprocessing(), processes=1, **options)


@pytest.fixture(scope="session")
def killed(corpus_dir, tmp_path_factory, worker_id):
    """A folder after three kills: while a shard, the entry of a recording, and the manifest were being written."""

    def make(output):
        names = ("-00001.tfrecord", "dev_1.json", "manifest.json")
        done = run_command("-m", "tests.helpers.killed_while_writing", str(corpus_dir), str(output), *names)
        assert done.returncode == 0, done.stderr
        # Each line: the signal that ended the process, recordings finished by then, whether there was a manifest.
        assert [line for line in done.stdout.splitlines() if line.startswith("9 ")] == [
            "9 0 False",
            "9 2 False",
            "9 6 False",
        ]

    return made_once(tmp_path_factory, worker_id, "killed", make)


def test_killed_while_a_shard_an_entry_and_the_manifest_are_written(killed, corpus_dir, data_dir, tmp_path):
    output = tmp_path / "records"
    shutil.copytree(killed, output)
    written = {path: path.stat().st_mtime_ns for path in output.glob("*/*.tfrecord")}
    assert not finish(corpus_dir, output)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert content(output) == content(data_dir)
    finish(corpus_dir, output)  # another run changes nothing
    assert content(output) == content(data_dir)


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(corpus_dir, tmp_path, signal_sent):
    output = tmp_path / "records"
    process = start(corpus_dir, output)
    while not list(output.glob(".unfinished/staging-*")):
        time.sleep(0.02)
        assert process.poll() is None, process.stderr.read()
    os.kill(process.pid, signal_sent)
    stderr = process.communicate(timeout=30)[1]
    if signal_sent != signal.SIGKILL:
        assert process.returncode == 130
        assert "interrupted; finished recordings are kept, and the same command continues" in stderr
        assert "Traceback" not in stderr
    deadline = time.monotonic() + 20
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "the workers did not end with their parent"
        time.sleep(0.1)


def test_a_recording_whose_files_have_changed_is_made_again(killed, corpus_dir, tmp_path):
    tree, output = tmp_path / "corpus", tmp_path / "records"
    shutil.copytree(corpus_dir, tree)  # keeps the times of the files
    shutil.copytree(killed, output)
    before = {path: path.read_bytes() for path in output.glob("*/*.tfrecord")}
    shutil.copy(tree / "recordings_audio/train_2.wav", tree / "recordings_audio/train_1.wav")
    finish(tree, output)
    changed = [path.name for path in before if path.read_bytes() != before[path]]
    assert changed == ["train_1-00000-of-00001.tfrecord"]


def test_other_settings_and_foreign_folders_are_refused(corpus_dir, data_dir, tmp_path):
    copy = tmp_path / "records"
    shutil.copytree(data_dir, copy)
    (copy / "notes.txt").write_text("mine")
    corpus = find_corpus(str(corpus_dir))
    with pytest.raises(UserError, match=r"detect_every was 5 and is now 10; replace it with --overwrite"):
        make_tfrecords(corpus, copy, Preprocessing(detect_every=10), processes=1)
    with pytest.raises(UserError, match=r"has other recordings or partitions now \(dev_2\)"):
        corpus.listing.recordings.remove(next(one for one in corpus.listing.recordings if one.name == "dev_2"))
        make_tfrecords(corpus, copy, Preprocessing(), processes=1)
    assert make_tfrecords(corpus, copy, Preprocessing(), overwrite=True, processes=1) == {}
    manifest = json.loads((copy / "manifest.json").read_text())
    assert len(manifest["recordings"]) == 5 and not list(copy.glob("dev/dev_2*"))
    assert (copy / "notes.txt").read_text() == "mine"  # files that make_tfrecords did not write are kept

    for overwrite in (False, True):
        mine = tmp_path / "mine"
        mine.mkdir(exist_ok=True)
        (mine / "train").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="not empty and was not written by make_tfrecords"):
            finish(corpus_dir, mine, overwrite=overwrite)
        assert (mine / "train").is_dir()


def test_files_of_other_programs_are_never_deleted(corpus_dir, data_dir, tmp_path):
    foreign = tmp_path / "site"
    (foreign / "test").mkdir(parents=True)
    (foreign / "test/thesis.tfrecord").write_text("years of work")
    (foreign / "manifest.json").write_text('{"name": "a web page"}')
    for overwrite in (False, True):
        with pytest.raises(UserError, match="was not written by make_tfrecords"):
            finish(corpus_dir, foreign, overwrite=overwrite)
    assert (foreign / "test/thesis.tfrecord").read_text() == "years of work"

    ours, elsewhere = tmp_path / "records", tmp_path / "disk"
    shutil.copytree(data_dir, ours)
    (ours / "dev").rename(elsewhere)
    (ours / "dev").symlink_to(elsewhere)
    (elsewhere / "photos.zip").write_text("mine")
    (ours / "train/notes.txt").write_text("mine")
    finish(corpus_dir, ours, overwrite=True)
    assert (elsewhere / "photos.zip").exists() and (ours / "train/notes.txt").exists()
    for place in ("/dev/null/records", str(ours / "manifest.json")):
        with pytest.raises(UserError):
            finish(corpus_dir, place)
    with pytest.raises(UserError, match="--output_dir is empty"):
        finish(corpus_dir, "")


def test_a_finished_recording_whose_shards_are_missing_is_made_again(killed, corpus_dir, data_dir, tmp_path):
    output = tmp_path / "records"
    shutil.copytree(killed, output)
    shutil.rmtree(output / "train")
    (output / "dev/dev_1-00000-of-00001.tfrecord").write_bytes(b"")
    (output / ".unfinished/recordings/dev_2.json").write_text('{"entry": [1], "made_of": {}}')
    finish(corpus_dir, output)
    assert content(output) == content(data_dir)


def test_a_second_run_does_not_write_into_the_same_folder(corpus_dir, tmp_path):
    with OutputFolder(str(tmp_path / "records")).locked():
        with pytest.raises(UserError, match="another make_tfrecords is writing into this folder"):
            finish(corpus_dir, tmp_path / "records")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_is_the_same_after_twenty_kills(corpus_dir, data_dir, tmp_path):
    """The kills come at random times; every third one while a shard is written, every seventh before the manifest."""
    rng = random.Random()
    expected, kills, while_writing, runs = content(data_dir), 0, 0, 0
    while kills < 20:
        runs += 1
        output = tmp_path / f"records{runs}"
        for _ in range(4):
            if kills == 20:
                break
            kills += 1
            if kills % 7 == 0:
                helper = "tests.helpers.killed_while_writing"
                done = run_command("-m", helper, str(corpus_dir), str(output), "manifest.json")
                assert done.stdout.startswith("9 ")
                while_writing += 1
                print(f"kill {kills}: while the manifest was being written")
                break
            process = start(corpus_dir, output)
            if kills % 3 == 0:
                while not list(output.glob(".unfinished/staging-*/*/*.tfrecord")) and process.poll() is None:
                    time.sleep(0.001)
                delay = 0.0
            else:
                while not list(output.glob(".unfinished/staging-*")) and process.poll() is None:
                    time.sleep(0.001)
                delay = rng.uniform(0.0, 5.0)
                time.sleep(delay)
            ended = process.poll() is not None
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            writing = bool(list(output.glob(".unfinished/staging-*/*/*.tfrecord")))
            while_writing += writing and not ended
            finished = len(list(output.glob(".unfinished/recordings/[a-z]*.json")))
            state = "too late" if ended else "a shard half written" if writing else "no shard open"
            print(f"kill {kills}: {delay:.2f} s after work began, {finished} recordings finished, {state}")
            if ended:
                kills -= 1
                break
        finish(corpus_dir, output)
        assert content(output) == expected
    print(f"{kills} kills, {while_writing} while a shard or the manifest was being written, {runs} folders")
    assert while_writing >= 5


def written_by(path, version, preprocessing_version=None):
    """Changes a manifest, or the settings of an unfinished run, to what another release would have written."""
    content = json.loads(path.read_text())
    settings = content.get("preprocessing", content)
    assert content["written_by"] == f"affect {__version__} make_tfrecords"
    content["written_by"] = f"affect {version} make_tfrecords"
    if version == "0.1.0":
        del settings["version"]  # which it did not write
    if preprocessing_version is not None:
        settings["version"] = preprocessing_version
    path.write_text(json.dumps(content))


def test_an_upgrade_recognises_the_finished_shards_of_the_version_before(corpus_dir, data_dir, tmp_path, capsys):
    output = tmp_path / "records"
    shutil.copytree(data_dir, output)
    written_by(output / "manifest.json", "0.9")
    before = content(output)
    assert not finish(corpus_dir, output)
    assert "is already complete; nothing was done" in capsys.readouterr().out
    assert content(output) == before


def test_an_upgrade_continues_what_the_version_before_began(killed, corpus_dir, data_dir, tmp_path):
    output = tmp_path / "records"
    shutil.copytree(killed, output)
    written_by(output / ".unfinished/settings.json", "0.9")
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*/*.tfrecord")}
    finish(corpus_dir, output)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert content(output) == content(data_dir)


@pytest.mark.parametrize("name", ["manifest.json", ".unfinished/settings.json"])
@pytest.mark.parametrize(("release", "preprocessing_version", "was"), [("0.1.0", None, 1), ("9.0", 7, 7)])
def test_shards_that_this_version_would_make_differently_are_refused(
    killed, corpus_dir, data_dir, tmp_path, name, release, preprocessing_version, was
):
    output = tmp_path / "records"
    shutil.copytree(data_dir if name == "manifest.json" else killed, output)
    written_by(output / name, release, preprocessing_version)
    refusal = f"was made with other settings: version was {was} and is now 2; replace it with --overwrite"
    with pytest.raises(UserError, match=refusal):
        finish(corpus_dir, output)


def test_the_lock_holds_while_complete_shards_are_being_replaced(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "records")
    output = OutputFolder(str(tmp_path / "records"))
    with output.locked():
        assert not output.start({}, overwrite=True)
        with pytest.raises(UserError, match="another make_tfrecords is writing into this folder"), output.locked():
            pass
