"""eval.py on a real run folder."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace

from affect.errors import UserError
from affect.evaluation import eval_command, report
from affect.evaluation.evaluate import score
from affect.evaluation.postprocess import read_chains
from affect.evaluation.predictions import Prediction, predict, write_csv
from affect.evaluation.scores import DimensionScores, Metrics
from affect.metrics import concordance_cc
from affect.serving import export
from tests.helpers.commands import run_command
from tests.helpers.in_process import call_main
from tests.helpers.planted import rewrite_shards


def curves(folder):
    return {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}


def test_metrics_follow_from_the_written_curves(evaluated):
    for partition in ("dev", "test"):
        folder = evaluated / "eval" / partition
        metrics = json.loads((folder / "metrics.json").read_text())
        assert set(metrics) == {
            "raw", "postprocessed", "recordings", "frames", "synthetic", "same_data_as_training", "digests",
            "faceless_share", "faceless_share_per_recording",
        }  # fmt: skip
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
    assert scores["arousal"].ccc_pooled == pytest.approx(pooled)
    singly = (concordance_cc(wave, wave / 2) + concordance_cc(wave + 2, wave / 2 + 1)) / 2
    assert scores["arousal"].ccc_per_recording == pytest.approx(singly)
    assert abs(pooled - singly) > 0.05


@pytest.mark.parametrize(("threshold", "exit_code"), [(None, 0), (0.3, 0), (0.31, 3)])
def test_threshold_is_compared_with_the_mean_of_the_two_dimensions(
    audio_run, tmp_path, monkeypatch, threshold, exit_code
):
    scores = {name: DimensionScores(ccc, ccc, ccc, 0.1) for name, ccc in (("arousal", 0.5), ("valence", 0.1))}
    metrics = Metrics(raw=scores, postprocessed=scores, recordings=2, frames=400)
    monkeypatch.setattr("affect.evaluation.evaluate.evaluate", lambda *arguments: {"test": metrics})
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


def test_train_is_scored_and_reported_when_asked_for(run_dir, capsys):
    assert call_main(eval_command, f"--run_dir={run_dir}", "--partitions=train") == 0
    printed = capsys.readouterr().out
    assert "SYNTHETIC corpus, train" in printed and "SYNTHETIC corpus, dev" not in printed
    page = (run_dir / "eval/report.html").read_text()
    assert "Concordance (CCC), train" in page and "Concordance (CCC), dev" in page


@pytest.fixture(scope="module")
def data_without_test_labels(data_dir, tmp_path_factory):
    def withhold(entry, fields):
        if entry.partition == "test":
            fields["labels"][:] = 0

    output_dir = tmp_path_factory.mktemp("withheld") / "records"
    return rewrite_shards(
        data_dir, output_dir, withhold, lambda entry: replace(entry, has_labels=entry.partition != "test")
    )


def test_withheld_labels_are_predicted_and_said(run_dir, data_without_test_labels, capsys):
    flags = [f"--run_dir={run_dir}", f"--data_dir={data_without_test_labels}"]
    assert call_main(eval_command, *flags, "--partitions=test") == 0
    printed = capsys.readouterr().out
    assert "test: predicted but not scored, because its labels are not known" in printed
    assert list(curves(run_dir / "eval/test/predictions")["test_1"]) == ["time", "arousal", "valence"]
    assert not (run_dir / "eval/test/metrics.json").exists()
    page = (run_dir / "eval/report.html").read_text()
    assert "Concordance (CCC), dev" in page and "Concordance (CCC), test" not in page


def test_a_threshold_for_withheld_labels_is_refused_before_any_work(run_dir, data_without_test_labels):
    flags = [f"--run_dir={run_dir}", f"--data_dir={data_without_test_labels}"]
    with pytest.raises(UserError, match="--fail_under_ccc: .*records has no labels in partition test, the last of"):
        call_main(eval_command, *flags, "--fail_under_ccc=0")
    assert not (run_dir / "eval").exists()
    assert call_main(eval_command, *flags, "--fail_under_ccc=-1", "--partitions=test,dev") == 0


def test_every_partition_is_predicted_once_however_often_it_is_named(run_dir, monkeypatch):
    predicted = []

    def counted(network, experiment, manifest, entries):
        predicted.extend(entry.name for entry in entries)
        return predict(network, experiment, manifest, entries)

    monkeypatch.setattr("affect.evaluation.evaluate.predict", counted)
    assert call_main(eval_command, f"--run_dir={run_dir}", "--partitions=test, dev ,test", "--fail_under_ccc=-1") == 0
    assert sorted(predicted) == ["dev_1", "dev_2", "test_1", "test_2"]


def test_a_partition_that_cannot_be_written_keeps_its_old_results(evaluated, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    shutil.copytree(evaluated, run_dir)
    before = {path: path.read_bytes() for path in (run_dir / "eval/test").rglob("*.*")}

    def fail_in_the_middle(prediction, frame_rate_hz, path):
        if prediction.recording == "test_2":
            raise OSError("disk full")
        write_csv(prediction, frame_rate_hz, path)

    monkeypatch.setattr("affect.evaluation.evaluate.write_csv", fail_in_the_middle)
    with pytest.raises(OSError, match="disk full"):
        call_main(eval_command, f"--run_dir={run_dir}")
    assert before == {path: path.read_bytes() for path in (run_dir / "eval/test").rglob("*.*")}


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
