"""The overlay: what was planted in curve, picture and sound is found again in the decoded mp4."""

import os
from types import SimpleNamespace

import av
import numpy as np
import pytest

from affect.errors import UserError
from affect.media.audio import read_audio
from affect.serving.overlay import write_overlay
from affect.serving.overlay_drawing import (
    CURVE_COLOURS,
    DOT_COLOUR,
    FOUND_COLOUR,
    MAX_EDGE,
    MIN_WIDTH,
    WINDOW_SECS,
    Painter,
)
from affect.serving.pictures import RAW, captions, plot_curve
from affect.serving.prediction import Curve
from affect.serving.wording import MEANING, SYNTHETIC
from tests.helpers.sounds import encode
from tests.helpers.videos import corners_of, four_colours, grey, set_display_matrix, write_coded

FRAMES = 30
SQUARE = (120, 60, 100)  # left, top, edge


def curve_of(predicted, found=True, square=SQUARE, synthetic=False, postprocessed=True, remarks=()):
    """Returns a curve; one face square for all frames."""
    frames = len(predicted)
    return Curve(
        source="talk.mp4",
        times_secs=(np.arange(frames) + 1) / 25,
        predicted=np.asarray(predicted, np.float64),
        found=None if found is None else np.broadcast_to(found, frames).copy(),
        squares=None if found is None else np.tile(square, (frames, 1)),
        remarks=list(remarks),
        postprocessed=postprocessed,
        contract=SimpleNamespace(synthetic=synthetic),
    )


def constant(arousal=0.4, valence=-0.3, frames=FRAMES):
    return np.tile([[arousal, valence]], (frames, 1))


@pytest.fixture(scope="module")
def noise():
    """Noise of 1.5 s at 16 kHz: its cross-correlation has a single peak."""
    return np.random.default_rng(0).normal(size=24_000) * 0.1


@pytest.fixture(scope="module")
def talk(tmp_path_factory, noise):
    """A grey video of 320 x 240 whose frames become brighter, with noise as AAC, and a title."""
    path = tmp_path_factory.mktemp("overlay") / "talk.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "PRIVATE"
        pictures, sound = container.add_stream("mpeg4", rate=25), container.add_stream("aac", rate=16_000)
        sound.metadata["handler_name"] = "PRIVATE"
        pictures.width, pictures.height, pictures.pix_fmt, pictures.bit_rate = 320, 240, "yuv420p", 4_000_000
        for k in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(grey(60 + 3 * k, 240, 320), "rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(noise[np.newaxis].astype(np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def decoded(path):
    """Returns the pictures, int [frames, height, width, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def audio_packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def near(pictures, colour, tolerance=40):
    return np.abs(pictures - np.array(colour)).max(axis=-1) <= tolerance


def delay_samples(heard, played):
    """Returns by how many samples a sound comes later than another one, from the peak of their cross-correlation."""
    size = 2 * max(len(heard), len(played))
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(played, size).conj())
    peak = int(np.argmax(product))
    return peak - size if peak > size // 2 else peak


def test_overlay_is_a_plain_mp4_with_one_picture_per_frame(talk, tmp_path):
    done = []
    write_overlay(curve_of(constant()), talk, None, tmp_path / "o.mp4", lambda *counts: done.append(counts))
    content = (tmp_path / "o.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # playable before it is loaded
    assert b"PRIVATE" in talk.read_bytes() and b"PRIVATE" not in content
    assert done == [(k + 1, FRAMES) for k in range(FRAMES)]
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 25)
        frames = list(container.decode(stream))
        assert [frame.time for frame in frames] == pytest.approx(np.arange(FRAMES) / 25)
    pictures = decoded(tmp_path / "o.mp4")
    assert pictures[:, :40, :40].mean(axis=(1, 2, 3)) == pytest.approx(60 + 3 * np.arange(FRAMES), abs=3)


def test_face_box_is_green_where_found_and_dashed_grey_where_held(talk, tmp_path):
    found = np.arange(FRAMES) < FRAMES // 2
    write_overlay(curve_of(constant(), found), talk, None, tmp_path / "o.mp4")
    pictures = decoded(tmp_path / "o.mp4")[:, :240]
    left, top, edge = SQUARE
    greenish = (pictures[..., 1] - pictures[..., [0, 2]].max(axis=-1)) > 60
    rows, columns = np.nonzero(greenish[5])
    assert [columns.min(), columns.max()] == pytest.approx([left, left + edge], abs=2)
    assert [rows.min(), rows.max()] == pytest.approx([top, top + edge], abs=2)
    assert greenish[5, top + edge // 2, left] or greenish[5, top + edge // 2, left - 1]
    assert not greenish[5, top + 10 : top + edge - 10, left + 10 : left + edge - 10].any()  # the face stays free
    assert not greenish[FRAMES // 2 :].any()
    side = pictures[-1, top + 8 : top + edge - 8, left - 1 : left + 1].mean(axis=(1, 2))
    assert (side > 150).mean() == pytest.approx(0.5, abs=0.2) and side.max() - side.min() > 100


def test_dot_shows_valence_to_the_right_and_arousal_upwards(talk, tmp_path):
    predicted = constant(0.4, -0.3)
    predicted[20:] = [-0.25, 0.5]
    curve = curve_of(predicted)
    write_overlay(curve, talk, None, tmp_path / "o.mp4")
    pictures, painter = decoded(tmp_path / "o.mp4"), Painter(curve, 320, 240)
    left, top, width, height = painter.plane
    assert painter.limit == 0.5
    for k, (arousal, valence) in ((10, (0.4, -0.3)), (25, (-0.25, 0.5))):
        rows, columns = np.nonzero(near(pictures[k, top - 4 : top + height + 4, left - 4 : 320], DOT_COLOUR))
        x, y = (columns.min() + columns.max()) / 2 - 4, (rows.min() + rows.max()) / 2 - 4
        assert x == pytest.approx((valence + 0.5) * (width - 1), abs=1)
        assert y == pytest.approx((0.5 - arousal) * (height - 1), abs=1)


def test_running_curves_end_at_the_current_frame(talk, tmp_path):
    predicted = constant(0.4, -0.4)
    predicted[10:, 0] = 0.1
    curve = curve_of(predicted)
    write_overlay(curve, talk, None, tmp_path / "o.mp4")
    picture, painter = decoded(tmp_path / "o.mp4")[FRAMES - 1], Painter(curve, 320, 240)
    left, top, width, height = painter.curves
    panel = picture[top : top + height, left : left + width]
    red, blue = (np.nonzero(near(panel, CURVE_COLOURS[name], 100)) for name in ("arousal", "valence"))
    frames_ago = (width - 1 - red[1]) / (width - 1) * (WINDOW_SECS * 25 - 1)
    before, after = red[0][frames_ago > 22], red[0][(frames_ago < 16) & (frames_ago > 6)]
    assert np.median(before) == pytest.approx((0.5 - 0.4) * (height - 1), abs=1.5)
    assert np.median(after) == pytest.approx((0.5 - 0.1) * (height - 1), abs=1.5)
    assert np.median(blue[0]) == pytest.approx((0.5 + 0.4) * (height - 1), abs=1.5)
    bright = np.flatnonzero(panel[round(0.9 * (height - 1))].sum(axis=-1) > 300)  # H.264 keeps brightness better
    oldest = (width - 1 - bright.min()) / (width - 1) * (WINDOW_SECS * 25 - 1)
    assert oldest == pytest.approx(FRAMES - 1, abs=2)  # nothing is drawn before the first frame


def test_faceless_stretch_is_shaded_behind_the_running_curves():
    found = np.ones(FRAMES, bool)
    found[10:20] = False
    curve = curve_of(constant(), found)
    painter = Painter(curve, 640, 480)
    picture = painter.draw(FRAMES - 1, grey(60, 480, 640)).astype(int)
    left, top, width, _ = painter.curves
    row = picture[top + 1, left : left + width].sum(axis=1)
    shaded = np.flatnonzero(row > row.min() + 60)
    per_frame = (width - 1) / (WINDOW_SECS * 25 - 1)
    assert width - 1 - shaded[[0, -1]] == pytest.approx([19 * per_frame, 10 * per_frame], abs=per_frame)


def test_aac_of_an_mp4_is_copied_and_stays_in_time(talk, tmp_path):
    write_overlay(curve_of(constant()), talk, None, tmp_path / "o.mp4")
    source, copied = audio_packets(talk), audio_packets(tmp_path / "o.mp4")
    assert copied == source[: len(copied)]
    assert len(copied) == pytest.approx(1.2 * 16_000 / 1024, abs=2)  # the curve ends at 1.2 s
    heard, before = read_audio(tmp_path / "o.mp4"), read_audio(talk)
    assert delay_samples(heard[:18_000] * 1.0, before[:18_000] * 1.0) == 0


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 96_000])
def test_other_sound_becomes_aac_without_delay_or_drift(talk, tmp_path, rate_hz):
    frames = 250
    played = np.random.default_rng(1).normal(size=10 * rate_hz) * 0.1
    smooth = np.convolve(played, np.ones(max(1, rate_hz // 8_000)), "same") * 0.3
    encode(tmp_path / "talk.wav", {"codec": "pcm_s16le", "signal": np.stack([smooth, smooth], 1), "rate_hz": rate_hz})
    write_overlay(curve_of(constant(frames=frames)), talk, tmp_path / "talk.wav", tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.channels, stream.rate) == ("aac", 2, min(rate_hz, 48_000))
    heard, wanted = (read_audio(path).astype(float) for path in (tmp_path / "o.mp4", tmp_path / "talk.wav"))
    assert heard.size == pytest.approx(160_000, abs=2)
    for start in (0, 80_000, 140_000):
        part = slice(start, start + 16_000)
        assert abs(delay_samples(heard[part], wanted[part])) <= 1
        assert np.corrcoef(heard[part], wanted[part])[0, 1] > 0.95


def test_sound_that_starts_late_stays_late(talk, tmp_path):
    tone = {"codec": "aac", "signal": np.random.default_rng(2).normal(size=8_000) * 0.1, "rate_hz": 16_000}
    for name, muxer in (("late.mp4", None), ("late.mkv", "matroska")):
        encode(tmp_path / name, {**tone, "start_secs": 0.5}, muxer=muxer)
        write_overlay(curve_of(constant()), talk, tmp_path / name, tmp_path / "o.mp4")
        heard, wanted = (read_audio(path).astype(float) for path in (tmp_path / "o.mp4", tmp_path / name))
        assert np.abs(heard[:7_000]).max() < 300 < np.abs(heard[9_000:]).max()
        assert abs(delay_samples(heard, wanted[: heard.size])) <= 1


def test_video_without_sound_gets_none(tmp_path):
    write_coded(tmp_path / "mute.mp4", "mpeg4", "yuv420p", [grey(90)] * 5)
    write_overlay(curve_of(constant(frames=5)), tmp_path / "mute.mp4", None, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert not container.streams.audio


def test_last_picture_is_held_where_the_video_ends_before_the_curve(tmp_path):
    write_coded(tmp_path / "short.mp4", "mpeg4", "yuv420p", [grey(60), grey(120)])
    write_overlay(curve_of(constant(frames=6), None), tmp_path / "short.mp4", None, tmp_path / "o.mp4")
    assert decoded(tmp_path / "o.mp4")[:, 20, 20, 0] == pytest.approx([60, 120, 120, 120, 120, 120], abs=4)


def test_turned_video_is_drawn_upright_and_the_box_in_its_upright_pixels(tmp_path):
    pictures = [four_colours(240, 320)] * 4
    write_coded(tmp_path / "phone.mp4", "mpeg4", "yuv420p", pictures, bit_rate=4_000_000)
    set_display_matrix(tmp_path / "phone.mp4", 0, 1, -1, 0)  # a quarter turn to the right
    curve = curve_of(constant(frames=4), True, (180, 220, 80))  # inside 240 x 320, outside 320 x 240
    write_overlay(curve, tmp_path / "phone.mp4", None, tmp_path / "o.mp4")
    picture = decoded(tmp_path / "o.mp4")[2]
    painter = Painter(curve, 240, 320)
    left, top, width, height = painter.picture
    scale = width / 240
    assert (width, height) == (320, 426) and scale == pytest.approx(4 / 3)  # enlarged until the text fits
    assert corners_of(picture[top : top + height, left : left + width]) == "BRYG"
    rows, columns = np.nonzero(near(picture, FOUND_COLOUR, 40))
    assert [columns.min(), rows.min(), rows.max()] == pytest.approx([180 * scale, 220 * scale, 300 * scale], abs=3)


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (321, 241), (720, 1280), (1920, 1080), (7680, 4320), (4000, 16)])
def test_every_size_gives_an_even_size_within_the_limits(size):
    curve = curve_of(constant(), None, synthetic=True, postprocessed=False)
    painter = Painter(curve, *size)
    left, _, width, height = painter.picture
    assert painter.width % 2 == painter.height % 2 == 0
    assert MIN_WIDTH <= painter.width <= MAX_EDGE and height <= MAX_EDGE and left + width <= painter.width
    exact = min(1.0, MAX_EDGE / max(size)) if size[0] >= MIN_WIDTH else min(MIN_WIDTH / size[0], MAX_EDGE / size[1])
    assert (width, height) == pytest.approx((size[0] * exact, size[1] * exact), abs=1.01)
    picture = painter.draw(3, grey(200, size[1], size[0]))
    assert picture.shape == (painter.height, painter.width, 3) and abs(int(picture[0, painter.width // 2, 0]) - 200) < 2


def test_box_follows_pictures_whose_size_changes():
    painter = Painter(curve_of(constant()), 640, 480)
    small, large = (painter.draw(3, grey(90, *size)) for size in ((240, 320), (480, 640)))
    assert np.array_equal(small, large)
    wide = painter.draw(3, grey(90, 240, 640)).astype(int)  # letterboxed
    assert wide[50, 320].tolist() == [0, 0, 0] and wide[125, 20].tolist() == [90, 90, 90]
    narrow = painter.draw(3, grey(90, 480, 320)).astype(int)
    half = 50 * np.sqrt(0.5)  # SQUARE has its centre at 170, 110
    for picture, x, y in ((wide, 170, 120 + 110 / 2), (narrow, 160 + 170 / 2, 110)):
        rows, columns = np.nonzero(near(picture[:480], FOUND_COLOUR, 10))
        assert [columns.min(), columns.max()] == pytest.approx([x - half, x + half], abs=2)
        assert [rows.min(), rows.max()] == pytest.approx([y - half, y + half], abs=2)


def test_captions_warn_of_synthetic_data_and_say_what_the_numbers_mean():
    assert captions(curve_of(constant(), synthetic=True)) == (SYNTHETIC, [MEANING])
    assert captions(curve_of(constant(), postprocessed=False)) == ("", [MEANING, RAW])
    curves = [curve_of(constant(), synthetic=synthetic) for synthetic in (False, True)]
    without, warned = (Painter(curve, 640, 480).draw(0, grey(90, 480, 640)).astype(int) for curve in curves)
    assert warned.shape[0] > without.shape[0]
    amber = warned[..., 0] - warned[..., 2]
    assert (amber[-60:] > 100).sum() > 500 and not (without[-60:, :, 0] - without[-60:, :, 2] > 100).any()


def test_plot_names_file_remarks_and_synthetic_data():
    curve = curve_of(constant(), synthetic=True, postprocessed=False, remarks=[SYNTHETIC, "the sound is silent"])
    texts = [text.get_text() for text in plot_curve(curve).texts]
    assert texts == ["talk.mp4", SYNTHETIC, MEANING, RAW, "Remark: the sound is silent"]


def test_refusals_name_the_way_out_and_leave_no_file(talk, tmp_path, monkeypatch):
    curve = curve_of(constant())
    own = tmp_path / "own.mp4"
    own.write_bytes(talk.read_bytes())
    os.link(own, tmp_path / "hard.mp4")
    (tmp_path / "soft.mp4").symlink_to(own)
    for output in ("own.mp4", "hard.mp4", "soft.mp4"):
        with pytest.raises(UserError, match="is the input itself"):
            write_overlay(curve, own, None, tmp_path / output)
    with pytest.raises(UserError, match="is the input itself"):
        write_overlay(curve, talk, own, own)
    assert own.read_bytes() == talk.read_bytes()
    with pytest.raises(UserError, match=r"o\.avi must end in \.mp4"):
        write_overlay(curve, talk, None, tmp_path / "o.avi")
    encode(tmp_path / "talk.wav", {"codec": "pcm_s16le", "signal": np.zeros(16_000), "rate_hz": 16_000})
    with pytest.raises(UserError, match="no video track; --overlay needs pictures to draw on, --plot needs none"):
        write_overlay(curve, tmp_path / "talk.wav", None, tmp_path / "o.mp4")
    with pytest.raises(UserError, match="missing.mp4: video file does not exist"):
        write_overlay(curve, tmp_path / "missing.mp4", None, tmp_path / "o.mp4")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(UserError, match=r"text\.wav: cannot be decoded as video"):
        write_overlay(curve, tmp_path / "text.wav", None, tmp_path / "o.mp4")
    with pytest.raises(UserError, match=r"text\.wav: cannot be decoded as sound"):
        write_overlay(curve, talk, tmp_path / "text.wav", tmp_path / "o.mp4")
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(UserError, match="without an encoder for H.264"):
        write_overlay(curve, talk, None, tmp_path / "o.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "hard.mp4", "own.mp4", "soft.mp4", "talk.wav", "text.wav"
    ]  # fmt: skip


def test_disk_that_fills_up_is_named_and_the_old_overlay_stays(talk, tmp_path, monkeypatch):
    output = tmp_path / "o.mp4"
    output.write_bytes(b"old")

    def full(container, packets):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(av.container.OutputContainer, "mux", full, raising=False)
    with pytest.raises(UserError, match=r"o\.mp4: cannot be written \(No space left on device\)"):
        write_overlay(curve_of(constant()), talk, None, output)
    assert output.read_bytes() == b"old" and list(tmp_path.iterdir()) == [output]
