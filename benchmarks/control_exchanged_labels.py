r"""Control experiment: a network trained on exchanged labels must not score on test.

The labels of train and dev are exchanged between recordings, so that every recording gets the labels of another one.
An audiovisual network is trained on them, its post-processing is fitted on them, and it is scored against the true
gold standard of test. This is repeated with five random exchanges. The median of |CCC| must stay below 0.15 on both
dimensions; otherwise the scores come from something other than the sound and the pictures, and the exit code is 3.

Example:
  python benchmarks/control_exchanged_labels.py --data_dir=data/demo/records --work_dir=runs/control
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags
from msgspec.structs import replace

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS
from affect.data.manifest import MANIFEST_NAME, RecordingEntry, read_manifest
from affect.data.records import parse, serialize
from affect.errors import UserError

MAX_MEDIAN_CCC = 0.15


def exchange_labels(data_dir: Path, output_dir: Path, seed: int) -> None:
    """Copies a data folder, and exchanges the labels of train and dev between the recordings of each partition.

    Raises:
      UserError: the recordings differ in length, so that their labels cannot be exchanged frame by frame.
    """
    manifest = read_manifest(data_dir)
    if len({entry.frames for entry in manifest.recordings}) != 1:
        raise UserError(
            f"{data_dir}: the recordings differ in length; labels can only be exchanged between equal lengths"
        )
    rng = np.random.default_rng(seed)
    donors = {}
    for partition in PARTITIONS:
        entries = manifest.partition(partition)
        # A random cycle: no recording keeps its own labels.
        order = rng.permutation(len(entries))
        taken_from = dict(zip(order, np.roll(order, 1), strict=True))
        donors |= {
            entry.name: entry if partition == "test" else entries[taken_from[i]] for i, entry in enumerate(entries)
        }
    entries = tuple(_rewrite(data_dir, output_dir, entry, donors[entry.name]) for entry in manifest.recordings)
    changed = replace(manifest, recordings=entries)
    (output_dir / MANIFEST_NAME).write_text(changed.to_json(), encoding="utf-8")


def _rewrite(data_dir: Path, output_dir: Path, entry: RecordingEntry, donor: RecordingEntry) -> RecordingEntry:
    digests = []
    for shard, donor_shard in zip(entry.shards, donor.shards, strict=True):
        path = output_dir / shard
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            pairs = zip(*(tf.data.TFRecordDataset(str(data_dir / name)) for name in (shard, donor_shard)), strict=True)
            for own, other in pairs:
                fields = {name: value.numpy() for name, value in parse(own, 640).items()}
                labels = parse(other, 640)["labels"].numpy()
                writer.write(
                    serialize(entry.name, int(fields["start_frame"]), list(fields["jpeg"]), fields["square"],
                              fields["face_found"], fields["pcm"], labels)
                )  # fmt: skip
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return replace(entry, sha256=tuple(digests), features="", features_sha256="")


def control(data_dir: Path, work_dir: Path, seed: int, settings: list[str]) -> dict[str, float]:
    """Trains on one random exchange; returns the CCC on the true test labels, by dimension."""
    records, run = work_dir / f"records{seed}", work_dir / f"run{seed}"
    exchange_labels(data_dir, records, seed)
    for command in (
        ["train.py", "--preset=demo", f"--data_dir={records}", f"--run_dir={run}", f"--set=train.seed={seed}",
         *(f"--set={setting}" for setting in settings)],
        ["eval.py", f"--run_dir={run}", "--partitions=test"],
    ):  # fmt: skip
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    metrics = json.loads((run / "eval/test/metrics.json").read_text(encoding="utf-8"))
    return {name: metrics["postprocessed"][name]["ccc_pooled"] for name in DIMENSIONS}


def main() -> int:
    """Runs all exchanges; returns exit code 3 if the median |CCC| is too high."""
    args = flags.FLAGS
    work_dir = Path(args.work_dir)
    if work_dir.exists():
        raise UserError(f"{work_dir} already exists; choose another --work_dir, or delete it")
    settings = [f"train.epochs={args.epochs}", *args.set]
    scores = []
    for seed in range(args.exchanges):
        scores.append(control(Path(args.data_dir), work_dir, seed, settings))
        print(f"exchange {seed}: " + ", ".join(f"{name} {ccc:+.3f}" for name, ccc in scores[-1].items()))
    medians = {name: float(np.median([abs(score[name]) for score in scores])) for name in DIMENSIONS}
    print("median |CCC|: " + ", ".join(f"{name} {value:.3f}" for name, value in medians.items()))
    return 0 if max(medians.values()) < MAX_MEDIAN_CCC else cli.EXIT_SCORE_TOO_LOW


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Folder of the synthetic corpus's shards.", required=True)
    flags.DEFINE_string("work_dir", None, "New folder for the exchanged shards and the runs.", required=True)
    flags.DEFINE_integer("exchanges", 5, "Number of random exchanges.", lower_bound=1)
    flags.DEFINE_integer("epochs", 8, "Training epochs per exchange.", lower_bound=1)
    flags.DEFINE_multi_string("set", [], "Overrides one setting, as in train.py; repeatable.")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
