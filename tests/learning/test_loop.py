"""The training loop: the same weights as `fit`, exact repetition, clipping, precisions, divergence."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.config import ModelConfig, TrainConfig
from affect.learning.loop import NotFiniteError, Totals, TrainingLoop, compile_network
from affect.metrics import concordance_cc
from affect.models.network import build_network
from tests.helpers.networks import CONFIG, batches, network, run_loop

VIDEO_CONFIG = ModelConfig(
    crop_size=32, video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="unit", lstm_units=(5,),
    dropout=0.0, weight_decay=0.02,
)  # fmt: skip


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


def test_the_logs_of_an_epoch_are_the_means_over_its_steps():
    loop, totals, steps = TrainingLoop(network(), 0), Totals.of([]), []
    for step, batch in enumerate(batches(3)):
        loss, norm, totals = loop.train_step(batch, step, totals)
        steps.append((loss, norm))
    logs = totals.logs()
    assert (logs["loss"], logs["gradient_norm"]) == pytest.approx(np.mean(steps, axis=0), rel=1e-5)


def test_dropout_masks_of_two_steps_differ():
    model = network(0.5)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=model.loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    loop, batch = TrainingLoop(model, seed=3), next(iter(batches(1)))
    first, second, again = (loop.train_step(batch, step, Totals.of([]))[0] for step in (0, 1, 0))
    assert first == again
    assert abs(first - second) > 1e-3


def test_validation_scores_the_unmasked_frames_of_all_batches_together():
    model = network()
    gold, predicted = [], []
    for inputs, labels, mask in batches():
        gold.append(labels.numpy()[mask.numpy()])
        predicted.append(model(inputs).numpy()[mask.numpy()])
    gold, predicted = np.concatenate(gold), np.concatenate(predicted)
    arousal, valence = (concordance_cc(gold[:, i], predicted[:, i]) for i in range(2))
    logs = TrainingLoop(model, 0).validate(batches())
    assert logs["val_ccc_arousal"] == pytest.approx(arousal, abs=1e-5)
    assert logs["val_ccc_valence"] == pytest.approx(valence, abs=1e-5)
    assert logs["val_ccc"] == pytest.approx((arousal + valence) / 2, abs=1e-5)
    assert logs["val_loss"] == pytest.approx(1 - (arousal + valence) / 2, abs=1e-5)


def video_network():
    """A small video network with batch norm and weight decay, compiled with plain SGD; always the same weights."""
    keras.utils.set_random_seed(1)
    model = build_network(VIDEO_CONFIG, "video")
    compile_network(model, TrainConfig())
    model.compile(optimizer=keras.optimizers.SGD(1e-3), loss=model.loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def video_batches(count):
    """Random batches of three windows of eight frames."""
    rng = np.random.default_rng(4)
    video = rng.integers(0, 256, size=(count, 3, 8, 32, 32, 3)).astype(np.uint8)
    labels = rng.uniform(-1, 1, size=(count, 3, 8, 2)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(({"video": video}, labels, np.ones((count, 3, 8), bool)))


@pytest.mark.parametrize("all_frames_count", [True, False])
def test_five_steps_of_the_video_network_equal_keras_fit(all_frames_count):
    ours, keras_own = video_network(), video_network()
    before = weights_of(ours)
    loop = TrainingLoop(ours, 0, all_frames_count=all_frames_count)
    for step, batch in enumerate(video_batches(5)):
        loop.train_step(batch, step, Totals.of([]))
    keras_own.fit(video_batches(5), verbose=0, shuffle=False)
    # Batch norm sums in another order, and each step amplifies that.
    for start, a, b, tolerance in zip(before, weights_of(ours), weights_of(keras_own), (5e-4, 2e-5), strict=True):
        assert np.linalg.norm(a - b) < tolerance * np.linalg.norm(b - start)


def weights_of(model):
    """Returns all trainable weights, and all stored moments of batch norm, each as one vector."""
    variables = (model.trainable_weights, model.non_trainable_weights)
    return [np.concatenate([np.ravel(variable.numpy()) for variable in part]) for part in variables]


def test_masked_pictures_change_neither_the_loss_nor_the_weights():
    inputs, labels, mask = tf.nest.map_structure(lambda tensor: tensor.numpy(), next(iter(video_batches(1))))
    mask[0, 3:5] = mask[2, 5:] = False  # frames without a face, and padding
    spoilt = {"video": inputs["video"].copy()}
    spoilt["video"][~mask] = 255 - spoilt["video"][~mask]
    results = []
    for content in (inputs, spoilt):
        model = video_network()
        batch = tf.nest.map_structure(tf.constant, (content, labels, mask))
        loss, norm, _ = TrainingLoop(model, 0).train_step(batch, 0, Totals.of([]))
        results.append((loss, norm, model.get_weights()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    for a, b in zip(results[0][2], results[1][2], strict=True):
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
