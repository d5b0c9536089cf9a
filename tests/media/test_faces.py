"""Face tracking, crops and contact sheets, with a real face that moves, disappears, and is not alone."""

import time

import cv2
import numpy as np
import pytest

from affect.media.contact_sheet import contact_sheet, sheet_frames
from affect.media.faces import HaarDetector, crop_face, crop_square
from affect.media.tracking import Detections, detect_faces, follow_boxes, follow_face
from tests.helpers import trees


def shown(pictures):
    """Pictures in the form in which `read_frames` yields them."""
    return [lambda picture=picture: picture for picture in pictures]


def detections(boxes, every=1):
    """Detections in pictures of 320 x 240 pixels, from a list of (left, top, edge) for every n-th frame."""
    squares = [np.array([(x, y, edge, edge) for x, y, edge in faces], float).reshape(-1, 4) for faces in boxes]
    return Detections(len(boxes) * every, every, squares, 240, 320)


def test_a_moving_face_is_followed_and_its_absence_is_marked():
    pictures = list(trees.face_pictures(100, dot=False))
    pictures[60:] = [np.zeros_like(pictures[0])] * 40
    track = follow_face(detect_faces(shown(pictures), HaarDetector(), every=3), 25)
    error = np.linalg.norm(track.squares[:55, :2] - trees.face_centres(100)[:55], axis=1)
    assert np.percentile(error, 95) < 5.0
    assert track.found[:58].all() and not track.found[63:].any()
    held = track.squares[75:, :2]
    assert held.std(axis=0).max() < 1.0
    assert np.linalg.norm(held.mean(axis=0) - trees.face_centres(100)[59]) < 8.0


def test_the_longest_visible_face_is_followed_not_the_one_that_is_largest_at_first():
    intruder = [[(200, 50, 90)] if k < 5 else [] for k in range(50)]
    boxes = [[(40, 40, 60), *other] for other in intruder]
    assert follow_face(detections(boxes), 25).squares[:, 0].max() < 100


def test_a_second_face_does_not_replace_the_first_while_that_is_hidden():
    """The tracked face is hidden for 1 s or for 8 s; a second, smaller one is visible all the time."""
    for hidden in (range(100, 125), range(100, 300)):
        boxes = [[(200, 60, 40)] + ([] if k in hidden else [(40, 60, 70)]) for k in range(500)]
        track = follow_face(detections(boxes), 25)
        assert track.squares[:, 0].max() < 100
        assert not track.found[hidden.start + 1 : hidden.stop - 1].any()


def test_a_face_that_returns_elsewhere_after_a_long_absence_is_found_again():
    boxes = [[(40, 60, 70)]] * 50 + [[]] * 200 + [[(220, 60, 70)]] * 50
    track = follow_face(detections(boxes), 25)
    assert abs(track.squares[-1, 0] - 255) < 1.0 and track.found[260:].all() and not track.found[60:240].any()


def test_a_single_false_detection_is_not_followed():
    boxes = [[(40, 60, 70)] if k != 30 else [(230, 10, 40)] for k in range(60)]
    track = follow_face(detections(boxes), 25)
    assert track.squares[:, 0].max() < 80 and not track.found[30] and track.found.sum() == 59


def test_a_face_that_was_detected_only_once_is_followed_if_it_is_the_only_one():
    track = follow_face(detections([[], [(40, 60, 70)], []], every=4), 25)
    assert track.squares[5] == pytest.approx([75, 95, 70], abs=0.1)
    assert track.found[4] and not track.found[[0, 8]].any()


def test_a_given_box_without_width_or_height_is_no_face():
    boxes = np.array([[10, 10, 20, 40], [90, 90, 20, 0], [90, 90, 0, 40], [10, 10, 20, 40]], float)
    track = follow_boxes(boxes, np.arange(4) / 25, 4, 25, 240, 320)
    np.testing.assert_array_equal(track.found, [True, False, False, True])
    np.testing.assert_allclose(track.squares, [[20, 30, 40]] * 4)


def test_given_boxes_apply_at_their_times_and_are_held_where_a_box_is_zero():
    boxes = np.array([[10, 10, 20, 40], [10, 10, 20, 40], [0, 0, 0, 0], [90, 10, 20, 40]], float)
    track = follow_boxes(boxes, np.array([0.0, 0.4, 0.8, 1.2]), 31, 25, 240, 320)
    assert track.squares[0] == pytest.approx([20, 30, 40], abs=0.1)
    assert not track.found[16:25].any() and track.found[:15].all() and track.found[26:].all()


def test_no_face_is_found_after_the_end_of_the_given_boxes():
    boxes = np.tile([10.0, 10, 20, 40], (30, 1))
    track = follow_boxes(boxes, np.arange(30) / 25, 100, 25, 240, 320)
    assert track.found[:30].all() and not track.found[32:].any()


def test_without_any_face_the_centre_is_cropped_and_marked_as_not_found():
    track = follow_face(detections([[], [], []], every=2), 25)
    np.testing.assert_array_equal(track.squares, [[160, 120, 120]] * 6)
    assert not track.found.any()


def test_a_crop_shows_the_square_and_repeats_the_border():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:, :50] = 200
    inside = crop_face(picture, np.array([50.0, 50.0, 40.0]), 0.0, 20)
    assert inside.shape == (20, 20, 3)
    np.testing.assert_array_equal(inside[:, :10], 200)
    np.testing.assert_array_equal(inside[:, 10:], 0)
    np.testing.assert_array_equal(crop_face(picture, np.array([-500.0, 50.0, 40.0]), 0.5, 20), 200)
    assert crop_square(np.array([50.0, 50.0, 40.0]), 0.25, 100, 100) == (20, 20, 60)
    assert crop_square(np.array([50.0, 50.0, 1e9]), 0.25, 100, 100)[2] == 400  # memory stays bounded


def test_a_contact_sheet_shows_every_gap_with_a_red_border():
    found = np.ones(500, bool)
    found[[80, 81, 310]] = False
    frames = sheet_frames(found, 25)
    assert frames == [0, 80, 150, 225, 310, 375, 450]
    assert len(sheet_frames(np.ones(2 * 3600 * 25, bool), 25)) <= 200
    crops = [np.full((96, 96, 3), 40 * k, np.uint8) for k in range(len(frames))]
    sheet = contact_sheet(crops, [bool(found[k]) for k in frames], [k / 25 for k in frames])
    assert sheet.shape == (102, 7 * 102, 3)
    edges = [tuple(sheet[0, 102 * k]) for k in range(7)]
    assert [edge == (220, 0, 0) for edge in edges] == [False, True, False, False, True, False, False]
    np.testing.assert_array_equal(sheet[20, 102 * 3 + 50], [120] * 3)


def test_pictures_between_detections_are_not_converted():
    converted = []
    pictures = [lambda k=k: converted.append(k) or np.zeros((20, 20, 3), np.uint8) for k in range(10)]
    detect_faces(pictures, Recorder(), every=4)
    assert converted == [0, 4, 8]


class Recorder:
    """A detector that finds one face, at a tenth of the picture, and records the shapes of its batches."""

    height = 40

    def __init__(self):
        self.batches = []

    def __call__(self, pictures):
        """Returns a box of 0.2 of the picture."""
        self.batches.append([picture.shape for picture in pictures])
        return [np.array([[0.1, 0.1, 0.2, 0.2]]) * np.tile(picture.shape[1::-1], 2) for picture in pictures]


def test_pictures_wait_for_their_batch_at_the_size_of_the_detector():
    detector = Recorder()
    pictures = shown([np.zeros((120, 200, 3), np.uint8)] * 40)
    found = detect_faces(pictures, detector, every=2)
    assert sorted(len(batch) for batch in detector.batches) == [4, 16]
    assert {shape for batch in detector.batches for shape in batch} == {(40, 67, 3)}
    np.testing.assert_allclose(found.boxes, [[[20, 12, 40, 24]]] * 20)


def test_boxes_are_in_the_order_of_the_pictures_whichever_batch_is_searched_first():
    """Of every two batches, the first takes longer."""

    def detector(batch):
        levels = [float(picture[0, 0, 0]) for picture in batch]
        time.sleep(0.05 if levels[0] % 32 == 0 else 0.0)
        return [np.array([[level, 0.0, 10.0, 10.0]]) for level in levels]

    detector.height = 20
    found = detect_faces(shown([np.full((20, 20, 3), k, np.uint8) for k in range(150)]), detector, every=1)
    assert [boxes[0, 0] for boxes in found.boxes] == list(range(150))


def test_boxes_are_in_pixels_of_the_first_picture_if_the_size_changes():
    pictures = shown([np.zeros((120, 160, 3), np.uint8)] * 3 + [np.zeros((60, 80, 3), np.uint8)] * 3)
    found = detect_faces(pictures, Recorder(), every=1)
    assert (found.height, found.width) == (120, 160)
    np.testing.assert_allclose(found.boxes, [[[16, 12, 32, 24]]] * 6)


def test_the_track_smooths_the_jitter_of_the_detector():
    rng = np.random.default_rng(0)
    boxes = [[(100 + x, 60 + y, 70)] for x, y in rng.normal(0, 3, (100, 2))]
    track = follow_face(detections(boxes), 25)
    assert track.squares[10:-10, 0].std() < 1.5
    assert cv2.norm(track.squares[:, :2].mean(axis=0) - [135, 95]) < 1.0
