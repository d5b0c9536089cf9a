"""Files as people have them, from the file to the curve: the right answer, or one line that says what is wrong.

The model is `tests.helpers.gauge`: it predicts the loudness of the sound and the brightness of the face crop. In most
files the light goes on and a tone begins after one second, so that a curve that is late, turned or quiet is noticed.
What concerns only the reading of a file is tested in `tests/media`.
"""

import json
import os
import resource
import shutil
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import pytest
import soundfile

from affect.errors import UserError
from affect.serving import predict
from tests.helpers.commands import error_lines, run_command
from tests.helpers.in_process import call_main
from tests.helpers.sounds import AMPLITUDE, encode, tone
from tests.helpers.trees import face_pictures
from tests.helpers.videos import grey, set_display_matrix, with_number, write_clip

DARK = 0.45
LOUD = AMPLITUDE / np.sqrt(2)
REGULAR = np.arange(50) / 25
# A phone's: 29.97 pictures per second that jitter, three are dropped, and one is held for half a second.
PHONE = np.setdiff1d(np.arange(60), [7, 8, 33, *range(41, 55)]) * 1.001 / 30
PHONE[1:] += np.random.default_rng(5).uniform(-0.004, 0.004, len(PHONE) - 1)
BROWSER = np.round(PHONE, 3)  # Matroska counts milliseconds


@dataclass
class Answer:
    """What predict wrote for one file: a value per frame of 40 ms."""

    loudness: np.ndarray
    brightness: np.ndarray
    found: np.ndarray
    squares: np.ndarray
    remarks: list[str]

    def onsets(self):
        """The frames in which the tone begins and the light goes on."""
        return tuple(int(np.argmax(c > (c.min() + c.max()) / 2)) for c in (self.loudness, self.brightness))

    def middles(self):
        """The centres of the face crops."""
        return self.squares[:, :2] + self.squares[:, 2:] / 2


@pytest.fixture
def ask(gauges, tmp_path):
    """A function that predicts a file in this process and returns the `Answer`."""

    def predicted(path, modality="audiovisual"):
        output = tmp_path / "answer.json"
        call_main(predict, f"--model_dir={gauges / modality}", f"--input={path}", f"--output={output}")
        content = json.loads(output.read_text())
        assert content["time"] == [round(0.04 * (k + 1), 2) for k in range(len(content["time"]))]
        curves = [np.array(content[name]) for name in ("arousal", "valence", "face_found", "face_square")]
        assert np.isfinite(curves[0]).all() and np.isfinite(curves[1]).all()
        return Answer(*curves, [remark for remark in content["remarks"] if "the curve is raw" not in remark])

    return predicted


def lit(times_secs, since_secs=1.0):
    """The moving face as it is at these times, dark until `since_secs`."""
    pictures = face_pictures(100, dot=False)
    gains = np.where(np.asarray(times_secs) < since_secs - 1e-6, DARK, 1.0)
    return [(gain * pictures[int(25 * secs)]).astype(np.uint8) for gain, secs in zip(gains, times_secs, strict=True)]


def beep(channels=1, since_secs=1.0, seconds=2.0):
    """A function that returns a tone in all channels but that of low frequencies, silent until `since_secs`."""

    def signal(rate_hz):
        begun = np.arange(round(seconds * rate_hz)) >= since_secs * rate_hz
        return np.outer(begun * tone(rate_hz, seconds), [k != 3 for k in range(channels)])

    return signal


LIKE_X264 = {"bf": "3", "b_strategy": "0"}  # B-frames
X265 = {"x265-params": "log-level=none", "preset": "ultrafast"}
# Name, times of the pictures (None: the codec takes only whole pictures at 25 fps), channels, the frames in which tone
# and light must begin, and how the file is written. Light at t is seen from frame ceil(25 t) on. Formats without times
# before zero begin with the padding of the sound's codec, and pictures and tone are later by it.
KINDS = {
    "mp4, B-frames": ("v.mp4", REGULAR, 2, (25, 25), {"audio": ("aac", 44_100, "stereo"), "options": LIKE_X264}),
    "mp4, AAC 5.1": ("v.mp4", REGULAR, 6, (25, 25), {"audio": ("aac", 48_000, "5.1")}),
    "mp4, Opus": ("v.mp4", REGULAR, 2, (25, 25), {"audio": ("libopus", 48_000, "stereo")}),
    "mp4, High 10, ALAC": (
        "v.mp4", PHONE, 1, (25, 26), {"video": ("libx264", "yuv420p10le"), "audio": ("alac", 44_100, "mono")},
    ),
    "mp4 in fragments": (
        "v.mp4", REGULAR, 1, (25, 25), {"muxer_options": {"movflags": "frag_keyframe+empty_moov+delay_moov"}},
    ),
    "mov of a phone": (
        "v.mov", PHONE, 1, (25, 26),
        {"video": ("libx265", "yuv420p10le"), "options": X265, "timecode": "01:00:00:00"},
    ),
    "mov of an editor": (
        "v.mov", REGULAR, 2, (25, 25),
        {"video": ("prores_ks", "yuv422p10le"), "audio": ("pcm_s24le", 96_000, "stereo")},
    ),
    "webm of a browser": (
        "v.webm", BROWSER, 1, (25, 26),
        {"video": ("libvpx", "yuv420p"), "audio": ("libopus", 48_000, "mono"), "muxer": "webm", "piped": True,
         "muxer_options": {"live": "1"}},
    ),
    "webm, VP9, Opus 5.1": (
        "v.webm", BROWSER, 6, (25, 26),
        {"video": ("libvpx-vp9", "yuv420p"), "audio": ("libopus", 48_000, "5.1"), "options": {"cpu-used": "8"}},
    ),
    "mkv, AV1 10 bit": (
        "v.mkv", REGULAR, 1, (25, 25),
        {"video": ("libsvtav1", "yuv420p10le"), "options": {"preset": "12", "svtav1-params": "lp=1"}},
    ),
    "mkv, FLAC": ("v.mkv", BROWSER, 2, (25, 26), {"audio": ("flac", 96_000, "stereo")}),
    "avi, 8 kHz": (
        "v.avi", None, 1, (25, 25), {"video": ("mpeg4", "yuv420p"), "audio": ("pcm_s16le", 8_000, "mono")},
    ),
    "avi, MP3": (
        "v.avi", None, 2, (25, 26), {"video": ("mpeg4", "yuv420p"), "audio": ("libmp3lame", 44_100, "stereo")},
    ),
    "ts, AC-3 5.1": ("v.ts", REGULAR, 6, (25, 26), {"audio": ("ac3", 48_000, "5.1"), "options": LIKE_X264}),
    "mpg, MP2": ("v.mpg", None, 2, (25, 26), {"video": ("mpeg2video", "yuv420p"), "audio": ("mp2", 44_100, "stereo")}),
    "wmv": ("v.wmv", None, 2, (26, 27), {"video": ("wmv2", "yuv420p"), "audio": ("wmav2", 44_100, "stereo")}),
    "flv": ("v.flv", REGULAR, 1, (25, 26), {"video": ("flv", "yuv420p"), "audio": ("libmp3lame", 44_100, "mono")}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_light_and_tone_begin_at_their_frame_in_every_kind_of_file(ask, tmp_path, kind):
    name, times_secs, channels, onsets, options = KINDS[kind]
    pictures = lit(REGULAR if times_secs is None else times_secs)
    write_clip(tmp_path / name, pictures, times_secs, beep(channels), **options)
    answer = ask(tmp_path / name)
    assert answer.onsets() == onsets
    assert 49 <= len(answer.found) <= 52 and answer.found[2:].all()
    loud = LOUD * (5 / 6 if channels == 6 else 1)
    assert answer.loudness[:23].max() < 0.03 and answer.loudness[28:47].mean() == pytest.approx(loud, rel=0.07)


@pytest.mark.parametrize(
    ("suffix", "pictures_from", "sound_from", "onsets"),
    [
        ("mp4", 0.48, 0.0, (25, 37)),
        ("mp4", 0.0, 0.4, (35, 25)),
        ("mp4", -0.4, 0.0, (25, 15)),  # an edit list leaves out what lies before zero, as after trimming on a phone
        ("mp4", 0.0, -0.4, (15, 25)),
        ("mkv", 0.48, 0.4, (35, 37)),
        ("ts", 10.48, 10.4, (25, 28)),  # broadcasts begin at any time, here with the padding of MP2 at 10.39 s
    ],
)
def test_tracks_that_begin_late_or_are_trimmed_keep_their_place(
    ask, tmp_path, suffix, pictures_from, sound_from, onsets
):
    path = tmp_path / f"v.{suffix}"
    write_clip(
        path, lit(REGULAR), REGULAR + pictures_from, beep(), audio=("mp2", 48_000, "mono") if suffix == "ts" else
        ("aac", 48_000, "mono"), sound_start_secs=sound_from,
    )  # fmt: skip
    answer = ask(path)
    assert answer.onsets() == onsets
    late = max(0, onsets[1] - 25)  # the first picture is held, and no face was seen then
    assert not answer.found[: max(0, late - 1)].any() and answer.found[late:].all()


UPRIGHT = lambda picture: picture  # noqa: E731
STORED = {
    (1, 0, 0, 1): UPRIGHT,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (-1, 0, 0, -1): lambda picture: np.rot90(picture, 2),
    (0, 1, -1, 0): np.rot90,  # shown turned clockwise, as a phone that is held upright writes it
    (0, -1, 1, 0): lambda picture: np.rot90(picture, -1),
    (0, 1, 1, 0): lambda picture: picture.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda picture: np.rot90(picture, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", STORED)
def test_a_turned_or_mirrored_video_gives_the_curve_of_the_upright_one(ask, tmp_path, matrix):
    pictures = lit(np.arange(10) / 25, 0.2)
    answers = []
    for name, stored in (("upright.mp4", UPRIGHT), ("turned.mp4", STORED[matrix])):
        write_clip(tmp_path / name, [np.ascontiguousarray(stored(picture)) for picture in pictures])
        if name == "turned.mp4":
            set_display_matrix(tmp_path / name, *matrix)
        answers.append(ask(tmp_path / name, "video"))
    upright, turned = answers
    assert turned.found.all() and turned.onsets()[1] == 5
    np.testing.assert_allclose(turned.middles(), upright.middles(), atol=3)
    np.testing.assert_allclose(turned.brightness, upright.brightness, atol=0.01)


def test_a_face_in_pixels_that_are_not_square_is_found_where_a_viewer_sees_it(ask, tmp_path):
    pictures = lit(np.arange(10) / 25, 0.2)
    write_clip(tmp_path / "square.mp4", pictures)
    narrow = [cv2.resize(picture, (240, 240), interpolation=cv2.INTER_AREA) for picture in pictures]
    write_clip(tmp_path / "narrow.mp4", narrow, sample_aspect_ratio=Fraction(4, 3))
    square, wide = (ask(tmp_path / name, "video") for name in ("square.mp4", "narrow.mp4"))
    np.testing.assert_allclose(wide.middles(), square.middles(), atol=3)
    np.testing.assert_allclose(wide.brightness, square.brightness, atol=0.01)


@pytest.mark.parametrize(("small_from", "follows_the_large"), [(0, True), (20, False)])
def test_of_two_faces_the_larger_or_longer_visible_one_is_followed(ask, tmp_path, small_from, follows_the_large):
    """The large face, on the right, is there throughout, or only in the first fifth; the small one is half as large."""
    large = face_pictures(100, dot=False)
    pictures = []
    for k in range(50):
        picture = np.full((240, 640, 3), 90, np.uint8)
        picture[60:180, :160] = cv2.resize(large[k], (160, 120), interpolation=cv2.INTER_AREA)
        if follows_the_large or k < 10:
            picture[:, 320:] = large[k]
        pictures.append(picture)
    write_clip(tmp_path / "v.mp4", pictures)
    answer = ask(tmp_path / "v.mp4", "video")
    assert answer.found.all()
    assert (answer.middles()[:, 0] > 320).all() if follows_the_large else (answer.middles()[:, 0] < 160).all()


def test_a_stretch_without_a_face_is_marked_and_no_face_at_all_is_said(ask, tmp_path):
    pictures = lit(REGULAR)
    pictures[20:35] = [np.full_like(pictures[0], 90)] * 15  # the detector looks at pictures 0, 5, 10, ...
    write_clip(tmp_path / "away.mp4", pictures, sound=beep())
    answer = ask(tmp_path / "away.mp4")
    np.testing.assert_array_equal(np.flatnonzero(~answer.found), np.arange(18, 33))
    assert "a face in only 70% of the frames" in answer.remarks
    write_clip(tmp_path / "empty.mp4", [grey(51, 240, 320)] * 25, sound=beep(since_secs=0.4, seconds=1.0))
    answer = ask(tmp_path / "empty.mp4")
    assert not answer.found.any() and answer.onsets()[0] == 10
    np.testing.assert_allclose(answer.brightness, 0.2, atol=0.01)
    assert "no face in any frame; the crops show the centre of the picture" in answer.remarks


def test_silence_is_answered_and_said(ask, tmp_path):
    write_clip(tmp_path / "v.mp4", lit(REGULAR), sound=lambda rate_hz: np.zeros(2 * rate_hz))
    answer = ask(tmp_path / "v.mp4")
    assert answer.onsets()[1] == 25 and answer.loudness.max() < 1e-4
    assert "the sound is silent" in answer.remarks


def test_one_picture_is_one_frame(ask, tmp_path):
    write_clip(tmp_path / "one.mp4", face_pictures(1, dot=False))
    answer = ask(tmp_path / "one.mp4", "video")
    assert answer.found.tolist() == [True] and 0.4 < answer.brightness[0] < 0.7
    write_clip(tmp_path / "long.mp4", face_pictures(1, dot=False), sound=beep())
    answer = ask(tmp_path / "long.mp4")
    assert len(answer.found) == 1
    assert "the sound is 1.96 s longer than the video; what goes beyond is left out; is a file cut?" in answer.remarks


def test_sound_with_the_cover_of_an_album_is_sound_without_video(ask, gauges, tmp_path):
    track = {"codec": "libmp3lame", "rate_hz": 44_100, "signal": beep()(44_100)[:, 0]}
    encode(tmp_path / "a.mp3", track, muxer="mp3", cover=grey(90, 288, 352))
    answer = ask(tmp_path / "a.mp3", "audio")
    assert len(answer.loudness) == 50 and int(np.argmax(answer.loudness > LOUD / 2)) == 25
    with pytest.raises(UserError, match=r"a\.mp3: the file has no video track"):
        ask(tmp_path / "a.mp3")


@pytest.mark.parametrize(("height", "width"), [(17, 33), (1, 320), (300, 3), (1, 1)])
def test_pictures_of_any_size_are_answered(ask, tmp_path, height, width):
    write_clip(tmp_path / "v.mkv", [grey(102, height, width)] * 5, video=("ffv1", "yuv444p"))
    answer = ask(tmp_path / "v.mkv", "video")
    assert not answer.found.any()
    np.testing.assert_allclose(answer.brightness, [0.4] * 5, atol=0.01)


def test_an_animated_gif_is_a_video(ask, tmp_path):
    write_clip(tmp_path / "v.gif", lit(REGULAR), video=("gif", "rgb8"))
    answer = ask(tmp_path / "v.gif", "video")
    assert len(answer.found) == 50 and answer.onsets()[1] == 25


HEVC_HDR = {"video": ("libx265", "yuv420p10le"), "options": X265, "colorspace": 9}


@pytest.mark.parametrize(
    ("remark", "options"),
    [
        ("the pictures are HDR", HEVC_HDR | {"color_trc": 16}),
        ("the pictures are HDR", HEVC_HDR | {"color_trc": 18}),
        ("the pictures are interlaced", {"options": {"x264opts": "tff=1"}}),
    ],
    ids=("PQ", "HLG", "interlaced"),
)
def test_pictures_that_look_otherwise_than_in_training_are_answered_with_a_remark(ask, tmp_path, remark, options):
    write_clip(tmp_path / "v.mkv", lit(np.arange(10) / 25, 0.2), **options)
    answer = ask(tmp_path / "v.mkv", "video")
    assert answer.found.all() and answer.onsets()[1] == 5
    assert any(said.startswith(remark) for said in answer.remarks)


NAMES = [
    "it's \"quoted\" & $HOME.mp4", "line\nbreak.mp4", " spaces  .mp4", "Übung 日本 😀.mp4", "-dash.mp4", "p%03d.mp4",
    "a,b.mp4", "[x]*?.mp4", "concat:a|b.mp4", "back\\slash.mp4", "no_suffix",
]  # fmt: skip


def test_any_name_is_a_name(gauges, tmp_path, monkeypatch, capsys):
    write_clip(tmp_path / "v.mp4", lit(np.arange(5) / 25, 0.08))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in NAMES:
        shutil.copy("v.mp4", os.path.join("in", name))
        shutil.copy("v.mp4", name)
    expected = None
    for name in NAMES:
        for output in (f"{name}.csv", f"{name}.json"):
            call_main(predict, f"--model_dir={gauges / 'video'}", f"--input={name}", f"--output={output}")
        content = (tmp_path / f"{name}.csv").read_text()
        expected = expected or content
        assert content == expected and len(content.splitlines()) == 6
        assert json.loads((tmp_path / f"{name}.json").read_bytes())["valence"][4] > 0.4
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4 * len(NAMES)  # what was written, and what the numbers mean
    assert all(len(line) < 300 for line in captured.err.splitlines())


def test_a_name_in_another_encoding_is_answered_too(ask, tmp_path):
    path = tmp_path / os.fsdecode(b"latin-\xe9.mp4")
    write_clip(tmp_path / "v.mp4", lit(np.arange(5) / 25, 0.08))
    (tmp_path / "v.mp4").rename(path)
    assert ask(path, "video").onsets()[1] == 2


def test_a_file_that_ends_in_the_middle_is_answered_with_a_remark_or_refused(ask, tmp_path):
    """Of fragments, what is whole is read. A list of pictures that are not there is refused, with the time."""
    fragments = {"muxer_options": {"movflags": "frag_keyframe+empty_moov+delay_moov", "frag_duration": "200000"}}
    for name, options in (
        ("end.mp4", {}),
        ("front.mp4", {"muxer_options": {"movflags": "faststart"}}),
        ("f.mp4", fragments),
    ):
        write_clip(tmp_path / name, lit(REGULAR), sound=beep(), **options)
        content = (tmp_path / name).read_bytes()
        end = content.rindex(b"moof") + 20 if name == "f.mp4" else int(0.8 * len(content))
        (tmp_path / name).write_bytes(content[:end])
    with pytest.raises(
        UserError, match=r"end\.mp4: cannot be decoded as video \(Invalid data found .*\); it may be cut"
    ):
        ask(tmp_path / "end.mp4")
    with pytest.raises(
        UserError, match=r"front\.mp4: cannot be decoded as (video from 1\.\d+ s on|sound) \(.*Invalid data"
    ):
        ask(tmp_path / "front.mp4")
    answer = ask(tmp_path / "f.mp4")
    assert 30 < len(answer.found) < 50 and answer.onsets() == (25, 25)
    assert any(remark.endswith("bytes of the file are missing; it is cut") for remark in answer.remarks)


def broken(folder):
    """Writes one file of each kind that cannot be answered; returns what must be said of it by name."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, 100_000, dtype=np.uint8).tobytes()
    write_clip(folder / "v.mp4", lit(np.arange(10) / 25, 0.2), sound=beep(seconds=0.4))
    good = (folder / "v.mp4").read_bytes()
    at, ones = good.index(b"ftyp"), b"\xff" * 4
    picture = cv2.imencode(".png", grey(90))[1].tobytes()
    manifest = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><Representation><BaseURL>v.mp4</BaseURL>'
    )
    nothing = r"cannot be decoded as video \(Invalid data found when processing input\); it may be cut, or not a video"
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nv.mp4\n#EXT-X-ENDLIST\n"
    contents = {
        "empty.mp4": (b"", nothing),
        "text.mp4": (b"this is not a video\n" * 50, nothing),
        "noise.mp4": (noise, nothing),
        "noise after a header.mp4": (good[: at + 28] + noise, nothing),
        "paper.pdf": (b"%PDF-1.7\n" + noise, nothing),
        "archive.zip": (b"PK\x03\x04" + noise, nothing),
        "list.m3u8": (playlist.encode(), "files of format hls are not read"),
        "list.mp4": (playlist.encode(), "cannot be decoded as video|files of format hls are not read"),
        "concat.mp4": (b"ffconcat version 1.0\nfile v.mp4\n", "files of format concat are not read"),
        "dash.mp4": (manifest.encode(), "files of format dash are not read|" + nothing),
        "picture.mp4": (picture, "files of format png_pipe are not read"),
        "huge.mp4": (with_number(good, b"stsz", 8, 0x7FFFFFFF), nothing),
        "many.wav": (
            b"RIFF" + ones + b"WAVEfmt \x10\0\0\0\x01\0" + 3 * ones + b"\x10\0data" + 100 * ones,
            nothing,
        ),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    return {name: message for name, (_, message) in contents.items()}


def test_what_is_no_video_is_refused_in_one_line_and_leaves_nothing(gauges, tmp_path):
    messages, output = broken(tmp_path), tmp_path / "answer.csv"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, message in messages.items():
        with pytest.raises(UserError, match=message) as refused:
            call_main(
                predict, f"--model_dir={gauges / 'audiovisual'}", f"--input={tmp_path / name}", f"--output={output}"
            )
        assert name in str(refused.value) and "\n" not in str(refused.value)
        assert not output.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024  # KiB


def test_sound_with_values_that_are_no_numbers_is_refused(ask, tmp_path):
    sound = np.zeros(16_000, np.float32)
    sound[9_000] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav: the file contains samples that are NaN or infinite"):
        ask(tmp_path / "a.wav", "audio")


def test_paths_that_are_no_files_are_refused(ask, tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "nowhere.mp4").symlink_to("missing.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, message in (
        (tmp_path / "folder.mp4", "the folder holds no sound or video file"),
        (tmp_path / "loop.mp4", "cannot be read|leads nowhere"),
        (tmp_path / "nowhere.mp4", "is a link that leads nowhere"),
        (tmp_path / "missing.mp4", "does not exist"),
        (tmp_path / "pipe.mp4", "is not a regular file but a folder, pipe or device"),
        ("/dev/zero", "is not a regular file but a folder, pipe or device"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "loop.mp4" / "v.mp4", "does not exist|cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            ask(path)


def test_outputs_that_cannot_be_written_are_refused_before_the_work(gauges, tmp_path, monkeypatch):
    write_clip(tmp_path / "v.mp4", lit(np.arange(5) / 25))
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("affect.serving.model.ServedModel.load", lambda folder: pytest.fail("the work began"))
    for output in (
        "/proc/answer.csv",
        tmp_path / "file/answer.csv",
        tmp_path / "v.mp4",
    ):
        with pytest.raises(UserError):
            call_main(predict, f"--model_dir={gauges / 'video'}", f"--input={tmp_path / 'v.mp4'}", f"--output={output}")


def test_the_command_ends_with_code_2_and_one_line(gauges, tmp_path):
    (tmp_path / "not a\nvideo.mp4").write_bytes(b"x" * 1000)
    done = run_command(
        "-m", "affect.serving.predict", f"--model_dir={gauges / 'video'}", f"--input={tmp_path}/not a\nvideo.mp4",
        f"--output={tmp_path}/answer.csv",
    )  # fmt: skip
    (line,) = error_lines(done)
    assert (
        done.returncode == 2 and line.startswith("error: ") and r"not a\nvideo.mp4: cannot be decoded as video" in line
    )
    assert not (tmp_path / "answer.csv").exists()
    done = run_command(
        "-m", "affect.serving.predict", "--model_dir=x", f"--input={__file__}", f"--output={tmp_path}/{'x' * 300}.csv"
    )
    (line,) = error_lines(done)
    assert done.returncode == 2 and line.startswith("error: ") and "File name too long" in line


MEASURED = """
from affect.serving import predict
try:
    predict.command()
finally:  # `ru_maxrss` would include the process that started this one
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_8k_video_is_answered_in_less_than_2_gib(ask, gauges, tmp_path):
    for name, size in (("large.mp4", (7680, 4320)), ("small.mp4", (320, 240))):
        write_clip(tmp_path / name, [cv2.resize(picture, size) for picture in lit(REGULAR[:10], 0.2)])
    small, large = (ask(tmp_path / name, "video") for name in ("small.mp4", "large.mp4"))
    assert large.onsets()[1] == 5 and large.found.all()
    np.testing.assert_allclose(large.middles() / [24, 18], small.middles(), atol=4)
    done = run_command(
        "-c", MEASURED, f"--model_dir={gauges / 'video'}", f"--input={tmp_path}/large.mp4", f"--output={tmp_path}/a.csv"
    )
    peak_kib = int(done.stdout.split()[-1])
    assert done.returncode == 0 and peak_kib < 2 * 2**20
