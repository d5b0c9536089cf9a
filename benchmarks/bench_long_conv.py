r"""Compares LongConv1D with direct convolution, at the paper's sizes and over filter lengths.

The first part times conv 2 alone and the paper's whole audio network, with batch 1 and 150 frames, by both methods.
Direct convolution is timed with oneDNN, which this package switches on for x86 processors, and without. The second
part times one layer from 20 to 40 channels over one second at 8 kHz, to find the filter length from which the FFT is
faster, and shows the method that `prefers_fft` chooses. Every measurement runs in its own process. A process that
takes longer than `--limit_s` is stopped and printed as "more than".

Example:
  python benchmarks/bench_long_conv.py
"""

import os
import signal
import subprocess
import sys
import time

from absl import flags

from affect import cli

CROSSOVER_TAPS = (8, 16, 32, 64, 128, 256, 512)
CHANNELS, FILTERS, STEPS = 20, 40, 8000
PAPER_TAPS = 4000


def measured(what: str, method: str, taps: int, onednn: bool, limit_s: float) -> float | str:
    """Returns the seconds of the fastest of three runs in a fresh process, or the reason why it failed."""
    command = [sys.executable, __file__, f"--measure={what}", f"--method={method}", f"--taps={taps}"]
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn))}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"more than {limit_s:.0f} s"
    if done.returncode == -signal.SIGKILL:
        return "killed, out of memory"
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def time_here(what: str, method: str, taps: int) -> float:
    """Returns the seconds of the fastest of three runs in this process."""
    import keras
    import numpy as np
    import tensorflow as tf

    from affect.learning.ccc import CCCLoss
    from affect.models.long_conv import LongConv1D
    from affect.models.network import build_network
    from affect.presets import get_preset

    rng = np.random.default_rng(0)
    if what == "layer":
        layer = LongConv1D(FILTERS, taps, method=method)
        steps = 6 * STEPS if taps == PAPER_TAPS else STEPS
        signal = tf.constant(rng.normal(size=(1, steps, CHANNELS)), tf.float32)
        run = tf.function(lambda: layer(signal))
    else:
        network = build_network(get_preset("paper", "audio").model, "audio")
        for name in ("conv1", "conv2"):
            layer = network.get_layer("audio_net").get_layer(name)
            layer.method = method if name == "conv2" else "direct"
        audio = {"audio": tf.constant(rng.normal(size=(1, 150, 640)), tf.float32)}
        gold = tf.constant(rng.uniform(-1, 1, size=(1, 150, 2)), tf.float32)
        optimizer = keras.optimizers.Adam(1e-4)
        optimizer.build(network.trainable_variables)

        def training_step():
            with tf.GradientTape() as tape:
                loss = CCCLoss()(gold, network(audio, training=True))
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
            return loss

        run = tf.function(training_step if what == "training" else lambda: network(audio))
    run()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def _shown(result: float | str) -> str:
    return result if isinstance(result, str) else f"{result:.4f} s"


def main() -> None:
    """Runs all measurements, or with --measure a single one in this process."""
    from affect.models.long_conv import prefers_fft

    args = flags.FLAGS
    if args.measure:
        print(time_here(args.measure, args.method, args.taps))
        return
    print("the paper's audio, batch 1, 150 frames")
    failed = {}
    for what, name in (("layer", "conv 2"), ("forward", "network"), ("training", "training step")):
        fft = measured(what, "fft", PAPER_TAPS, onednn=True, limit_s=args.limit_s)
        print(f"  {name:<14} FFT {_shown(fft)}")
        for onednn in (False, True):
            label = f"  {'':<14} direct {'with' if onednn else 'without'} oneDNN:"
            if onednn in failed:  # the whole network contains the part that failed
                print(f"{label} skipped, {failed[onednn]}")
                continue
            slow = measured(what, "direct", PAPER_TAPS, onednn, args.limit_s)
            if isinstance(slow, str):
                failed[onednn] = f"{name}: {slow}"
            ratio = "" if isinstance(slow, str) else f", {slow / fft:.0f} times"
            print(f"{label} {_shown(slow)}{ratio}")
    print(f"one layer, forward, {STEPS} steps, {CHANNELS} channels, {FILTERS} filters")
    for taps in CROSSOVER_TAPS:
        fft, without, with_onednn = (
            measured("layer", method, taps, onednn, args.limit_s)
            for method, onednn in (("fft", True), ("direct", False), ("direct", True))
        )
        choice = "fft" if prefers_fft(taps, CHANNELS, FILTERS) else "direct"
        print(
            f"  {taps:>4} taps: FFT {_shown(fft)}, direct {_shown(without)}, with oneDNN {_shown(with_onednn)};"
            f" auto chooses {choice}"
        )


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_float("limit_s", 240, "Seconds after which a measurement is stopped.", lower_bound=1)
    flags.DEFINE_enum("measure", None, ["forward", "training", "layer"], "Run only this measurement, in this process.")
    flags.DEFINE_enum("method", "fft", ["fft", "direct"], "With --measure: method of convolution.")
    flags.DEFINE_integer(
        "taps", 64, "With --measure=layer: filter length; 4000 is timed over the paper's six seconds, others over one."
    )


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
