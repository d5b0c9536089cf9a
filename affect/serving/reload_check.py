"""Checks in a separate process that an export loads and predicts with TensorFlow alone."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affect.config import ModelConfig
from affect.errors import UserError
from affect.serving.signatures import STREAM, WAVEFORM, WHOLE

if TYPE_CHECKING:
    import keras

_SCRIPT = Path(__file__).with_name("check_saved_model.py")
_BATCH, _FRAMES = 2, 3


def check_reload(
    folder: Path, network: "keras.Model", config: ModelConfig, modality: str, standardise: str = "recording"
) -> None:
    """Checks that the signatures of a SavedModel give the predictions of the network that it was written from.

    They run on a CPU, in a process that can import neither this package nor Keras.

    Args:
      folder: what `write_saved_model` wrote.
      network: the network, as given to `write_saved_model`.
      config: sizes and rates.
      modality: "audio", "video" or "audiovisual".
      standardise: as given to `write_saved_model`.

    Raises:
      UserError: the model cannot be loaded or run, or a prediction differs by more than 1e-5; the message says which.
    """
    example = _inputs(network, config, modality, standardise)
    example["signatures"] = np.array([WHOLE, STREAM] if modality == "video" else [WHOLE, WAVEFORM, STREAM])
    example["predictions"] = _predictions(network, {name: example[name] for name in network.input})
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "example.npz"
        np.savez(path, **example)
        command = [sys.executable, "-P", str(_SCRIPT), str(folder.absolute()), str(path)]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = done.stderr.strip().splitlines() if done.returncode == 1 else []
        reason = lines[-1] if lines else f"the process ended with status {done.returncode}"
        raise UserError(f"the SavedModel failed its check in a separate process, so nothing was exported ({reason})")


def _inputs(network: "keras.Model", config: ModelConfig, modality: str, standardise: str) -> dict[str, np.ndarray]:
    """Returns random inputs of all signatures, all of the same recordings."""
    rng = np.random.default_rng(0)
    inputs = {}
    if "video" in network.input:
        shape = (_BATCH, _FRAMES, config.crop_size, config.crop_size, 3)
        inputs["video"] = rng.integers(0, 256, size=shape, dtype=np.uint8)
    if "audio" in network.input:
        # The mean is above zero, and the rows differ in level.
        waveform = rng.normal(0.1, [[0.05], [0.2]], size=(_BATCH, _FRAMES * config.frame_samples)).astype(np.float32)
        mean, deviation = (getattr(waveform, name)(axis=1, keepdims=True, dtype=np.float64) for name in ("mean", "std"))
        signal = (waveform - mean) / deviation if standardise == "recording" else waveform
        inputs["waveform"] = waveform
        inputs["audio"] = signal.astype(np.float32).reshape(_BATCH, _FRAMES, config.frame_samples)
    return inputs


def _predictions(network: "keras.Model", inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the network's predictions in full float32; some GPUs round the factors of products to TF32."""
    import tensorflow as tf

    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        return np.asarray(network(inputs, training=False))
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(allowed)
