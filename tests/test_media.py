"""Sound and pictures read back against what was written."""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from affect.errors import UserError
from affect.media.audio import read_audio
from affect.media.video import read_frames


def tone(rate_hz, seconds=2.0, frequency_hz=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * seconds)) / rate_hz)


def write_video(path, pictures, times_ms=None, rate=25):
    """H.264 with the given presentation times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def grey(level):
    return np.full((64, 64, 3), level, np.uint8)


@pytest.mark.parametrize(("rate_hz", "subtype"), [(16_000, "PCM_16"), (44_100, "PCM_24"), (48_000, "FLOAT")])
def test_sound_of_any_rate_arrives_as_the_same_tone_at_16_khz(tmp_path, rate_hz, subtype):
    stereo = np.stack([tone(rate_hz), tone(rate_hz)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, rate_hz, subtype=subtype)
    read = read_audio(tmp_path / "a.wav") / 32_768.0
    expected = tone(16_000)
    assert read.size == expected.size
    inner = slice(800, -800)  # the resampler's own edges
    noise = np.mean((read[inner] - expected[inner]) ** 2)
    assert 10 * np.log10(np.mean(expected[inner] ** 2) / noise) > 60.0


def test_two_channels_are_averaged_and_full_scale_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile([[0.5, -0.25]], (16_000, 1)), 16_000, subtype="FLOAT")
    assert set(read_audio(tmp_path / "a.wav")) == {4096}
    soundfile.write(tmp_path / "b.wav", np.full(16_000, 1.5), 16_000, subtype="FLOAT")
    assert set(read_audio(tmp_path / "b.wav")) == {32_767}


@pytest.mark.parametrize("content", [b"", b"RIFFnonsense"])
def test_unreadable_sound_names_the_file(tmp_path, content):
    (tmp_path / "broken.wav").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.wav: cannot be decoded as sound"):
        read_audio(tmp_path / "broken.wav")
    with pytest.raises(UserError, match=r"missing\.wav: no such audio file"):
        read_audio(tmp_path / "missing.wav")


def test_pictures_at_25_fps_come_through_one_by_one(tmp_path):
    levels = [20 + 8 * k for k in range(25)]
    write_video(tmp_path / "v.mp4", [grey(level) for level in levels])
    read = [picture().mean() for picture in read_frames(tmp_path / "v.mp4", 25)]
    np.testing.assert_allclose(read, levels, atol=3)


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [
        ([0, 20, 40, 60, 80, 100], [0, 2, 4]),  # 50 fps: every second one is on show at t = 0.04 k
        ([0, 80, 160, 240], [0, 0, 1, 1, 2, 2]),  # 12.5 fps: shown twice
        ([0, 40, 160, 200], [0, 1, 1, 1, 2]),  # dropped pictures: the last one stays on show
    ],
)
def test_the_picture_on_show_at_each_grid_time_is_taken(tmp_path, times_ms, expected):
    pictures = [grey(20 + 30 * k) for k in range(len(times_ms))]
    write_video(tmp_path / "v.mp4", pictures, times_ms)
    read = [picture().mean() for picture in read_frames(tmp_path / "v.mp4", 25)]
    np.testing.assert_allclose(read[: len(expected)], [20 + 30 * k for k in expected], atol=4)


def test_given_frame_times_replace_the_files_own(tmp_path):
    write_video(tmp_path / "v.mp4", [grey(20), grey(120), grey(220)])
    read = read_frames(tmp_path / "v.mp4", 25, np.array([0.0, 0.12, 0.16]))
    np.testing.assert_allclose([p().mean() for p in read][:5], [20, 20, 20, 120, 220], atol=4)
    with pytest.raises(UserError, match="more pictures than its 2 listed"):
        list(read_frames(tmp_path / "v.mp4", 25, np.array([0.0, 0.04])))


def test_colours_survive(tmp_path):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    write_video(tmp_path / "v.mp4", [red] * 5)
    np.testing.assert_allclose(next(read_frames(tmp_path / "v.mp4", 25))().mean(axis=(0, 1)), [200, 0, 0], atol=6)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"not a video")
    with pytest.raises(UserError, match=r"v\.mp4: cannot be decoded as video"):
        list(read_frames(tmp_path / "v.mp4", 25))
