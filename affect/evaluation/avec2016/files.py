"""The output folder of the handcrafted baseline.

OUTPUT_DIR/
  baseline.json          protocol, grid, versions and all systems; written last
  features/              `affect.evaluation.handcrafted`, unless the shards carry AVEC's own tables
  {audio,appearance,geometric,video,audiovisual,trivial}/
    system.json          feature sets, delay, complexity and fusion weights
    eval/                as in a run folder, see `affect.evaluation.evaluate`; the curves include "avec"

A system's folder is replaced as a whole, and only if an earlier baseline wrote it: a trained run is never replaced.
"""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from affect import __version__
from affect.config import DIMENSIONS
from affect.data.manifest import Manifest
from affect.errors import UserError
from affect.evaluation.avec2016.protocol import Grid, Protocol
from affect.evaluation.avec2016.systems import PREDICTED, TITLES, System, SystemSummary
from affect.evaluation.partitions import curves_of, fit_chains, with_faceless_shares, write_partition
from affect.evaluation.scores import Digests, Metrics
from affect.evaluation.scoring import compute_metrics
from affect.runs import RunFolder
from affect.storage import atomic_write, check_replaceable, read_json, remove, remove_leftovers, write_json

BASELINE_NAME = "baseline.json"
SYSTEM_NAME = "system.json"
FEATURES_NAME = "features"
_LIBRARIES = ("numpy", "scipy", "scikit-learn")

Scores = dict[str, dict[str, Metrics]]  # by system and partition


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `baseline.json`.

    Attributes:
      protocol: "avec", or "quick" for a small grid and every fifth crop.
      grid: delays and complexities that were tried.
      data: fingerprint of the data.
      synthetic: whether the corpus is synthetic.
      layout: layout of the corpus.
      versions: of affect and of the libraries that the numbers depend on.
      remarks: which systems could not be made, and what a reader of the scores should know.
      systems: by the name of their folder.
    """

    protocol: Protocol
    grid: Grid
    data: str
    synthetic: bool
    layout: str
    versions: dict[str, str]
    remarks: tuple[str, ...]
    systems: dict[str, SystemSummary]


def read_baseline(output_dir: Path) -> Baseline:
    """Reads `baseline.json`.

    Raises:
      UserError: it is damaged, or missing because the baseline was not finished.
    """
    return read_json(output_dir / BASELINE_NAME, Baseline, hint="run affect.evaluation.baseline to the end")


def check_output(output_dir: Path, data_dir: str | Path) -> None:
    """Checks, before the work, that the output replaces only what an earlier baseline wrote.

    Raises:
      UserError: `baseline.json` or the folder of a system exists and was not written by this command.
    """
    for name in TITLES:
        try:
            check_replaceable(output_dir / name, SYSTEM_NAME, SystemSummary, {"the data folder": data_dir})
        except UserError as error:
            raise UserError(f"--output_dir={output_dir}: {error}") from error
    path = output_dir / BASELINE_NAME
    if path.exists():
        try:
            read_json(path, Baseline)
        except UserError as error:
            raise UserError(f"{error}; it is not replaced, because we did not write it: remove it first") from error


def write_baseline(
    output_dir: Path,
    systems: Sequence[System],
    manifest: Manifest,
    gold: dict[str, np.ndarray],
    protocol: Protocol,
    grid: Grid,
    remarks: Sequence[str],
) -> tuple[Baseline, Scores]:
    """Fits the paper's chains, writes all systems, and removes systems of an earlier baseline that are not among them.

    Args:
      output_dir: see the module.
      systems: the trained systems.
      manifest: the data folder's.
      gold: [frames, 2] by recording; recordings without labels are missing.
      protocol: as in `Baseline`.
      grid: as in `Baseline`.
      remarks: as in `Baseline`.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output_dir)
    (output_dir / BASELINE_NAME).unlink(missing_ok=True)  # its presence means that everything is complete
    scores = {system.name: _write_system(output_dir / system.name, system, manifest, gold) for system in systems}
    for name in set(TITLES) - set(scores):
        remove(str(output_dir / name))
    baseline = Baseline(
        protocol=protocol,
        grid=grid,
        data=manifest.fingerprint(),
        synthetic=manifest.synthetic,
        layout=manifest.layout,
        versions={"affect": __version__} | {name: importlib.metadata.version(name) for name in _LIBRARIES},
        remarks=tuple(remarks),
        systems={system.name: system.summary() for system in systems},
    )
    write_json(output_dir / BASELINE_NAME, baseline)
    return baseline, scores


def _write_system(folder: Path, system: System, manifest: Manifest, gold: dict[str, np.ndarray]) -> dict[str, Metrics]:
    """Writes the folder of one system; returns its scores by partition, for those with labels."""
    curves = {partition: system.curves(manifest.partition(partition), gold) for partition in PREDICTED}
    fitted = fit_chains(curves["dev"]["raw"], manifest.frame_rate_hz)
    scores = {}
    with atomic_write(folder) as temporary:
        run = RunFolder(temporary)
        write_json(run.postprocessing, fitted.chosen_chains())
        write_json(run.chains, fitted)
        digests = Digests(data=manifest.fingerprint(), chain=run.postprocessing_digest())
        for partition in PREDICTED:
            if not curves[partition]["raw"]:
                continue
            every_kind = curves_of(curves[partition]["raw"], fitted) | curves[partition]
            metrics = compute_metrics(every_kind, fitted.paper)
            if metrics is not None:
                metrics = replace(metrics, synthetic=manifest.synthetic, layout=manifest.layout, digests=digests)
                if system.sees:
                    metrics = with_faceless_shares(metrics, system.entries(manifest.partition(partition)))
                scores[partition] = metrics
            write_partition(run.evaluation(partition), every_kind, metrics, manifest.frame_rate_hz)
        write_json(temporary / SYSTEM_NAME, system.summary())
    return scores


def as_text(baseline: Baseline, scores: Scores) -> str:
    """Returns the pooled CCCs of all systems as a table per partition, and the remarks."""
    kinds = {"raw": "no chain", "avec": "AVEC's chain", "postprocessed": "paper's chain"}
    lines = []
    for partition in PREDICTED:
        corpus = "SYNTHETIC corpus, " if baseline.synthetic else ""
        heads = "".join(f"{head:>16}" for head in kinds.values())
        lines.append(f"{corpus}{partition}, pooled CCC".ljust(34) + f"{'':9}{heads}")
        for name in [name for name in TITLES if partition in scores.get(name, {})]:
            for dimension in DIMENSIONS:
                cells = [getattr(scores[name][partition], kind) for kind in kinds]
                values = "".join(f"{'' if cell is None else f'{cell[dimension].ccc_pooled:.3f}':>16}" for cell in cells)
                lines.append(f"  {TITLES[name]:32}{dimension:9}{values}")
            shares = scores[name][partition].faceless_shares()
            if shares is not None:
                lines += [f"  {line}" for line in shares.lines(TITLES[name])]
    return "\n".join([*lines, *baseline.remarks])
