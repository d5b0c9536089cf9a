"""The synthetic corpus, the AVEC 2016 reader and make_tfrecords: what is written is what arrives in the shards."""

import json
import shutil

import av
import cv2
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from affect.data.records import parse, read_manifest
from affect.errors import UserError
from tests.conftest import error_lines, run_command
from tfrecords_tools.corpora import synthetic, synthetic_face
from tfrecords_tools.corpora.avec2016 import find_recordings, read_gold_standard
from tfrecords_tools.corpora.recording import Ratings, labels_per_frame
from tfrecords_tools.corpora.synthetic import SyntheticConfig, perform
from tfrecords_tools.inspect_tfrecords import inspect
from tfrecords_tools.make_tfrecords import Preprocessing, make_tfrecords


def read_recording(data_dir, name):
    """All records of one recording, concatenated."""
    entry = next(item for item in read_manifest(data_dir).recordings if item.name == name)
    parts = [
        parse(record, 640) for record in tf.data.TFRecordDataset([str(data_dir / shard) for shard in entry.shards])
    ]
    return {field: np.concatenate([part[field].numpy() for part in parts]) for field in ("pcm", "labels", "jpeg")}


def test_the_same_seed_gives_the_same_samples_pixels_and_labels():
    config = SyntheticConfig(train=1, dev=1, test=0, seconds=3, seed=5)
    once, again, other = perform(config, "train_1"), perform(config, "train_1"), perform(config, "dev_1")
    np.testing.assert_array_equal(once.signal, again.signal)
    for a, b in zip(once.pictures, again.pictures, strict=True):
        np.testing.assert_array_equal(a, b)
    for dimension in ("arousal", "valence"):
        np.testing.assert_array_equal(once.ratings[dimension], again.ratings[dimension])
    assert not np.array_equal(once.signal, other.signal)


def test_raters_follow_the_emotion_by_the_asked_delay():
    prompt = SyntheticConfig(train=1, dev=0, test=0, seconds=60, delay_secs=0.0)
    late = SyntheticConfig(train=1, dev=0, test=0, seconds=60, delay_secs=2.0)
    a, b = (perform(config, "train_1").ratings["arousal"].mean(axis=1) for config in (prompt, late))
    lags = range(0, 100)
    best = max(lags, key=lambda lag: np.corrcoef(a[: len(a) - lag], b[lag:])[0, 1])
    assert abs(best - 50) <= 4  # raters differ by some 80 ms each


def test_files_have_the_releases_formats(corpus_dir):
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
    gold = read_gold_standard(*(corpus_dir / f"ratings_gold_standard/{d}/dev_1.arff" for d in ("arousal", "valence")))
    assert len(gold.times_secs) == 201
    np.testing.assert_array_equal(read_recording(data_dir, "dev_1")["labels"], gold.values[1:].astype(np.float32))


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        ([0.0, 0.04, 0.12], np.zeros((3, 2)), r"rating 3 is at 0\.12 s where 0\.08 s was expected"),
        ([0.04, 0.08], np.zeros((2, 2)), "must start at 0"),
        ([0.0], np.zeros((1, 2)), "fewer than two"),
        ([0.0, 0.04], np.full((2, 2), np.nan), "NaN"),
    ],
)
def test_ratings_off_the_grid_are_refused(times, values, message):
    with pytest.raises(UserError, match=message):
        labels_per_frame(Ratings(np.array(times), values))


def test_an_impulse_in_sound_picture_and_label_arrives_in_one_frame(corpus_dir, tmp_path):
    """A click, a dark flash and a label step planted at t = 3.2 s all land in frame 80."""
    tree = tmp_path / "corpus"
    shutil.copytree(corpus_dir, tree)
    for path in tree.rglob("*_2.*"):
        path.unlink()
    instant, frame = 3.2, 80
    rate = 44_100
    click = np.zeros(8 * rate)
    click[round((instant + 0.01) * rate) : round((instant + 0.03) * rate)] = 0.8
    soundfile.write(tree / "recordings_audio/train_1.wav", click, rate)
    face = synthetic_face.draw_face(np.random.default_rng(0))
    pictures = list(synthetic_face.show(face, np.zeros(200), np.zeros(200), np.random.default_rng(0)))
    pictures[frame] = np.zeros_like(pictures[frame])
    synthetic._write_mp4(tree / "recordings_video/train_1.mp4", iter(pictures))
    for dimension in ("arousal", "valence"):
        gold = np.zeros(201)
        gold[frame + 1] = 1.0  # the rating at the END of frame 80, t = 3.24
        synthetic._write_arff(tree / f"ratings_gold_standard/{dimension}/train_1.arff", "train_1", dimension, gold)

    make_tfrecords("avec2016", tree, tmp_path / "records", Preprocessing(), overwrite=False)
    fields = read_recording(tmp_path / "records", "train_1")
    loudness = np.abs(fields["pcm"].astype(float)).sum(axis=1)
    brightness = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean() for jpeg in fields["jpeg"]]
    assert np.argmax(loudness) == frame and loudness[frame] > 0.95 * loudness.sum()
    assert np.argmin(brightness) == frame and brightness[frame] < 10 < min(np.delete(brightness, frame))
    np.testing.assert_array_equal(fields["labels"].nonzero()[0], [frame, frame])


def test_two_runs_give_the_same_bytes(corpus_dir, data_dir, tmp_path):
    make_tfrecords("avec2016", corpus_dir, tmp_path / "again", Preprocessing(), overwrite=False)
    first = {path.relative_to(data_dir): path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    second = {
        path.relative_to(tmp_path / "again"): path.read_bytes()
        for path in (tmp_path / "again").rglob("*") if path.is_file()
    }  # fmt: skip
    assert first == second
    assert len(first) == 7


def test_withheld_test_labels_are_marked_not_invented(corpus_dir, tmp_path):
    tree = tmp_path / "corpus"
    shutil.copytree(corpus_dir, tree)
    for path in (tree / "ratings_gold_standard").rglob("test_*"):
        path.unlink()
    recordings = {recording.name: recording for recording in find_recordings(tree)}
    assert recordings["test_1"].read_ratings is None
    assert recordings["dev_1"].read_ratings is not None


def damage(tree, how):
    """Damages a copied corpus; returns what the message must name."""
    if how == "no audio":
        (tree / "recordings_audio/dev_1.wav").unlink()
        return "recordings_audio/dev_1.wav"
    if how == "cut arff":
        path = tree / "ratings_gold_standard/valence/train_1.arff"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return "ratings_gold_standard/valence/train_1.arff"
    if how == "short audio":
        soundfile.write(tree / "recordings_audio/dev_1.wav", np.zeros(44_100), 44_100)
        return "recording dev_1: sound, pictures and labels differ in length (audio 1.00 s"
    (tree / "recordings_video/dev_2.mp4").write_bytes(b"garbage")
    return "recordings_video/dev_2.mp4: cannot be decoded as video"


@pytest.mark.parametrize("how", ["no audio", "cut arff", "short audio", "broken video"])
def test_a_damaged_corpus_ends_in_one_line_and_leaves_nothing(corpus_dir, tmp_path, how):
    tree = tmp_path / "corpus"
    shutil.copytree(corpus_dir, tree)
    named = damage(tree, how)
    output = tmp_path / "out" / "records"
    done = run_command(
        "-m", "tfrecords_tools.make_tfrecords", "--layout=avec2016", f"--corpus_dir={tree}", f"--output_dir={output}"
    )
    assert done.returncode == 2
    lines = error_lines(done)
    assert len(lines) == 1 and lines[0].startswith("error: ") and named in lines[0]
    assert not output.parent.exists() or not list(output.parent.iterdir())


def test_missing_corpus_and_existing_output_are_refused(corpus_dir, data_dir, tmp_path):
    missing = run_command("-m", "tfrecords_tools.make_tfrecords", f"--corpus_dir={tmp_path}/none",
                          f"--output_dir={tmp_path}/out")  # fmt: skip
    assert missing.returncode == 2
    assert error_lines(missing) == [f"error: corpus folder {tmp_path}/none does not exist"]
    with pytest.raises(UserError, match="--overwrite"):
        make_tfrecords("avec2016", corpus_dir, data_dir, Preprocessing(), overwrite=False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda shard: shard.write_bytes(b""), "the shard is empty"),
        (lambda shard: shard.unlink(), "it is missing"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-500]), "damaged at frame 175"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:9000] + b"x" + shard.read_bytes()[9001:]), "damaged"),
    ],
)
def test_inspect_fails_on_a_spoilt_shard(data_dir, tmp_path, spoil, message):
    copy = tmp_path / "records"
    shutil.copytree(data_dir, copy)
    spoil(copy / read_manifest(copy).recordings[0].shards[0])
    with pytest.raises(UserError, match=message):
        inspect(copy)


def test_inspect_prints_what_is_there(data_dir):
    shown = run_command("-m", "tfrecords_tools.inspect_tfrecords", f"--data_dir={data_dir}")
    assert shown.returncode == 0
    assert "avec2016 corpus (synthetic, 25 fps, 16000 Hz, 96 x 96 crops)" in shown.stdout
    assert "train    2 recordings,      400 frames,    0.3 min" in shown.stdout
