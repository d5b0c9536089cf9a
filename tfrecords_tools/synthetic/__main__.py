r"""Writes a synthetic corpus as real files in the AVEC 2016 layout; see `tfrecords_tools.synthetic.corpus`.

Example:
  python -m tfrecords_tools.synthetic --output_dir=data/synthetic --recordings=32,6,18 --seconds=20
"""

from pathlib import Path

from absl import flags

from affect import cli
from affect.errors import UserError
from tfrecords_tools.synthetic.corpus import SyntheticConfig, write_corpus


def _main() -> None:
    args = flags.FLAGS
    try:
        train, dev, test = (int(count) for count in args.recordings)
    except ValueError as error:
        given = ",".join(args.recordings)
        raise UserError(f"--recordings takes three numbers, train,dev,test, got {given!r}") from error
    config = SyntheticConfig(train, dev, test, args.seconds, args.delay_secs, args.seed)
    write_corpus(config, Path(args.output_dir))
    print(f"wrote {len(config.names)} synthetic recordings of {config.seconds} s to {args.output_dir}")


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Empty or new folder to write the corpus to.", required=True)
    flags.DEFINE_list("recordings", ["32", "6", "18"], "Recordings per partition: train,dev,test.")
    flags.DEFINE_integer("seconds", 20, "Seconds per recording.")
    flags.DEFINE_float("delay_secs", 0.6, "Mean reaction delay of the raters in seconds.")
    flags.DEFINE_integer("seed", 0, "Seed of everything random.")
    cli.run(_main)
