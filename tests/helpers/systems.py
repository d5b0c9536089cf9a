"""Evaluated systems with planted predictions, written as eval.py and the baseline write them: no network is needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from affect.config import Experiment
from affect.evaluation.avec2016.files import BASELINE_NAME, Baseline
from affect.evaluation.avec2016.protocol import GRIDS
from affect.evaluation.curves import Prediction
from affect.evaluation.partitions import curves_of, fit_chains, write_partition
from affect.evaluation.scores import Digests, Metrics
from affect.evaluation.scoring import compute_metrics
from affect.runs import RunFolder
from affect.storage import write_json

FRAME_RATE_HZ = 25


@dataclass(frozen=True)
class Corpus:
    """A gold standard for each recording of dev and test.

    Attributes:
      recordings: their number in each partition.
      frames: frames of each recording.
      facts: fields of `Metrics` that come from the data.
      names: gives the name of a recording by its partition and number.
    """

    recordings: int = 6
    frames: int = 200
    facts: dict = field(default_factory=lambda: {"synthetic": True, "layout": "avec2016"})
    names: Callable[[str, int], str] = lambda partition, number: f"{partition}_{number + 1}"
    data: str = "a"

    def gold(self, partition: str) -> dict[str, np.ndarray]:
        """Returns [frames, 2] by the name of the recording: slow waves."""
        rng = np.random.default_rng({"dev": 1, "test": 2}[partition])
        time = np.arange(self.frames)[:, None] / FRAME_RATE_HZ
        waves = {}
        for number in range(self.recordings):
            periods, phases = rng.uniform(4, 11, 2), rng.uniform(0, 6, 2)
            waves[self.names(partition, number)] = 0.6 * np.sin(2 * np.pi * time / periods + phases)
        return waves


def write_system(
    folder: Path, corpus: Corpus, noise: Sequence[float], seed: int = 0, partitions: Sequence[str] = ("dev", "test"),
    change: Callable[[Metrics], Metrics] = lambda metrics: metrics,
) -> RunFolder:  # fmt: skip
    """Writes the `eval` folder of a system whose predictions are the gold standard with noise.

    Args:
      folder: the folder of the system; what else is in it is kept.
      corpus: the gold standard.
      noise: standard deviation of the noise in arousal and in valence.
      seed: of the noise.
      partitions: which are evaluated.
      change: returns the changed metrics of a partition.
    """
    rng, system = np.random.default_rng(seed), RunFolder(folder)
    raw = {
        partition: [
            Prediction(name, gold + rng.normal(0.0, noise, gold.shape), gold)
            for name, gold in corpus.gold(partition).items()
        ]
        for partition in partitions
    }
    fitted = fit_chains(raw["dev"], FRAME_RATE_HZ)
    system.chains.parent.mkdir(parents=True, exist_ok=True)
    write_json(system.chains, fitted)
    write_json(system.postprocessing, fitted.chosen_chains())
    digests = Digests(weights=system.best_weights_digest(), data=corpus.data, chain=system.postprocessing_digest())
    for partition, predictions in raw.items():
        curves = curves_of(predictions, fitted)
        metrics = compute_metrics(curves, fitted.paper)
        assert metrics is not None
        metrics = change(replace(metrics, digests=digests, **corpus.facts))
        write_partition(system.evaluation(partition), curves, metrics, FRAME_RATE_HZ)
    return system


def write_run(folder: Path, modality: str, corpus: Corpus, noise: Sequence[float], **options) -> RunFolder:
    """Writes a run folder: `write_system`, a config, the environment and a training log."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.config.write_text(replace(Experiment(), modality=modality).to_json())
    write_json(
        run.environment,
        {"python": "3.12.1", "packages": {"keras": "3.9.0"}, "git_commit": "0123abc", "machine": "x86_64",
         "replicas": 1, "workers": 1, "seed": 7, "initial_runs": {}, "data_fingerprint": corpus.data,
         "synthetic_data": corpus.facts["synthetic"]},
    )  # fmt: skip
    run.training_log.write_text(
        "epoch,loss,ccc_arousal,ccc_valence,val_loss,val_ccc_arousal,val_ccc_valence\n"
        "0,0.9,0.1,0.1,0.95,0.05,0.08\n1,0.5,0.5,0.4,0.7,0.3,0.2\n"
    )
    return write_system(folder, corpus, noise, **options)


def write_baseline(folder: Path, corpus: Corpus, noise: dict[str, Sequence[float]], **options) -> None:
    """Writes the output folder of a baseline: one system for each item of `noise`, see `write_system`."""
    for seed, (name, noise_of_system) in enumerate(noise.items(), start=3):
        write_system(folder / name, corpus, noise_of_system, **{"seed": seed} | options)
    baseline = Baseline(
        protocol="quick", grid=GRIDS["quick"], data=corpus.data, synthetic=bool(corpus.facts["synthetic"]),
        layout=corpus.facts["layout"], versions={"numpy": "2.1.0"}, remarks=("few values were tried",), systems={},
    )  # fmt: skip
    write_json(folder / BASELINE_NAME, baseline)
