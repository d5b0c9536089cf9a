"""The files of a recording to arrays: compared with a face whose position is known, and with known tones."""

from itertools import islice

import cv2
import numpy as np
import pytest

from affect.errors import UserError
from affect.media import recording as recording_module
from affect.media.recording import decode_recording
from affect.media.settings import DecodingSettings
from affect.media.video import read_frames
from tests.helpers import trees
from tests.helpers.commands import made_once

SETTINGS = DecodingSettings()
BOX_PX = 90.0


@pytest.fixture(scope="module")
def media(tmp_path_factory, worker_id):
    """The moving face as a silent video and with a sound track, and the tones as a WAV file; 4 s each."""

    def make(path):
        trees.write_video(path / "silent.mp4", trees.face_pictures())
        trees.write_video(path / "sound.mp4", trees.face_pictures(), sound=trees.tones(44_100))
        trees.write_wav(path / "tones.wav", trees.tones(44_100))

    return made_once(tmp_path_factory, worker_id, "recording_media", make)


def dot_positions(crops, squares):
    """Position of the green dot at the centre of the face, in pixels of the source picture, for every crop."""
    positions = []
    for crop, (left, top, edge) in zip(crops, squares, strict=True):
        red, green, blue = np.moveaxis(crop.astype(float), 2, 0)
        dot = np.clip(green - np.maximum(red, blue) - 60.0, 0.0, None)
        assert dot.sum() > 0.0
        y, x = (np.sum(dot * axis) / dot.sum() for axis in np.mgrid[:96, :96])
        positions.append((left + (x + 0.5) * edge / 96 - 0.5, top + (y + 0.5) * edge / 96 - 0.5))
    return np.array(positions)


def boxes_around(centres):
    """Times and boxes of 90 x 90 pixels around the given centres, one per frame."""
    boxes = np.column_stack([centres - BOX_PX / 2, np.full((len(centres), 2), BOX_PX)])
    return np.arange(len(centres)) / 25, boxes


def test_sound_and_crops_are_those_of_the_files(media):
    decoded = decode_recording(media / "tones.wav", media / "silent.mp4", SETTINGS, num_labels=trees.FRAMES)
    assert decoded.frames == trees.FRAMES and decoded.has_video and decoded.remarks == []

    assert decoded.samples.dtype == np.int16 and decoded.samples.shape == (4 * 16_000,)
    assert trees.snr_db(trees.tones(16_000), decoded.samples / 32_768) > 60.0
    assert decoded.audio_mean == pytest.approx(trees.tones(16_000).mean(), abs=1e-4)
    assert decoded.audio_std == pytest.approx(trees.tones(16_000).std(), rel=1e-3)

    crops = list(decoded.crops)
    assert {(crop.shape, crop.dtype) for crop in crops} == {((96, 96, 3), np.dtype(np.uint8))}
    centres = trees.face_centres()
    # The crop shows what its square says, and the square is where the face is.
    np.testing.assert_allclose(dot_positions(crops, decoded.squares), centres, atol=1.5)
    middles = decoded.squares[:, :2] + decoded.squares[:, 2:] / 2
    assert np.percentile(np.linalg.norm(middles - centres, axis=1), 95) < 5.0
    assert decoded.found.shape == (trees.FRAMES,) and decoded.found.all()


def test_without_a_sound_file_the_sound_track_of_the_video_is_used(media):
    decoded = decode_recording(None, media / "sound.mp4", SETTINGS)
    assert trees.snr_db(trees.tones(16_000), decoded.samples[: 4 * 16_000] / 32_768) > 60.0


def test_a_video_without_a_sound_track_is_decoded_without_sound(media):
    decoded = decode_recording(None, media / "silent.mp4", SETTINGS)
    assert decoded.samples is None and (decoded.audio_mean, decoded.audio_std) == (0.0, 0.0)
    assert len(list(decoded.crops)) == decoded.frames == trees.FRAMES
    (remark,) = decoded.remarks
    assert remark.startswith("no sound, neither as a file nor in the video")


def test_a_sound_file_alone_gives_no_crops(media):
    decoded = decode_recording(media / "tones.wav", None, SETTINGS)
    assert (decoded.frames, decoded.has_video, list(decoded.crops)) == (trees.FRAMES, False, [])
    assert decoded.squares.shape == (0, 3) and decoded.found.shape == (0,) and decoded.remarks == []


def test_neither_sound_nor_video_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="needs audio or video"):
        decode_recording(None, None, SETTINGS)


def test_frames_without_a_face_are_marked_and_remarked(tmp_path):
    pictures = list(trees.face_pictures())
    pictures[60:] = [np.zeros_like(pictures[0])] * 40
    trees.write_video(tmp_path / "v.mp4", pictures)
    decoded = decode_recording(None, tmp_path / "v.mp4", SETTINGS)
    assert decoded.found[:58].all() and not decoded.found[63:].any()
    assert f"a face in only {decoded.found.mean():.0%} of the frames; see the contact sheet" in decoded.remarks


def test_given_boxes_replace_detection(media):
    beside = trees.face_centres() - [20.0, 0.0]  # no detector would return these
    times_secs, boxes = boxes_around(beside)
    boxes[40:50] = 0.0
    decoded = decode_recording(None, media / "silent.mp4", SETTINGS, face_boxes=(times_secs, boxes))
    np.testing.assert_array_equal(np.flatnonzero(~decoded.found), np.arange(40, 50))
    middles = decoded.squares[:, :2] + decoded.squares[:, 2:] / 2
    assert np.percentile(np.linalg.norm(middles - beside, axis=1)[:35], 95) < 5.0
    np.testing.assert_array_equal(decoded.squares[:, 2], round(BOX_PX * 1.4))  # a margin of 0.2 on both sides
    np.testing.assert_allclose(dot_positions(decoded.crops, decoded.squares), trees.face_centres(), atol=1.5)


@pytest.mark.parametrize("boxes", (None, boxes_around(trees.face_centres())), ids=("detected", "given"))
def test_crops_stay_at_the_face_where_the_size_of_the_pictures_changes(media, monkeypatch, boxes):
    """The pictures shrink to half of their size after 2 s, as in recordings of video calls."""

    def shrinking(*args):
        for k, picture in enumerate(read_frames(*args)):
            pixels = picture()
            yield lambda pixels=pixels, small=k >= 50: cv2.resize(pixels, (160, 120)) if small else pixels

    monkeypatch.setattr(recording_module, "read_frames", shrinking)
    decoded = decode_recording(None, media / "silent.mp4", SETTINGS, face_boxes=boxes)
    assert decoded.found.all()
    np.testing.assert_allclose(dot_positions(decoded.crops, decoded.squares), trees.face_centres(), atol=2.0)
    middles = decoded.squares[:, :2] + decoded.squares[:, 2:] / 2
    assert np.percentile(np.linalg.norm(middles - trees.face_centres(), axis=1), 95) < 5.0


def test_boxes_outside_the_pictures_are_refused(media):
    times_secs, boxes = boxes_around(trees.face_centres())
    boxes[30, 0] = 5000.0
    with pytest.raises(UserError, match=r"silent\.mp4: the face box at 1\.2 s .* pictures of 320 x 240 pixels"):
        decode_recording(None, media / "silent.mp4", SETTINGS, face_boxes=(times_secs, boxes))


def test_given_frame_times_replace_those_in_the_video(tmp_path):
    """The file says 25 fps; the given times are those of half that rate."""
    pictures = [np.full((64, 64, 3), 2 * k + 20, np.uint8) for k in range(50)]
    trees.write_video(tmp_path / "v.mp4", pictures)
    decoded = decode_recording(None, tmp_path / "v.mp4", SETTINGS, frame_times_secs=0.08 * np.arange(60))
    brightness = [crop.mean() for crop in decoded.crops]
    assert 98 <= len(brightness) <= 100
    np.testing.assert_allclose(brightness[:98], [2 * (k // 2) + 20 for k in range(98)], atol=3)


def test_the_recording_ends_with_its_labels(media):
    decoded = decode_recording(media / "tones.wav", media / "silent.mp4", SETTINGS, num_labels=50)
    assert decoded.frames == len(list(decoded.crops)) == len(decoded.squares) == len(decoded.found) == 50
    assert decoded.remarks == ["the labels end at 2.00 s; the remaining 2.00 s are left out"]


@pytest.mark.parametrize(("num_labels", "frames"), [(90, 90), (100, 100), (125, 100)])
def test_lengths_that_differ_by_up_to_a_second_are_cut_to_the_shortest(media, num_labels, frames):
    assert decode_recording(media / "tones.wav", None, SETTINGS, num_labels=num_labels).frames == frames


def test_larger_differences_in_length_are_refused(media, tmp_path):
    message = r"differ in length \(audio 4\.00 s, video 4\.00 s, labels 5\.04 s\)"
    with pytest.raises(UserError, match=message):
        decode_recording(media / "tones.wav", media / "silent.mp4", SETTINGS, num_labels=126)
    trees.write_wav(tmp_path / "short.wav", trees.tones(44_100, 2.8))
    with pytest.raises(UserError, match=r"differ in length \(audio 2\.80 s, video 4\.00 s\)"):
        decode_recording(tmp_path / "short.wav", media / "silent.mp4", SETTINGS)
    with pytest.raises(UserError, match="shorter than one frame"):
        trees.write_wav(tmp_path / "click.wav", np.zeros(400))
        decode_recording(tmp_path / "click.wav", None, SETTINGS)


def test_where_lengths_may_differ_the_recording_ends_with_the_shorter_of_sound_and_video(media, tmp_path):
    trees.write_wav(tmp_path / "short.wav", trees.tones(44_100, 2.8))
    decoded = decode_recording(tmp_path / "short.wav", media / "silent.mp4", SETTINGS, lengths_may_differ=True)
    assert decoded.frames == len(list(decoded.crops)) == len(decoded.found) == 70
    assert decoded.remarks == [
        "the video is 1.20 s longer than the sound; what goes beyond is left out; is a file cut?"
    ]


def test_silence_and_clipping_are_remarked(tmp_path):
    trees.write_wav(tmp_path / "silent.wav", np.zeros(44_100))
    assert decode_recording(tmp_path / "silent.wav", None, SETTINGS).remarks == ["the sound is silent"]
    trees.write_wav(tmp_path / "loud.wav", 20.0 * trees.tones(44_100, 1.0), subtype="FLOAT")
    (remark,) = decode_recording(tmp_path / "loud.wav", None, SETTINGS).remarks
    assert remark.startswith("much of the sound is clipped at full scale")


def test_crops_are_made_one_by_one_while_they_are_read(media, monkeypatch):
    made = []
    crop_face = recording_module.crop_face
    monkeypatch.setattr(recording_module, "crop_face", lambda *args: made.append(1) or crop_face(*args))
    decoded = decode_recording(None, media / "silent.mp4", SETTINGS)
    assert len(made) == 0
    for count in (1, 2, 3):
        next(decoded.crops)
        assert len(made) == count
    assert len(list(decoded.crops)) == trees.FRAMES - 3
    assert list(decoded.crops) == []  # they can be read only once


@pytest.mark.parametrize(("missing", "refused"), [(2, False), (3, True)])
def test_a_video_may_end_two_frames_earlier_than_announced(media, monkeypatch, missing, refused):
    boxes = boxes_around(trees.face_centres())
    monkeypatch.setattr(
        recording_module, "read_frames", lambda *args: islice(read_frames(*args), trees.FRAMES - missing)
    )
    decoded = decode_recording(None, media / "silent.mp4", SETTINGS, face_boxes=boxes)
    if refused:
        with pytest.raises(UserError, match=r"silent\.mp4: the last picture ends at 3\.88 s, .* announces 4\.00 s"):
            list(decoded.crops)
    else:
        crops = list(decoded.crops)
        assert len(crops) == trees.FRAMES
        np.testing.assert_array_equal(crops[-3:], [crops[-3]] * 3)  # the last picture is held


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"face_detector": "eigenfaces"}, "--face_detector must be one of mtcnn, haar, got 'eigenfaces'"),
        ({"detect_every": 0}, r"--detect_every must be between 1 and 1000, got 0"),
        ({"detect_every": 1001}, r"--detect_every must be between 1 and 1000, got 1001"),
        ({"face_margin": -0.1}, r"--face_margin must be between 0 and 5, got -0\.1"),
        ({"face_margin": float("nan")}, r"--face_margin must be between 0 and 5, got nan"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        DecodingSettings(**wrong)
