r"""Times the `paper` networks on an accelerator, with Keras on JAX: forward, training step, long filters.

Each row is the median of ten calls after two for compilation. A call includes the transfer of the batch from the host
to the device. Batch sizes are the paper's: 25 windows of 150 frames for audio, 2 with video; the second row of each
network has a larger batch. Weights are random, inputs are noise.

With --compare_to=FILE.npz, made by `python -m tests.helpers.backend_outputs FILE.npz` on another backend or machine, it
first compares the outputs of small networks, the loss and the metric with that file.

Example:
  KERAS_BACKEND=jax python -m benchmarks.bench_accelerator --json=accelerator.json
"""

import json
import time
from pathlib import Path

from absl import flags

from affect import cli

WINDOW_FRAMES = 150
CALLS, WARM_UP = 10, 2
BATCHES = {"audio": (25, 100), "video": (2, 16), "audiovisual": (2, 16)}


def compare(path: Path) -> dict[str, float]:
    """Returns the largest relative difference of each output from those in the file, by name."""
    import numpy as np

    from tests.helpers.backend_outputs import outputs

    with np.load(path, allow_pickle=False) as file:
        return {
            name: float(np.max(np.abs(value - file[name])) / np.max(np.abs(file[name])))
            for name, value in outputs().items()
        }


def median_secs(call) -> float:
    """Returns the median duration of a call that waits for its result."""
    times = []
    for _ in range(CALLS + WARM_UP):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return sorted(times[WARM_UP:])[CALLS // 2]


def measure(modality: str, batch: int, policy: str, method: str = "auto") -> dict[str, float]:
    """Returns frames per second of forward and training step, and the loss after the last step."""
    import keras
    import numpy as np

    from affect.learning.ccc import CCCLoss
    from affect.models.network import build_network
    from affect.presets import get_preset

    keras.utils.clear_session(free_memory=True)
    keras.config.set_dtype_policy(policy)
    config = get_preset("paper", modality).model
    network = build_network(config, modality)
    if modality != "video":
        network.get_layer("audio_net").get_layer("conv2").method = method
    for index in range(1, len(config.lstm_units) + 1):
        # JAX calls cuDNN's LSTM in float32 only.
        network.get_layer(f"lstm{index}").use_cudnn = "auto" if policy == "float32" else False
    rng = np.random.default_rng(0)
    inputs = {
        "audio": rng.normal(size=(batch, WINDOW_FRAMES, config.frame_samples)).astype(np.float32),
        "video": rng.integers(0, 256, (batch, WINDOW_FRAMES, config.crop_size, config.crop_size, 3), dtype=np.uint8),
    }
    inputs = {name: inputs[name] for name in network.input}
    gold = rng.uniform(-1, 1, (batch, WINDOW_FRAMES, 2)).astype(np.float32)
    network.compile(keras.optimizers.Adam(1e-4), CCCLoss(), jit_compile=True)
    frames = batch * WINDOW_FRAMES
    forward = median_secs(lambda: network.predict_on_batch(inputs))
    step = median_secs(lambda: network.train_on_batch(inputs, gold))
    loss = float(network.evaluate(inputs, gold, batch_size=batch, verbose=0))
    return {"forward_fps": frames / forward, "step_fps": frames / step, "step_ms": 1000 * step, "loss": loss}


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("json", None, "File to write the results to.")
    flags.DEFINE_string("compare_to", None, "File .npz with the outputs of another backend or machine.")


def main() -> None:
    """Prints one row per network, batch and precision."""
    import jax

    device = jax.devices()[0]
    print(f"JAX {jax.__version__} on {device.device_kind}")
    results = {"device": device.device_kind, "jax": jax.__version__, "rows": []}
    if flags.FLAGS.compare_to:
        # Without this, a GPU rounds the factors of float32 products to TF32 (ten bits).
        with jax.default_matmul_precision("highest"):
            results["differences"] = compare(Path(flags.FLAGS.compare_to))
        for name, difference in results["differences"].items():
            print(f"{name:24} differs by {difference:.1e}")
    print(
        f"{'network':12} {'batch':>5} {'precision':15} {'filters':8} {'forward fps':>12} {'step fps':>9} {'step ms':>8}"
    )
    cases = [
        (modality, batch, policy, "auto")
        for modality, batches in BATCHES.items()
        for batch in batches
        for policy in ("float32", "mixed_bfloat16")
    ]
    for case in [*cases, ("audio", 25, "float32", "direct")]:
        modality, batch, policy, method = case
        row = measure(modality, batch, policy, method)
        print(
            f"{modality:12} {batch:5} {policy:15} {method:8} {row['forward_fps']:12.0f} {row['step_fps']:9.0f} "
            f"{row['step_ms']:8.1f}"
        )
        results["rows"].append({"modality": modality, "batch": batch, "policy": policy, "method": method} | row)
        if flags.FLAGS.json:
            Path(flags.FLAGS.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    cli.run(main, define_flags)
