"""One instant in sound, video and ratings is in the same frame of the shards, whatever the frame rate of the video."""

import cv2
import numpy as np
import pytest

from affect.data.manifest import read_manifest
from tests.helpers import trees
from tests.helpers.commands import read_recording
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing

INSTANT_SECS, FRAME = 2.0, 50


def uneven_times():
    """Intervals of 15 to 39 ms, with a few of up to 120 ms away from the instant."""
    intervals = np.random.default_rng(3).uniform(0.015, 0.039, 160)
    intervals[[10, 30, 120]] = 0.12
    return np.concatenate([[0.0], np.cumsum(intervals)])


@pytest.mark.parametrize(
    "times",
    [
        np.arange(100) / 25, np.arange(120) * 1001 / 30_000, np.arange(120) / 30, np.arange(200) / 50, uneven_times(),
        0.2 + np.arange(95) / 25,
    ],
    ids=["25 fps", "29.97 fps", "30 fps", "50 fps", "variable rate", "0.2 s late"],
)  # fmt: skip
def test_a_flash_a_click_and_a_step_in_the_ratings_are_in_the_same_frame(tmp_path, times):
    times = times[times < trees.SECONDS]
    face = trees.face_pictures(1, dot=False)[0]
    shown = np.searchsorted(times, INSTANT_SECS + 1e-6) - 1  # the picture that a viewer sees at the instant
    trees.write_video(
        tmp_path / "v.mp4", [np.zeros_like(face) if k == shown else face for k in range(len(times))], times
    )
    click = np.zeros(trees.SECONDS * 44_100)
    click[round((INSTANT_SECS + 0.01) * 44_100) : round((INSTANT_SECS + 0.03) * 44_100)] = 0.8
    trees.write_wav(tmp_path / "a.wav", click)
    # The frame's label is the rating at its end.
    rows = [f"{k / 25:.2f},{int(k > FRAME)},{int(k > FRAME)}" for k in range(trees.FRAMES + 1)]
    trees.write_lines(tmp_path / "l.csv", ["time,arousal,valence", *rows])
    trees.write_lines(tmp_path / "t.csv", ["recording,partition,audio,video,labels", "r,train,a.wav,v.mp4,l.csv"])
    make_tfrecords(find_corpus(str(tmp_path / "t.csv")), tmp_path / "records", Preprocessing(), processes=1)

    fields = read_recording(tmp_path / "records", "r")
    loudness = np.abs(fields["pcm"].astype(float)).sum(axis=1)
    assert np.argmax(loudness) == FRAME and loudness[FRAME] > 0.95 * loudness.sum()
    brightness = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean() for jpeg in fields["jpeg"]]
    np.testing.assert_array_equal(np.flatnonzero(np.array(brightness) < 30), [FRAME])
    np.testing.assert_array_equal(
        fields["labels"], np.repeat(np.arange(len(fields["labels"])) >= FRAME, 2).reshape(-1, 2)
    )

    (entry,) = read_manifest(tmp_path / "records").recordings
    late = times[0] > 0
    assert fields["face_found"][:4].any() != late and fields["face_found"][6:40].all()
    assert any("the video starts at 0.20 s" in remark for remark in entry.remarks) == late


def test_a_difference_in_length_of_sound_and_video_is_reported(tmp_path):
    trees.table_tree(tmp_path, ["anna,train,long.wav,anna.mp4,labels/anna.csv"])
    trees.write_wav(tmp_path / "long.wav", trees.tones(44_100, trees.SECONDS + 0.5))
    make_tfrecords(find_corpus(str(tmp_path)), tmp_path / "records", Preprocessing(), processes=1)
    (entry,) = read_manifest(tmp_path / "records").recordings
    assert entry.remarks == ("the sound is 0.50 s longer than the video",)


def test_silence_is_reported_and_stays_zero(tmp_path):
    trees.table_tree(tmp_path, ["anna,train,silent.wav,anna.mp4,labels/anna.csv"])
    trees.write_wav(tmp_path / "silent.wav", np.zeros(trees.SECONDS * 44_100))
    make_tfrecords(find_corpus(str(tmp_path)), tmp_path / "records", Preprocessing(), processes=1)
    (entry,) = read_manifest(tmp_path / "records").recordings
    assert entry.remarks == ("the sound is silent",) and entry.audio_std == 0.0
    assert not read_recording(tmp_path / "records", "anna")["pcm"].any()


def test_frame_times_that_the_corpus_ships_replace_those_in_the_video(tmp_path):
    """The video file says 25 fps; the corpus says that it was recorded at half that rate."""
    trees.avec2016_tree(tmp_path)
    pictures = [np.full((64, 64, 3), 2 * k + 20, np.uint8) for k in range(60)]
    trees.write_video(tmp_path / "recordings_video/train_1.mp4", pictures)
    rows = [f"{k};{0.08 * k:.2f}" for k in range(60)]
    trees.write_lines(tmp_path / "recordings_video_frame_time/train_1.csv", ["frame;time", *rows])
    make_tfrecords(find_corpus(str(tmp_path)), tmp_path / "records", Preprocessing(), processes=1)
    fields = read_recording(tmp_path / "records", "train_1")
    brightness = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean() for jpeg in fields["jpeg"]]
    np.testing.assert_allclose(brightness, [2 * (k // 2) + 20 for k in range(trees.FRAMES)], atol=3)
