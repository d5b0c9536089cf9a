"""`train.objective`: the mean squared error against NumPy and Keras, with masks, in `fit`, the loop and validation."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.errors import UserError
from affect.learning import train_command
from affect.learning.ccc import CCCLoss, MSELoss, loss_from_moments, merge, moments
from affect.learning.loop import TrainingLoop
from affect.models.trained import TrainedNetwork
from tests.helpers.commands import train_flags
from tests.helpers.in_process import call_main
from tests.helpers.networks import batches, network, run_loop


@pytest.fixture
def signals():
    """Gold and predictions of two dimensions with different errors, [3, 20, 2], and a mask."""
    rng = np.random.default_rng(5)
    gold = rng.normal((0.1, -0.3), 0.4, size=(3, 20, 2)).astype(np.float32)
    predicted = 0.5 * gold + rng.normal((0.2, 0.0), (0.3, 0.1), size=gold.shape)
    return gold, predicted.astype(np.float32), rng.random((3, 20)) < 0.7


def numpy_mse(gold, predicted, mask):
    return np.mean(np.square(gold.astype(np.float64) - predicted)[mask])


def errors_of(model, batch):
    """The errors of the unmasked frames, [frames, 2]."""
    inputs, labels, mask = batch
    return (labels - model(inputs)).numpy()[mask.numpy()]


def test_mse_is_that_of_the_unmasked_frames_as_numpy_and_keras_compute_it(signals):
    gold, predicted, mask = signals
    predicted[~mask] = np.nan  # a masked frame may hold anything
    loss = MSELoss()(gold, predicted, mask)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32" and loss.shape == ()
    assert float(loss) == pytest.approx(numpy_mse(gold, predicted, mask), rel=1e-6)
    assert float(loss) == pytest.approx(float(keras.losses.MeanSquaredError()(gold[mask], predicted[mask])), rel=1e-6)


def test_mse_of_half_precision_predictions_is_float32(signals):
    gold, predicted, mask = signals
    loss = MSELoss()(gold, tf.cast(predicted, "float16"), mask)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == pytest.approx(numpy_mse(gold, predicted.astype(np.float16), mask), rel=1e-6)


def test_gradient_of_the_mse_is_twice_the_error_over_the_count_and_zero_where_masked(signals):
    gold, predicted, mask = signals
    variable = tf.Variable(predicted)
    with tf.GradientTape() as tape:
        loss = MSELoss()(gold, variable, mask)
    expected = np.where(mask[..., None], 2.0 * (predicted.astype(np.float64) - gold) / (2 * mask.sum()), 0.0)
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, atol=1e-7)


def test_mse_of_two_batches_follows_from_their_merged_moments(signals):
    gold, predicted, mask = signals
    first, second = (moments(gold[part], predicted[part], mask[part]) for part in (slice(0, 1), slice(1, 3)))
    merged = float(loss_from_moments(merge(first, second), "mse"))
    assert merged == pytest.approx(numpy_mse(gold, predicted, mask), rel=1e-6)


@pytest.mark.parametrize("loss", [CCCLoss, MSELoss])
def test_losses_survive_keras_serialisation(loss, signals):
    copy = keras.losses.deserialize(keras.losses.serialize(loss(name="own")))
    assert (type(copy), copy.name) == (loss, "own")
    assert float(copy(*signals)) == float(loss()(*signals))


def test_a_ccc_loss_that_was_serialised_before_there_was_a_choice_can_be_read():
    stored = {"module": "affect.learning.ccc", "class_name": "CCCLoss", "config": {"name": "ccc_loss"},
              "registered_name": "affect>CCCLoss"}  # fmt: skip
    loss = keras.losses.deserialize(stored)
    assert (type(loss), loss.name, loss.objective) == (CCCLoss, "ccc_loss", "ccc")


def test_fit_training_step_and_validation_follow_the_objective():
    model, first = network(objective="mse"), next(iter(batches()))
    expected = np.mean(np.square(errors_of(model, first)))
    assert float(model.loss(first[1], model(first[0]), first[2])) == pytest.approx(expected, rel=1e-5)

    before, after = TrainingLoop(network(), 0).validate(batches()), TrainingLoop(model, 0).validate(batches())
    every_error = np.concatenate([errors_of(model, batch) for batch in batches()])
    assert after["val_loss"] == pytest.approx(np.mean(np.square(every_error)), rel=1e-5)
    assert after["val_loss"] != pytest.approx(before["val_loss"], rel=0.01)
    # The best weights are still those of the best CCC.
    for name in ("val_ccc", "val_ccc_arousal", "val_ccc_valence"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)

    keras_own = network(objective="mse")
    logs = run_loop(model, batches().take(1))
    history = keras_own.fit(batches().take(1), verbose=0, shuffle=False).history
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    run_loop(model, batches().skip(1), first_step=1)
    keras_own.fit(batches().skip(1), verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_sgd_step_of_the_loop_goes_down_the_gradient_of_keras_mse():
    """Adam would hide a gradient that is off by a constant factor."""
    model, (inputs, labels, mask) = network(objective="mse"), next(iter(batches()))
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=model.loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    with tf.GradientTape() as tape:
        predicted = model(inputs, training=True)
        loss = tf.reduce_mean(keras.losses.mean_squared_error(labels[mask], predicted[mask]))
    gradients = tape.gradient(loss, model.trainable_variables)
    before = model.get_weights()
    run_loop(model, [(inputs, labels, mask)])
    for weight, start, gradient in zip(model.get_weights(), before, gradients, strict=True):
        np.testing.assert_allclose(start - weight, gradient, atol=1e-6)
    assert max(np.abs(gradient).max() for gradient in gradients) > 1e-2


def test_a_run_keeps_its_objective_and_its_logs_keep_their_names(audio_run, data_dir, tmp_path):
    flags = train_flags(data_dir, tmp_path / "run", "--set=train.objective=mse", "--set=train.epochs=1")
    assert not call_main(train_command, *flags)
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["objective"] == "mse"
    header = [(folder / "training.csv").read_text().splitlines()[0] for folder in (audio_run, tmp_path / "run")]
    assert header[0] == header[1]
    assert TrainedNetwork.load(tmp_path / "run").experiment.train.objective == "mse"
    with pytest.raises(UserError, match=r"\(train.objective is mse there, ccc now\); use another --run_dir"):
        call_main(train_command, *train_flags(data_dir, tmp_path / "run", "--set=train.epochs=1"))


def test_a_run_from_before_the_choice_was_trained_for_the_ccc(audio_run, data_dir, tmp_path):
    config = json.loads((audio_run / "config.json").read_text())
    del config["train"]["objective"]
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.json").write_text(json.dumps(config))
    (run_dir / "environment.json").write_bytes((audio_run / "environment.json").read_bytes())
    with pytest.raises(UserError, match=r"\(train.objective is ccc there, mse now\); use another --run_dir"):
        call_main(train_command, *train_flags(data_dir, run_dir, "--set=train.objective=mse"))
