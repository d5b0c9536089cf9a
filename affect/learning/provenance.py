"""Ties a run folder to one experiment: records it in a new folder, and compares with it in an existing one.

`environment.json` records what is needed to repeat the run: versions, git commit, seed, data, initial weights, devices.
"""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from affect.config import Experiment
from affect.data.faceless import FacelessShares
from affect.data.manifest import Manifest
from affect.errors import UserError
from affect.learning.input_pipeline import faceless_shares
from affect.learning.strategy import WorkerContext
from affect.runs import RunFolder
from affect.storage import read_json, remove_leftovers, write_bytes, write_json

_RECORDED_PACKAGES = ("affect", "tensorflow", "keras", "numpy", "h5py", "scikit-learn")
_MAY_CHANGE_AFTER_DIVERGENCE = ("train.learning_rate", "train.clip_norm")


class Change(msgspec.Struct, frozen=True):
    """A change of settings after the run had diverged.

    Attributes:
      updates: number of updates before the change.
      settings: old and new value by name.
    """

    updates: int
    settings: dict[str, tuple[float, float]]


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `environment.json`; version 0.1.0 did not write the fields that have a default.

    Attributes:
      python, packages, git_commit, machine: what the run was started with.
      replicas, workers: devices and processes of the start.
      seed: `train.seed`.
      initial_runs: absolute paths of the run folders of the initial weights, by modality.
      initial_weights: SHA-256 of the best weights in each of them at the start.
      data_fingerprint: `Manifest.fingerprint`.
      synthetic_data: whether the corpus is synthetic.
      faceless: shares of frames without a face in train and dev; empty for networks that do not see.
      diverged_after: number of updates when the run last diverged; None if it never did.
      changes: changes of `train.learning_rate` and `train.clip_norm`, oldest first.
    """

    python: str
    packages: dict[str, str]
    git_commit: str | None
    machine: str
    replicas: int
    workers: int
    seed: int
    initial_runs: dict[str, str]
    initial_weights: dict[str, str] = {}
    data_fingerprint: str
    synthetic_data: bool
    faceless: dict[str, FacelessShares] = {}
    diverged_after: int | None = None
    changes: list[Change] = []


def check_run_folder(
    run: RunFolder, experiment: Experiment, manifest: Manifest, initial_runs: dict[str, Path], fresh: bool
) -> dict[str, Path]:
    """Checks that a folder is new, or holds a run that may be continued with this experiment, data and initial weights.

    An existing run may get more epochs, and its data may have moved. After it has diverged, it may also get another
    `train.learning_rate` and `train.clip_norm`.

    Args:
      run: the run folder.
      experiment: the experiment to train in it.
      manifest: manifest of the data.
      initial_runs: run folders of the initial weights; may be empty when an existing run is continued.
      fresh: whether the folder must be new.

    Returns:
      `initial_runs`, or if that is empty, those with which the run was started.

    Raises:
      UserError: the folder holds something else.
    """
    # A process killed during initialisation leaves at most this file and hidden temporary files.
    uninitialised = {run.environment.name}
    occupied = run.path.exists() and any(
        path.name not in uninitialised and not path.name.startswith(".") for path in run.path.iterdir()
    )
    if occupied and fresh:
        raise UserError(f"{run.path} is not empty, and --fresh never overwrites; delete it or use another --run_dir")
    if not run.config.exists():
        if occupied:
            raise UserError(f"{run.path} is not empty and is not a run folder; use another --run_dir")
        return initial_runs
    environment = read_json(run.environment, Environment)
    differences = _refused(run.read_config(), experiment, has_diverged=environment.diverged_after is not None)
    if differences:
        raise UserError(f"{run.path} holds another experiment ({'; '.join(differences)}); use another --run_dir")
    if not manifest.has_fingerprint(environment.data_fingerprint):
        raise UserError(
            f"{run.path} was trained on other data than {experiment.data.data_dir} holds now; use another --run_dir"
        )
    if initial_runs and not _are_initial_runs(initial_runs, environment):
        origin = environment.initial_runs or "no other run"
        raise UserError(f"{run.path} started with the weights of {origin}; use another --run_dir for other --init_*")
    return initial_runs or {modality: Path(path) for modality, path in environment.initial_runs.items()}


def changed_initial_weights(run: RunFolder, initial_runs: dict[str, Path]) -> list[str]:
    """Describes the weights in `initial_runs` that are no longer those from which the run in the folder was started.

    Returns:
      One text for each, such as "runs/audio/best.weights.h5 has changed"; empty for a new run.
    """
    if not run.config.exists():
        return []
    recorded = read_json(run.environment, Environment).initial_weights
    present = _digests(initial_runs)
    # Version 0.1.0 recorded no digests.
    words = {
        modality: "is gone" if modality not in present else "has changed"
        for modality in initial_runs
        if modality not in present or recorded.get(modality, present[modality]) != present[modality]
    }
    return [f"{RunFolder(initial_runs[modality]).best_weights} {word}" for modality, word in words.items()]


def record_run(
    run: RunFolder,
    experiment: Experiment,
    manifest: Manifest,
    initial_runs: dict[str, Path],
    context: WorkerContext,
    updates: int,
) -> None:
    """Writes environment and config into a new folder, or into an existing one what `check_run_folder` lets change.

    The config comes last, because it marks a run folder. What a killed process left half-written is removed.

    Args:
      run: the run folder.
      experiment: the experiment that is trained from now on.
      manifest: manifest of the data.
      initial_runs: run folders of the initial weights.
      context: the devices of a new run.
      updates: number of updates so far.
    """
    for folder in (run.path, run.checkpoints):
        remove_leftovers(folder)
    if not run.config.exists():
        write_json(run.environment, _environment(experiment, manifest, initial_runs, context))
    elif run.read_config() == experiment:
        return
    else:
        _record_changes(run, experiment, updates)
    write_bytes(str(run.config), experiment.to_json().encode())


def record_divergence(run: RunFolder, updates: int) -> None:
    """Records that the run has diverged after so many updates: `check_run_folder` then allows changes that may help."""
    environment = read_json(run.environment, Environment)
    write_json(run.environment, msgspec.structs.replace(environment, diverged_after=updates))


def _environment(
    experiment: Experiment, manifest: Manifest, initial_runs: dict[str, Path], context: WorkerContext
) -> Environment:
    return Environment(
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        git_commit=_git_commit(),
        machine=platform.machine(),
        replicas=context.replicas,
        workers=context.workers,
        seed=experiment.train.seed,
        initial_runs={modality: str(path.resolve()) for modality, path in initial_runs.items()},
        initial_weights=_digests(initial_runs),
        data_fingerprint=manifest.fingerprint(),
        synthetic_data=manifest.synthetic,
        faceless=faceless_shares(experiment, manifest),
    )


def _record_changes(run: RunFolder, experiment: Experiment, updates: int) -> None:
    """Adds a change of the settings that decide about the weights to `environment.json`."""
    differences = _differences(run.read_config(), experiment)
    settings = {name: differences[name] for name in _MAY_CHANGE_AFTER_DIVERGENCE if name in differences}
    if settings:
        environment = read_json(run.environment, Environment)
        changes = [*environment.changes, Change(updates, settings)]
        write_json(run.environment, msgspec.structs.replace(environment, changes=changes))


def _are_initial_runs(initial_runs: dict[str, Path], environment: Environment) -> bool:
    """Whether the run was started with these runs, which may have moved since if their weights are the same."""
    recorded = environment.initial_runs
    if initial_runs.keys() != recorded.keys():
        return False
    moved = {modality: path for modality, path in initial_runs.items() if str(path.resolve()) != recorded[modality]}
    digests = _digests(moved)
    return all(
        modality in digests and digests[modality] == environment.initial_weights.get(modality) for modality in moved
    )


def _digests(initial_runs: dict[str, Path]) -> dict[str, str]:
    """Returns the digest of the best weights of each run that has some."""
    digests = {modality: RunFolder(path).best_weights_digest() for modality, path in initial_runs.items()}
    return {modality: digest for modality, digest in digests.items() if digest is not None}


def _git_commit() -> str | None:
    """Returns the commit of the running code, with "-dirty" if it was modified; None for an installed package."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        # An installed package may lie inside the checkout of another project, which does not track this file.
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _refused(old: Experiment, new: Experiment, has_diverged: bool) -> list[str]:
    """Describes the settings that an existing run must not change, for an error message."""
    differences = _differences(old, new)
    differences.pop("data.data_dir", None)  # the fingerprint decides
    if new.train.epochs > old.train.epochs:
        differences.pop("train.epochs", None)
    if has_diverged:
        for name in _MAY_CHANGE_AFTER_DIVERGENCE:
            differences.pop(name, None)
    return [f"{name} is {before} there, {after} now" for name, (before, after) in differences.items()]


def _differences(old: Experiment, new: Experiment) -> dict[str, tuple[Any, Any]]:
    """Returns the values in both experiments of all settings in which they differ."""
    if old.modality != new.modality:
        return {"modality": (old.modality, new.modality)}
    differences = {}
    for section in ("model", "data", "augment", "train"):
        before, after = (msgspec.structs.asdict(getattr(experiment, section)) for experiment in (old, new))
        differences |= {
            f"{section}.{name}": (before[name], after[name]) for name in before if before[name] != after[name]
        }
    return differences
