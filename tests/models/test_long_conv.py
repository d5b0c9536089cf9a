"""LongConv1D against a plain float64 convolution: eager, in a graph, with XLA, and in a Keras network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.models.long_conv import LongConv1D, fft_convolve, prefers_fft

# (steps, taps, channels, filters): odd and even taps, fewer steps than taps, one tap, several blocks.
GRID = [
    (50, 7, 3, 4), (300, 64, 2, 3), (1000, 80, 1, 20), (333, 101, 5, 2), (20, 400, 2, 3), (9, 2, 2, 2), (7, 1, 3, 2),
    (9000, 4000, 1, 2), (130, 4000, 3, 2),
]  # fmt: skip


def padded(signal, taps, padding):
    before = (taps - 1) // 2 if padding == "same" else 0
    return np.pad(signal, ((0, 0), (before, taps - 1 - before if padding == "same" else 0), (0, 0)))


def convolve(signal, kernel, padding="same"):
    """Convolves in float64, tap by tap: output n is the sum over taps of signal[n + tap] times kernel[tap]."""
    taps = kernel.shape[0]
    signal = padded(signal, taps, padding)
    outputs = signal.shape[1] - taps + 1
    return sum(signal[:, tap : tap + outputs] @ kernel[tap] for tap in range(taps))


def convolve_gradients(signal, kernel, upstream):
    """Returns the float64 gradients of sum(upstream * output) for padding "same", from the definition."""
    taps, steps = kernel.shape[0], signal.shape[1]
    wide = padded(signal, taps, "same")
    to_kernel = np.stack([np.einsum("bti,bto->io", wide[:, tap : tap + steps], upstream) for tap in range(taps)])
    to_wide = np.zeros_like(wide)
    for tap in range(taps):
        to_wide[:, tap : tap + steps] += upstream @ kernel[tap].T
    before = (taps - 1) // 2
    return to_wide[:, before : before + steps], to_kernel


def case(steps, taps, channels, filters, batch=2):
    rng = np.random.default_rng(steps + taps)
    return (
        rng.normal(size=(batch, steps, channels)),
        rng.normal(size=(taps, channels, filters)),
        rng.normal(size=(batch, steps, filters)),
    )


def assert_close(got, expected):
    assert np.abs(np.array(got) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("shape", GRID, ids=str)
@pytest.mark.parametrize("how", ["eager", "function", "xla"])
def test_output_and_both_gradients_equal_float64_convolution(shape, how):
    signal, kernel, upstream = case(*shape)

    def run(signal, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch([signal, kernel])
            output = fft_convolve(signal, kernel)
            loss = tf.reduce_sum(output * upstream)
        return output, *tape.gradient(loss, [signal, kernel])

    run = {"eager": run, "function": tf.function(run), "xla": tf.function(run, jit_compile=True)}[how]
    output, to_signal, to_kernel = run(*(tf.constant(array, tf.float32) for array in (signal, kernel, upstream)))
    assert_close(output, convolve(signal, kernel))
    expected_to_signal, expected_to_kernel = convolve_gradients(signal, kernel, upstream)
    assert_close(to_signal, expected_to_signal)
    assert_close(to_kernel, expected_to_kernel)


@pytest.mark.parametrize("shape", [shape for shape in GRID if shape[0] >= shape[1]], ids=str)
def test_valid_padding_returns_only_outputs_that_need_no_padding(shape):
    signal, kernel, _ = case(*shape)
    assert_close(fft_convolve(signal, kernel, "valid"), convolve(signal, kernel, "valid"))


@pytest.mark.parametrize("taps", [6, 7])
@pytest.mark.parametrize("method", ["direct", "fft", "auto"])
def test_weights_and_results_equal_those_of_conv1d(taps, method):
    signal = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32)
    reference = keras.layers.Conv1D(4, taps, padding="same", activation="relu")
    expected = reference(signal)
    layer = LongConv1D(4, taps, activation="relu", method=method)
    layer.build(signal.shape)
    assert [(w.name, w.shape) for w in layer.weights] == [(w.name, w.shape) for w in reference.weights]
    layer.set_weights(reference.get_weights())
    np.testing.assert_allclose(layer(signal), expected, atol=1e-5)


def test_saved_weights_of_conv1d_load_into_long_conv_and_back(tmp_path):
    def network(layer):
        return keras.Sequential([keras.Input((None, 3)), layer])

    signal = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32)
    plain = network(keras.layers.Conv1D(4, 9, padding="same", name="conv"))
    long = network(LongConv1D(4, 9, method="fft", name="conv"))
    plain.layers[0].bias.assign([1.0, 2.0, 3.0, 4.0])
    plain.save_weights(tmp_path / "plain.weights.h5")
    long.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_allclose(long(signal), plain(signal), atol=1e-5)
    long.save_weights(tmp_path / "long.weights.h5")
    again = network(keras.layers.Conv1D(4, 9, padding="same", name="conv"))
    again.load_weights(tmp_path / "long.weights.h5")
    np.testing.assert_array_equal(again(signal), plain(signal))


def test_a_saved_and_reloaded_layer_keeps_its_method(tmp_path):
    layer = LongConv1D(4, 9, use_bias=False, method="fft", kernel_regularizer=keras.regularizers.L2(0.1))
    network = keras.Sequential([keras.Input((None, 3)), layer])
    network.save(tmp_path / "network.keras")
    reloaded = keras.saving.load_model(tmp_path / "network.keras")
    assert reloaded.layers[0].method == "fft"
    assert reloaded.layers[0].padding == "same"
    signal = np.random.default_rng(0).normal(size=(1, 20, 3)).astype(np.float32)
    np.testing.assert_array_equal(reloaded(signal), network(signal))
    np.testing.assert_allclose(float(reloaded.losses[0]), float(network.losses[0]), rtol=1e-6)


def test_batch_and_length_may_be_unknown():
    layer = LongConv1D(3, 64, method="fft")
    layer.build((None, None, 2))
    traced = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 2))])

    @tf.function(input_signature=[tf.TensorSpec((None, None, 2)), tf.TensorSpec((None, None, 3))])
    def gradient(signal, upstream):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(signal) * upstream)
        return tape.gradient(loss, layer.kernel)

    for batch, steps in [(1, 10), (3, 64), (2, 1000)]:
        rng = np.random.default_rng(steps)
        signal, upstream = rng.normal(size=(batch, steps, 2)), rng.normal(size=(batch, steps, 3))
        kernel = layer.kernel.numpy().astype(np.float64)
        assert_close(traced(signal.astype(np.float32)), convolve(signal, kernel))
        _, expected = convolve_gradients(signal, kernel, upstream)
        assert_close(gradient(signal.astype(np.float32), upstream.astype(np.float32)), expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_fft_works_in_float32_on_the_float32_variables_under_every_policy(policy):
    layer = LongConv1D(3, 500, method="fft", dtype=policy)
    signal = np.random.default_rng(0).normal(size=(1, 600, 2)).astype(np.float32)
    output = layer(signal)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    exact = convolve(signal.astype(np.float64), layer.kernel.numpy().astype(np.float64))
    rounded = tf.cast(tf.constant(exact, tf.float32), layer.compute_dtype)
    # Only the last rounding follows the policy: nearly every output equals the exact one, rounded.
    assert np.mean(tf.cast(output, tf.float32).numpy() == tf.cast(rounded, tf.float32).numpy()) > 0.98


def test_auto_uses_direct_convolution_for_few_taps_and_the_fft_for_the_papers_500_ms():
    assert not prefers_fft(taps=16, channels=12, filters=24)
    assert prefers_fft(taps=4000, channels=20, filters=40)
    # Once the FFT is cheaper, it stays cheaper as the number of taps doubles.
    choices = [prefers_fft(2**power + 1, 20, 40) for power in range(1, 13)]
    assert choices == sorted(choices)


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"padding": "causal"}, {"strides": 2}, {"groups": 1}])
def test_unsupported_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        LongConv1D(1, 3, **wrong)
