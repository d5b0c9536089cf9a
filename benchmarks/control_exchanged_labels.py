r"""Control: a network trained on other people's labels must not score on test.

The labels of train and dev are exchanged between recordings (everybody gets somebody else's), an audiovisual network
is trained on that, its post-processing is fitted on that, and it is scored against the true gold standard of test.
Five exchanges; the median of |CCC| must stay under 0.15 on both dimensions. If it does not, the score comes from
something else than the sound and the pictures.

Example:
  python benchmarks/control_exchanged_labels.py --data_dir=data/demo/records --work_dir=runs/control
"""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from affect import cli
from affect.config import DIMENSIONS, PARTITIONS
from affect.data.manifest import MANIFEST_NAME, RecordingEntry, read_manifest
from affect.data.records import parse, serialize
from affect.errors import UserError

THRESHOLD = 0.15


def exchange_labels(data_dir: Path, output_dir: Path, seed: int) -> None:
    """Copies a data folder, the labels of train and dev handed around among recordings of one partition.

    Raises:
      UserError: recordings of different lengths, whose labels cannot be exchanged frame for frame.
    """
    manifest = read_manifest(data_dir)
    if len({entry.frames for entry in manifest.recordings}) != 1:
        raise UserError(f"{data_dir}: labels can be exchanged only between recordings of one length")
    rng = np.random.default_rng(seed)
    donors = {}
    for partition in PARTITIONS:
        entries = manifest.partition(partition)
        # A random cycle: nobody keeps their own.
        order = rng.permutation(len(entries))
        taken_from = dict(zip(order, np.roll(order, 1), strict=True))
        donors |= {
            entry.name: entry if partition == "test" else entries[taken_from[i]] for i, entry in enumerate(entries)
        }
    entries = tuple(_rewrite(data_dir, output_dir, entry, donors[entry.name]) for entry in manifest.recordings)
    changed = dataclasses.replace(manifest, recordings=entries)
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
    return dataclasses.replace(entry, sha256=tuple(digests), features="", features_sha256="")


def control(data_dir: Path, work_dir: Path, seed: int, epochs: int) -> dict[str, float]:
    """CCC of one exchange on the true test labels, by dimension."""
    records, run = work_dir / f"records{seed}", work_dir / f"run{seed}"
    exchange_labels(data_dir, records, seed)
    for command in (
        ["train.py", "--preset=demo", f"--data_dir={records}", f"--run_dir={run}", f"--set=train.epochs={epochs}",
         f"--set=train.seed={seed}"],
        ["eval.py", f"--run_dir={run}", "--partitions=test"],
    ):  # fmt: skip
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    metrics = json.loads((run / "eval/test/metrics.json").read_text(encoding="utf-8"))
    return {name: metrics["postprocessed"][name]["ccc_pooled"] for name in DIMENSIONS}


def _main() -> int:
    args = flags.FLAGS
    work_dir = Path(args.work_dir)
    if work_dir.exists():
        raise UserError(f"{work_dir} exists; choose another --work_dir or delete it")
    scores = []
    for seed in range(args.exchanges):
        scores.append(control(Path(args.data_dir), work_dir, seed, args.epochs))
        print(f"exchange {seed}: " + ", ".join(f"{name} {ccc:+.3f}" for name, ccc in scores[-1].items()))
    medians = {name: float(np.median([abs(score[name]) for score in scores])) for name in DIMENSIONS}
    print("median |CCC|: " + ", ".join(f"{name} {value:.3f}" for name, value in medians.items()))
    return 0 if max(medians.values()) < THRESHOLD else cli.EXIT_SCORE_TOO_LOW


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Shards of the synthetic corpus.", required=True)
    flags.DEFINE_string("work_dir", None, "New folder for shards and runs.", required=True)
    flags.DEFINE_integer("exchanges", 5, "How many random exchanges.", lower_bound=1)
    flags.DEFINE_integer("epochs", 8, "Training epochs of each.", lower_bound=1)
    cli.run(_main)
