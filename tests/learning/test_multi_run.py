"""Runs of several trainings: pretraining, repetitions with other seeds, and the experiments of both."""

import json
from pathlib import Path

import numpy as np
import pytest

from affect.config import MODALITIES, override
from affect.errors import UserError
from affect.learning import multi_run, training
from affect.learning.multi_run import TrainingPlan
from affect.learning.options import RunOptions
from affect.presets import get_preset
from tests.helpers.planted import with_faces


@pytest.fixture
def calls(monkeypatch):
    """What `train` was called with: (experiment, folder, initial runs); the n-th call returns n / 10."""
    calls = []

    def train(experiment, run_dir, initial_runs, strategy, options):
        calls.append((experiment, run_dir, dict(initial_runs)))
        return 0.1 * len(calls)

    monkeypatch.setattr(training, "train", train)
    return calls


def test_pretraining_trains_both_modalities_alone_and_then_together(calls, data_dir, tmp_path):
    settings = [f"data.data_dir={data_dir}"]
    experiments = {modality: override(get_preset("demo", modality), settings) for modality in MODALITIES}
    assert multi_run.pretrain(experiments, tmp_path, None, RunOptions()) == pytest.approx(0.3)
    unimodal = {name: tmp_path / name for name in ("audio", "video")}
    assert calls == [
        (experiments["audio"], tmp_path / "audio", {}),
        (experiments["video"], tmp_path / "video", {}),
        (experiments["audiovisual"], tmp_path / "audiovisual", unimodal),
    ]
    (tmp_path / "config.json").touch()
    with pytest.raises(UserError, match="holds a single run; --pretrain needs another --run_dir"):
        multi_run.pretrain(experiments, tmp_path, None, RunOptions())


def test_pretraining_refuses_data_that_does_not_fit_the_video_network_before_it_trains_the_audio_network(
    calls, data_dir, tmp_path
):
    records = with_faces(data_dir, tmp_path / "records", {}, train_2={"has_video": False})
    plan = TrainingPlan("demo", "audiovisual", [f"data.data_dir={records}"], tmp_path / "run", pretrain=True)
    with pytest.raises(UserError, match=r"1 recording\(s\) have no video \(train_2\)"):
        multi_run.train_plan(plan, RunOptions(), "one_device")
    assert calls == []


def test_seeds_are_summarised_by_mean_and_standard_deviation(tmp_path, capsys):
    scores = {4: 0.1, 5: 0.3, 6: 0.8}

    def train_one(seed, run_dir):
        assert run_dir == tmp_path / f"seed{seed}"
        return scores[seed]

    multi_run.repeat(train_one, [4, 5, 6], tmp_path, is_chief=False)
    assert not (tmp_path / "seeds.json").exists()
    multi_run.repeat(train_one, [4, 5, 6], tmp_path, is_chief=True)
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert summary["best_dev_ccc"] == {"4": 0.1, "5": 0.3, "6": 0.8}
    assert summary["mean"] == pytest.approx(0.4)
    assert summary["std"] == pytest.approx(np.std(list(scores.values()), ddof=1))
    assert capsys.readouterr().out.endswith("best mean dev CCC over 3 seeds: mean 0.400, std 0.361\n")


def test_a_plan_has_an_experiment_for_each_seed_and_modality():
    settings = ["train.seed=7", "train.epochs=3", "data.data_dir=/records"]
    experiments = TrainingPlan("demo", "audiovisual", settings, Path("run"), pretrain=True, seeds=2).experiments()
    assert list(experiments) == [7, 8]
    for seed, by_modality in experiments.items():
        assert tuple(by_modality) == MODALITIES
        for modality, experiment in by_modality.items():
            assert (experiment.modality, experiment.train.seed, experiment.train.epochs) == (modality, seed, 3)
            assert experiment.model == get_preset("demo", modality).model
    single = TrainingPlan("paper", "audio", [], Path("run"))
    assert single.experiments() == {0: {"audio": get_preset("paper", "audio")}}


@pytest.mark.parametrize("plan", [{"modality": "audio"}, {"initial_runs": {"audio": Path("x")}}])
def test_pretraining_is_for_a_new_audiovisual_network(plan):
    plan = TrainingPlan(**{"preset": "demo", "modality": "audiovisual", "settings": [], "run_dir": Path("run")} | plan)
    assert plan.experiments()
    with pytest.raises(UserError, match="--pretrain trains audio and video itself"):
        TrainingPlan(**vars(plan) | {"pretrain": True}).experiments()


def test_pretraining_with_two_seeds_trains_six_networks(calls, data_dir, tmp_path, capsys):
    settings = [f"data.data_dir={data_dir}"]
    plan = TrainingPlan("demo", "audiovisual", settings, tmp_path, pretrain=True, seeds=2)
    multi_run.train_plan(plan, RunOptions(), "one_device")
    assert [(experiment.train.seed, run_dir.relative_to(tmp_path)) for experiment, run_dir, _ in calls] == [
        (seed, Path(f"seed{seed}") / modality) for seed in (0, 1) for modality in MODALITIES
    ]
    assert calls[5][2] == {name: tmp_path / "seed1" / name for name in ("audio", "video")}
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert summary["best_dev_ccc"] == pytest.approx({"0": 0.3, "1": 0.6})
    assert "next:" not in capsys.readouterr().out


@pytest.mark.parametrize(("pretrain", "final"), [(True, "/audiovisual"), (False, "")])
def test_a_finished_training_says_what_to_run_next(calls, data_dir, tmp_path, capsys, pretrain, final):
    plan = TrainingPlan("demo", "audiovisual", [f"data.data_dir={data_dir}"], tmp_path, pretrain=pretrain)
    multi_run.train_plan(plan, RunOptions())
    score = 0.3 if pretrain else 0.1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"best mean dev CCC {score:.3f}; next: python eval.py --run_dir={tmp_path}{final}"
