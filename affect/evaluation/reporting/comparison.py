"""Reads evaluated systems and decides which of them belong together.

Run folders and the output folder of `affect.evaluation.baseline` flow in; systems with their scores and curves, and
remarks on everything that is left out, flow out. A system is an end-to-end network, a handcrafted system, or the
trivial one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from affect.config import DIMENSIONS, MODALITIES, PARTITIONS
from affect.errors import UserError
from affect.evaluation.avec2016.files import BASELINE_NAME, Baseline, read_baseline
from affect.evaluation.avec2016.systems import TITLES, TRIVIAL
from affect.evaluation.compare_runs import distinct_names
from affect.evaluation.curves import Prediction
from affect.evaluation.prediction_files import HDF5_NAME, StoredCurves, read_predictions
from affect.evaluation.scores import CURVE_OF, RECOLA_LAYOUTS, Metrics, scores_that_belong_together
from affect.runs import RunFolder

Kind = Literal["end-to-end", "handcrafted", "trivial"]
Synthetic = Literal["all", "some", "none"]


@dataclass(frozen=True)
class System:
    """One evaluated system.

    Attributes:
      name: the name that the tables give it.
      kind: "end-to-end", "handcrafted" or "trivial".
      modality: "audio", "video" or "audiovisual"; systems of the same modality are compared. None for systems that are
        only listed.
      folder: the folder that holds its `eval` folder.
      scores: by partition, only those that belong together.
      curves: predictions by partition; missing for partitions that an earlier version evaluated.
    """

    name: str
    kind: Kind
    modality: str | None
    folder: RunFolder
    scores: dict[str, Metrics]
    curves: dict[str, StoredCurves]

    def headline(self, partition: str) -> list[Prediction]:
        """Returns the labelled predictions after the chosen post-processing; empty where no curves are stored."""
        if partition not in self.curves or partition not in self.scores:
            return []
        curves = self.curves[partition].curves[CURVE_OF[self.scores[partition].chosen]]
        return [prediction for prediction in curves if prediction.gold is not None]


@dataclass(frozen=True)
class Comparison:
    """Evaluated systems side by side.

    Attributes:
      systems: in table order, the runs before the handcrafted systems; includes those without any score to show.
      remarks: what was left out because it does not belong together, and what a reader of the scores should know.
      baseline: how the handcrafted systems were made; None without any.
    """

    systems: list[System]
    remarks: list[str]
    baseline: Baseline | None = None

    @property
    def tables(self) -> dict[str, dict[str, Metrics]]:
        """The scores by partition and system, for the partitions on which a run has any."""
        tables = {}
        for partition in PARTITIONS:
            scored = [system for system in self.systems if partition in system.scores]
            if any(system.kind == "end-to-end" for system in scored):
                tables[partition] = {system.name: system.scores[partition] for system in scored}
        return tables

    @property
    def partition(self) -> str:
        """The last partition with scores: test, if it was scored."""
        return list(self.tables)[-1]

    @property
    def synthetic(self) -> Synthetic:
        """Whether all, some or none of the scores come from synthetic data."""
        return which_are_synthetic([metrics for table in self.tables.values() for metrics in table.values()])

    @property
    def shown(self) -> list[System]:
        """The systems with a score in a table."""
        return [system for system in self.systems if any(system.name in table for table in self.tables.values())]

    def shown_on(self, partition: str) -> list[System]:
        """Returns the systems with a score on a partition."""
        return [system for system in self.systems if system.name in self.tables[partition]]

    def best(self, kind: Kind, modality: str | None = None, partition: str | None = None) -> System | None:
        """Returns the system of a kind with the best mean CCC on dev; test must not decide that.

        Args:
          kind: the kind.
          modality: the modality; None includes all systems.
          partition: only systems with scores of this partition; None includes all systems.
        """
        shown = self.shown if partition is None else self.shown_on(partition)
        systems = [one for one in shown if one.kind == kind and modality in (None, one.modality)]
        return max(systems, key=_mean_dev_ccc, default=None)


def compare(run_dirs: list[Path], baseline: Path | None = None) -> Comparison:
    """Reads the scores and curves of runs; of each run, only those that belong together.

    Args:
      run_dirs: evaluated run folders, in the order in which the tables list them.
      baseline: output folder of `affect.evaluation.baseline`; adds its systems.

    Raises:
      UserError: a file is damaged, a folder is not a run or is named twice, or the baseline was not finished.
    """
    systems, remarks = [], []
    for name, path in zip(distinct_names(run_dirs), run_dirs, strict=True):
        run = RunFolder(path)
        system, own_remarks = _read_system(name, "end-to-end", run.read_config().modality, run)
        systems.append(system)
        remarks += own_remarks
    if baseline is not None:
        for system, own_remarks in _read_baseline(baseline):
            systems.append(system)
            remarks += own_remarks
    remarks += _remarks_on_data(Comparison(systems, []).tables)
    return Comparison(systems, remarks, None if baseline is None else read_baseline(baseline))


def which_are_synthetic(scores: list[Metrics]) -> Synthetic:
    """Returns whether all, some or none of the scores come from synthetic data; those of unknown origin are ignored."""
    known = [metrics.synthetic for metrics in scores if metrics.synthetic is not None]
    return "none" if not any(known) else "all" if all(known) else "some"


def is_recola(metrics: Metrics) -> bool:
    """Returns whether scores are of RECOLA, judging by the layout in the manifest of the shards."""
    return metrics.synthetic is False and metrics.layout in RECOLA_LAYOUTS


def _read_baseline(folder: Path) -> list[tuple[System, list[str]]]:
    """Reads every system that `affect.evaluation.baseline` left in its output folder."""
    if not (folder / BASELINE_NAME).is_file():
        raise UserError(
            f"--baseline={folder} has no {BASELINE_NAME}; it must be the --output_dir of a finished "
            "python -m affect.evaluation.baseline"
        )
    # The two feature sets from video are listed, but only their fusion is compared with a network.
    return [
        _read_system(
            title,
            "trivial" if name == TRIVIAL else "handcrafted",
            name if name in MODALITIES else None,
            RunFolder(folder / name),
        )
        for name, title in TITLES.items()
        if (folder / name / "eval").is_dir()
    ]


def _read_system(name: str, kind: Kind, modality: str | None, folder: RunFolder) -> tuple[System, list[str]]:
    """Reads one system, and returns it with remarks on its scores."""
    scores, remarks = scores_that_belong_together(folder)
    if kind == "end-to-end":
        for partition, metrics in scores.items():
            if metrics.synthetic is None:
                scores[partition] = msgspec.structs.replace(metrics, synthetic=folder.uses_synthetic_data())
    files = {partition: folder.evaluation(partition) / HDF5_NAME for partition in scores}
    curves = {partition: read_predictions(file) for partition, file in files.items() if file.is_file()}
    for partition, stored in curves.items():
        if CURVE_OF[scores[partition].chosen] not in stored.curves:
            raise UserError(f"{files[partition]} lacks the curves that the scores are of; evaluate {name} again")
    if missing := [partition for partition in scores if partition not in curves]:
        remarks.append(
            f"no {HDF5_NAME} in {' and '.join(missing)} (evaluated by an earlier version), so there are no intervals, "
            "curves and comparisons; run eval.py again to get them"
        )
    return System(name, kind, modality, folder, scores, curves), [f"{name}: {remark}" for remark in remarks]


def _mean_dev_ccc(system: System) -> float:
    metrics = system.scores.get("dev")
    return -2.0 if metrics is None else float(np.mean([metrics.headline()[name].ccc_pooled for name in DIMENSIONS]))


def _remarks_on_data(tables: dict[str, dict[str, Metrics]]) -> list[str]:
    """Returns remarks on scores of other data than the network was trained on, or than the table's first system."""
    remarks = {}  # a dict, because the partitions of one system usually give the same remark
    for table in tables.values():
        data = {system: metrics.digests.data for system, metrics in table.items() if metrics.digests}
        for system, metrics in table.items():
            if metrics.same_data_as_training is False:
                remarks[f"{system}: scored on other data than the network was trained on"] = None
            for first in list(data)[:1]:
                if data.get(system, data[first]) != data[first]:
                    remarks[f"{system}: scored on other data than {first}"] = None
    return list(remarks)
