"""A process with `train.deterministic`, started by tests/learning/test_determinism.py: two trainings and a sum.

A process of its own, because TensorFlow's threads are set before its first operation.

    python -m tests.helpers.deterministic_process DATA_DIR OUTPUT_DIR

writes the runs OUTPUT_DIR/alone and OUTPUT_DIR/busy, the second beside busy processes. The last line that it prints is
the number of different results of one sum.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from affect.learning import train_command
from tests.helpers.in_process import call_main


@contextmanager
def busy_machine() -> Iterator[None]:
    """One process per core that does nothing but compute; they also end with this process."""
    code = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train(data_dir: Path, run_dir: Path) -> None:
    """Makes seven updates, with enough memory per step for Grappler's rewriting (see `affect.learning.determinism`)."""
    call_main(
        train_command, "--preset=demo", "--modality=video", f"--data_dir={data_dir}", f"--run_dir={run_dir}",
        "--set=train.deterministic=true", "--set=train.epochs=1", "--set=train.batch_size=2",
        "--set=data.window_frames=25", "--set=data.eval_window_frames=25", "--set=model.video_stem_stride=1",
        "--set=model.lstm_units=4", "--picture_epochs=0",
    )  # fmt: skip


def different_sums(tries: int = 100) -> int:
    """Computes a sum of three terms often, while other operations use two of them; returns how many results differ."""
    values = [tf.random.stateless_normal([1_000_000], (0, seed)) for seed in range(3)]

    @tf.function(autograph=False)
    def compute():
        a, b, c = map(tf.sin, values)
        others = tf.reduce_sum(tf.cos(a)) + tf.reduce_sum(tf.cos(b))
        return tf.add_n([a, b, c]), others

    return len({compute()[0].numpy().tobytes() for _ in range(tries)})


if __name__ == "__main__":
    data, output = map(Path, sys.argv[1:])
    train(data, output / "alone")
    with busy_machine():
        train(data, output / "busy")
    print(different_sums())
