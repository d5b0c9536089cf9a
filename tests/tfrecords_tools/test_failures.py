"""One recording fails, whatever the exception: it is named with its cause, and the others are finished."""

import functools
import struct

import numpy as np
import pytest
import tensorflow as tf

from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.media import tables
from tests.helpers import trees
from tests.helpers.in_process import call_main
from tfrecords_tools import make_tfrecords as command
from tfrecords_tools import shards
from tfrecords_tools.corpora.layouts import Corpus, find_corpus
from tfrecords_tools.corpora.recording import CorpusListing, Recording, Source
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing

NAMES = ("anna", "ben", "carla")


@pytest.fixture
def root(tmp_path):
    """Three recordings of sound only."""
    path = tmp_path / "corpus"
    trees.table_tree(path, [f"{name},train,{name}.wav,,labels/anna.csv" for name in NAMES])
    for name in NAMES:
        trees.write_wav(path / f"{name}.wav", trees.tones(44_100))
    return path


def fail_on_ben(monkeypatch, error):
    decode = shards.decode_recording

    def decode_or_fail(audio, *arguments, **options):
        if audio.name == "ben.wav":
            raise error
        return decode(audio, *arguments, **options)

    monkeypatch.setattr(shards, "decode_recording", decode_or_fail)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("odd\nheader"), r"unexpected ValueError in test_failures\.py, line \d+: odd header"),
        (struct.error("unpack requires 4 bytes"), r"unexpected error in .*: unpack requires 4 bytes"),
        (ZeroDivisionError(), r"unexpected ZeroDivisionError in test_failures\.py, line \d+"),
        (tf.errors.DataLossError(None, None, "cut"), "unexpected DataLossError in .*: cut"),
        (MemoryError(), "MemoryError"),
        (UserError("ben.wav: is cut"), r"ben\.wav: is cut"),
    ],
)
def test_any_exception_in_one_recording_is_its_failure(root, tmp_path, monkeypatch, capsys, error, cause):
    fail_on_ben(monkeypatch, error)
    flags = [f"--corpus_dir={root}", f"--output_dir={tmp_path / 'records'}", "--processes=1"]
    with pytest.raises(UserError, match=rf"^1 of 3 recording\(s\) failed: ben: {cause}; the others are kept"):
        call_main(command, *flags)
    assert len(list((tmp_path / "records").glob("train/*.tfrecord"))) == 2
    assert not call_main(command, *flags, "--allow_missing")  # left out on purpose: exit code 0
    printed = capsys.readouterr().out
    assert printed.count("left out ben: ") == 1 and "failed ben" not in printed
    manifest = read_manifest(tmp_path / "records")
    assert [entry.name for entry in manifest.recordings] == ["anna", "carla"] and list(manifest.left_out) == ["ben"]
    assert not call_main(command, *flags)
    assert capsys.readouterr().out.count("left out ben: ") == 1  # by the complete folder


def test_an_interrupt_is_not_a_failure_of_a_recording(root, tmp_path, monkeypatch):
    fail_on_ben(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make_tfrecords(find_corpus(str(root)), tmp_path / "records", Preprocessing(), processes=1)


def divide_by_zero(*paths):
    return 1 // 0


def corpus_of(root, **sources):
    """A corpus of a layout of one's own: two recordings, the second with other sources."""
    labels = Source(functools.partial(np.zeros, (100, 2)), ())
    recordings = [Recording("anna", "train", "anna", "anna.wav", None, labels=labels),
                  Recording("ben", "train", "ben", "ben.wav", None, **sources)]  # fmt: skip
    return Corpus("own", str(root), False, "", "shipped", CorpusListing(recordings))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("what", ["labels", "frame_times", "face_boxes"])
def test_any_exception_of_a_reader_is_found_before_decoding(root, tmp_path, what, processes):
    corpus = corpus_of(root, **{what: Source(divide_by_zero, ())})
    with pytest.raises(UserError, match=r"files of 1 recording\(s\) cannot be used: ben: unexpected ZeroDivisionError"):
        make_tfrecords(corpus, tmp_path / "records", Preprocessing(), processes=processes)
    assert not (tmp_path / "records").exists()


def test_unreadable_recordings_are_left_out_and_printed_once(root, tmp_path, capsys):
    (root / "ben.wav").unlink()
    trees.write_lines(root / "labels/carla.csv", ["time,arousal,valence", "0,0,0", "1,0,0", "3,0,0", "4,0,0"])
    table = root / "corpus.csv"
    table.write_text(table.read_text().replace("carla.wav,,labels/anna.csv", "carla.wav,,labels/carla.csv"))
    flags = [f"--corpus_dir={root}", f"--output_dir={tmp_path / 'records'}", "--processes=1"]
    with pytest.raises(UserError) as refused:
        call_main(command, *flags)
    assert (
        "1 recording(s) are incomplete and files of 1 recording(s) cannot be used: ben: missing: ben.wav; carla: "
        in (str(refused.value))
    )
    assert "ben: missing" not in capsys.readouterr().out  # the error says it
    assert not call_main(command, *flags, "--allow_missing")
    printed = capsys.readouterr().out
    assert printed.count("ben.wav") == 1 and printed.count("must come at a regular rate") == 1


def test_a_wrong_feature_table_is_refused_before_decoding_and_a_fault_far_down_is_its_recordings(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "HEAD_BYTES", 1_000)
    root = tmp_path / "corpus"
    trees.avec2016_tree(root, ("train_1", "train_2"), boxes=True)
    rows = [f"{k / 25:.2f};{k}" for k in range(1_000)]
    trees.write_lines(root / "features_audio/train_1.csv", ["frameTime;F0", *rows])
    trees.write_lines(root / "features_audio/train_2.csv", ["frameTime;F0", *rows, "40;soon"])
    with pytest.raises(UserError, match=r"failed: train_2: .*train_2\.csv, line 1002: 'soon' is not a number"):
        make_tfrecords(find_corpus(str(root)), tmp_path / "late", Preprocessing(), processes=1)
    trees.write_lines(root / "features_audio/train_2.csv", ["F0;frameTime", *rows])
    (root / "recordings_video/train_1.mp4").write_bytes(b"never opened")
    with pytest.raises(UserError, match=r"cannot be used: train_2: .*expected frameTime and then values, got F0"):
        make_tfrecords(find_corpus(str(root)), tmp_path / "early", Preprocessing(), processes=1)
