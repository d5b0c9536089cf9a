"""The tables of the report: evaluated systems flow in, rows for the page's templates flow out."""

from collections.abc import Iterator
from dataclasses import dataclass

from affect.config import DIMENSIONS
from affect.data.faceless import FacelessShares
from affect.evaluation.chain import FittedChains, PostProcessing, read_chains, read_fitted_chains
from affect.evaluation.reporting.comparison import Comparison, System, is_recola, which_are_synthetic
from affect.evaluation.scores import CURVE_OF, DimensionScores, Metrics
from affect.evaluation.seeds import SeedScores
from affect.metrics import concordance_cc
from affect.runs import RunFolder
from affect.storage import read_json

CHAIN_NAMES = {"raw": "raw", "postprocessed": "paper", "cautious": "cautious", "avec": "AVEC 2016"}
STEPS = ("raw", "median", "centring", "scaling", "shift")


@dataclass(frozen=True)
class Steps:
    """A fitted chain in words: the value of each step, "none" where it changes nothing."""

    median: str
    centring: str
    scaling: str
    shift: str


def partition_section(comparison: Comparison, partition: str) -> dict:
    """Returns the scores of all systems on one partition, after every chain."""
    table = comparison.tables[partition]
    systems = comparison.shown_on(partition)
    largest = max(systems, key=lambda system: table[system.name].frames)
    recordings = table[largest.name].recordings
    return {
        "name": partition,
        "synthetic": which_are_synthetic(list(table.values())),
        "recordings": recordings,
        "unlabelled": max(metrics.unlabelled_recordings for metrics in table.values()),
        "minutes": table[largest.name].frames / frame_rate_hz(largest, partition) / 60.0,
        "systems": [
            {
                "name": system.name,
                "synthetic": bool(metrics.synthetic),
                "context": metrics.context,
                "faceless": metrics.faceless_share,
                "fewer_recordings": metrics.recordings if metrics.recordings != recordings else None,
                "rows": [
                    (CHAIN_NAMES[key], key == CURVE_OF[metrics.chosen], scores) for key, scores in chains(metrics)
                ],
                "headline": metrics.headline(),
            }
            for system in systems
            for metrics in [table[system.name]]
        ],
        "faceless": faceless(table),
    }


def chains(metrics: Metrics) -> Iterator[tuple[str, dict[str, DimensionScores]]]:
    """Yields the scores after each chain that was scored, by the key of the chain."""
    for key in CHAIN_NAMES:
        if (scores := getattr(metrics, key)) is not None:
            yield key, scores


def faceless(table: dict[str, Metrics]) -> list[tuple[str, FacelessShares]]:
    """Returns the shares of frames without a face, with the names of the systems; equal shares are listed once."""
    groups: list[tuple[list[str], FacelessShares]] = []
    for system, metrics in table.items():
        shares = metrics.faceless_shares()
        if shares is None:
            continue
        for systems, known in groups:
            if known == shares:
                systems.append(system)
                break
        else:
            groups.append(([system], shares))
    return [(", ".join(systems), shares) for systems, shares in groups]


def recordings_section(comparison: Comparison) -> dict | None:
    """Returns the CCC of each recording of the last partition for all systems; None where no curves are stored."""
    partition = comparison.partition
    columns = {system.name: _own_cccs(system, partition) for system in comparison.shown}
    columns = {name: cccs for name, cccs in columns.items() if cccs}
    if not columns:
        return None
    recordings = dict.fromkeys(recording for cccs in columns.values() for recording in cccs)
    return {"partition": partition, "recordings": list(recordings), "columns": columns}


def chain_section(comparison: Comparison) -> dict:
    """Returns the effect of the chains, their fitted values, and the CCC after each of their steps."""
    effects, fitted, steps = [], [], []
    partition = comparison.partition
    for system in comparison.shown:
        chains_file = system.folder.chains
        all_chains = read_fitted_chains(chains_file) if chains_file.is_file() else None
        for dimension in DIMENSIONS:
            if partition in system.scores:
                effects.append(_effect(system, dimension, partition, all_chains))
            fitted += _chain_values(system, dimension, all_chains)
            for name, metrics in system.scores.items():
                if metrics.ccc_after_steps is not None and name != "train":
                    cccs = metrics.ccc_after_steps[dimension]
                    steps.append({"system": system.name, "dimension": dimension, "partition": name, "cccs": cccs})
    avec = any("AVEC 2016" in effect["found"] for effect in effects)
    return {
        "partition": partition, "effects": effects, "fitted": fitted, "steps": steps, "step_names": STEPS, "avec": avec,
    }  # fmt: skip


def corpus_line(comparison: Comparison) -> str:
    """Returns one line that describes the corpus: its kind, layout and size."""
    table = comparison.tables[comparison.partition]
    layouts = dict.fromkeys(metrics.layout for metrics in table.values() if metrics.layout)
    kind = {"all": "Synthetic corpus", "some": "Synthetic and other corpora", "none": "Corpus"}[comparison.synthetic]
    if any(is_recola(metrics) for metrics in table.values()):
        kind = "RECOLA"
    sizes = []
    for partition, scored in comparison.tables.items():
        first = comparison.shown_on(partition)[0]
        minutes = scored[first.name].frames / frame_rate_hz(first, partition) / 60.0
        sizes.append(f"{partition} {scored[first.name].recordings} recordings, {minutes:.1f} minutes")
    layout = f" in the layout {', '.join(layouts)}" if layouts else ""
    return f"{kind}{layout}: {'; '.join(sizes)}."


def seeds_section(comparison: Comparison) -> list[dict]:
    """Returns mean and standard deviation over seeds, if eval.py has scored the seeds that a shown run belongs to."""
    files = {}
    for system in comparison.shown:
        for parent in list(system.folder.path.absolute().parents)[:2]:  # with --pretrain, the run is seed0/audio
            file = RunFolder(parent).seed_scores
            if system.kind == "end-to-end" and file.is_file():
                files[file] = parent.name
    return [
        {
            "name": f"{name}, {modality}",
            "seeds": seeds.seeds,
            "partition": partition,
            "synthetic": bool(spread.synthetic),
            "ccc": {dimension: scores["ccc_pooled"] for dimension, scores in chosen.items()},
        }
        for file, name in files.items()
        for seeds in [read_json(file, SeedScores)]
        for modality, partitions in seeds.systems.items()
        for partition, spread in partitions.items()
        for chosen in [getattr(spread, CURVE_OF[spread.chosen])]
    ]


def baseline_section(comparison: Comparison) -> dict | None:
    """Returns how the handcrafted systems were made; None without any."""
    baseline = comparison.baseline
    if baseline is None:
        return None
    sets = [
        {"system": system.title, "dimension": dimension, "summary": summary}
        for system in baseline.systems.values()
        for dimension, summary in system.dimensions.items()
        if summary.choice is not None
    ]
    return {
        "protocol": baseline.protocol,
        "delays": len(baseline.grid.delays_secs),
        "complexities": len(baseline.grid.complexities),
        "remarks": baseline.remarks,
        "versions": baseline.versions,
        "sets": sets,
    }


def frame_rate_hz(system: System, partition: str) -> float:
    """Returns the frame rate of a system's predictions; evaluations of earlier versions have it in their chains."""
    if partition in system.curves:
        return system.curves[partition].frame_rate_hz
    return read_chains(system.folder.postprocessing)[DIMENSIONS[0]].frame_rate


def _own_cccs(system: System, partition: str) -> dict[str, dict[str, float]]:
    """Returns the CCC of each labelled recording and dimension after the chosen post-processing."""
    return {
        one.recording: {
            name: concordance_cc(one.gold[:, axis], one.predicted[:, axis]) for axis, name in enumerate(DIMENSIONS)
        }
        for one in system.headline(partition)
        if one.gold is not None
    }


def _effect(system: System, dimension: str, partition: str, fitted: FittedChains | None) -> dict:
    """Returns the CCCs after each chain: the leave-one-out estimates from dev, and those found on the partition."""
    expected = fitted and fitted.leave_one_out[dimension]
    found = {CHAIN_NAMES[key]: scores[dimension].ccc_pooled for key, scores in chains(system.scores[partition])}
    return {
        "system": system.name,
        "dimension": dimension,
        "expected": {name: getattr(expected, name) for name in ("raw", "paper", "cautious")} if expected else {},
        "found": found,
        "chosen": CHAIN_NAMES[CURVE_OF[system.scores[partition].chosen]],
    }


def _chain_values(system: System, dimension: str, fitted: FittedChains | None) -> list[dict]:
    """Returns the steps of each fitted chain; an evaluation of an earlier version has only the paper's."""
    if fitted is not None:
        rows = [(name, fitted.chosen == name, getattr(fitted, name)[dimension]) for name in ("paper", "cautious")]
    elif system.folder.postprocessing.is_file():
        rows = [("paper", True, read_chains(system.folder.postprocessing)[dimension])]
    else:
        rows = []
    return [
        {"system": system.name, "dimension": dimension, "chain": name, "chosen": chosen, "steps": _steps(chain)}
        for name, chosen, chain in rows
    ]


def _steps(chain: PostProcessing) -> Steps:
    """Returns a chain in words."""
    seconds = {"median": chain.median_frames * (chain.median_frames > 1), "shift": chain.shift_frames}
    words = {name: f"{frames / chain.frame_rate:.2f} s" if frames else "none" for name, frames in seconds.items()}
    if chain.recording_mean is not None:
        words["centring"] = f"each recording to {chain.recording_mean:+.3f}"
    else:
        words["centring"] = f"{chain.offset:+.3f}" if chain.offset else "none"
    if chain.recording_deviation is not None:
        words["scaling"] = f"each recording to {chain.recording_deviation:.3f}"
    else:
        words["scaling"] = f"× {chain.gain:.2f}" if chain.gain != 1.0 else "none"
    return Steps(**words)
