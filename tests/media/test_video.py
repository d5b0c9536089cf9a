"""Pictures that are read back equal what a viewer of the file sees, or the file is refused or remarked upon."""

import math
import re
import struct
from fractions import Fraction

import numpy as np
import pytest

from affect.errors import UserError
from affect.media import decoder
from affect.media.joined import refuse_joined
from affect.media.video import grid_frames, probe, read_frames
from tests.helpers.trees import tones, write_video
from tests.helpers.videos import (
    CORNERS,
    append,
    corners_of,
    four_colours,
    grey,
    join,
    not_coded,
    remux,
    set_display_matrix,
    write_coded,
)

LEVELS = [20 + 8 * k for k in range(25)]
HALF = math.sqrt(0.5)


def levels_read(path, **options):
    return [picture().mean() for picture in read_frames(path, 25, **options)]


def test_a_video_at_25_fps_keeps_every_picture(tmp_path):
    write_video(tmp_path / "v.mp4", [grey(level) for level in LEVELS])
    np.testing.assert_allclose(levels_read(tmp_path / "v.mp4"), LEVELS, atol=3)


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
    read = levels_read(tmp_path / "v.mp4")
    np.testing.assert_allclose(read[: len(expected)], [20 + 30 * k for k in expected], atol=4)


def test_given_frame_times_replace_the_times_in_the_file(tmp_path):
    write_video(tmp_path / "v.mp4", [grey(20), grey(120), grey(220)])
    times = np.array([0.0, 0.12, 0.16])
    np.testing.assert_allclose(
        levels_read(tmp_path / "v.mp4", frame_times_secs=times)[:5], [20, 20, 20, 120, 220], atol=4
    )
    info = probe(tmp_path / "v.mp4", times)
    assert (info.start_secs, info.end_secs) == (0.0, pytest.approx(0.24))
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


def test_probe_announces_what_read_frames_returns(tmp_path):
    times = np.concatenate([np.arange(20) * 0.04, 0.8 + np.arange(20) * 0.02]) + 0.2
    write_video(tmp_path / "v.mp4", [grey(20 + 5 * k) for k in range(40)], times, sound=tones(44_100, 1))
    info = probe(tmp_path / "v.mp4")
    assert (info.width, info.height, info.pictures, info.has_sound, info.remarks) == (64, 64, 40, True, ())
    assert info.start_secs == pytest.approx(0.2, abs=1e-3) and info.end_secs == pytest.approx(1.4, abs=0.03)
    frames = list(read_frames(tmp_path / "v.mp4", 25))
    assert len(frames) == grid_frames(info.end_secs, 25)
    # The first picture starts at 0.2 s and fills the frames before; the eleventh is shown at 0.6 s.
    np.testing.assert_allclose([frames[k]().mean() for k in (0, 4, 5, 6, 15)], [20, 20, 20, 25, 70], atol=3)


def test_pictures_are_scaled_to_square_pixels(tmp_path):
    write_video(tmp_path / "v.mp4", [grey(100)] * 5, aspect=Fraction(3, 2))
    assert next(read_frames(tmp_path / "v.mp4", 25))().shape == (64, 96, 3)
    assert (probe(tmp_path / "v.mp4").height, probe(tmp_path / "v.mp4").width) == (64, 96)


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ((1, 0, 0, 1), "RGBY"),
        ((-1, 0, 0, 1), "GRYB"),  # left and right exchanged
        ((1, 0, 0, -1), "BYRG"),  # top and bottom exchanged
        ((-1, 0, 0, -1), "YBGR"),  # turned by 180 degrees
        ((0, 1, -1, 0), "BRYG"),  # by 90 degrees clockwise
        ((0, -1, 1, 0), "GYRB"),  # by 90 degrees anticlockwise
        ((0, 1, 1, 0), "RBGY"),  # rows and columns exchanged
        ((0, -1, -1, 0), "YGBR"),  # exchanged along the other diagonal
        ((2, 0, 0, 2), "RGBY"),  # shown twice as large
        ((0, 0, 0, 0), "RGBY"),  # damaged
        ((1, 1, 1, 1), "RGBY"),  # damaged: everything on one line
    ],
)
def test_pictures_are_turned_and_mirrored_as_the_display_matrix_says(tmp_path, matrix, seen):
    path = tmp_path / "v.mp4"
    write_video(path, [four_colours()] * 2)
    set_display_matrix(path, *matrix)
    picture = next(read_frames(path, 25))()
    assert corners_of(picture) == seen
    info = probe(path)
    assert (
        picture.shape == (info.height, info.width, 3) == ((64, 48, 3) if matrix[1] and not matrix[0] else (48, 64, 3))
    )
    assert info.remarks == ()


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ((0.94, 0.34, -0.34, 0.94, 0), "RGBY"),  # 20 degrees clockwise
        ((0.34, 0.94, -0.94, 0.34, 0), "BRYG"),  # 70 degrees
        ((HALF, HALF, -HALF, HALF, 0), "RGBY"),  # 45 degrees
        ((0, 2, -1, 0, 0), "BRYG"),  # turned and stretched
        ((1, 0, 0, 1, 0.25), "RGBY"),  # perspective
    ],
)
def test_other_angles_and_distortions_become_the_nearest_right_angle_with_a_remark(tmp_path, matrix, seen):
    path = tmp_path / "v.mp4"
    write_video(path, [four_colours()] * 2)
    set_display_matrix(path, *matrix)
    assert corners_of(next(read_frames(path, 25))()) == seen
    (remark,) = probe(path).remarks
    assert "an angle other than a right one, or distorted" in remark


@pytest.mark.parametrize(("flip", "seen"), [("", "GYRB"), (":flip=horizontal", "RBGY")])
def test_an_orientation_in_the_h264_stream_itself_counts(tmp_path, flip, seen):
    write_video(tmp_path / "v.ts", [four_colours()] * 5)
    turned = tmp_path / "turned.ts"
    remux(tmp_path / "v.ts", turned, bitstream_filter=f"h264_metadata=display_orientation=insert:rotate=90{flip}")
    assert [corners_of(picture()) for picture in read_frames(turned, 25)] == [seen] * 5
    assert (probe(turned).height, probe(turned).width) == (64, 48)


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_each_picture_comes_in_its_own_size_and_a_change_is_remarked_upon_once(tmp_path, suffix):
    parts = [[grey(60, 48, 64)] * 10, [grey(160, 120, 160)] * 10, [grey(220, 48, 64)] * 5]
    sources = [tmp_path / f"{k}.{suffix}" for k in range(3)]
    if suffix == "ts":
        for k, (source, pictures) in enumerate(zip(sources, parts, strict=True)):
            write_video(source, pictures, 0.4 * k + np.arange(len(pictures)) * 0.04)
        join(tmp_path / "v.ts", *sources)
    else:
        for source, pictures in zip(sources, parts, strict=True):
            write_coded(source, "libvpx", "yuv420p", pictures)
        append(tmp_path / "v.mkv", *sources)
    path, remarks = tmp_path / f"v.{suffix}", []
    pictures = [picture() for picture in read_frames(path, 25, remarks=remarks)]
    assert [picture.shape[:2] for picture in pictures] == [(48, 64)] * 10 + [(120, 160)] * 10 + [(48, 64)] * 5
    np.testing.assert_allclose([picture.mean() for picture in pictures], [60] * 10 + [160] * 10 + [220] * 5, atol=3)
    list(read_frames(path, 25, remarks=remarks))
    assert remarks == [
        "the picture size changes from 64 x 48 to 160 x 120 at 0.40 s",
        "the picture size changes from 160 x 120 to 64 x 48 at 0.80 s",
    ]
    assert (probe(path).width, probe(path).height, probe(path).remarks) == (64, 48, ())


def test_a_change_of_the_pixel_aspect_or_the_orientation_starts_at_the_right_picture(tmp_path):
    turn = "h264_metadata=display_orientation=insert:rotate=90"
    parts = []
    for k, (aspect, change) in enumerate([(1, None), (Fraction(3, 2), None), (1, turn)]):
        times = 1.0 + 0.4 * k + np.arange(10) * 0.04
        write_video(tmp_path / "v.ts", [four_colours()] * 10, times, preset="medium", aspect=Fraction(aspect))
        parts.append(tmp_path / f"{k}.ts")
        remux(tmp_path / "v.ts", parts[-1], bitstream_filter=change)
    join(tmp_path / "v.ts", *parts)
    read = [picture() for picture in read_frames(tmp_path / "v.ts", 25)]
    assert [picture.shape[:2] for picture in read] == [(48, 64)] * 10 + [(48, 96)] * 10 + [(64, 48)] * 10
    assert [corners_of(picture) for picture in read] == ["RGBY"] * 20 + ["GYRB"] * 10


def test_pictures_that_grow_beyond_all_measure_are_refused_before_they_take_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "_MAX_PIXELS", 100 * 100)
    for k, (height, width) in enumerate([(48, 64), (120, 160)]):
        write_coded(tmp_path / f"{k}.mkv", "libvpx", "yuv420p", [grey(90, height, width)] * 5)
    append(tmp_path / "v.mkv", tmp_path / "0.mkv", tmp_path / "1.mkv")
    with pytest.raises(UserError, match=r"v\.mkv: cannot be decoded as video from 0\.20 s on"):
        list(read_frames(tmp_path / "v.mkv", 25))


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video"), ("mkv", "libx264")])
def test_files_that_were_joined_byte_by_byte_are_refused_with_the_time_of_the_seam(tmp_path, suffix, codec):
    for name, level in (("a", 60), ("b", 160)):
        write_coded(tmp_path / f"{name}.{suffix}", codec, "yuv420p", [grey(level)] * 25)
    joined = tmp_path / f"joined.{suffix}"
    join(joined, tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    message = (
        r"the clock of the video jumps back from 0\.96 s to 0\.00 s; the file was probably joined from several; join"
    )
    with pytest.raises(UserError, match=message):
        probe(joined)
    with pytest.raises(UserError, match=message):
        list(read_frames(joined, 25))
    # Given times replace the clock.
    times = np.arange(50) / 25
    assert probe(joined, times).end_secs == pytest.approx(2.0)
    np.testing.assert_allclose(levels_read(joined, frame_times_secs=times), [60] * 25 + [160] * 25, atol=3)


@pytest.mark.parametrize("suffix", ["mp4", "flv"])
def test_files_that_were_joined_where_only_the_first_would_be_read_are_refused(tmp_path, suffix):
    for name in "ab":
        write_video(tmp_path / f"{name}.{suffix}", [grey(60)] * 25)
    assert probe(tmp_path / f"a.{suffix}").pictures == 25
    joined = tmp_path / f"joined.{suffix}"
    join(joined, tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    with pytest.raises(UserError, match="joined from several, and only the first would be read"):
        probe(joined)


def test_boxes_with_a_length_of_64_bits_or_without_one_are_stepped_over(tmp_path):
    long_box = struct.pack(">I4sQ", 1, b"mdat", 16 + 8) + struct.pack(">I4s", 8, b"moov")  # not a box: content
    moov, rest = struct.pack(">I4s", 8, b"moov"), struct.pack(">I4s", 0, b"mdat") + bytes(20)
    (tmp_path / "one.mp4").write_bytes(long_box + moov + rest)
    refuse_joined(tmp_path / "one.mp4", "mov,mp4", 0)
    (tmp_path / "two.mp4").write_bytes(2 * (long_box + moov) + rest)
    with pytest.raises(UserError, match="joined"):
        refuse_joined(tmp_path / "two.mp4", "mov,mp4", 0)
    fragments = 2 * (moov + struct.pack(">I4s", 8, b"moof"))  # a player that appends fragments may repeat the header
    (tmp_path / "fragments.mp4").write_bytes(fragments)
    refuse_joined(tmp_path / "fragments.mp4", "mov,mp4", 0)


def test_transport_streams_that_overlap_by_a_few_pictures_are_one_recording(tmp_path):
    write_video(tmp_path / "a.ts", [grey(60)] * 10, np.arange(10) * 0.04)
    write_video(tmp_path / "b.ts", [grey(160)] * 10, 0.28 + np.arange(10) * 0.04)
    join(tmp_path / "v.ts", tmp_path / "a.ts", tmp_path / "b.ts")
    np.testing.assert_allclose(levels_read(tmp_path / "v.ts"), [60] * 9 + [160] * 8, atol=3)


def test_a_recording_without_its_first_key_frame_starts_where_pictures_can_be_decoded(tmp_path):
    pictures = [grey(level) for level in LEVELS]
    write_video(tmp_path / "v.ts", pictures, np.arange(25) * 0.04, preset="medium", g="10", bf="0", sc_threshold="0")
    remux(tmp_path / "v.ts", tmp_path / "late.ts", lambda index, packet: packet if index >= 4 else None)
    info, remarks = probe(tmp_path / "late.ts"), []
    assert info.start_secs == pytest.approx(0.24) and info.end_secs == pytest.approx(0.84)
    read = levels_read(tmp_path / "late.ts", remarks=remarks)
    np.testing.assert_allclose(read, [LEVELS[10]] * 6 + LEVELS[10:], atol=3)
    assert remarks == [
        "6 pictures hold nothing that can be decoded, the first at 0.00 s; a neighbouring picture is held"
    ]


def test_pictures_that_vanish_in_decoding_are_remarked_upon_and_do_not_fit_given_times(tmp_path):
    write_coded(tmp_path / "v.avi", "mpeg4", "yuv420p", [grey(level) for level in LEVELS], gop_size=5)
    remux(tmp_path / "v.avi", tmp_path / "v.mkv", lambda k, packet: not_coded(packet) if 10 <= k < 15 else packet)
    remarks = []
    read = levels_read(tmp_path / "v.mkv", remarks=remarks)
    np.testing.assert_allclose(read, LEVELS[:10] + [LEVELS[9]] * 5 + LEVELS[15:], atol=4)
    list(read_frames(tmp_path / "v.mkv", 25, remarks=remarks))
    assert remarks == [
        "5 pictures hold nothing that can be decoded, the first at 0.40 s; a neighbouring picture is held"
    ]
    with pytest.raises(UserError, match=r"5 pictures from 0\.40 s on .* the listed frame times do not fit those after"):
        list(read_frames(tmp_path / "v.mkv", 25, np.arange(25) / 25))


def test_a_cut_file_is_remarked_upon_with_both_durations(tmp_path):
    for suffix, codec in (("mkv", "libx264"), ("avi", "mpeg4")):
        path = tmp_path / f"v.{suffix}"
        noise = np.random.default_rng(0).integers(0, 255, (75, 64, 64, 3)).astype(np.uint8)
        write_coded(path, codec, "yuv420p", list(noise))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        info = probe(path)
        assert info.end_secs < 1.8
        assert info.remarks == (
            f"the file announces 3.00 s of pictures but holds {info.end_secs:.2f} s; it is probably cut",
        )


def test_fragments_of_which_the_last_is_cut_are_read_with_a_remark(tmp_path):
    path = tmp_path / "v.mp4"
    fragments = {"movflags": "empty_moov+delay_moov", "frag_duration": "200000"}
    write_coded(path, "libx264", "yuv420p", [grey(level) for level in LEVELS], fragments, gop_size=5)
    assert probe(path).remarks == ()
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"moof") + 20])
    (remark,) = probe(path).remarks
    assert re.fullmatch(r"the last \d+ bytes of the file are missing; it is cut", remark)
    read = levels_read(path)
    assert 15 <= len(read) <= 20
    np.testing.assert_allclose(read, LEVELS[: len(read)], atol=3)


def test_an_avi_that_reorders_its_pictures_shows_every_one_at_its_time(tmp_path):
    """AVI stores no presentation times, and those that FFmpeg derives from H.264 are in the order of decoding."""
    write_video(tmp_path / "v.avi", [grey(level) for level in LEVELS], preset="medium", bf="2", b_strategy="0")
    info = probe(tmp_path / "v.avi")
    assert (info.start_secs, info.end_secs) == (0.0, pytest.approx(1.0))
    np.testing.assert_allclose(levels_read(tmp_path / "v.avi"), LEVELS, atol=3)


def test_pictures_before_zero_do_not_turn_the_clock_back(tmp_path):
    """A Matroska file that starts at -0.6 s says nothing about the time of its first packets."""
    write_video(tmp_path / "v.mp4", [grey(level) for level in LEVELS])

    def earlier(_, packet):
        packet.pts, packet.dts = (t - round(0.6 / packet.time_base) for t in (packet.pts, packet.dts))
        return packet

    remux(tmp_path / "v.mp4", tmp_path / "v.mkv", earlier, avoid_negative_ts="disabled")
    np.testing.assert_allclose(levels_read(tmp_path / "v.mkv"), LEVELS[15:], atol=3)


BT709, BT601, BT2020 = 1, 5, 9
STUDIO, FULL = 1, 2


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "context"),
    [
        ("v.mkv", "libx264", "yuv420p", {}),
        ("v.mkv", "libx264", "yuv420p", {"colorspace": BT709, "color_range": STUDIO}),
        ("v.mkv", "libx264", "yuv420p", {"colorspace": BT709, "color_range": FULL}),
        ("v.mkv", "libx264", "yuvj420p", {"color_range": FULL}),
        ("v.mkv", "libx264", "yuv422p", {}),
        ("v.mkv", "libx264", "yuv420p10le", {}),
        ("v.mkv", "libx264", "yuv420p10le", {"colorspace": BT2020, "color_range": STUDIO}),
        ("v.mkv", "ffv1", "yuva420p", {}),
        ("v.webm", "libvpx-vp9", "yuva420p", {}),
        ("v.avi", "mjpeg", "yuvj420p", {"color_range": FULL}),
        ("v.avi", "rawvideo", "bgr24", {}),
        ("v.avi", "rawvideo", "yuv420p", {}),
        ("v.mov", "png", "rgba", {}),
        ("v.mpg", "mpeg2video", "yuv420p", {}),
    ],
)
def test_colours_come_back_from_every_colour_space_range_and_depth(tmp_path, name, codec, pixel_format, context):
    write_coded(tmp_path / name, codec, pixel_format, [four_colours()] * 3, **context)
    picture = next(read_frames(tmp_path / name, 25))()
    quarters = picture[10:14, 12:20], picture[10:14, 44:52], picture[34:38, 12:20], picture[34:38, 44:52]
    for quarter, colour in zip(quarters, CORNERS.values(), strict=True):
        np.testing.assert_allclose(quarter.mean(axis=(0, 1)), colour, atol=6)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "height", "width"),
    [("ffv1", "gray", 48, 64), ("ffv1", "gray16le", 48, 64), ("ffv1", "yuv420p", 47, 63), ("ffv1", "yuv444p", 1, 1)],
)
def test_grey_pictures_and_odd_sizes_are_read(tmp_path, codec, pixel_format, height, width):
    write_coded(tmp_path / "v.mkv", codec, pixel_format, [grey(100, height, width)] * 2)
    picture = next(read_frames(tmp_path / "v.mkv", 25))()
    assert picture.shape == (height, width, 3)
    np.testing.assert_allclose(picture, 100, atol=2)


def test_hdr_and_interlaced_pictures_are_remarked_upon(tmp_path):
    write_coded(tmp_path / "pq.mkv", "libx265", "yuv420p10le", [grey(90)] * 3, colorspace=BT2020, color_trc=16)
    assert "the pictures are HDR" in probe(tmp_path / "pq.mkv").remarks[0]
    write_video(tmp_path / "combs.mp4", [grey(90)] * 3, preset="medium", x264opts="tff=1")
    assert "the pictures are interlaced" in probe(tmp_path / "combs.mp4").remarks[0]


def test_an_encrypted_track_is_refused(tmp_path):
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    write_coded(tmp_path / "v.mp4", "libx264", "yuv420p", [grey(90)] * 5, scheme)
    with pytest.raises(UserError, match=r"v\.mp4: the video track is encrypted; decrypt it first"):
        probe(tmp_path / "v.mp4")


def test_raw_h264_without_any_times_is_shown_at_its_frame_rate(tmp_path):
    write_video(tmp_path / "v.h264", [grey(level) for level in LEVELS], preset="medium")
    assert probe(tmp_path / "v.h264").end_secs == pytest.approx(1.0)
    np.testing.assert_allclose(levels_read(tmp_path / "v.h264"), LEVELS, atol=3)


def test_the_clock_of_a_transport_stream_may_wrap_around(tmp_path):
    """It counts 33 bits of 1 / 90 000 s, 26.5 hours."""
    wrap_secs = 2**33 / 90_000
    write_video(tmp_path / "v.ts", [grey(level) for level in LEVELS], wrap_secs - 2.0 + np.arange(25) * 0.04)
    assert probe(tmp_path / "v.ts").end_secs == pytest.approx(1.0)
    np.testing.assert_allclose(levels_read(tmp_path / "v.ts"), LEVELS, atol=3)


def test_a_gap_of_minutes_is_refused(tmp_path):
    write_video(tmp_path / "v.mkv", [grey(60), grey(160), grey(160)], np.array([0.0, 0.04, 700.0]))
    with pytest.raises(UserError, match="no picture for 700 s before 700 s"):
        probe(tmp_path / "v.mkv")
