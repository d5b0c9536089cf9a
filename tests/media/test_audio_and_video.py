"""Sound and pictures that are read back equal what was written."""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from affect.errors import UserError
from affect.media.audio import mean_and_std, read_audio
from affect.media.video import grid_frames, probe, read_frames
from tests.helpers.trees import snr_db, tones, write_video


def grey(level):
    return np.full((64, 64, 3), level, np.uint8)


@pytest.mark.parametrize(
    ("rate_hz", "subtype", "suffix", "min_snr_db"),
    [
        (16_000, "PCM_16", "wav", 60),
        (22_050, "PCM_16", "flac", 60),
        (44_100, "PCM_24", "wav", 60),
        (48_000, "FLOAT", "WAV", 60),
        (96_000, "PCM_32", "wav", 60),
        (48_000, "PCM_24", "flac", 60),
        (44_100, "PCM_U8", "wav", 35),  # the limit of 8 bits
        (44_100, "MPEG_LAYER_III", "mp3", 30),  # the codec is lossy
    ],
)
def test_sound_in_any_format_is_read_as_the_same_tones_at_16_khz(tmp_path, rate_hz, subtype, suffix, min_snr_db):
    signal = tones(rate_hz)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([signal, signal], axis=1), rate_hz, subtype=subtype, format=suffix.upper())
    read = read_audio(path) / 32_768.0
    expected = tones(16_000)
    assert suffix == "mp3" or read.size == expected.size
    assert snr_db(expected, read[: expected.size]) > min_snr_db


@pytest.mark.parametrize("codec", ["alac", "aac"])
@pytest.mark.parametrize("late_secs", [0.0, 0.3])
def test_the_sound_track_of_a_video_keeps_its_place_in_time(tmp_path, codec, late_secs):
    """A burst is 1.5 s into the sound track, which starts at 0 or late."""
    burst = np.zeros(3 * 44_100)
    burst[66_150 : 66_150 + 4_410] = np.random.default_rng(0).uniform(-0.5, 0.5, 4_410)
    write_video(tmp_path / "v.mp4", [grey(50)] * 75, sound=burst, sound_codec=codec, sound_start_secs=late_secs)
    read = read_audio(tmp_path / "v.mp4").astype(float)
    loud = np.flatnonzero(np.abs(read) > 0.2 * np.abs(read).max())
    assert loud[0] / 16_000 == pytest.approx(1.5 + late_secs, abs=0.003)
    assert loud[-1] / 16_000 == pytest.approx(1.6 + late_secs, abs=0.003)
    assert read.size / 16_000 == pytest.approx(3.0 + late_secs, abs=0.07)


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
    with pytest.raises(UserError, match=r"missing\.wav: audio file does not exist"):
        read_audio(tmp_path / "missing.wav")


def test_a_video_at_25_fps_keeps_every_picture(tmp_path):
    levels = [20 + 8 * k for k in range(25)]
    write_video(tmp_path / "v.mp4", [grey(level) for level in levels])
    read = [picture().mean() for picture in read_frames(tmp_path / "v.mp4", 25)]
    np.testing.assert_allclose(read, levels, atol=3)


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [
        ([0, 20, 40, 60, 80, 100], [0, 2, 4]),  # 50 fps: every second picture is shown at t = 0.04 k
        ([0, 80, 160, 240], [0, 0, 1, 1, 2, 2]),  # 12.5 fps: every picture is shown for two frames
        ([0, 40, 160, 200], [0, 1, 1, 1, 2]),  # dropped pictures: the one before stays
    ],
)
def test_every_frame_is_the_picture_that_is_shown_at_its_time(tmp_path, times_ms, expected):
    pictures = [grey(20 + 30 * k) for k in range(len(times_ms))]
    write_video(tmp_path / "v.mp4", pictures, np.array(times_ms) / 1000)
    read = [picture().mean() for picture in read_frames(tmp_path / "v.mp4", 25)]
    np.testing.assert_allclose(read[: len(expected)], [20 + 30 * k for k in expected], atol=4)


def test_given_frame_times_replace_the_times_in_the_file(tmp_path):
    write_video(tmp_path / "v.mp4", [grey(20), grey(120), grey(220)])
    read = read_frames(tmp_path / "v.mp4", 25, np.array([0.0, 0.12, 0.16]))
    np.testing.assert_allclose([p().mean() for p in read][:5], [20, 20, 20, 120, 220], atol=4)
    with pytest.raises(UserError, match="more pictures than the 2 listed"):
        list(read_frames(tmp_path / "v.mp4", 25, np.array([0.0, 0.04])))


def test_colours_are_preserved(tmp_path):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    write_video(tmp_path / "v.mp4", [red] * 5)
    np.testing.assert_allclose(next(read_frames(tmp_path / "v.mp4", 25))().mean(axis=(0, 1)), [200, 0, 0], atol=6)


def test_the_error_names_a_file_that_is_not_a_video(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"not a video")
    with pytest.raises(UserError, match=r"v\.mp4: cannot be decoded as video"):
        list(read_frames(tmp_path / "v.mp4", 25))


def test_lost_sound_packets_become_silence_and_do_not_shift_the_rest(tmp_path):
    sound = np.zeros(3 * 44_100)
    sound[66_150:70_560] = 0.5
    write_video(tmp_path / "v.mp4", [grey(50)] * 75, sound=sound)
    with av.open(str(tmp_path / "v.mp4")) as source, av.open(str(tmp_path / "lossy.mkv"), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            lost = (
                packet.stream.type == "audio" and packet.pts is not None and 0.5 < packet.pts * packet.time_base < 1.1
            )
            if packet.size and not lost:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    read = read_audio(tmp_path / "lossy.mkv").astype(float)
    loud = np.flatnonzero(np.abs(read) > 0.5 * np.abs(read).max())
    assert loud[0] / 16_000 == pytest.approx(1.5, abs=0.003) and loud[-1] / 16_000 == pytest.approx(1.6, abs=0.003)
    assert read.size / 16_000 == pytest.approx(3.0, abs=0.05)


def test_mean_and_std_are_those_of_the_samples():
    pcm = np.random.default_rng(0).integers(-30_000, 30_000, 3_000_000).astype(np.int16)
    mean, std = mean_and_std(pcm)
    assert mean == pytest.approx(pcm.mean() / 32_768, abs=1e-9)
    assert std == pytest.approx(pcm.std() / 32_768, rel=1e-9)


def test_probe_announces_what_read_frames_returns(tmp_path):
    times = np.concatenate([np.arange(20) * 0.04, 0.8 + np.arange(20) * 0.02]) + 0.2
    write_video(tmp_path / "v.mp4", [grey(20 + 5 * k) for k in range(40)], times, sound=tones(44_100, 1.0))
    info = probe(tmp_path / "v.mp4")
    assert (info.width, info.height, info.pictures, info.has_sound) == (64, 64, 40, True)
    assert info.start_secs == pytest.approx(0.2, abs=1e-3) and info.end_secs == pytest.approx(1.4, abs=0.03)
    frames = list(read_frames(tmp_path / "v.mp4", 25))
    assert len(frames) == grid_frames(info.end_secs, 25)
    # The first picture starts at 0.2 s and fills the frames before; the eleventh is shown at 0.6 s.
    np.testing.assert_allclose([frames[k]().mean() for k in (0, 4, 5, 6, 15)], [20, 20, 20, 25, 70], atol=3)


def test_pictures_are_scaled_to_square_pixels(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(100), "rgb24")))
        container.mux(stream.encode())
    assert next(read_frames(tmp_path / "v.mp4", 25))().shape == (64, 96, 3)
    assert (probe(tmp_path / "v.mp4").height, probe(tmp_path / "v.mp4").width) == (64, 96)
