"""The training loop: the same weights as `fit`, exact repetition, one objective, clipping, precisions, divergence."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from affect.config import TrainConfig
from affect.learning import ccc
from affect.learning.loop import NotFiniteError, Totals, TrainingLoop, compile_network
from affect.models.network import build_network
from tests.helpers.networks import CONFIG, batches, network, run_loop


def test_loop_gives_the_same_weights_as_keras_fit_with_masks():
    ours, keras_own = network(), network()
    logs = run_loop(ours, batches())
    history = keras_own.fit(batches(), verbose=0, shuffle=False).history
    for a, b in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert logs["loss"] == pytest.approx(history["loss"][0], abs=1e-5)
    assert logs["ccc_arousal"] == pytest.approx(history["ccc_arousal"][0], abs=1e-5)


def test_dropout_masks_depend_on_seed_and_step_only():
    once, again, other = network(0.5), network(0.5), network(0.5)
    run_loop(once, batches(), seed=3)
    run_loop(again, batches().take(2), seed=3)
    run_loop(again, batches().skip(2), seed=3, first_step=2)  # a new TrainingLoop, as after a restart
    run_loop(other, batches(), seed=4)
    for a, b in zip(once.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert not np.allclose(once.get_weights()[0], other.get_weights()[0], atol=1e-4)


def test_validation_reports_the_loss_of_the_pooled_cccs():
    logs = TrainingLoop(network(), 0).validate(batches())
    assert logs["val_loss"] == pytest.approx(1 - (logs["val_ccc_arousal"] + logs["val_ccc_valence"]) / 2, abs=1e-6)


def test_another_loss_is_one_edit(monkeypatch):
    """The mean squared error, put in the place of the CCC, is followed by `fit`, the training step and validation."""

    def mean_squared_error(m):
        variance_of_error = m.gold_variance + m.predicted_variance - 2.0 * m.covariance
        return ops.mean(variance_of_error + ops.square(m.gold_mean - m.predicted_mean))

    def of_frames(model, batch):
        inputs, labels, mask = batch
        return (labels - model(inputs)).numpy()[mask.numpy()]

    before = TrainingLoop(network(), 0).validate(batches())
    monkeypatch.setattr(ccc, "loss_from_moments", mean_squared_error)
    model, first = network(), next(iter(batches()))
    expected = np.mean(np.square(of_frames(model, first)))
    assert float(model.loss(first[1], model(first[0]), first[2])) == pytest.approx(expected, rel=1e-5)
    after = TrainingLoop(model, 0).validate(batches())
    every_error = np.concatenate([of_frames(model, batch) for batch in batches()])
    assert after["val_loss"] == pytest.approx(np.mean(np.square(every_error)), rel=1e-5)
    assert after["val_loss"] != pytest.approx(before["val_loss"], rel=0.01)
    # The best weights are still those of the best CCC.
    for name in ("val_ccc", "val_ccc_arousal", "val_ccc_valence"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)

    keras_own = network()
    logs = run_loop(model, batches().take(1))
    history = keras_own.fit(batches().take(1), verbose=0, shuffle=False).history
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    run_loop(model, batches().skip(1), first_step=1)
    keras_own.fit(batches().skip(1), verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda audio, labels: (audio, labels * np.nan), "the loss is nan"),
        (lambda audio, labels: (audio * np.inf, labels), "the loss is nan"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_step(spoil, message):
    inputs, labels, mask = next(iter(batches(1)))
    audio, labels = spoil(inputs["audio"].numpy(), labels.numpy())
    batch = ({"audio": tf.constant(audio)}, tf.constant(labels), mask)
    with pytest.raises(NotFiniteError, match=message):
        TrainingLoop(network(), seed=0).train_step(batch, 0, Totals.of([]))


def test_float16_scales_the_loss_and_skips_steps_that_overflow():
    def train(precision):
        default = keras.config.dtype_policy()
        keras.config.set_dtype_policy(precision)
        try:
            keras.utils.set_random_seed(1)
            model = build_network(CONFIG, "audio")
        finally:
            keras.config.set_dtype_policy(default)
        compile_network(model, TrainConfig(learning_rate=1e-2, precision=precision))
        loop, totals = TrainingLoop(model, 0), Totals.of([])
        norms = []
        for index, batch in enumerate(batches(3)):
            _, norm, totals = loop.train_step(batch, index, totals)
            norms.append(norm)
        return model, norms

    reference, norms = train("float32")
    for precision in ("mixed_bfloat16", "mixed_float16"):
        model, ours = train(precision)
        assert ours == pytest.approx(norms, rel=0.1)
        assert all(weight.dtype == "float32" for weight in model.trainable_weights)
    assert float(model.optimizer.dynamic_scale) == 2.0**15
    # After an overflow the scale is halved and the weights are unchanged.
    model.optimizer.dynamic_scale.assign(3e38)
    before = model.get_weights()
    TrainingLoop(model, 0).train_step(next(iter(batches(1))), 0, Totals.of([]))
    assert float(model.optimizer.dynamic_scale) == pytest.approx(1.5e38)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_clipping_shortens_the_gradient_to_the_norm():
    def change(clip_norm):
        model = network()
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss=model.loss, jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        before = model.get_weights()
        _, norm, _ = TrainingLoop(model, 0, clip_norm).train_step(next(iter(batches(1))), 0, Totals.of([]))
        return norm, [a - b for a, b in zip(model.get_weights(), before, strict=True)]

    norm, whole = change(0.0)
    assert np.sqrt(sum(np.sum(np.square(part)) for part in whole)) == pytest.approx(norm, rel=1e-5)
    same_norm, short = change(norm / 4)
    assert same_norm == pytest.approx(norm)  # reported before clipping
    for a, b in zip(short, whole, strict=True):
        np.testing.assert_allclose(a, b / 4, atol=1e-6)
