"""Batch norm against NumPy: only unmasked pictures count, and a small variance survives."""

import keras
import numpy as np
import pytest
from keras import ops

from affect.models.batch_norm import BatchNormalization, batch_moments

MASK = np.array([True, False, True, True, False, True])


def pictures(mean, std, seed=0):
    """Returns float32 [6, 4, 5, 3]; masked pictures are far from the others."""
    x = np.random.default_rng(seed).normal(mean, std, size=(6, 4, 5, 3))
    x[~MASK] = 1e6
    return x.astype(np.float32)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (100.0, 0.1), (-3000.0, 0.5)])
def test_moments_are_those_of_the_unmasked_pictures_even_if_the_variance_is_small(mean, std):
    x = pictures(mean, std)
    counted = x[MASK].astype(np.float64)
    got_mean, got_variance, count = batch_moments(ops.convert_to_tensor(x), ops.convert_to_tensor(MASK))
    np.testing.assert_allclose(got_mean, counted.mean(axis=(0, 1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got_variance, counted.var(axis=(0, 1, 2)), rtol=2e-3)
    assert float(count) == 4 * 4 * 5


def test_a_training_step_moves_the_stored_moments_and_normalises_with_those_of_the_unmasked_pictures():
    layer, x = BatchNormalization(momentum=0.9, epsilon=1e-3), pictures(2.0, 3.0)
    out = layer(ops.convert_to_tensor(x), training=True, mask=ops.convert_to_tensor(MASK))
    mean, variance = (getattr(x[MASK].astype(np.float64), name)(axis=(0, 1, 2)) for name in ("mean", "var"))
    np.testing.assert_allclose(np.array(out)[MASK], ((x - mean) / np.sqrt(variance + 1e-3))[MASK], atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)


def test_a_batch_without_a_counted_picture_leaves_the_stored_moments_and_is_normalised_with_them():
    layer, x = BatchNormalization(epsilon=1e-3), pictures(2.0, 3.0)
    layer.build(x.shape)
    layer.moving_mean.assign([1.0, 2.0, 3.0])
    layer.moving_variance.assign([4.0, 5.0, 6.0])
    out = layer(ops.convert_to_tensor(x), training=True, mask=ops.zeros(6, "bool"))
    expected = (x.astype(np.float64) - [1.0, 2.0, 3.0]) / np.sqrt(np.array([4.0, 5.0, 6.0]) + 1e-3)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(layer.moving_variance, [4.0, 5.0, 6.0])


@pytest.mark.parametrize("training", [True, False])
def test_if_every_picture_counts_it_equals_keras_own_layer(training):
    x = ops.convert_to_tensor(np.random.default_rng(1).normal(5, 2, size=(6, 4, 5, 3)).astype(np.float32))
    ours, without_mask, keras_own = BatchNormalization(), BatchNormalization(), keras.layers.BatchNormalization()
    expected = keras_own(x, training=training)
    np.testing.assert_allclose(ours(x, training=training, mask=ops.ones(6, "bool")), expected, atol=1e-5)
    np.testing.assert_array_equal(without_mask(x, training=training), expected)
    for a, b in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_in_bfloat16_the_statistics_are_float32():
    layer = BatchNormalization(dtype="mixed_bfloat16", momentum=0.0)
    x = np.float32(256.0) + np.arange(120, dtype=np.float32).reshape(6, 4, 5, 1) % 4  # steps that bfloat16 cannot hold
    out = layer(ops.cast(x, "bfloat16"), training=True, mask=ops.ones(6, "bool"))
    stored = np.array(ops.cast(ops.cast(x, "bfloat16"), "float32"), np.float64)
    assert out.dtype == "bfloat16"
    np.testing.assert_allclose(layer.moving_mean, [stored.mean()], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [stored.var()], rtol=1e-4)
