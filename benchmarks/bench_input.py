r"""Measures the frames per second of the input pipeline and of the training step, for every modality.

The pipeline is measured without a network, and the step without a pipeline, on the same batch repeatedly. The pipeline
must deliver at least five times as many frames as the step consumes, and at least 1500 augmented video frames per
second; otherwise the exit code is 3.

Example:
  python benchmarks/bench_input.py --data_dir=data/demo/records
"""

import time
from collections.abc import Iterator

from absl import flags

from affect import cli
from affect.config import MODALITIES, Experiment, override
from affect.presets import PRESETS, get_preset

MIN_RATIO, MIN_AUGMENTED_FPS = 5.0, 1500.0


def input_rate(batches: Iterator, seconds: float) -> float:
    """Returns the frames per second that the pipeline delivers, once its buffers are full."""
    for _ in range(3):
        next(batches)
    frames, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        frames += next(batches)[2].shape.num_elements()
    return frames / (time.perf_counter() - started)


def step_rate(experiment: Experiment, batch, steps: int) -> float:
    """Returns the frames per second of the fastest training step."""
    from affect.learning.loop import Totals, TrainingLoop, compile_network
    from affect.models.network import build_network

    network = build_network(experiment.model, experiment.modality)
    compile_network(network, experiment.train)
    loop, totals, times = TrainingLoop(network, seed=0), Totals.of([]), []
    for step in range(steps + 1):  # the first one traces
        started = time.perf_counter()
        _, _, totals = loop.train_step(batch, step, totals)
        times.append(time.perf_counter() - started)
    return batch[2].shape.num_elements() / min(times[1:])


def main() -> int:
    """Measures each modality; returns exit code 3 if a rate is too low."""
    from affect.data.dataset import labelled_recordings, open_data, training_dataset

    args = flags.FLAGS
    missed = False
    for modality in MODALITIES:
        settings = [*args.set, f"data.data_dir={args.data_dir}"]
        experiment = override(get_preset(args.preset, modality), settings)
        manifest = open_data(experiment)
        entries = labelled_recordings(manifest, "train", args.data_dir)
        plain, augmented = (
            iter(training_dataset(override(experiment, [f"augment.enabled={on}"]), manifest, entries, epoch=0))
            for on in ("false", "true")
        )
        own = augmented if experiment.augment.enabled else plain
        rate = input_rate(own, args.seconds)
        consumed = step_rate(experiment, next(own), args.steps)
        missed |= rate < MIN_RATIO * consumed
        print(f"{args.preset} {modality}: input {rate:.0f}, step {consumed:.0f} frames/s: {rate / consumed:.1f} times")
        if modality == "video":
            rate = input_rate(augmented, args.seconds)
            missed |= rate < MIN_AUGMENTED_FPS
            print(f"{args.preset} {modality}, augmented: input {rate:.0f} frames/s")
    return cli.EXIT_SCORE_TOO_LOW if missed else 0


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Folder of the shards to read.", required=True)
    flags.DEFINE_enum("preset", "demo", list(PRESETS), "Base preset; --set overrides single settings of it.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting, as in train.py; repeatable.")
    flags.DEFINE_float("seconds", 8.0, "Seconds for which the pipeline is measured.", lower_bound=0.1)
    flags.DEFINE_integer("steps", 5, "Number of training steps to measure.", lower_bound=1)


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
