"""eval.py on a folder of several seeds: every seed is evaluated, and the spread of the scores is written."""

import shutil

import h5py
import numpy as np
import pytest

from affect.evaluation import eval_command
from affect.evaluation.seeds import Spread, seed_runs
from affect.storage import read_json
from tests.helpers.in_process import call_main


@pytest.fixture
def several(audio_run, tmp_path):
    """Three seeds of one network; the second and third differ in their weights."""
    for seed in range(8, 11):  # as text, 10 would come before 8
        shutil.copytree(audio_run, tmp_path / f"several/seed{seed}")
        with h5py.File(tmp_path / f"several/seed{seed}/best.weights.h5", "r+") as file:
            found = []
            file.visititems(lambda _, item, found=found: found.append(item) if hasattr(item, "shape") else None)
            for item in found:
                if item.ndim:
                    item[...] *= 1.0 + 0.3 * (seed - 8)
    return tmp_path / "several"


def test_every_seed_is_evaluated_and_mean_and_deviation_of_each_score_are_written(several, capsys):
    assert call_main(eval_command, f"--run_dir={several}", "--partitions=test", "--fail_under_ccc=0.999") == 3
    scores = [read_json(several / f"seed{seed}/eval/test/metrics.json") for seed in (8, 9, 10)]
    written = read_json(several / "eval/seeds.json")
    assert written["seeds"] == ["seed8", "seed9", "seed10"]
    test = written["systems"]["audio"]["test"]
    assert (test["chosen"], test["synthetic"]) == ("paper", True)
    for kind in ("raw", "postprocessed", "cautious"):
        for dimension in ("arousal", "valence"):
            for score in ("ccc_pooled", "ccc_per_recording", "rmse_pooled"):
                values = [one[kind][dimension][score] for one in scores]
                assert test[kind][dimension][score]["mean"] == pytest.approx(sum(values) / 3)
                assert test[kind][dimension][score]["std"] == pytest.approx(np.std(values) * np.sqrt(3 / 2))
                assert kind != "raw" or np.std(values) > 1e-6
    printed = capsys.readouterr().out
    arousal = test["postprocessed"]["arousal"]["ccc_pooled"]
    assert "SYNTHETIC corpus, audio, test, mean and standard deviation over 3 seeds: pooled CCC" in printed
    assert f"arousal {arousal['mean']:.3f} +- {arousal['std']:.3f}" in printed
    mean = np.mean([one["postprocessed"][name]["ccc_pooled"] for one in scores for name in ("arousal", "valence")])
    assert f"test: mean CCC {mean:.3f} is below 0.999" in printed


def test_seeds_of_a_pretraining_are_grouped_by_modality(audio_run, tmp_path):
    for folder in ("seed0/audio", "seed0/audiovisual", "seed1/audio", "seed1/audiovisual"):
        (tmp_path / folder).mkdir(parents=True)
        config = (audio_run / "config.json").read_text()
        modality = folder.split("/")[1]
        (tmp_path / folder / "config.json").write_text(config.replace('"audio"', f'"{modality}"'))
    (tmp_path / "seed_notes").mkdir()
    assert seed_runs(tmp_path) == {
        modality: [tmp_path / f"seed{seed}" / modality for seed in (0, 1)] for modality in ("audio", "audiovisual")
    }
    assert seed_runs(audio_run) == {}


def test_the_spread_of_a_single_value_is_zero():
    assert Spread.of([0.5]) == Spread(0.5, 0.0)
