"""Face detectors: a real portrait planted at known places, turned, dark and talking, and pictures without a face."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.data
from mtcnn import MTCNN

from affect.media.faces import HaarDetector, MtcnnDetector, make_detector, reduced
from affect.media.settings import DETECTORS
from tests.helpers import trees
from tfrecords_tools.synthetic.face import JAW

# Of the portrait of 512 x 512 pixels: the centre of the face, and the edge of the square from hairline to chin.
CENTRE, EDGE = (224.0, 118.0), 92.0
HEIGHT, WIDTH = 480, 640


@pytest.fixture(scope="module")
def mtcnn():
    return MtcnnDetector()


def portrait(opening_px=0):
    """The portrait; with a dark open mouth of this height."""
    picture = skimage.data.astronaut()
    if not opening_px:
        return picture
    grid = np.stack(np.meshgrid(np.arange(512), np.arange(512)), axis=-1).astype(np.float32)
    (jaw,) = JAW
    falling = np.exp(-np.square(grid - np.float32(jaw.centre)).sum(axis=-1) / (2 * jaw.reach**2))
    source = grid - opening_px * falling[..., None] * np.float32(jaw.direction)
    picture = cv2.remap(picture, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cv2.ellipse(picture, (224, 149), (12, opening_px // 2 + 2), 0, 0, 360, (40, 15, 15), -1, cv2.LINE_AA)


def textures():
    """Photographs without a face, as RGB."""
    names = ("brick", "grass", "gravel", "coffee", "rocket", "hubble_deep_field", "text", "moon")
    pictures = [getattr(skimage.data, name)() for name in names]
    return [cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture for picture in pictures]


def planted(centre, edge, angle=0.0, light=1.0, opening_px=0, background=None):
    """A picture of 640 x 480: the portrait turned by `angle` degrees, its face at `centre` and `edge` pixels wide."""
    scale = edge / EDGE
    place = cv2.getRotationMatrix2D(CENTRE, angle, scale)
    place[:, 2] += np.array(centre) - CENTRE
    source = portrait(opening_px)
    if scale < 1.0:
        source = cv2.GaussianBlur(source, (0, 0), 0.5 / scale)  # otherwise the small face would be aliased
    shown = cv2.warpAffine(source, place, (WIDTH, HEIGHT))
    inside = cv2.warpAffine(np.full((512, 512), 255, np.uint8), place, (WIDTH, HEIGHT)) > 0
    behind = cv2.resize(textures()[0] if background is None else background, (WIDTH, HEIGHT))
    return (np.where(inside[..., None], shown, behind) * light).astype(np.uint8)


def is_at(boxes, centre, edge):
    """Which of the boxes lie on the planted face."""
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    return np.linalg.norm(middles - centre, axis=1) < 0.3 * edge


def test_mtcnn_finds_a_turned_dark_and_talking_face_in_95_percent_of_the_looks(mtcnn):
    centre = (300.0, 240.0)
    looks = list(itertools.product((40, 60, 90, 130, 200), (0, 10, 20, 30), (1.0, 0.35), (0, 14)))
    found = mtcnn([planted(centre, edge, angle, light, opening) for edge, angle, light, opening in looks])
    hits = [is_at(boxes, centre, look[0]) for boxes, look in zip(found, looks, strict=True)]
    missed = [look for look, hit in zip(looks, hits, strict=True) if not hit.any()]
    assert len(missed) <= 0.05 * len(looks), missed
    # One box per face, and none elsewhere.
    assert sum(len(hit) for hit in hits) == len(looks) - len(missed)


def test_mtcnn_gives_the_boxes_of_the_package(mtcnn):
    """The networks run as graphs here, and operation by operation in the package."""
    looks = itertools.product((30, 60, 130), (0, 25), (1.0, 0.35))
    pictures = [reduced(planted((300.0, 240.0), *look), 240) for look in looks]
    expected = MTCNN(device="CPU:0").detect_faces(pictures, min_face_size=20, threshold_onet=0.8)
    found = mtcnn(pictures)
    assert [len(boxes) for boxes in found] == [len(faces) for faces in expected] and sum(map(len, found)) >= 10
    for boxes, faces in zip(found, expected, strict=True):
        left, top, width, height = np.reshape([face["box"] for face in faces], (-1, 4)).T
        np.testing.assert_allclose(boxes[:, 0] + boxes[:, 2] / 2, left + width / 2)
        np.testing.assert_allclose(boxes[:, 1] + boxes[:, 3] / 2, top + height / 2)
        np.testing.assert_allclose(boxes[:, 2], 1.12 * np.minimum(width, height))


def test_mtcnn_finds_no_face_in_textures_and_a_drawing(mtcnn):
    """64 looks: one false face would be 1.6 %."""
    rng = np.random.default_rng(0)
    looks = [drawing()]
    for picture in textures():
        for angle, zoom in zip(rng.uniform(-30, 30, 8), rng.uniform(1.0, 2.0, 8), strict=True):
            size = np.array(picture.shape[1::-1])
            turned = cv2.getRotationMatrix2D(tuple(size / 2), angle, zoom * max(np.array([WIDTH, HEIGHT]) / size))
            turned[:, 2] += np.array([WIDTH, HEIGHT]) / 2 - size / 2
            looks.append(cv2.warpAffine(picture, turned, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT))
    false = [len(boxes) for boxes in mtcnn(looks)]
    assert len(looks) == 65 and np.count_nonzero(false) < 0.02 * len(looks)


def drawing():
    """A cartoon face."""
    picture = np.full((HEIGHT, WIDTH, 3), (200, 220, 255), np.uint8)
    cv2.circle(picture, (320, 240), 110, (255, 224, 170), -1, cv2.LINE_AA)
    for x in (280, 360):
        cv2.circle(picture, (x, 210), 16, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, (x, 210), 7, (20, 20, 20), -1, cv2.LINE_AA)
    cv2.line(picture, (320, 225), (312, 255), (120, 60, 30), 3, cv2.LINE_AA)
    return cv2.ellipse(picture, (320, 280), (50, 25), 0, 0, 180, (180, 30, 30), 6, cv2.LINE_AA)


def test_mtcnn_finds_both_of_two_faces(mtcnn):
    left, right = (160.0, 240.0), (470.0, 220.0)
    picture = planted(left, 110)
    picture[:, 320:] = planted(right, 70)[:, 320:]
    (boxes,) = mtcnn([picture])
    assert len(boxes) == 2 and is_at(boxes, left, 110).sum() == 1 and is_at(boxes, right, 70).sum() == 1


def test_both_detectors_return_the_same_part_of_a_face(mtcnn):
    """The cascade's edges come in steps of 20 %, so single edges are compared less strictly than their mean."""
    centre = np.array([310.0, 230.0])
    pictures = [planted(tuple(centre), edge) for edge in np.linspace(80, 200, 13)]
    for detector in (HaarDetector(), mtcnn):
        found = detector(pictures)
        seen = np.array([len(boxes) == 1 for boxes in found])
        assert seen.sum() >= 12  # the cascade misses one
        boxes, edges = np.concatenate(found), np.linspace(80, 200, 13)[seen]
        np.testing.assert_array_equal(boxes[:, 2], boxes[:, 3])
        shift = (boxes[:, :2] + boxes[:, 2:] / 2 - centre) / edges[:, None]
        assert np.abs(shift).max() < 0.08 and np.abs(shift.mean(axis=0)).max() < 0.03
        growth = boxes[:, 2] / edges
        assert 0.9 < growth.min() and growth.max() < 1.25 and 1.0 < growth.mean() < 1.1


@pytest.mark.parametrize("name", DETECTORS)
def test_pictures_of_several_sizes_in_one_call_give_the_boxes_of_each_alone(name):
    detector = make_detector(name)
    portraits = [planted((320.0, 240.0), 150), trees.face_pictures(1, dot=False)[0], skimage.data.astronaut()]
    empty = np.zeros((100, 700, 3), np.uint8)
    pictures = [portraits[0], portraits[1], portraits[1], empty, portraits[2], portraits[0]]
    together = detector(pictures)
    assert [len(boxes) for boxes in together] == [1, 1, 1, 0, 1, 1]
    for picture, boxes in zip(pictures, together, strict=True):
        np.testing.assert_array_equal(boxes, detector([picture])[0])


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("shape", ((1, 1), (11, 40), (24, 24), (12, 500), (600, 5)))
def test_no_face_is_found_in_pictures_that_are_too_small_for_one(name, shape):
    (boxes,) = make_detector(name)([np.full((*shape, 3), 120, np.uint8)])
    assert boxes.shape == (0, 4)


def test_a_face_is_found_whatever_the_height_of_the_picture(mtcnn):
    """The package refuses a whole batch if the last level of its pyramid is too small."""
    faces = [cv2.resize(skimage.data.astronaut()[:256, 96:352], (size, size)) for size in range(60, 400, 9)]
    assert [len(boxes) for boxes in mtcnn(faces)] == [1] * len(faces)


def test_an_empty_answer_for_a_batch_is_checked_picture_by_picture(mtcnn, monkeypatch):
    detect = mtcnn._network.detect_faces
    monkeypatch.setattr(
        mtcnn._network,
        "detect_faces",
        lambda many, **keys: [[] for _ in many] if len(many) > 1 else detect(many, **keys),
    )
    pictures = [planted((320.0, 240.0), 120), np.zeros((HEIGHT, WIDTH, 3), np.uint8)]
    assert [len(boxes) for boxes in mtcnn(pictures)] == [1, 0]


def test_a_picture_is_reduced_to_a_height_and_never_enlarged():
    stripes = np.repeat(np.arange(0, 240, 10, dtype=np.uint8), 20)[:, None, None]  # 24 stripes of 20 rows
    picture = np.broadcast_to(stripes, (480, 641, 3)).copy()
    small = reduced(picture, 24)
    assert small.shape == (24, 32, 3)
    np.testing.assert_array_equal(small[:, 0, 0], np.arange(0, 240, 10))
    assert reduced(picture, 480) is picture and reduced(small, 240) is small


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_that_two_threads_call_at_the_same_time_gives_the_boxes_of_one(name):
    detector = make_detector(name)
    pictures = [np.roll(portrait(), 20 * shift, axis=1)[: 512 - 30 * shift] for shift in range(8)] * 5
    alone = [detector([picture])[0] for picture in pictures]
    assert any(len(boxes) for boxes in alone)
    with ThreadPoolExecutor(2) as pool:
        together = [boxes for (boxes,) in pool.map(detector, [[picture] for picture in pictures])]
    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found, expected)
