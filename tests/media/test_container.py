"""Media files are opened as what they are: every format of the list, and nothing that leads to other files."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from affect.errors import UserError
from affect.media.audio import read_audio
from affect.media.container import FORMATS, choose_track, open_media, track_remark
from affect.media.video import probe, read_frames
from tests.helpers.sounds import AMPLITUDE, amplitude, encode, tone
from tests.helpers.trees import tones, write_video

GREY = np.full((288, 352, 3), 120, np.uint8)  # a size that every codec accepts
VIDEOS = {
    "avi": "mpeg4", "mp4": "libx264", "m4v": "mpeg4", "mov": "libx264", "3gp": "libx264", "mkv": "libx264",
    "webm": "libvpx", "ts": "libx264", "mpg": "mpeg2video", "wmv": "wmv2", "flv": "flv", "mxf": "mpeg2video",
    "h264": "libx264", "y4m": "rawvideo",
}  # fmt: skip
SOUNDS = {
    "mp3": "libmp3lame", "m4a": "aac", "aac": "aac", "ogg": "libopus", "opus": "libopus", "ac3": "ac3", "wma": "wmav2",
    "flac": "flac", "wav": "pcm_s16le", "w64": "pcm_s16le", "aiff": "pcm_s16be", "au": "pcm_s16be", "caf": "pcm_s16le",
    "tta": "tta", "wv": "wavpack", "mka": "libopus",
}  # fmt: skip
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.2,\n{}\n#EXT-X-ENDLIST\n"
SESSION = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\na=rtpmap:96 H264/9\n"


@pytest.mark.parametrize("suffix", VIDEOS)
def test_videos_in_the_usual_containers_are_read(tmp_path, suffix):
    path = tmp_path / f"v.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(VIDEOS[suffix], rate=25)
        stream.width, stream.height, stream.pix_fmt = 352, 288, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(GREY, "rgb24")))
        container.mux(stream.encode())
    assert probe(path).pictures == 10
    np.testing.assert_allclose(next(read_frames(path, 25))(), GREY, atol=4)


@pytest.mark.parametrize("suffix", SOUNDS)
def test_sound_in_the_usual_containers_is_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        track = container.add_stream(SOUNDS[suffix], rate=48_000, layout="mono", bit_rate=128_000)
        frame = av.AudioFrame.from_ndarray(tones(48_000, 2.0)[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), 0
        container.mux(track.encode(frame))
        container.mux(track.encode())
    read = read_audio(path) / 32_768
    assert read.size == pytest.approx(2 * 16_000, abs=3_000)  # codecs fill their last block
    middle = read[8_000:24_000]
    assert middle.std() == pytest.approx(tones(16_000, 2.0)[8_000:24_000].std(), rel=0.05)


@pytest.fixture
def elsewhere(tmp_path):
    """A corpus folder, and a video outside of it."""
    write_video(tmp_path / "outside/secret.ts", [GREY] * 5, sound=tones(44_100, 0.2), sound_codec="aac")
    (tmp_path / "corpus").mkdir()
    write_video(tmp_path / "corpus/in.ts", [GREY] * 5, sound=tones(44_100, 0.2), sound_codec="aac")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("v.m3u8", PLAYLIST.format("{outside}"), "hls"),
        ("v.m3u8", PLAYLIST.format("file:{outside}"), "hls"),
        ("v.m3u8", PLAYLIST.format("../outside/secret.ts"), "hls"),
        ("v.m3u8", PLAYLIST.format("http://127.0.0.1:9/secret.ts"), "hls"),
        ("v.ffconcat", "ffconcat version 1.0\nfile in.ts\n", "concat"),
        ("v.mp4", "ffconcat version 1.0\nfile in.ts\n", "concat"),
        ("v.sdp", SESSION, "sdp"),
        ("v.mp4", SESSION, "sdp"),
    ],
)
def test_files_that_name_other_files_are_refused(elsewhere, name, text, kind):
    path = elsewhere / "corpus" / name
    path.write_text(text.replace("{outside}", str(elsewhere / "outside/secret.ts")))
    for read in (probe, read_audio, lambda path: list(read_frames(path, 25))):
        with pytest.raises(
            UserError, match=rf"{name}: files of format {kind} are not read; convert it, .*mp4"
        ) as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_a_name_that_is_a_pattern_does_not_stand_for_other_pictures(tmp_path):
    for name in ("p%03d.png", "p000.png", "p001.png"):
        cv2.imwrite(str(tmp_path / name), GREY)
    with pytest.raises(UserError, match="files of format image2 are not read"):
        probe(tmp_path / "p%03d.png")
    with pytest.raises(UserError, match="files of format png_pipe are not read"):
        probe(tmp_path / "p000.png")


@pytest.mark.parametrize(
    "name", ["10:15.ts", "concat:in.ts|in.ts", "subfile,,start,0,end,0,,:in.ts", "file:in.ts", "pipe:0", "http:in.ts"]
)
def test_a_name_that_looks_like_a_protocol_is_a_name(elsewhere, monkeypatch, name):
    monkeypatch.chdir(elsewhere / "corpus")
    with pytest.raises(UserError, match="does not exist"):
        probe(Path(name))
    write_video(elsewhere / "corpus/short.ts", [GREY] * 3)
    Path("short.ts").rename(name)
    assert probe(Path(name)).pictures == 3


def test_a_name_that_the_system_refuses_is_refused_in_one_line():
    for read in (probe, read_audio):
        with pytest.raises(UserError, match=r"file cannot be read \(File name too long\)"):
            read(Path("x" * 300))


def test_every_format_of_the_list_is_one_that_ffmpeg_knows():
    known = {name for listed in av.formats_available for name in listed.split(",")}
    assert set(FORMATS) <= known


def alac(frequency_hz, **options):
    return {"codec": "alac", "rate_hz": 44_100, "signal": tone(44_100, frequency_hz=frequency_hz), **options}


def write_pictures(path, *tracks):
    """Writes video tracks; each is the grey level and number of its pictures, and whether it is marked as default."""
    with av.open(str(path), "w") as container:
        streams = []
        for _, _, default in tracks:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.disposition = Disposition.default if default else Disposition(0)
            streams.append(stream)
        for stream, (level, count, _) in zip(streams, tracks, strict=True):
            for _ in range(count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), "rgb24")))
            container.mux(stream.encode())


@pytest.mark.parametrize("marked", [0, 1, 2])
def test_the_sound_track_marked_as_default_is_read_and_named(tmp_path, marked):
    frequencies = (300.0, 500.0, 700.0)
    tracks = [alac(hz, default=k == marked, language=f"q{'abc'[k]}a") for k, hz in enumerate(frequencies)]
    encode(tmp_path / "a.mkv", *tracks)
    remarks = []
    size, rest = amplitude(read_audio(tmp_path / "a.mkv", remarks), frequencies[marked])
    assert size == pytest.approx(AMPLITUDE, rel=1e-3) and rest < 1e-3
    chosen = f"track {marked + 1} (q{'abc'[marked]}a, alac) was used, which is marked as default"
    assert remarks == [f"the file has 3 sound tracks; {chosen}"]


def test_without_a_mark_the_best_of_the_tracks_is_read_and_named(tmp_path):
    encode(tmp_path / "a.mkv", alac(300.0, default=False), alac(500.0, default=False))
    remarks = []
    assert amplitude(read_audio(tmp_path / "a.mkv", remarks), 300.0)[0] == pytest.approx(AMPLITUDE, rel=1e-3)
    assert remarks == ["the file has 2 sound tracks; track 1 (alac) was used, the best of those that can be used"]


def test_a_sound_track_of_an_unknown_codec_is_passed_over(tmp_path):
    encode(tmp_path / "a.mov", alac(300.0, default=True), alac(500.0, default=False) | {"codec": "pcm_s16le"})
    content = (tmp_path / "a.mov").read_bytes()
    at = content.index(b"alac", content.index(b"stsd"))  # in the sample table
    (tmp_path / "a.mov").write_bytes(content[:at] + b"apac" + content[at + 4 :])
    remarks = []
    assert amplitude(read_audio(tmp_path / "a.mov", remarks), 500.0)[0] == pytest.approx(AMPLITUDE, rel=1e-3)
    assert "track 2 (pcm_s16le) was used, the best of those that can be used" in remarks[0]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("tracks", "shown"),
    [
        ([(50, 10, True), (200, 10, False)], 0),
        ([(50, 10, False), (200, 10, True)], 1),
        ([(50, 1, True), (200, 10, False)], 1),  # a still picture, whatever its mark
        ([(50, 10, False), (200, 1, True)], 0),
    ],
)
def test_the_video_is_the_moving_track_marked_as_default(tmp_path, suffix, tracks, shown):
    path = tmp_path / f"v.{suffix}"
    write_pictures(path, *tracks)
    assert probe(path).pictures == 10
    np.testing.assert_allclose(next(read_frames(path, 25))(), tracks[shown][0], atol=4)
    with open_media(path) as container:
        (remark,) = track_remark(container, choose_track(container, "video", path))
    assert remark.startswith(f"the file has 2 video tracks; track {shown + 1} (h264) was used, ")


@pytest.mark.parametrize(("suffix", "muxer"), [("m4a", "mp4"), ("mp3", "mp3"), ("flac", "flac")])
def test_the_cover_of_an_album_is_no_video(tmp_path, suffix, muxer):
    path = tmp_path / f"a.{suffix}"
    codec = {"m4a": "alac", "mp3": "libmp3lame", "flac": "flac"}[suffix]
    encode(path, alac(500.0) | {"codec": codec}, muxer=muxer, cover=GREY)
    for read in (probe, lambda path: list(read_frames(path, 25))):
        with pytest.raises(UserError, match=r"the file has no video track"):
            read(path)
    remarks = []
    assert amplitude(read_audio(path, remarks), 500.0)[0] == pytest.approx(AMPLITUDE, rel=0.06)
    assert remarks == []
