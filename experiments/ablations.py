r"""Trains a network again with one setting changed, as in the paper's ablations, and compares the scores.

    sequence_length    data.window_frames     150 (the paper's 6 s), 70, 300 frames of a training window
    objective          train.objective        ccc, mse (mean squared error)
    initial_weights    train.video_weights    the given weights of the ResNet-50, none (random)

All runs have the same number of windows per update, as in the paper: with longer windows an epoch has fewer updates,
and the table says how many there were. All runs are evaluated alike: best weights by dev CCC, eval.py's default context
and post-processing.

    runs/ablations/
      base/seed0/                  run folder with the settings of the preset and of --set
      window_frames_70/seed0/      run folder with this one setting changed, and so on
      ablations.json               CCC with 95 % intervals, and differences to the first variant of each ablation
      ablations.md                 the same as tables, which are also printed

Repeating the command continues an interrupted training and skips what is finished.

Example:
  python -m experiments.ablations --preset=demo --data_dir=data/demo/records --output_dir=runs/ablations
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from absl import flags

from affect import cli
from affect.config import MODALITIES, Experiment, override
from affect.data.manifest import Manifest
from affect.errors import UserError
from affect.evaluation.chain import read_fitted_chains
from affect.evaluation.options import EvaluationOptions
from affect.evaluation.scores import scores_that_belong_together
from affect.learning.multi_run import TrainingPlan, train_plan
from affect.learning.options import RunOptions, TensorBoardOptions
from affect.presets import PRESETS, get_preset
from affect.runs import RunFolder
from affect.storage import absolute, local_folder, write_bytes, write_json
from experiments.ablation_table import AblationTable, Results, Trained, compare

# The setting of each ablation and its values. The first one is the paper's; the others are compared with it.
SETTINGS = {
    "sequence_length": ("data.window_frames", ("150", "70", "300")),
    "objective": ("train.objective", ("ccc", "mse")),
    "initial_weights": ("train.video_weights", ("none",)),  # preceded by the given weights
}
PARTITIONS = ("dev", "test")


class Variant(NamedTuple):
    """One value of a setting.

    Attributes:
      value: the value, as in `--set`.
      assignment: `section.field=value`.
      folder: name of the folder of its runs; variants with equal settings share it.
    """

    value: str
    assignment: str
    folder: str


@dataclass(frozen=True)
class AblationPlan:
    """What to train and where.

    Attributes:
      preset: name of the base preset.
      modality: "audio", "video" or "audiovisual", which is trained without training unimodal networks first.
      settings: assignments `section.field=value` that apply to all runs, the data folder among them.
      output_dir: parent of the run folders.
      names: the ablations, in the order of the table.
      seeds: number of runs of each variant, with consecutive seeds from `train.seed` on.
      allow_faceless: see `RunOptions`.
    """

    preset: str
    modality: str
    settings: list[str]
    output_dir: Path
    names: tuple[str, ...]
    seeds: int = 1
    allow_faceless: bool = False

    def experiment(self, *more: str) -> Experiment:
        """Returns the base experiment, with `more` settings on top of it."""
        return override(get_preset(self.preset, self.modality), [*self.settings, *more])

    def variants(self) -> dict[str, list[Variant]]:
        """Returns the variants of each possible ablation, by its name.

        Raises:
          UserError: an unknown preset or setting, or a value out of range.
        """
        variants = {}
        for name in self.names:
            if self.reason_against(name) is None:
                setting, values = SETTINGS[name]
                if name == "initial_weights":
                    values = (self.experiment().train.video_weights, *values)
                variants[name] = [self._variant(setting, value) for value in values]
        return variants

    def reason_against(self, name: str) -> str | None:
        """Returns why an ablation is left out; None if it is not."""
        if name != "initial_weights":
            return None
        if self.modality == "audio":
            return "an audio network has no ResNet-50"
        if self.experiment().train.video_weights == "none":
            return "no initial weights are given; name them with --video_weights"
        return None

    def _variant(self, setting: str, value: str) -> Variant:
        assignment = f"{setting}={value}"
        same = self.experiment(assignment) == self.experiment()
        return Variant(value, assignment, "base" if same else f"{setting.split('.')[1]}_{value}")


def run_ablations(plan: AblationPlan) -> Results:
    """Trains and evaluates all runs that are not finished; writes `ablations.json` and `ablations.md`.

    Raises:
      UserError: none of the ablations can be done, the settings or the data are invalid, a recording is shorter than a
        training window, or a folder holds other runs.
    """
    variants = plan.variants()
    left_out = {name: reason for name in plan.names if (reason := plan.reason_against(name))}
    if not variants:
        raise UserError("; ".join(f"{name} cannot be done: {reason}" for name, reason in left_out.items()))
    manifest = _open_data(plan, variants)
    partitions = [name for name in PARTITIONS if manifest.partition(name)]
    first_seed = plan.experiment().train.seed
    seeds = range(first_seed, first_seed + plan.seeds)

    distinct = {variant.folder: variant for of_name in variants.values() for variant in of_name}
    done = {
        (variant.folder, seed): _train_and_evaluate(plan, variant, seed, manifest, partitions)
        for variant in distinct.values()
        for seed in seeds
    }
    tables = {
        name: AblationTable(
            setting=SETTINGS[name][0],
            rows=compare([(variant.value, [done[variant.folder, seed] for seed in seeds]) for variant in of_name]),
        )
        for name, of_name in variants.items()
    }
    experiment = plan.experiment()
    results = Results(
        preset=plan.preset,
        modality=plan.modality,
        epochs=experiment.train.epochs,
        batch_size=experiment.train.batch_size,
        synthetic=manifest.synthetic,
        recordings={name: sum(entry.has_labels for entry in manifest.partition(name)) for name in partitions},
        faceless_shares={
            name: metrics.faceless_share
            for name, metrics in next(iter(done.values())).metrics.items()
            if metrics.faceless_share is not None
        },
        ablations=tables,
        left_out=left_out,
    )
    write_json(plan.output_dir / "ablations.json", results)
    write_bytes(str(plan.output_dir / "ablations.md"), results.to_markdown().encode())
    return results


def _open_data(plan: AblationPlan, variants: dict[str, list[Variant]]) -> Manifest:
    """Checks everything that can be checked before hours of training; returns the manifest."""
    from affect.data.dataset import label_delay_frames, labelled_recordings
    from affect.data.windows import with_delayed_labels
    from affect.learning.input_pipeline import open_training_data

    experiments = [plan.experiment(variant.assignment) for of_name in variants.values() for variant in of_name]
    base = plan.experiment()
    manifest = open_training_data(base, plan.allow_faceless)
    entries = labelled_recordings(manifest, "train", base.data.data_dir)
    longest = max(experiment.data.window_frames for experiment in experiments)
    shortest = min(with_delayed_labels(entries, label_delay_frames(base, manifest)), key=lambda entry: entry.frames)
    if "sequence_length" in variants and shortest.frames < longest:
        raise UserError(
            f"{base.data.data_dir}: recording {shortest.name} gives {shortest.frames} frames for training, and the "
            f"longest windows of sequence_length have {longest}; leave it out with --only=objective,initial_weights"
        )
    return manifest


def _train_and_evaluate(
    plan: AblationPlan, variant: Variant, seed: int, manifest: Manifest, partitions: list[str]
) -> Trained:
    """Trains or continues one run if it is not finished, and evaluates it unless its scores are up to date."""
    from affect.evaluation.evaluate import evaluate

    run = RunFolder(plan.output_dir / variant.folder / f"seed{seed}")
    print(f"{run.path}:")
    settings = [*plan.settings, variant.assignment, f"train.seed={seed}"]
    options = RunOptions(tensorboard=TensorBoardOptions(picture_epochs=0), allow_faceless=plan.allow_faceless)
    train_plan(TrainingPlan(plan.preset, plan.modality, settings, run.path), options)
    scored = [name for name in partitions if any(entry.has_labels for entry in manifest.partition(name))]
    # Someone may have evaluated the run with other options meanwhile; all runs are compared with the default ones.
    wanted, scores = EvaluationOptions(), scores_that_belong_together(run)[0]
    same = [one for one in scores if (scores[one].chosen, scores[one].context) == (wanted.postprocess, wanted.context)]
    if not set(scored) <= set(same) or read_fitted_chains(run.chains).statistics != wanted.statistics:
        evaluate(run.path, partitions, options=wanted)
    return Trained.read(run, seed, scored, plan.output_dir)


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Folder of the shards; may be s3://, http:// or gs://.", required=True)
    flags.DEFINE_string(
        "output_dir", None, "Parent of the run folders, which are continued if they exist.", required=True
    )
    flags.DEFINE_enum("preset", "paper", list(PRESETS), "Base preset; --set overrides single settings of it.")
    flags.DEFINE_enum(
        "modality", "audio", MODALITIES,
        "Inputs of the network. An audiovisual one is trained without training unimodal networks first.",
    )  # fmt: skip
    flags.DEFINE_list("only", list(SETTINGS), "Ablations to run, separated by commas.")
    flags.DEFINE_string(
        "video_weights", None,
        "Initial weights of the ResNet-50 in all runs but the random one: a Keras .h5 file without the top layer, or "
        "imagenet. The default is the preset's.",
    )  # fmt: skip
    flags.DEFINE_integer("seeds", 1, "Train every variant with this many seeds.", lower_bound=1)
    flags.DEFINE_integer("epochs", None, "Epochs of every run; the default is the preset's.", lower_bound=1)
    flags.DEFINE_multi_string("set", [], "Overrides one setting of all runs, as in train.py; repeatable.")
    flags.DEFINE_bool("allow_faceless", False, "As in train.py.")


def main() -> None:
    """Passes the flags to `run_ablations`, and prints the tables."""
    args = flags.FLAGS
    unknown = [name for name in args.only if name not in SETTINGS]
    if unknown or not args.only:
        raise UserError(f"--only={','.join(args.only)}: expected any of {', '.join(SETTINGS)}")
    settings = [*args.set, f"data.data_dir={absolute(args.data_dir)}"]
    if args.epochs is not None:
        settings.append(f"train.epochs={args.epochs}")
    if args.video_weights is not None:
        named = args.video_weights in ("none", "imagenet")
        settings.append(f"train.video_weights={args.video_weights if named else absolute(args.video_weights)}")
    output_dir = local_folder(args.output_dir, "output_dir")
    names = tuple(dict.fromkeys(args.only))
    plan = AblationPlan(args.preset, args.modality, settings, output_dir, names, args.seeds, args.allow_faceless)
    print(run_ablations(plan).to_markdown())
    print(f"tables: {output_dir / 'ablations.md'}")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
