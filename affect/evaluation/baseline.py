r"""Trains and scores handcrafted systems on the same shards as the networks: the baseline of AVEC 2016.

Standardised features of every frame go into LIBLINEAR's support vector regression, whose delay and complexity are
chosen on dev; linear regression fuses the systems of single feature sets. A trivial system, linear regression on
loudness and brightness, is scored beside them. The protocols:

    avec     21 delays, 16 complexities, every crop; hours on a corpus of the size of RECOLA
    quick    4 delays, 4 complexities, every fifth crop; minutes, and not what AVEC did

    runs/baseline/
      baseline.json                            protocol, versions, and each system's delay, complexity, fusion weights
      features/                                handcrafted features, if the shards carry none; reused by the next run
      audio/eval/{dev,test}/metrics.json       as in a run folder, with scores after AVEC's own chain added
      {appearance,geometric,video,audiovisual,trivial}/...

Example:
  python -m affect.evaluation.baseline --data_dir=data/records --output_dir=runs/baseline --protocol=avec
"""

import os

from absl import flags

from affect import cli
from affect.storage import local_folder

PROTOCOLS = ("avec", "quick")


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string(
        "data_dir", None, "Folder of the shards and their manifest; may be s3://, http:// or gs://.", required=True
    )
    flags.DEFINE_string("output_dir", None, "Local folder to write.", required=True)
    flags.DEFINE_enum("protocol", "avec", PROTOCOLS, "AVEC 2016's steps, or a small grid for a demo.")
    flags.DEFINE_integer(
        "processes", 0,
        "Complexities to try at the same time; 0: one per core for avec, 1 for quick. Each process needs up to "
        "1 GB on a corpus of the size of RECOLA.",
        lower_bound=0,
    )  # fmt: skip


def main() -> None:
    """Passes the flags to `make_baseline`, and prints the scores."""
    args = flags.FLAGS
    output_dir = local_folder(args.output_dir, "output_dir")

    # These import TensorFlow, which takes seconds: a wrong flag is reported before that.
    from affect.evaluation.avec2016.files import as_text
    from affect.evaluation.avec2016.make_baseline import make_baseline

    cpus = len(os.sched_getaffinity(0)) if args.protocol == "avec" else 1
    baseline, scores = make_baseline(args.data_dir, output_dir, args.protocol, args.processes or cpus)
    print(as_text(baseline, scores))


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
