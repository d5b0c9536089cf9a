"""The ablations: what is changed, what is trained, what the tables say, and what is refused."""

import json

import keras
import msgspec
import numpy as np
import pytest
from msgspec.structs import asdict

from affect.errors import UserError
from affect.evaluation import eval_command
from affect.evaluation.prediction_files import read_curves
from affect.metrics import concordance_cc
from affect.runs import RunFolder
from experiments import ablations
from experiments.ablation_table import Results
from experiments.ablations import AblationPlan
from tests.helpers.commands import run_command
from tests.helpers.in_process import call_main

TINY = [
    f"--set={setting}"
    for setting in (
        "train.batch_size=1", "train.learning_rate=1e-2", "model.audio_filters=4,8", "model.audio_taps=20,4",
        "model.audio_channel_pool=4", "model.lstm_units=8",
    )
]  # fmt: skip
# The fixtures' recordings have 200 frames.
SHORT = {
    "sequence_length": ("data.window_frames", ("100", "40")),
    "objective": ("train.objective", ("ccc", "mse")),
    "initial_weights": ("train.video_weights", ("none",)),
}


def plan_of(modality, *settings, names=tuple(ablations.SETTINGS), preset="paper"):
    return AblationPlan(preset, modality, list(settings), None, names)


def differences(a, b):
    """Names of the settings in which two experiments differ."""
    return {
        f"{section}.{name}"
        for section in ("model", "data", "augment", "train")
        for name, value in asdict(getattr(a, section)).items()
        if value != asdict(getattr(b, section))[name]
    }


@pytest.fixture(scope="module")
def results(data_dir, tmp_path_factory):
    """The folder of the ablations of the demo preset's audio network, made tiny; what was printed; the flags."""
    output_dir = tmp_path_factory.mktemp("ablations")
    flags = ["--preset=demo", "--epochs=1", f"--data_dir={data_dir}", f"--output_dir={output_dir}", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "SETTINGS", SHORT)
        assert not call_main(ablations, *flags)
    return output_dir, flags


@pytest.fixture
def short_windows(monkeypatch):
    monkeypatch.setattr(ablations, "SETTINGS", SHORT)


@pytest.mark.parametrize(
    ("modality", "expected"),
    [
        (
            "audio",
            {
                "sequence_length": {"150": "base", "70": "window_frames_70", "300": "window_frames_300"},
                "objective": {"ccc": "base", "mse": "objective_mse"},
            },
        ),
        (
            "video",
            {
                "sequence_length": {"150": "base", "70": "window_frames_70", "300": "window_frames_300"},
                "objective": {"ccc": "base", "mse": "objective_mse"},
                "initial_weights": {"imagenet": "base", "none": "video_weights_none"},
            },
        ),
    ],
)
def test_the_papers_own_values_come_first_and_share_one_run(modality, expected):
    variants = plan_of(modality).variants()
    assert {name: {one.value: one.folder for one in of_name} for name, of_name in variants.items()} == expected


@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
def test_variants_differ_from_the_base_in_the_named_setting_only(modality):
    plan = plan_of(modality, "train.seed=3")
    for name, variants in plan.variants().items():
        for variant in variants:
            changed = differences(plan.experiment(), plan.experiment(variant.assignment))
            assert changed == (set() if variant.folder == "base" else {ablations.SETTINGS[name][0]})
    batch_sizes = {plan.experiment(one.assignment).train.batch_size for one in plan.variants()["sequence_length"]}
    assert batch_sizes == {25 if modality == "audio" else 2}


def test_a_preset_with_another_window_is_trained_with_every_length():
    variants = plan_of("audio", preset="demo").variants()
    assert [one.folder for one in variants["sequence_length"]] == [
        "window_frames_150", "window_frames_70", "window_frames_300"
    ]  # fmt: skip
    assert [one.folder for one in variants["objective"]] == ["base", "objective_mse"]


def test_given_weights_are_compared_with_random_ones(tmp_path):
    weights = tmp_path / "resnet50.h5"
    plan = plan_of("video", f"train.video_weights={weights}")
    given, random = plan.variants()["initial_weights"]
    assert (given.value, given.folder) == (str(weights), "base")
    assert (random.value, random.folder) == ("none", "video_weights_none")
    without = plan_of("video", "train.video_weights=none")
    assert "initial_weights" not in without.variants()
    assert without.reason_against("initial_weights") == "no initial weights are given; name them with --video_weights"


def test_runs_on_disk_differ_in_the_named_setting_only(results):
    output_dir, _ = results
    base = RunFolder(output_dir / "base/seed0").read_config()
    assert (base.train.epochs, base.train.objective, base.data.window_frames) == (1, "ccc", 100)
    folders = {path.parent.name for path in output_dir.glob("*/seed0")}
    assert folders == {"base", "window_frames_40", "objective_mse"}
    assert differences(base, RunFolder(output_dir / "window_frames_40/seed0").read_config()) == {"data.window_frames"}
    assert differences(base, RunFolder(output_dir / "objective_mse/seed0").read_config()) == {"train.objective"}


def test_tables_hold_what_the_evaluations_say(results):
    output_dir, _ = results
    stored = msgspec.convert(json.loads((output_dir / "ablations.json").read_text()), Results)
    markdown = (output_dir / "ablations.md").read_text()
    assert stored.synthetic and "Synthetic corpus" in markdown
    assert stored.recordings == {"dev": 2, "test": 2}
    values = {name: [row.value for row in table.rows] for name, table in stored.ablations.items()}
    assert values == {"sequence_length": ["100", "40"], "objective": ["ccc", "mse"]}
    # Of 200 frames, an epoch uses at least 101 in windows of 100 and 161 in windows of 40; there are two recordings.
    assert [row.updates for row in stored.ablations["sequence_length"].rows] == [2, 8]

    for table in stored.ablations.values():
        first, *others = table.rows
        for row in table.rows:
            for partition in ("dev", "test"):
                metrics = json.loads((output_dir / row.run / "eval" / partition / "metrics.json").read_text())
                for dimension, score in row.scores[partition].items():
                    expected = metrics["postprocessed"][dimension]
                    assert score.ccc_pooled == expected["ccc_pooled"]
                    assert score.ccc_pooled_ci95 == expected["ccc_pooled_ci95"]
                    assert f"| {row.value} | 0 | {row.updates} | {partition} | " in markdown
                    assert f"| {score.ccc_pooled:.3f} |" in markdown
        for row in others:
            for partition in ("dev", "test"):
                for axis, dimension in enumerate(("arousal", "valence")):
                    own, reference = (pooled(output_dir / one.run, partition, axis) for one in (row, first))
                    found = row.scores[partition][dimension].difference
                    assert found.difference == pytest.approx(own - reference, abs=1e-6)
                    assert found.recordings == 2
        assert all(score.difference is None for of_one in first.scores.values() for score in of_one.values())


def pooled(run_dir, partition, axis):
    """The pooled CCC of the post-processed curves in an HDF5 file, computed here."""
    predictions = read_curves(run_dir / "eval" / partition / "predictions.h5")["postprocessed"]
    gold, predicted = (np.concatenate([getattr(one, name)[:, axis] for one in predictions]) for name in
                       ("gold", "predicted"))  # fmt: skip
    return concordance_cc(gold, predicted)


def test_what_is_left_out_is_said(results):
    text = (results[0] / "ablations.md").read_text()
    assert "initial_weights is left out: an audio network has no ResNet-50." in text


def test_a_second_call_trains_and_evaluates_nothing_and_writes_the_same_tables(results, short_windows, monkeypatch):
    output_dir, flags = results
    kept = ["*/seed0/best.weights.h5", "*/seed0/checkpoints/*", "*/seed0/eval/*/metrics.json"]
    paths = [path for pattern in kept for path in output_dir.glob(pattern)]
    before = {path: path.stat().st_mtime_ns for path in paths}
    tables = {
        path: path.read_text() for pattern in ("ablations.*", "*/*/training.csv") for path in output_dir.glob(pattern)
    }
    assert (len(before), len(tables)) == (3 * (1 + 1 + 2), 2 + 3)
    monkeypatch.setattr("affect.learning.loop.TrainingLoop.train_step", None)
    assert not call_main(ablations, *flags)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.read_text() for path in tables} == tables


def test_scores_of_older_weights_are_not_kept(results, short_windows):
    """As after a kill between training and evaluation."""
    output_dir, flags = results
    metrics = output_dir / "objective_mse/seed0/eval/test/metrics.json"
    stale = json.loads(metrics.read_text())
    stale["digests"]["weights"] = "0" * 64
    metrics.write_text(json.dumps(stale))
    assert not call_main(ablations, *flags, "--only=objective")
    assert json.loads(metrics.read_text())["digests"]["weights"] != "0" * 64


def test_a_run_that_was_evaluated_with_other_options_is_evaluated_again(results, short_windows):
    output_dir, flags = results
    run = output_dir / "objective_mse/seed0"
    assert not call_main(eval_command, f"--run_dir={run}", "--postprocess=none", "--context=recording")
    assert not call_main(ablations, *flags, "--only=objective")
    metrics = json.loads((run / "eval/test/metrics.json").read_text())
    assert (metrics["chosen"], metrics["context"]) == ("paper", "window")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only=depth"], "--only=depth: expected any of sequence_length, objective, initial_weights"),
        (["--only="], "--only=: expected any of"),
        (["--only=initial_weights"], "initial_weights cannot be done: an audio network has no ResNet-50"),
        (
            ["--only=initial_weights", "--modality=video"],
            "initial_weights cannot be done: no initial weights are given; name them with --video_weights",
        ),
        (["--modality=video", "--video_weights=resnet.h5"], "model.video_net is 'narrow'; it must be resnet50"),
        (
            ["--only=sequence_length"],
            "recording train_1 gives 200 frames for training, and the longest windows of sequence_length have 300; "
            "leave it out with --only=objective,initial_weights",
        ),
        (["--only=sequence_length", "--set=data.label_delay_secs=2"], "recording train_1 gives 150 frames"),
        (["--set=train.batchsize=2"], "did you mean 'train.batch_size'"),
        (["--output_dir=s3://bucket/runs"], "--output_dir=s3://bucket/runs must be a local folder"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(data_dir, tmp_path, arguments, message):
    output_dir = tmp_path / "runs"
    flags = ["--preset=demo", f"--data_dir={data_dir}", f"--output_dir={output_dir}", *TINY]
    with pytest.raises(UserError) as caught:
        call_main(ablations, *flags, *arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not output_dir.exists()


def test_the_command_ends_with_one_line_and_exit_code_2(tmp_path):
    done = run_command("-m", "experiments.ablations", f"--data_dir={tmp_path}", f"--output_dir={tmp_path}/runs",
                       "--only=depth")  # fmt: skip
    assert done.returncode == 2
    # TensorFlow 2.21 may write a line of its own before it.
    last = done.stderr.splitlines()[-1]
    assert last == "error: --only=depth: expected any of sequence_length, objective, initial_weights"


def test_two_seeds_are_two_rows_and_a_mean():
    """The table alone: mean and sample standard deviation of .2 and .4 are .3 and .141."""

    def row(value, seed, ccc, difference):
        score = {"ccc_pooled": ccc, "ccc_pooled_ci95": [ccc - 0.1, ccc + 0.1], "difference": difference and {
            "difference": difference, "ci95": None, "p_value": 0.25, "recordings": 2}}  # fmt: skip
        return {"value": value, "seed": seed, "run": "x", "updates": 5,
                "scores": {"test": {"arousal": score, "valence": score}}}  # fmt: skip

    rows = [row("ccc", 0, 0.2, None), row("ccc", 1, 0.4, None), row("mse", 0, 0.1, -0.1), row("mse", 1, 0.1, -0.3)]
    content = {
        "preset": "demo", "modality": "audio", "epochs": 1, "batch_size": 8, "synthetic": False,
        "recordings": {"test": 2}, "ablations": {"objective": {"setting": "train.objective", "rows": rows}},
    }  # fmt: skip
    text = msgspec.convert(content, Results).to_markdown()
    assert "Synthetic" not in text
    assert "| ccc | 1 | 5 | test | 0.400 [0.300, 0.500] |  | 0.400 [0.300, 0.500] |  |" in text
    assert "| ccc | mean ± std |  | test | 0.300 ± 0.141 |  | 0.300 ± 0.141 |  |" in text
    assert "| mse | 0 | 5 | test | 0.100 [0.000, 0.200] | -0.100, p 0.250 |" in text
    assert "| mse | mean ± std |  | test | 0.100 ± 0.000 | -0.200 ± 0.141 | 0.100 ± 0.000 | -0.200 ± 0.141 |" in text


@pytest.mark.slow
def test_a_resnet50_starts_from_the_given_file_and_from_random_weights(data_dir, tmp_path):
    keras.utils.set_random_seed(8)
    source = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    source.save_weights(tmp_path / "resnet50.weights.h5")
    assert not call_main(
        ablations, "--preset=demo", "--modality=video", f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'runs'}",
        "--only=initial_weights", "--epochs=1", f"--video_weights={tmp_path / 'resnet50.weights.h5'}",
        "--set=model.video_net=resnet50", "--set=model.video_scaling=imagenet", "--set=train.batch_size=2",
        "--set=data.window_frames=100", "--set=train.learning_rate=1e-12", "--set=model.lstm_units=8",
    )  # fmt: skip
    stored = json.loads((tmp_path / "runs/ablations.json").read_text())
    rows = stored["ablations"]["initial_weights"]["rows"]
    assert [row["run"] for row in rows] == ["base/seed0", "video_weights_none/seed0"]

    def kernel(run):
        from affect.models.trained import TrainedNetwork

        network = TrainedNetwork.load(tmp_path / "runs" / run).network
        return network.get_layer("video_net").get_layer("resnet50").get_layer("conv1_conv").get_weights()[0]

    expected = source.get_layer("conv1_conv").get_weights()[0]
    np.testing.assert_allclose(kernel("base/seed0"), expected, atol=1e-9)
    assert not np.allclose(kernel("video_weights_none/seed0"), expected, atol=1e-3)
