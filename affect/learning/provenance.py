"""Ties a run folder to one experiment: records it in a new folder, and compares with it in an existing one.

`environment.json` records what is needed to repeat the run: versions, git commit, seed, data, initial weights, devices.
"""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import msgspec

from affect.config import Experiment
from affect.data.manifest import Manifest
from affect.errors import UserError
from affect.learning.strategy import WorkerContext
from affect.runs import RunFolder
from affect.storage import read_json, remove_leftovers, write_bytes, write_json

_RECORDED_PACKAGES = ("affect", "tensorflow", "keras", "numpy", "h5py", "scikit-learn")


def check_run_folder(
    run: RunFolder, experiment: Experiment, manifest: Manifest, initial_runs: dict[str, Path], fresh: bool
) -> None:
    """Checks that a run folder is new, or holds a run of the same experiment, data and initial weights.

    Args:
      run: the run folder.
      experiment: the experiment to train in it.
      manifest: manifest of the data.
      initial_runs: run folders of the initial weights; may be empty when an existing run is continued.
      fresh: whether the folder must be new.

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
        return
    differences = _differences(run.read_config(), experiment)
    if differences:
        raise UserError(f"{run.path} holds another experiment ({'; '.join(differences)}); use another --run_dir")
    recorded = read_json(run.environment)
    if recorded["data_fingerprint"] != manifest.fingerprint():
        raise UserError(
            f"{run.path} was trained on other data than {experiment.data.data_dir} holds now; use another --run_dir"
        )
    if initial_runs and recorded["initial_runs"] != _as_text(initial_runs):
        origin = recorded["initial_runs"] or "no other run"
        raise UserError(f"{run.path} started with the weights of {origin}; use another --run_dir for other --init_*")


def initialise_run_folder(
    run: RunFolder, experiment: Experiment, manifest: Manifest, initial_runs: dict[str, Path], context: WorkerContext
) -> None:
    """Writes environment and config into a new folder; the config comes last, because it marks a run folder.

    In an existing run folder, this only removes incomplete files left by a killed process.
    """
    for folder in (run.path, run.checkpoints):
        remove_leftovers(folder)
    if run.config.exists():
        return
    environment = {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        "git_commit": _git_commit(),
        "machine": platform.machine(),
        "replicas": context.replicas,
        "workers": context.workers,
        "seed": experiment.train.seed,
        "initial_runs": _as_text(initial_runs),
        "data_fingerprint": manifest.fingerprint(),
        "synthetic_data": manifest.synthetic,
    }
    write_json(run.environment, environment)
    write_bytes(str(run.config), experiment.to_json().encode())


def _as_text(initial_runs: dict[str, Path]) -> dict[str, str]:
    return {modality: str(path.resolve()) for modality, path in initial_runs.items()}


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


def _differences(old: Experiment, new: Experiment) -> list[str]:
    """Describes the fields in which two experiments differ, for an error message."""
    if old.modality != new.modality:
        return [f"modality is {old.modality} there, {new.modality} now"]
    differences = []
    for section in ("model", "data", "augment", "train"):
        before, after = (msgspec.structs.asdict(getattr(experiment, section)) for experiment in (old, new))
        differences += [
            f"{section}.{name} is {before[name]} there, {after[name]} now"
            for name in before
            if before[name] != after[name]
        ]
    return differences
