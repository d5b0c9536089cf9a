r"""Trains the network of one modality, or of both, on shards made by make_tfrecords.

    runs/audio/                       what a run folder holds afterwards
      config.json environment.json    everything needed to rebuild it
      best.weights.h5                 weights of the epoch with the best mean dev CCC
      checkpoints/                    the same command again continues from here
      training.csv tensorboard/       loss and CCC, train and dev, per epoch

Example:
  python train.py --preset=demo --modality=audio --data_dir=data/demo/records --run_dir=runs/audio
"""

import os
from pathlib import Path

from absl import flags

from affect import cli
from affect.config import MODALITIES, PRESETS, get_preset, override

flags.DEFINE_enum("preset", "paper", list(PRESETS), "Where the settings start from.")
flags.DEFINE_enum("modality", "audiovisual", MODALITIES, "What the network hears and sees.")
flags.DEFINE_string("data_dir", None, "Folder of the shards and their manifest.", required=True)
flags.DEFINE_string("run_dir", None, "Folder of the run; one that holds the same run is continued.", required=True)
flags.DEFINE_multi_string("set", [], "Overrides one setting, as in --set=train.batch_size=4; repeatable.")
flags.DEFINE_string("init_audio", None, "Run folder of a trained audio network to start an audiovisual one from.")
flags.DEFINE_string("init_video", None, "Run folder of a trained video network to start an audiovisual one from.")


def main() -> None:
    """Flags to one call of `affect.learning.training.train`."""
    args = flags.FLAGS
    # The flag, not a setting: one data folder, known to later commands wherever they are started.
    assignments = [*args.set, f"data.data_dir={os.path.abspath(args.data_dir)}"]
    experiment = override(get_preset(args.preset, args.modality), assignments)
    initial = {"audio": args.init_audio, "video": args.init_video}

    from affect.learning.training import train  # TensorFlow, after the flags are known to be right

    score = train(experiment, Path(args.run_dir), {name: Path(path) for name, path in initial.items() if path})
    print(f"best mean dev CCC {score:.3f}; next: python eval.py --run_dir={args.run_dir}")


if __name__ == "__main__":
    cli.run(main)
