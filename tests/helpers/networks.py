"""A tiny compiled audio network and batches for it."""

import keras
import msgspec
import numpy as np
import tensorflow as tf

from affect.config import ModelConfig, TrainConfig
from affect.learning.loop import Totals, TrainingLoop, compile_network
from affect.models.network import build_network

CONFIG = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(5, 4), audio_channel_pool=2, audio_framed=True,
    lstm_units=(5,), dropout=0.0,
)  # fmt: skip


def batches(count=5):
    """Random batches of three windows of eight frames; a fifth of the frames is masked."""
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(count, 3, 8, 16)).astype(np.float32)
    labels = rng.uniform(-1, 1, size=(count, 3, 8, 2)).astype(np.float32)
    mask = rng.random((count, 3, 8)) < 0.8
    return tf.data.Dataset.from_tensor_slices(({"audio": audio}, labels, mask))


def network(dropout=0.0, objective="ccc"):
    """The network of `CONFIG`, compiled, always with the same initial weights."""
    keras.utils.set_random_seed(1)
    model = build_network(msgspec.structs.replace(CONFIG, dropout=dropout), "audio")
    compile_network(model, TrainConfig(learning_rate=1e-2, objective=objective))
    return model


def run_loop(model, data, seed=0, first_step=0):
    """Trains on every batch once; returns the logs of the epoch."""
    loop, totals = TrainingLoop(model, seed), Totals.of([])
    for step, batch in enumerate(data, first_step):
        _, _, totals = loop.train_step(batch, step, totals)
    return totals.logs()
