"""One run folder, one experiment: a new folder is claimed with its config, an old one must hold the same.

`environment.json` records what a reader needs to repeat the run: versions, git commit, seed, data, initial weights,
devices.
"""

import dataclasses
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

from affect.config import Experiment, write_config
from affect.data.manifest import Manifest
from affect.errors import UserError
from affect.learning.strategy import WorkerContext
from affect.runs import RunFolder
from affect.storage import atomic_write, read_json, remove_leftovers

_RECORDED_PACKAGES = ("affect", "tensorflow", "keras", "numpy", "h5py", "scikit-learn")


def check_folder(
    run: RunFolder, experiment: Experiment, manifest: Manifest, initial_runs: dict[str, Path], fresh: bool
) -> None:
    """A run folder must be new, or hold a run of the same experiment, data and initial weights.

    Args:
      run: the folder.
      experiment: to be trained in it.
      manifest: of the data.
      initial_runs: where weights come from; may be left out for a run that has begun.
      fresh: whether it must be new in any case.

    Raises:
      UserError: it is neither.
    """
    # A process killed while it claimed the folder leaves no more than this.
    unclaimed = {run.environment.name}
    occupied = run.path.exists() and any(
        path.name not in unclaimed and not path.name.startswith(".") for path in run.path.iterdir()
    )
    if occupied and fresh:
        raise UserError(f"{run.path} is not empty, and --fresh never overwrites; delete it or use another --run_dir")
    if not run.config.exists():
        if occupied:
            raise UserError(f"{run.path} is not empty and holds no run; use another --run_dir")
        return
    differences = _differences(run.read_config(), experiment)
    if differences:
        raise UserError(f"{run.path} holds another experiment ({'; '.join(differences)}); use another --run_dir")
    recorded = read_json(run.environment)
    if recorded["data_fingerprint"] != manifest.fingerprint():
        raise UserError(f"{run.path} was trained on other data than {experiment.data.data_dir} holds now")
    if initial_runs and recorded["initial_runs"] != _as_text(initial_runs):
        raise UserError(f"{run.path} began with the weights of {recorded['initial_runs'] or 'no other run'}")


def claim_folder(
    run: RunFolder, experiment: Experiment, manifest: Manifest, initial_runs: dict[str, Path], place: WorkerContext
) -> None:
    """Writes environment and config into a new folder; the config comes last, for it makes the folder a run's.

    In an old one it removes what a killed process left half-written.
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
        "replicas": place.replicas,
        "workers": place.workers,
        "seed": experiment.train.seed,
        "initial_runs": _as_text(initial_runs),
        "data_fingerprint": manifest.fingerprint(),
        "synthetic_data": manifest.synthetic,
    }
    with atomic_write(run.environment) as temporary:
        temporary.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
    with atomic_write(run.config) as temporary:
        write_config(experiment, temporary)


def _as_text(initial_runs: dict[str, Path]) -> dict[str, str]:
    return {modality: str(path.resolve()) for modality, path in initial_runs.items()}


def _git_commit() -> str | None:
    """The commit that this code was checked out from, "-dirty" with changed files; None for an installed package."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an environment may lie inside somebody else's checkout
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


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
