r"""Writes a synthetic corpus as real files in the AVEC 2016 layout.

    OUTPUT_DIR/
      synthetic.json                                    its settings; marks the corpus as synthetic
      recordings_audio/train_1.wav                      speech-like sound that follows arousal
      recordings_video/train_1.mp4                      a warped photograph of a face that follows valence
      recordings_video_frame_time/train_1.csv           time of each picture
      ratings_individual/{arousal,valence}/train_1.csv  six simulated raters
      ratings_gold_standard/{arousal,valence}/train_1.arff

Example:
  python -m tfrecords_tools.synthetic --output_dir=data/synthetic --recordings=32,6,18 --seconds=20
"""

from absl import flags

from affect import cli
from affect.errors import UserError
from affect.storage import local_folder


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("output_dir", None, "Folder to write the corpus to; must be new or empty.", required=True)
    flags.DEFINE_list("recordings", ["32", "6", "18"], "Number of recordings per partition: train,dev,test.")
    flags.DEFINE_integer("seconds", 20, "Length of each recording in seconds.")
    flags.DEFINE_float("delay_secs", 0.6, "Mean reaction delay of the raters in seconds.")
    flags.DEFINE_integer("seed", 0, "Seed of all random numbers.")


def main() -> None:
    """Writes the corpus."""
    # The generator imports scipy, scikit-image and OpenCV; `--help` needs none of them.
    from tfrecords_tools.synthetic.corpus import SyntheticConfig, write_corpus

    args = flags.FLAGS
    try:
        train, dev, test = (int(count) for count in args.recordings)
    except ValueError as error:
        given = ",".join(args.recordings)
        raise UserError(f"--recordings takes three whole numbers, train,dev,test, got {given!r}") from error
    config = SyntheticConfig(train, dev, test, args.seconds, args.delay_secs, args.seed)
    write_corpus(config, local_folder(args.output_dir, "output_dir"))
    print(f"wrote {len(config.names)} synthetic recordings of {config.seconds} s to {args.output_dir}")


def command() -> None:
    """Entry point of the console command."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
