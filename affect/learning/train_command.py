r"""Trains the network of one modality, or of both, on shards made by make_tfrecords.

    runs/audio/                       what a run folder holds afterwards
      config.json environment.json    everything needed to rebuild the network
      best.weights.h5                 weights of the epoch with the best mean dev CCC
      checkpoints/                    the same command, given again, continues from here
      training.csv tensorboard/       loss and CCC, train and dev, per epoch

Example:
  python train.py --preset=demo --modality=audio --data_dir=data/demo/records --run_dir=runs/audio
  python train.py --preset=paper --pretrain --data_dir=data/recola --run_dir=runs/paper
"""

from absl import flags

from affect import cli
from affect.config import MODALITIES
from affect.errors import UserError
from affect.learning.multi_run import TrainingPlan, train_plan
from affect.learning.options import STRATEGIES, RunOptions, TensorBoardOptions
from affect.presets import PRESETS
from affect.storage import absolute, local_folder


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_enum("preset", "paper", list(PRESETS), "Base preset; --set overrides single settings of it.")
    flags.DEFINE_enum("modality", "audiovisual", MODALITIES, "Inputs of the network.")
    flags.DEFINE_string("data_dir", None, "Folder of the shards; may be s3://, http:// or gs://.", required=True)
    flags.DEFINE_string("run_dir", None, "Run folder; if it holds the same run, that is continued.", required=True)
    flags.DEFINE_multi_string("set", [], "Overrides one setting, as in --set=train.batch_size=4.")
    for modality in ("audio", "video"):
        about = f"Run folder of a trained {modality} network; the audiovisual network starts from its {modality} net."
        flags.DEFINE_string(f"init_{modality}", None, about)
    flags.DEFINE_bool(
        "pretrain", False,
        "Train audio, then video, then both from their nets, in subfolders of run_dir; the paper's schedule.",
    )  # fmt: skip
    flags.DEFINE_integer(
        "seeds", 1,
        "Repeat the training with this many seeds, in subfolders of run_dir, and report mean and standard deviation.",
        lower_bound=1,
    )  # fmt: skip
    flags.DEFINE_bool(
        "allow_faceless", False,
        "Train a network that sees even on recordings with a face in under 20 % of their frames.",
    )  # fmt: skip
    flags.DEFINE_bool("fresh", False, "Refuse a run_dir that is not empty instead of continuing the run in it.")
    flags.DEFINE_integer(
        "checkpoint_steps", 200, "Updates between checkpoints within an epoch; 0 saves after epochs only.",
        lower_bound=0,
    )  # fmt: skip
    flags.DEFINE_enum(
        "strategy", "auto", STRATEGIES,
        "Devices to train on. one_device: the first GPU, or the CPU; mirrored: all GPUs of this machine; multi_worker: "
        "one process per machine, described by TF_CONFIG or Slurm; tpu: a TPU; auto: whichever of these is found.",
    )  # fmt: skip
    flags.DEFINE_string("tpu", None, "Name or address of a TPU; 'local' on a TPU VM.")
    flags.DEFINE_integer("picture_epochs", 1, "Epochs between pictures in TensorBoard; 0 draws none.", lower_bound=0)
    flags.DEFINE_integer(
        "histogram_epochs", 0, "Epochs between weight histograms in TensorBoard; 0 draws none.", lower_bound=0
    )
    flags.DEFINE_list("profile", [], "First and last update to profile for TensorBoard, as in --profile=10,12.")


def main() -> None:
    """Passes the flags to `affect.learning.multi_run.train_plan`."""
    args = flags.FLAGS
    given = {"audio": args.init_audio, "video": args.init_video}
    plan = TrainingPlan(
        preset=args.preset,
        modality=args.modality,
        # An absolute path in the config, so that later commands find the data from any working directory.
        settings=[*args.set, f"data.data_dir={absolute(args.data_dir)}"],
        run_dir=local_folder(args.run_dir, "run_dir"),
        initial_runs={modality: local_folder(path, f"init_{modality}") for modality, path in given.items() if path},
        pretrain=args.pretrain,
        seeds=args.seeds,
    )
    tensorboard = TensorBoardOptions(args.picture_epochs, args.histogram_epochs, _profile_steps(args.profile))
    options = RunOptions(args.checkpoint_steps, args.fresh, tensorboard, args.allow_faceless)
    train_plan(plan, options, args.strategy, args.tpu)


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


def _profile_steps(texts: list[str]) -> tuple[int, int] | None:
    if not texts:
        return None
    try:
        first, last = (int(text) for text in texts)
    except ValueError:
        first, last = 1, 0
    if not 1 <= first <= last:
        raise UserError(f"--profile={','.join(texts)}: expected the first and the last update, as in --profile=10,12")
    return first, last


if __name__ == "__main__":
    command()
