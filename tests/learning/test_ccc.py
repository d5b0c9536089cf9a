"""The Keras loss and metric against NumPy, the closed-form gradient of the paper, and masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.learning.ccc import CCCLoss, ConcordanceCC, moments
from affect.metrics import concordance_cc


@pytest.fixture
def signals():
    rng = np.random.default_rng(1)
    gold = rng.normal(0.1, 0.4, size=(3, 20, 2)).astype(np.float32)
    return gold, (0.5 * gold + rng.normal(0.2, 0.3, size=gold.shape)).astype(np.float32)


def numpy_loss(gold, predicted):
    return np.mean([1 - concordance_cc(gold[..., d].ravel(), predicted[..., d].ravel()) for d in range(2)])


def closed_form_gradient(gold, predicted):
    """Gradient of the loss as the paper gives it, per dimension, in float64."""
    gradient = np.zeros(predicted.shape)
    for d in range(2):
        x, y = predicted[..., d].astype(np.float64), gold[..., d].astype(np.float64)
        covariance = np.mean((x - x.mean()) * (y - y.mean()))
        psi = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        gradient[..., d] = 2 / x.size * (2 * covariance * (x - y.mean()) / psi**2 + (y.mean() - y) / psi) / 2
    return gradient


def test_loss_is_one_minus_ccc_of_the_whole_batch_flattened(signals):
    assert float(CCCLoss()(*signals)) == pytest.approx(numpy_loss(*signals), abs=1e-6)


def test_gradient_equals_the_papers_closed_form(signals):
    gold, predicted = signals
    variable = tf.Variable(predicted)
    with tf.GradientTape() as tape:
        loss = CCCLoss()(gold, variable)
    expected = closed_form_gradient(gold, predicted)
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, atol=1e-6 * np.abs(expected).max() + 1e-8)


def test_masked_frames_change_neither_loss_nor_gradient_even_as_nan(signals):
    gold, predicted = (np.concatenate([signal, np.full((3, 5, 2), np.nan, np.float32)], axis=1) for signal in signals)
    mask = np.concatenate([np.ones((3, 20), bool), np.zeros((3, 5), bool)], axis=1)
    variable = tf.Variable(predicted)
    with tf.GradientTape() as tape:
        loss = CCCLoss()(gold, variable, mask)
    gradient = tape.gradient(loss, variable).numpy()
    assert float(loss) == pytest.approx(numpy_loss(*signals), abs=1e-6)
    expected = closed_form_gradient(*signals)
    np.testing.assert_allclose(gradient[:, :20], expected, atol=1e-6)
    assert np.all(gradient[:, 20:] == 0.0)


def test_variance_of_nearly_constant_predictions_is_not_lost():
    wiggle = 1e-4 * np.sin(np.arange(1000, dtype=np.float64))
    predicted = (0.9 + wiggle).reshape(10, 100, 1)
    variance = float(moments(np.zeros_like(predicted), predicted).predicted_variance[0])
    # Half a float32 step at 0.9 is 3e-8; squared and averaged that is far below 1 % of the variance.
    assert variance == pytest.approx(wiggle.var(), rel=1e-2)


def test_constant_prediction_has_a_finite_gradient():
    variable = tf.Variable(np.full((2, 5, 2), 0.25, np.float32))
    with tf.GradientTape() as tape:
        loss = CCCLoss()(np.full((2, 5, 2), 0.25, np.float32), variable)
    assert float(loss) == 1.0
    assert np.all(tape.gradient(loss, variable).numpy() == 0.0)


@pytest.mark.parametrize("value", [0.1, 0.3, -0.07])
@pytest.mark.parametrize("shape", [(2, 150, 2), (25, 150, 2), (1, 7501, 2)])
def test_equal_constants_have_a_loss_of_one_although_their_means_are_rounded(value, shape):
    constant = np.full(shape, value, np.float32)
    variable = tf.Variable(constant)
    with tf.GradientTape() as tape:
        loss = CCCLoss()(constant, variable)
    assert float(loss) == 1.0
    assert np.all(tape.gradient(loss, variable).numpy() == 0.0)
    metric = ConcordanceCC(0)
    for _ in range(3):
        metric.update_state(constant, constant)
    assert float(metric.result()) == 0.0


def test_a_constant_prediction_of_a_moving_gold_standard_keeps_its_gradient(signals):
    gold, _ = signals
    variable = tf.Variable(np.full(gold.shape, 0.1, np.float32))
    with tf.GradientTape() as tape:
        loss = CCCLoss()(gold, variable)
    expected = closed_form_gradient(gold, variable.numpy())
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, atol=1e-6)


def test_a_small_movement_on_a_high_level_is_no_constant():
    signal = (0.9 + 1e-4 * np.sin(np.arange(2000))).astype(np.float32).reshape(2, 500, 2)
    assert float(CCCLoss()(signal, signal)) == pytest.approx(0.0, abs=1e-3)


def test_streaming_metric_over_unequal_batches_equals_the_pooled_ccc(signals):
    gold, predicted = signals
    mask = np.random.default_rng(2).random((3, 20)) < 0.7
    metric = ConcordanceCC(1)
    for part in (slice(0, 1), slice(1, 3)):
        metric.update_state(gold[part], predicted[part], mask[part])
    expected = concordance_cc(gold[..., 1][mask], predicted[..., 1][mask])
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_a_batch_without_counted_frames_does_not_change_the_metric(signals):
    metric = ConcordanceCC(0)
    metric.update_state(*signals)
    before = float(metric.result())
    metric.update_state(*signals, np.zeros((3, 20), bool))
    assert float(metric.result()) == pytest.approx(before, abs=1e-7)


def test_loss_and_metric_work_in_fit_with_a_mask(signals):
    """`fit` hands the mask on as sample weights; the loss it reports is that of the unmasked frames."""
    gold, predicted = signals
    mask = np.ones((3, 20), bool)
    mask[1, 10:] = False
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(2, kernel_initializer="identity")])
    model.compile(keras.optimizers.SGD(0.0), loss=CCCLoss(), weighted_metrics=[ConcordanceCC(0, name="ccc_arousal")])
    history = model.fit(tf.data.Dataset.from_tensors((predicted, gold, mask)), verbose=0, shuffle=False).history
    counted = [signal[mask][None] for signal in signals]
    assert history["loss"][0] == pytest.approx(numpy_loss(*counted), abs=1e-6)
    assert history["ccc_arousal"][0] == pytest.approx(
        concordance_cc(counted[0][0, :, 0], counted[1][0, :, 0]), abs=1e-6
    )
