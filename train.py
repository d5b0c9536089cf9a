r"""Trains the network of one modality, or of both, on shards made by make_tfrecords.

    runs/audio/                       what a run folder holds afterwards
      config.json environment.json    everything needed to rebuild it
      best.weights.h5                 weights of the epoch with the best mean dev CCC
      checkpoints/                    the same command again continues from here
      training.csv tensorboard/       loss and CCC, train and dev, per epoch

Example:
  python train.py --preset=demo --modality=audio --data_dir=data/demo/records --run_dir=runs/audio
  python train.py --preset=paper --pretrain --data_dir=data/recola --run_dir=runs/paper
"""

from pathlib import Path

from absl import flags

from affect import cli
from affect.config import MODALITIES, Experiment, override
from affect.errors import UserError
from affect.presets import PRESETS, get_preset
from affect.storage import absolute, local_folder

flags.DEFINE_enum("preset", "paper", list(PRESETS), "Where the settings start from.")
flags.DEFINE_enum("modality", "audiovisual", MODALITIES, "What the network hears and sees.")
flags.DEFINE_string("data_dir", None, "Folder of the shards; s3://, http:// and gs:// too.", required=True)
flags.DEFINE_string("run_dir", None, "Folder of the run; one that holds the same run is continued.", required=True)
flags.DEFINE_multi_string("set", [], "Overrides one setting, as in --set=train.batch_size=4; repeatable.")
flags.DEFINE_string("init_audio", None, "Run folder of a trained audio network to start an audiovisual one from.")
flags.DEFINE_string("init_video", None, "Run folder of a trained video network to start an audiovisual one from.")
flags.DEFINE_bool("pretrain", False, "Trains audio, video and then both, in sub-folders of run_dir, as the paper does.")
flags.DEFINE_integer(
    "seeds", 1, "Repeats with so many seeds, in sub-folders of run_dir; mean and deviation at the end.", 1
)
flags.DEFINE_bool("fresh", False, "Refuse a run_dir that is not empty, rather than continue what it holds.")
flags.DEFINE_integer("checkpoint_steps", 200, "Updates between checkpoints in an epoch; 0: after epochs only.", 0)
flags.DEFINE_enum(
    "strategy", "auto", ["auto", "one_device", "mirrored", "multi_worker", "tpu"],
    "Devices: the first GPU or the CPU; all GPUs of this machine; one process per machine (TF_CONFIG or Slurm); a TPU. "
    "auto takes what it finds.",
)  # fmt: skip
flags.DEFINE_string("tpu", None, "Name or address of a TPU; local on a TPU VM.")
flags.DEFINE_integer("picture_epochs", 1, "Epochs between pictures in TensorBoard; 0: none.", 0)
flags.DEFINE_integer("histogram_epochs", 0, "Epochs between weight histograms in TensorBoard; 0: none.", 0)
flags.DEFINE_list("profile", [], "First and last update to profile for TensorBoard, as in --profile=10,12.")


def main() -> None:
    """Flags to one call of `affect.learning`."""
    args = flags.FLAGS
    run_dir = local_folder(args.run_dir, "run_dir")
    # The flag, not a setting: one data folder, known to later commands wherever they are started.
    assignments = [*args.set, f"data.data_dir={absolute(args.data_dir)}"]
    initial = {"audio": args.init_audio, "video": args.init_video}
    initial = {modality: Path(path) for modality, path in initial.items() if path}
    if args.pretrain and (args.modality != "audiovisual" or initial):
        raise UserError("--pretrain trains audio and video itself, for --modality=audiovisual, without --init_*")
    modalities = MODALITIES if args.pretrain else [args.modality]
    first_seed = override(get_preset(args.preset, args.modality), assignments).train.seed

    def experiments(seed: int) -> dict[str, Experiment]:
        settings = [*assignments, f"train.seed={seed}"]
        return {modality: override(get_preset(args.preset, modality), settings) for modality in modalities}

    experiments(first_seed)  # wrong settings show before TensorFlow is imported
    from affect.learning.multi_run import pretrain, repeat
    from affect.learning.strategy import WorkerContext, make_strategy
    from affect.learning.tensorboard import ViewOptions
    from affect.learning.training import RunOptions, train

    strategy = make_strategy(args.strategy, args.tpu)
    views = ViewOptions(args.picture_epochs, args.histogram_epochs, _profile_steps(args.profile))
    options = RunOptions(args.checkpoint_steps, args.fresh, views)

    def train_one(seed: int, run_dir: Path) -> float:
        if args.pretrain:
            return pretrain(experiments(seed), run_dir, strategy, options)
        return train(experiments(seed)[args.modality], run_dir, initial, strategy, options)

    if args.seeds > 1:
        seeds = list(range(first_seed, first_seed + args.seeds))
        repeat(train_one, seeds, run_dir, writes=WorkerContext.of(strategy).is_chief)
        return
    score = train_one(first_seed, run_dir)
    final = run_dir / "audiovisual" if args.pretrain else run_dir
    print(f"best mean dev CCC {score:.3f}; next: python eval.py --run_dir={final}")


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
    cli.run(main)
