"""eval.py, the report and the trivial baseline, on a real run folder."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from affect.errors import UserError
from affect.evaluation import baseline, eval_command, report
from affect.evaluation.evaluate import score
from affect.evaluation.postprocess import read_chains
from affect.evaluation.predictions import Prediction
from affect.metrics import concordance_cc
from affect.serving import export
from tests.helpers.commands import made_once, run_command
from tests.helpers.in_process import call_main


@pytest.fixture(scope="session")
def evaluated(audio_run, tmp_path_factory, worker_id):
    def make(run_dir):
        shutil.copytree(audio_run, run_dir)
        # The one real process: a threshold that no network reaches, so that its exit code is 3 and not 0.
        done = run_command("eval.py", f"--run_dir={run_dir}", "--partitions=dev,test", "--fail_under_ccc=0.999")
        assert done.returncode == 3, done.stderr
        assert "SYNTHETIC corpus, test" in done.stdout
        assert "is below 0.999" in done.stdout

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
    chains = read_chains(evaluated / "eval/postprocessing.json")
    raw = curves(evaluated / "eval/test/predictions")["test_2"]
    final = curves(evaluated / "eval/test/predictions_postprocessed")["test_2"]
    for dimension in ("arousal", "valence"):
        np.testing.assert_allclose(chains[dimension].apply(raw[dimension]), final[dimension], atol=1e-4)


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


@pytest.mark.parametrize(("threshold", "exit_code"), [(None, 0), (0.3, 0), (0.31, 3)])
def test_threshold_is_compared_with_the_mean_of_the_two_dimensions(
    audio_run, tmp_path, monkeypatch, threshold, exit_code
):
    metrics = {name: {"ccc_pooled": ccc} for name, ccc in (("arousal", 0.5), ("valence", 0.1))}
    content = {"test": {"raw": metrics, "postprocessed": metrics, "recordings": 2, "frames": 400}}
    monkeypatch.setattr("affect.evaluation.evaluate.evaluate", lambda *arguments: content)
    monkeypatch.setattr("affect.evaluation.report.write_report", lambda *arguments, **options: None)
    arguments = [] if threshold is None else [f"--fail_under_ccc={threshold}"]
    assert call_main(eval_command, f"--run_dir={audio_run}", "--partitions=test", *arguments) == exit_code


def test_evaluation_again_replaces_the_old_results(evaluated, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(evaluated, run_dir)
    (run_dir / "eval/test/predictions/of_an_older_corpus.csv").write_text("time\n")
    before = json.loads((run_dir / "eval/test/metrics.json").read_text())
    assert call_main(eval_command, f"--run_dir={run_dir}", "--partitions=test", "--fail_under_ccc=-1") == 0
    assert set(curves(run_dir / "eval/test/predictions")) == {"test_1", "test_2"}
    after = json.loads((run_dir / "eval/test/metrics.json").read_text())
    for key in ("raw", "postprocessed"):
        for dimension in ("arousal", "valence"):
            assert after[key][dimension] == pytest.approx(before[key][dimension], abs=1e-6)
    assert not list((run_dir / "eval").glob(".*"))


def test_report_is_self_contained_and_says_synthetic(evaluated):
    page = (evaluated / "eval/report.html").read_text()
    assert "<strong>synthetic</strong>" in page
    assert page.count("<svg") == 1 + 2  # training curves, two test recordings
    assert not re.search(r'(src|href)="(?!#)', page)
    metrics = json.loads((evaluated / "eval/test/metrics.json").read_text())
    assert f"{metrics['postprocessed']['arousal']['ccc_pooled']:.3f}" in page


def test_report_over_several_systems_with_the_trivial_baseline(evaluated, data_dir, tmp_path, capsys):
    scores, page = tmp_path / "baseline.json", tmp_path / "report.html"
    call_main(baseline, f"--data_dir={data_dir}", f"--output={scores}")
    content = json.loads(scores.read_text())
    assert set(content) == {"dev", "test"}
    assert (content["test"]["recordings"], content["test"]["frames"]) == (2, 400)
    printed = capsys.readouterr().out
    assert f"valence {content['test']['postprocessed']['valence']['ccc_pooled']:.3f}" in printed
    call_main(report, f"--run_dirs={evaluated}", f"--baseline={scores}", f"--output={page}")
    assert "trivial baseline" in capsys.readouterr().out
    assert "trivial baseline" in page.read_text()


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (eval_command, ["--run_dir=nowhere"], "^run folder nowhere does not exist; run train.py to create it$"),
        (eval_command, ["--run_dir=tests"], "tests is not a run folder: it has no config.json"),
        (report, ["--run_dirs=nowhere", "--output=x.html"], "nowhere"),
        (export, ["--run_dir=nowhere", "--output_dir=x"], "run folder nowhere does not exist"),
    ],
)
def test_commands_on_folders_that_do_not_exist(command, arguments, message):
    with pytest.raises(UserError, match=message):
        call_main(command, *arguments)


def test_without_scores_of_dev_or_test_there_is_no_report(audio_run, tmp_path, capsys):
    shutil.copytree(audio_run, tmp_path / "run")
    assert not call_main(eval_command, f"--run_dir={tmp_path}/run", "--partitions=train")
    printed = capsys.readouterr().out
    assert "SYNTHETIC corpus, train" in printed and "report:" not in printed
    assert not (tmp_path / "run/eval/report.html").exists()


def test_an_unknown_partition_is_one_line_and_exit_code_2(audio_run):
    done = run_command("eval.py", f"--run_dir={audio_run}", "--partitions=dev,exam")
    assert done.returncode == 2
    assert done.stderr == "error: --partitions=dev,exam: expected any of train, dev and test\n"


def test_weights_of_another_architecture_are_refused(audio_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(audio_run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["model"]["lstm_units"] = [32, 32]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="best.weights.h5 does not fit the network"):
        call_main(eval_command, f"--run_dir={copy}")
