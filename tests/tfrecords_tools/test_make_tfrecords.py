"""The synthetic corpus, make_tfrecords and inspect_tfrecords: the shards hold what was written to the corpus."""

import json
import shutil

import av
import numpy as np
import pytest
import soundfile

from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.media.arff import read_arff
from tests.helpers.commands import error_lines, read_recording, run_command
from tests.helpers.in_process import call_main
from tfrecords_tools import inspect_tfrecords
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.inspection import inspect
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing
from tfrecords_tools.synthetic import face as synthetic_face
from tfrecords_tools.synthetic.corpus import SyntheticConfig, perform


def test_the_same_seed_gives_the_same_samples_pixels_and_labels():
    config = SyntheticConfig(train=1, dev=1, test=0, seconds=3, seed=5)
    once, again, other = perform(config, "train_1"), perform(config, "train_1"), perform(config, "dev_1")
    np.testing.assert_array_equal(once.signal, again.signal)
    for a, b in zip(once.pictures, again.pictures, strict=True):
        np.testing.assert_array_equal(a, b)
    for dimension in ("arousal", "valence"):
        np.testing.assert_array_equal(once.ratings[dimension], again.ratings[dimension])
    assert not np.array_equal(once.signal, other.signal)


def test_raters_follow_the_emotion_with_the_given_delay():
    prompt = SyntheticConfig(train=1, dev=0, test=0, seconds=60, delay_secs=0.0)
    late = SyntheticConfig(train=1, dev=0, test=0, seconds=60, delay_secs=2.0)
    a, b = (perform(config, "train_1").ratings["arousal"].mean(axis=1) for config in (prompt, late))
    lags = range(0, 100)
    best = max(lags, key=lambda lag: np.corrcoef(a[: len(a) - lag], b[lag:])[0, 1])
    assert abs(best - 50) <= 4  # the delays of the raters differ by about 80 ms


def test_synthetic_files_have_the_formats_of_the_release(corpus_dir):
    lines = (corpus_dir / "ratings_individual/arousal/train_1.csv").read_text().splitlines()
    assert lines[0] == "time;FM1 ;FM2 ;FM3 ;FF1 ;FF2 ;FF3 "
    assert len(lines) == 1 + 8 * 25 + 1
    assert soundfile.info(corpus_dir / "recordings_audio/train_1.wav").samplerate == 44_100
    with av.open(str(corpus_dir / "recordings_video/train_1.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == 25
    assert json.loads((corpus_dir / "synthetic.json").read_text())["seed"] == 3


def test_a_face_is_found_in_every_recording_and_moves_with_valence(data_dir):
    manifest, summaries = inspect(data_dir)
    assert all(summary.faces_found / summary.frames > 0.95 for summary in summaries.values())
    assert manifest.synthetic
    neutral = np.zeros(1)
    face = synthetic_face.draw_face(np.random.default_rng(0))
    happy, sad = (
        next(synthetic_face.show(face, neutral + v, neutral, np.random.default_rng(1))).astype(int) for v in (0.8, -0.8)
    )
    assert np.abs(happy - sad).mean() > 1.0


def test_labels_start_at_the_end_of_the_first_frame(data_dir, corpus_dir):
    gold = [read_arff(corpus_dir / f"ratings_gold_standard/{d}/dev_1.arff") for d in ("arousal", "valence")]
    expected = np.stack([table.values[1:, table.columns.index("GoldStandard")] for table in gold], axis=1)
    assert len(expected) == 200
    np.testing.assert_array_equal(read_recording(data_dir, "dev_1")["labels"], expected.astype(np.float32))


def test_two_runs_write_the_same_bytes(corpus_dir, data_dir, tmp_path):
    """In this process, as the fixture does, and in a pool of two."""
    make_tfrecords(find_corpus(str(corpus_dir)), tmp_path / "again", Preprocessing(), processes=2)
    first = {path.relative_to(data_dir): path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    second = {
        path.relative_to(tmp_path / "again"): path.read_bytes()
        for path in (tmp_path / "again").rglob("*") if path.is_file()
    }  # fmt: skip
    assert first == second
    assert len(first) == 6 + 6 + 1  # shards, contact sheets, manifest


def test_withheld_test_labels_are_marked_as_missing(corpus_dir, tmp_path):
    tree = tmp_path / "corpus"
    shutil.copytree(corpus_dir, tree)
    for path in (tree / "ratings_gold_standard").rglob("test_*"):
        path.unlink()
    recordings = {recording.name: recording for recording in find_corpus(str(tree)).listing.recordings}
    assert recordings["test_1"].labels is None
    assert recordings["dev_1"].labels is not None


def test_a_missing_corpus_and_an_output_with_other_settings_are_refused(corpus_dir, data_dir, tmp_path):
    missing = run_command("-m", "tfrecords_tools.make_tfrecords", f"--corpus_dir={tmp_path}/none",
                          f"--output_dir={tmp_path}/out")  # fmt: skip
    assert missing.returncode == 2
    assert error_lines(missing) == [f"error: corpus folder {tmp_path}/none does not exist"]
    with pytest.raises(UserError, match="face_margin was 0.2 and is now 0.3; replace it with --overwrite"):
        make_tfrecords(find_corpus(str(corpus_dir)), data_dir, Preprocessing(face_margin=0.3))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: shard.write_bytes(b""), "the shard is empty"),
        (lambda shard: shard.unlink(), "it is missing"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-500]), "damaged at frame 175"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:9000] + b"x" + shard.read_bytes()[9001:]), "damaged"),
    ],
)
def test_inspect_fails_on_a_damaged_shard(data_dir, tmp_path, damage, message):
    copy = tmp_path / "records"
    shutil.copytree(data_dir, copy)
    damage(copy / read_manifest(copy).recordings[0].shards[0])
    with pytest.raises(UserError, match=message):
        inspect(copy)


def test_flags_are_defined_without_loading_a_heavy_library():
    code = (
        "import sys; from tfrecords_tools import inspect_tfrecords, make_tfrecords; "
        "make_tfrecords.define_flags(); inspect_tfrecords.define_flags(); "
        "print({'tensorflow', 'keras', 'pandas', 'cv2', 'av', 'soxr', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    done = run_command("-c", code)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_inspect_prints_a_summary_of_each_partition(data_dir, capsys):
    assert not call_main(inspect_tfrecords, f"--data_dir={data_dir}")
    shown = capsys.readouterr().out
    assert "avec2016 corpus (synthetic, 25 fps, 16000 Hz, 96 x 96 crops)" in shown
    assert "train    2 recordings,      400 frames,    0.3 min" in shown
