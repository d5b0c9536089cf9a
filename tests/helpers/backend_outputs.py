"""Outputs of the networks, LongConv1D and the CCC for fixed weights and inputs, on the current backend of Keras.

python -m tests.helpers.backend_outputs OUT.npz
"""

import sys

import keras
import numpy as np

from affect.config import ModelConfig
from affect.learning.ccc import CCCLoss, ConcordanceCC, MSELoss
from affect.models.fixed_long_conv import FixedLongConv1D
from affect.models.inference import inference_network
from affect.models.long_conv import LongConv1D
from affect.models.masking import frame_masks
from affect.models.network import build_network
from affect.models.stepping import build_stepping_network, copy_weights, start_state, step

CONFIG = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(9, 24), audio_pool=2, audio_channel_pool=2, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="imagenet", lstm_units=(5, 6),
    dropout=0.0,  # the backends draw different masks
)  # fmt: skip


def _drawn(weight: keras.Variable, rng: np.random.Generator) -> np.ndarray:
    """Draws a weight of a size that saturates no layer, so that every layer shows in the network's output."""
    values = rng.normal(size=weight.shape)
    if weight.name in ("gamma", "moving_variance"):
        return 1.0 + 0.1 * values**2
    return values / np.sqrt(np.prod(weight.shape[:-1]))


def outputs() -> dict[str, np.ndarray]:
    """Returns named results, which should be equal on every backend."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(2, 700, 3)).astype(np.float32)
    layer = LongConv1D(4, 250, method="fft")
    layer.build(signal.shape)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    fixed = FixedLongConv1D(4, 250, short=300)
    fixed.build(signal.shape)
    fixed.set_filters(*layer.get_weights())

    network = build_network(CONFIG, "audiovisual")
    by_path = sorted(network.weights, key=lambda weight: weight.path)
    for weight in by_path:
        weight.assign(_drawn(weight, rng))
    frames = {
        "audio": rng.normal(size=(2, 6, 16)).astype(np.float32),
        "video": rng.integers(0, 256, size=(2, 6, 32, 32, 3)).astype(np.uint8),
    }
    stepping = build_stepping_network(CONFIG, "audiovisual")
    copy_weights(network, stepping)
    prepared = inference_network(network, CONFIG, "audiovisual")
    stepped, for_inference = (
        step(model, frames | {"present": np.ones((2, 6), bool)}, start_state(model, 2))[0]
        for model in (stepping, prepared)
    )

    present = rng.uniform(size=(2, 6)) < 0.7
    before_training = network(frames)
    # Training also updates the moments of batch norm.
    in_training = network(frames, training=True, mask=frame_masks(network, present))

    gold, predicted = rng.normal(size=(2, 2, 50, 2)).astype(np.float32)
    mask = rng.uniform(size=(2, 50)) < 0.8
    metric = ConcordanceCC(1)
    for example in range(2):
        metric.update_state(gold[example : example + 1], predicted[example : example + 1], mask[example : example + 1])
    results = {
        "long_conv": layer(signal),
        "fixed_long_conv": fixed(signal),
        "fixed_long_conv_of_a_short_signal": fixed(signal[:, :250]),
        "network": before_training,
        "network_in_training": in_training,
        "network_after_training": network(frames),
        "stepped": stepped,
        "for_inference": for_inference,
        "loss": CCCLoss()(gold, predicted, mask),
        "mse": MSELoss()(gold, predicted, mask),
        "metric": metric.result(),
    }
    return {name: keras.ops.convert_to_numpy(value) for name, value in results.items()}


if __name__ == "__main__":
    np.savez(sys.argv[1], backend=keras.backend.backend(), **outputs())
