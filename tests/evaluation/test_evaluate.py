"""eval.py, the report, the trivial baseline and the exported model, on a real run folder."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from affect.data.dataset import evaluation_dataset, open_data
from affect.evaluation.evaluate import score
from affect.evaluation.postprocess import PostProcessing
from affect.evaluation.predictions import Prediction
from affect.metrics import concordance_cc
from affect.models.trained import TrainedNetwork
from tests.helpers.commands import error_lines, made_once, run_command


@pytest.fixture(scope="session")
def evaluated(audio_run, tmp_path_factory, worker_id):
    def make(run_dir):
        shutil.copytree(audio_run, run_dir)
        done = run_command("eval.py", f"--run_dir={run_dir}", "--partitions=dev,test")
        assert done.returncode == 0, done.stderr
        assert "SYNTHETIC corpus, test" in done.stdout

    return made_once(tmp_path_factory, worker_id, "evaluated", make)


def curves(folder):
    return {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}


def test_metrics_follow_from_the_written_curves(evaluated):
    for partition in ("dev", "test"):
        folder = evaluated / "eval" / partition
        metrics = json.loads((folder / "metrics.json").read_text())
        assert set(metrics) == {"raw", "postprocessed", "recordings", "frames"}
        assert (metrics["recordings"], metrics["frames"]) == (2, 400)
        for key, name in (("raw", "predictions"), ("postprocessed", "predictions_postprocessed")):
            tables = curves(folder / name)
            assert set(tables) == {f"{partition}_1", f"{partition}_2"}
            for dimension in ("arousal", "valence"):
                pairs = [(t[f"{dimension}_gold"], t[dimension]) for t in tables.values()]
                pooled = concordance_cc(*(pd.concat(signals) for signals in zip(*pairs, strict=True)))
                expected = metrics[key][dimension]
                assert expected["ccc_pooled"] == pytest.approx(pooled, abs=1e-4)
                assert expected["ccc_per_recording"] == pytest.approx(
                    np.mean([concordance_cc(*pair) for pair in pairs]), abs=1e-4
                )


def test_prediction_files_have_the_fixed_header_and_frame_end_times(evaluated):
    table = curves(evaluated / "eval/test/predictions")["test_1"]
    assert list(table) == ["time", "arousal", "valence", "arousal_gold", "valence_gold"]
    np.testing.assert_allclose(table["time"], np.arange(1, 201) * 0.04, atol=1e-9)


def test_postprocessed_curves_are_the_chain_fitted_on_dev_applied_to_the_raw_ones(evaluated):
    chains = json.loads((evaluated / "eval/postprocessing.json").read_text())
    raw = curves(evaluated / "eval/test/predictions")["test_2"]
    final = curves(evaluated / "eval/test/predictions_postprocessed")["test_2"]
    for dimension in ("arousal", "valence"):
        chain = PostProcessing.from_json(json.dumps(chains[dimension]))
        np.testing.assert_allclose(chain.apply(raw[dimension]), final[dimension], atol=1e-4)


def test_pooled_and_per_recording_are_different_things():
    wave = np.sin(np.linspace(0, 20, 300))
    gold = [np.stack([wave, wave], axis=1), np.stack([wave + 2, wave], axis=1)]
    predictions = [Prediction(str(i), 0.5 * g, g) for i, g in enumerate(gold)]
    scores = score(predictions)
    pooled = concordance_cc(np.concatenate([wave, wave + 2]), np.concatenate([wave, wave + 2]) / 2)
    assert scores["arousal"]["ccc_pooled"] == pytest.approx(pooled)
    singly = (concordance_cc(wave, wave / 2) + concordance_cc(wave + 2, wave / 2 + 1)) / 2
    assert scores["arousal"]["ccc_per_recording"] == pytest.approx(singly)
    assert abs(pooled - singly) > 0.05


def test_threshold_decides_the_exit_code(audio_run, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(audio_run, run_dir)
    assert run_command("eval.py", f"--run_dir={run_dir}", "--fail_under_ccc=0.999").returncode == 3
    assert run_command("eval.py", f"--run_dir={run_dir}", "--fail_under_ccc=-1").returncode == 0


def test_report_is_self_contained_and_says_synthetic(evaluated):
    page = (evaluated / "eval/report.html").read_text()
    assert "<strong>synthetic</strong>" in page
    assert page.count("<svg") == 1 + 2  # training curves, two test recordings
    assert not re.search(r'(src|href)="(?!#)', page)
    metrics = json.loads((evaluated / "eval/test/metrics.json").read_text())
    assert f"{metrics['postprocessed']['arousal']['ccc_pooled']:.3f}" in page


def test_report_over_several_systems_with_the_trivial_baseline(evaluated, data_dir, tmp_path):
    baseline, report = tmp_path / "baseline.json", tmp_path / "report.html"
    assert run_command(
        "-m", "affect.evaluation.baseline", f"--data_dir={data_dir}", f"--output={baseline}"
    ).returncode == 0  # fmt: skip
    assert set(json.loads(baseline.read_text())) == {"dev", "test"}
    done = run_command("-m", "affect.evaluation.report", f"--run_dirs={evaluated}", f"--baseline={baseline}",
                       f"--output={report}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "trivial baseline" in done.stdout and "trivial baseline" in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval.py", "--run_dir=nowhere"], "error: run folder nowhere does not exist; train.py writes it"),
        (["eval.py", "--run_dir=tests"], "error: tests is no run folder: it has no config.json"),
        (["-m", "affect.evaluation.report", "--run_dirs=nowhere", "--output=x.html"], "nowhere"),
        (["-m", "affect.serving.export", "--run_dir=nowhere", "--output_dir=x"], "run folder nowhere does not exist"),
    ],
)
def test_commands_on_folders_that_are_not_there(arguments, message):
    done = run_command(*arguments)
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert message in line


def test_unknown_partition_is_refused(audio_run):
    done = run_command("eval.py", f"--run_dir={audio_run}", "--partitions=dev,exam")
    assert done.returncode == 2 and "takes train, dev and test" in done.stderr


def test_weights_of_another_architecture_are_refused(audio_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(audio_run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["model"]["lstm_units"] = [32, 32]
    (copy / "config.json").write_text(json.dumps(config))
    done = run_command("eval.py", f"--run_dir={copy}")
    assert done.returncode == 2 and "best.weights.h5 does not fit the network" in done.stderr


SERVE = """
import sys
sys.modules["affect"] = None  # importing the package would fail
sys.modules["keras"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
audio = np.load(sys.argv[2])
np.save(sys.argv[3], serve(audio=tf.constant(audio))["predictions"].numpy())
for batch, time in ((1, 1), (3, 17)):
    assert serve(audio=tf.zeros((batch, time, 640)))["predictions"].shape == (batch, time, 2)
"""


def test_exported_model_runs_without_this_package_and_equals_the_network(audio_run, tmp_path):
    done = run_command("-m", "affect.serving.export", f"--run_dir={audio_run}", f"--output_dir={tmp_path}/export")
    assert done.returncode == 0, done.stderr
    trained = TrainedNetwork.load(audio_run)
    experiment = trained.run.read_config()
    manifest = open_data(experiment)
    inputs, _, _ = next(iter(evaluation_dataset(experiment, manifest, manifest.partition("test"), 2)))
    np.save(tmp_path / "audio.npy", inputs["audio"].numpy())
    served = subprocess.run(
        [sys.executable, "-c", SERVE, f"{tmp_path}/export", f"{tmp_path}/audio.npy", f"{tmp_path}/out.npy"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert served.returncode == 0, served.stderr
    # Two graphs of the same kernels: the order of additions may differ, no more.
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), trained.network(inputs), atol=1e-5)
    contract = json.loads((tmp_path / "export/affect.json").read_text())
    assert contract["standardise"] == "recording" and contract["sample_rate_hz"] == 16_000
    again = run_command("-m", "affect.serving.export", f"--run_dir={audio_run}", f"--output_dir={tmp_path}/export")
    assert again.returncode == 2 and "--overwrite" in again.stderr
