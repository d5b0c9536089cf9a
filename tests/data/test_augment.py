"""Augmentation: each change alone, against what it should do to the pixels."""

import numpy as np
import pytest
import tensorflow as tf
from msgspec.structs import replace

from affect.config import AugmentConfig
from affect.data.augment import augment_window

UNCHANGED = AugmentConfig(scope="window", resize=96, saturation=0.0, brightness=0.0)


def images(time=3):
    """Random images, far enough from black and white that no change is clipped."""
    rng = np.random.default_rng(4)
    return tf.constant(rng.integers(40, 200, size=(time, 96, 96, 3)).astype(np.uint8))


def test_augmentation_with_all_ranges_at_zero_changes_nothing():
    np.testing.assert_array_equal(augment_window(images(), UNCHANGED, tf.constant([1, 2])), images())


@pytest.mark.parametrize("scope", ["frame", "window"])
def test_crop_is_a_shifted_part_of_the_enlarged_images(scope):
    config = replace(UNCHANGED, scope=scope, resize=110)
    crops = images(1)
    result = augment_window(crops, config, tf.constant([5, 6])).numpy()[0].astype(int)
    enlarged = tf.image.resize(crops, [110, 110]).numpy()[0]
    differences = [
        np.abs(result - enlarged[top : top + 96, left : left + 96])[2:-2, 2:-2].mean()
        for top in range(15)
        for left in range(15)
    ]
    assert min(differences) < 0.6  # rounding to uint8
    assert np.sort(differences)[1] > 5.0  # and at one place only


def test_scope_frame_changes_each_frame_differently_and_scope_window_all_alike():
    crops = tf.repeat(images(1), 4, axis=0)
    config = replace(UNCHANGED, brightness=0.1, saturation=0.5, resize=110)
    per_window = augment_window(crops, config, tf.constant([1, 2])).numpy()
    assert all(np.array_equal(per_window[0], frame) for frame in per_window)
    per_frame = augment_window(crops, replace(config, scope="frame"), tf.constant([1, 2])).numpy()
    assert not np.array_equal(per_frame[0], per_frame[1])


def test_brightness_shifts_all_pixels_by_the_same_amount_within_its_range():
    config = replace(UNCHANGED, brightness=32 / 255)
    shifts = set()
    for seed in range(20):
        change = augment_window(images(), config, tf.constant([seed, 0])).numpy().astype(int) - images().numpy()
        assert change.min() == change.max()
        shifts.add(int(change[0, 0, 0, 0]))
    assert max(map(abs, shifts)) <= 32
    assert len(shifts) > 10


def test_saturation_does_not_change_grey_images():
    grey = tf.fill([2, 96, 96, 3], tf.constant(120, tf.uint8))
    config = replace(UNCHANGED, saturation=0.5)
    np.testing.assert_array_equal(augment_window(grey, config, tf.constant([3, 3])), grey)


def test_flip_mirrors_about_half_of_the_windows_as_a_whole():
    config = replace(UNCHANGED, flip=True)
    results = [augment_window(images(), config, tf.constant([seed, 1])).numpy() for seed in range(40)]
    mirrored = [np.array_equal(result, images().numpy()[:, :, ::-1]) for result in results]
    kept = [np.array_equal(result, images().numpy()) for result in results]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30
