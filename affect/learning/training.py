"""An experiment and a run folder to trained weights: the paper's training (section 4), start to end.

Audio and video are trained alone first; an audiovisual run then takes their convolutional nets and trains everything
together. The same command on a folder that holds a run continues it where it stopped.
"""

import dataclasses
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import keras

from affect.config import Experiment, write_config
from affect.data.dataset import (
    evaluation_dataset,
    labelled_recordings,
    open_data,
    steps_per_epoch,
    training_dataset,
)
from affect.data.records import Manifest
from affect.errors import UserError
from affect.learning.callbacks import BestWeights, Checkpointing, Progress
from affect.learning.initial_weights import load_initial_weights
from affect.learning.loop import Loop, compile_network, run_epochs
from affect.models.network import TrainedNetwork, build_network
from affect.runs import RunFolder, read_json, written_beside

_RECORDED_PACKAGES = ("affect", "tensorflow", "keras", "numpy", "h5py", "scikit-learn")


def train(experiment: Experiment, run_dir: Path, initial_runs: dict[str, Path]) -> float:
    """Trains, or continues, one run.

    Args:
      experiment: what to train on what.
      run_dir: new, or holding a run of the same experiment, which is continued.
      initial_runs: run folders of trained unimodal networks by modality; only for an audiovisual experiment.

    Returns:
      The best mean dev CCC.

    Raises:
      UserError: data that is missing or does not fit, or a folder that holds another experiment.
    """
    manifest = open_data(experiment)
    data_dir = experiment.data.data_dir
    entries = {name: labelled_recordings(manifest, name, data_dir) for name in ("train", "dev")}
    if initial_runs and experiment.modality != "audiovisual":
        raise UserError(f"--init_{next(iter(initial_runs))} is for --modality=audiovisual")

    run = RunFolder(run_dir)
    _check_folder(run, experiment, manifest)
    keras.utils.set_random_seed(experiment.train.seed)
    network = build_network(experiment.model, experiment.modality)
    compile_network(network, experiment.train.learning_rate)
    progress = Progress()
    checkpointing = Checkpointing(run.checkpoints, network, progress)
    first_epoch = checkpointing.restore()
    if first_epoch:
        print(f"continuing {run_dir} after epoch {first_epoch} of {experiment.train.epochs}")
    else:
        initial = {modality: TrainedNetwork.load(path) for modality, path in initial_runs.items()}
        for line in load_initial_weights(network, experiment, initial):
            print(line)
    _claim_folder(run, experiment, manifest)
    steps = steps_per_epoch(entries["train"], experiment.data.window_frames, experiment.train.batch_size)
    run_epochs(
        Loop(network, experiment.train.seed),
        lambda epoch: training_dataset(experiment, manifest, entries["train"], epoch).take(steps),
        evaluation_dataset(experiment, manifest, entries["dev"], batch_size=2),
        keras.callbacks.CallbackList(
            [
                keras.callbacks.CSVLogger(run.training_log, append=first_epoch > 0),
                keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
                BestWeights(run.best_weights, progress),
                checkpointing,
            ],
            add_progbar=True,
            model=network,
            verbose=1 if sys.stdout.isatty() else 2,
            epochs=experiment.train.epochs,
            steps=steps,
        ),
        first_epoch,
        experiment.train.epochs,
    )
    return float(progress.best_score)


def _check_folder(run: RunFolder, experiment: Experiment, manifest: Manifest) -> None:
    """A run folder must be new, or hold a run of the same experiment on the same data."""
    if not run.config.exists():
        if run.path.exists() and any(run.path.iterdir()):
            raise UserError(f"{run.path} is not empty and holds no run; use another --run_dir")
        return
    differences = _differences(run.read_config(), experiment)
    if differences:
        raise UserError(f"{run.path} holds another experiment ({'; '.join(differences)}); use another --run_dir")
    if read_json(run.environment)["data_fingerprint"] != manifest.fingerprint():
        raise UserError(f"{run.path} was trained on other data than {experiment.data.data_dir} holds now")


def _claim_folder(run: RunFolder, experiment: Experiment, manifest: Manifest) -> None:
    """Writes environment and config into a new folder; the config comes last, for it makes the folder a run's."""
    if run.config.exists():
        return
    environment = {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        "machine": platform.machine(),
        "seed": experiment.train.seed,
        "data_fingerprint": manifest.fingerprint(),
        "synthetic_data": manifest.synthetic,
    }
    with written_beside(run.environment) as temporary:
        temporary.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
    with written_beside(run.config) as temporary:
        write_config(experiment, temporary)


def _differences(old: Experiment, new: Experiment) -> list[str]:
    """Fields in which two experiments differ, for an error message."""
    if old.modality != new.modality:
        return [f"modality: {old.modality} there, {new.modality} now"]
    differences = []
    for section in ("model", "data", "augment", "train"):
        before, after = (dataclasses.asdict(getattr(experiment, section)) for experiment in (old, new))
        differences += [
            f"{section}.{name}: {before[name]} there, {after[name]} now"
            for name in before
            if before[name] != after[name]
        ]
    return differences
