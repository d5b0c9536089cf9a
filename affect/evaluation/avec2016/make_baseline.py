"""Makes the handcrafted baseline: reads the gold standard, gets the features, trains every possible system."""

from pathlib import Path

import numpy as np

from affect import storage
from affect.config import PARTITIONS
from affect.data.dataset import labelled_recordings
from affect.data.manifest import Manifest, read_manifest
from affect.data.records import read_frames
from affect.data.shard_check import check_shards, shard_errors
from affect.evaluation.avec2016.feature_sets import FEATURE_SETS, FeatureFiles, FeatureSet
from affect.evaluation.avec2016.files import FEATURES_NAME, Baseline, Scores, check_output, write_baseline
from affect.evaluation.avec2016.protocol import GRIDS, Protocol
from affect.evaluation.avec2016.systems import FUSIONS, System, feature_set_system, fused_system
from affect.evaluation.avec2016.trivial import trivial_system
from affect.evaluation.handcrafted import extract

_QUICK = (
    "quick protocol: every fifth crop, 4 delays, 4 complexities (AVEC 2016: every crop, 21 delays, 16 complexities)"
)


def make_baseline(
    data_dir: str | Path, output_dir: Path, protocol: Protocol, processes: int = 1
) -> tuple[Baseline, Scores]:
    """Trains all systems on train, chooses delay and complexity on dev, predicts dev and test, and writes everything.

    Args:
      data_dir: folder of the shards, local or remote.
      output_dir: folder to write, see `affect.evaluation.avec2016.files`.
      protocol: "avec" or "quick".
      processes: number of complexities to try at the same time.

    Returns:
      The content of `baseline.json`, and the scores.

    Raises:
      UserError: the data cannot be read, train or dev has no labelled recordings, the output folder holds other files,
        or what the features need is not installed.
    """
    manifest = read_manifest(data_dir)
    check_output(output_dir, data_dir)
    check_shards(data_dir, list(manifest.recordings))
    for partition in ("train", "dev"):
        labelled_recordings(manifest, partition, str(data_dir))
    gold, grid = _read_gold(data_dir, manifest), GRIDS[protocol]

    files = FeatureFiles(data_dir, manifest, output_dir / FEATURES_NAME)
    possible = [one for one in FEATURE_SETS if _can_be_trained(one, manifest, gold)]
    if any(files.source(one) != "corpus" for one in possible):
        extract(data_dir, files.our_folder, protocol)

    remarks = [_QUICK] if protocol == "quick" else []
    single: dict[str, System] = {}
    for feature_set in FEATURE_SETS:
        source = files.source(feature_set) if feature_set in possible else None
        if source is None:
            what = "too few faces" if feature_set.modality == "video" else "no sound"
            remarks.append(f"no {feature_set.name} system: train or dev has {what} with labels")
            continue
        remarks += _left_out(feature_set, manifest)
        single[feature_set.name] = feature_set_system(feature_set, source, files, gold, grid, processes)
    systems = list(single.values())
    for name, parts in FUSIONS.items():
        fused = [single[part] for part in parts if part in single]
        if {part.sees for part in fused} == ({True} if name == "video" else {True, False}):
            systems.append(fused_system(name, fused, manifest, gold))
    if all(entry.has_audio and entry.has_video for entry in manifest.recordings):
        systems.append(trivial_system(data_dir, manifest, gold))
    else:
        remarks.append("no system on loudness and brightness: some recordings have no sound or no video")
    remarks += [remark for system in single.values() for remark in _not_converged(system)]
    return write_baseline(output_dir, systems, manifest, gold, protocol, grid, remarks)


def _read_gold(data_dir: str | Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """Returns the gold standard, float64 [frames, 2], of every recording that has one."""
    gold = {}
    with shard_errors(data_dir, manifest, PARTITIONS):
        for entry in manifest.recordings:
            if entry.has_labels:
                frames = read_frames(
                    [storage.join(data_dir, shard) for shard in entry.shards], entry.name, entry.frames, ("labels",),
                    frame_samples=manifest.frame_samples, frames_per_record=manifest.frames_per_record,
                )  # fmt: skip
                (whole,) = frames.batch(entry.frames).as_numpy_iterator()
                gold[entry.name] = whole["labels"].astype(np.float64)
    return gold


def _can_be_trained(feature_set: FeatureSet, manifest: Manifest, gold: dict[str, np.ndarray]) -> bool:
    """Returns whether train and dev both have a labelled recording with the sound or the faces that a set needs."""
    return all(
        any(
            entry.name in gold and (feature_set.modality == "audio" or entry.faces_found)
            for entry in feature_set.recordings(manifest.partition(partition))
        )
        for partition in ("train", "dev")
    )


def _left_out(feature_set: FeatureSet, manifest: Manifest) -> list[str]:
    """Returns a remark on the recordings without the modality of a set."""
    names = [entry.name for entry in manifest.recordings if entry not in feature_set.recordings([entry])]
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{feature_set.name}: without {feature_set.modality} and left out: {', '.join(names[:5])}{more}"]


def _not_converged(system: System) -> list[str]:
    """Returns a remark on each dimension whose chosen regression did not reach the tolerance of the solver."""
    return [
        f"{system.name}, {dimension}: LIBLINEAR stopped before its tolerance was reached (C = {choice.complexity:g})"
        for dimension, fitted in system.dimensions.items()
        if (choice := fitted.summary.choice) is not None and not choice.converged
    ]
