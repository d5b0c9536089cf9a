"""eval.py on a real run folder."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace

from affect.errors import UserError
from affect.evaluation import eval_command, report
from affect.evaluation.chain import read_chains, read_fitted_chains
from affect.evaluation.options import DEFAULT_CONTEXT
from affect.evaluation.prediction_files import read_predictions, write_csv
from affect.evaluation.predictions import predict
from affect.evaluation.scores import DimensionScores, Metrics
from affect.metrics import concordance_cc
from affect.serving import export
from affect.storage import read_json
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
            "raw", "postprocessed", "cautious", "avec", "chosen", "context", "ccc_after_steps", "recordings", "frames",
            "unlabelled_recordings", "layout", "synthetic", "same_data_as_training", "digests", "faceless_share",
            "faceless_share_per_recording",
        }  # fmt: skip
        assert (metrics["recordings"], metrics["frames"], metrics["unlabelled_recordings"]) == (2, 400, 0)
        assert (metrics["chosen"], metrics["context"], metrics["layout"]) == ("paper", DEFAULT_CONTEXT, "avec2016")
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
    assert "All systems, train" in page and "All systems, dev" in page


def test_the_chosen_chain_is_written_judged_and_kept_for_the_export(run_dir):
    files = {}
    for chosen, kind in (("paper", "postprocessed"), ("cautious", "cautious"), ("none", "raw")):
        assert call_main(eval_command, f"--run_dir={run_dir}", f"--postprocess={chosen}", "--partitions=test") == 0
        metrics = read_json(run_dir / "eval/test/metrics.json", Metrics)
        assert metrics.chosen == chosen and metrics.headline() == getattr(metrics, kind)
        fitted = read_fitted_chains(run_dir / "eval/chains.json")
        assert fitted.chosen == chosen
        assert fitted.chosen_chains() == read_chains(run_dir / "eval/postprocessing.json")
        stored = read_predictions(run_dir / "eval/test/predictions.h5")
        assert stored.chosen == kind and list(stored.curves) == ["raw", "postprocessed", "cautious"]
        written = curves(run_dir / "eval/test/predictions_postprocessed")["test_1"][["arousal", "valence"]]
        np.testing.assert_allclose(written, stored.curves[kind][0].predicted, atol=1e-5)
        files[chosen] = written, metrics
    assert np.abs(files["paper"][0] - files["none"][0]).to_numpy().max() > 0.01
    assert files["paper"][1].raw == files["none"][1].raw  # all of them are scored whatever is chosen
    assert files["paper"][1].postprocessed == files["none"][1].postprocessed


def test_the_threshold_is_for_the_chosen_post_processing(audio_run, monkeypatch):
    low, high = ({name: DimensionScores(ccc, ccc, ccc, 0.1) for name in ("arousal", "valence")} for ccc in (0.1, 0.9))
    metrics = Metrics(raw=high, postprocessed=low, chosen="none", recordings=2, frames=400)
    monkeypatch.setattr("affect.evaluation.evaluate.evaluate", lambda *arguments: {"test": metrics})
    flags = [f"--run_dir={audio_run}", "--partitions=test", "--fail_under_ccc=0.5"]
    assert call_main(eval_command, *flags) == 0


def test_the_ccc_after_each_step_ends_where_the_paper_s_chain_ends(evaluated):
    metrics = read_json(evaluated / "eval/test/metrics.json", Metrics)
    for name, steps in metrics.ccc_after_steps.items():
        assert list(steps) == ["raw", "median", "centring", "scaling", "shift"]
        assert steps["raw"] == pytest.approx(metrics.raw[name].ccc_pooled, abs=1e-9)
        assert steps["shift"] == pytest.approx(metrics.postprocessed[name].ccc_pooled, abs=1e-9)


def test_statistics_of_each_recording_give_each_the_mean_and_deviation_of_the_gold_standard(run_dir):
    flags = [f"--run_dir={run_dir}", "--postprocess_statistics=recording", "--partitions=dev"]
    assert call_main(eval_command, *flags) == 0
    fitted = read_fitted_chains(run_dir / "eval/chains.json")
    assert fitted.statistics == "recording"
    assert all(chain.offset == 0.0 and chain.gain == 1.0 for chain in fitted.paper.values())
    gold = pd.concat(curves(run_dir / "eval/dev/predictions").values())
    kept = {name: chain for name, chain in fitted.paper.items() if chain.recording_deviation is not None}
    assert kept
    for name, chain in kept.items():
        assert chain.recording_deviation == pytest.approx(gold[f"{name}_gold"].std(ddof=0), abs=1e-5)
        assert chain.recording_mean in (None, pytest.approx(gold[f"{name}_gold"].mean(), abs=1e-5))


def test_avec_files_are_written_on_request(run_dir):
    assert call_main(eval_command, f"--run_dir={run_dir}", "--format=csv,avec", "--partitions=test") == 0
    rows = (run_dir / "eval/test/predictions_avec/valence/test_2.arff").read_text().split("@data")[-1].split()
    assert len(rows) == 201  # the value at t = 0 repeats the first
    assert not (run_dir / "eval/test/predictions_avec/gold").exists()
    assert call_main(eval_command, f"--run_dir={run_dir}", "--partitions=test") == 0
    assert not (run_dir / "eval/test/predictions_avec").exists()


@pytest.mark.parametrize("context", ["window", "recording"])
def test_the_context_is_passed_to_the_prediction_and_stands_in_the_scores(run_dir, monkeypatch, context):
    asked = []

    def spied(*arguments):
        asked.append(arguments[-1])
        return predict(*arguments[:-1], "window")

    monkeypatch.setattr("affect.evaluation.evaluate.predict", spied)
    assert call_main(eval_command, f"--run_dir={run_dir}", f"--context={context}", "--partitions=dev") == 0
    assert asked == [context]
    assert read_json(run_dir / "eval/dev/metrics.json", Metrics).context == context


def test_an_unknown_format_is_refused(run_dir):
    with pytest.raises(UserError, match="^--format=csv,xlsx: expected any of csv and avec$"):
        call_main(eval_command, f"--run_dir={run_dir}", "--format=csv,xlsx")


def test_the_gold_standard_of_test_reaches_neither_the_chains_nor_the_predictions(run_dir, data_dir, tmp_path):
    """Test labels are poisoned with noise, in one recording with NaN: only the scores of test may notice."""
    assert call_main(eval_command, f"--run_dir={run_dir}", "--partitions=dev") == 0
    expected = [(run_dir / "eval" / name).read_bytes() for name in ("postprocessing.json", "chains.json")]
    labels = {}
    for kind in ("clean", "random", "nan"):

        def poison(entry, fields, kind=kind):
            if entry.partition == "test" and kind == "random":
                fields["labels"][:] = np.random.default_rng(0).uniform(-1, 1, fields["labels"].shape)
            if entry.name == "test_1" and kind == "nan":
                fields["labels"][:] = np.nan

        shards = rewrite_shards(data_dir, tmp_path / kind, poison)
        flags = [f"--run_dir={run_dir}", f"--data_dir={shards}"]
        if kind == "nan":  # cannot be scored: an error after the chains are written, and the old curves stay
            with pytest.raises(ValueError, match="NaN"):
                call_main(eval_command, *flags)
        else:
            assert call_main(eval_command, *flags) == 0
        assert [(run_dir / "eval" / name).read_bytes() for name in ("postprocessing.json", "chains.json")] == expected
        labels[kind] = read_predictions(run_dir / "eval/test/predictions.h5").curves
    assert np.abs(labels["clean"]["raw"][0].gold - labels["random"]["raw"][0].gold).max() > 0.5
    for kind in labels["clean"]:
        for clean, poisoned in zip(labels["clean"][kind], labels["random"][kind], strict=True):
            np.testing.assert_array_equal(clean.predicted, poisoned.predicted)


@pytest.fixture(scope="module")
def data_without_test_labels(data_dir, tmp_path_factory):
    def withhold(entry, fields):
        if entry.partition == "test":
            fields["labels"][:] = 0

    output_dir = tmp_path_factory.mktemp("withheld") / "records"
    return rewrite_shards(
        data_dir, output_dir, withhold, lambda entry: replace(entry, has_labels=entry.partition != "test")
    )


def test_recordings_without_labels_are_counted_beside_those_with(run_dir, data_dir, tmp_path, capsys):
    def withhold(entry):
        return replace(entry, has_labels=entry.name != "test_2")

    shards = rewrite_shards(data_dir, tmp_path / "records", change_entry=withhold)
    assert call_main(eval_command, f"--run_dir={run_dir}", f"--data_dir={shards}", "--partitions=test") == 0
    metrics = read_json(run_dir / "eval/test/metrics.json", Metrics)
    assert (metrics.recordings, metrics.unlabelled_recordings) == (1, 1)
    assert metrics.raw["arousal"].ccc_pooled_ci95 is None
    assert "test: 1 recording predicted but not scored (no labels)" in capsys.readouterr().out
    assert set(curves(run_dir / "eval/test/predictions")) == {"test_1", "test_2"}


def test_withheld_labels_are_predicted_and_said(run_dir, data_without_test_labels, capsys):
    flags = [f"--run_dir={run_dir}", f"--data_dir={data_without_test_labels}"]
    assert call_main(eval_command, *flags, "--partitions=test") == 0
    printed = capsys.readouterr().out
    assert "test: predicted but not scored, because its labels are not known" in printed
    assert list(curves(run_dir / "eval/test/predictions")["test_1"]) == ["time", "arousal", "valence"]
    assert not (run_dir / "eval/test/metrics.json").exists()
    page = (run_dir / "eval/report.html").read_text()
    assert "All systems, dev" in page and "All systems, test" not in page


def test_a_threshold_for_withheld_labels_is_refused_before_any_work(run_dir, data_without_test_labels):
    flags = [f"--run_dir={run_dir}", f"--data_dir={data_without_test_labels}"]
    with pytest.raises(UserError, match="--fail_under_ccc: .*records has no labels in partition test, the last of"):
        call_main(eval_command, *flags, "--fail_under_ccc=0")
    assert not (run_dir / "eval").exists()
    assert call_main(eval_command, *flags, "--fail_under_ccc=-1", "--partitions=test,dev") == 0


def test_every_partition_is_predicted_once_however_often_it_is_named(run_dir, monkeypatch):
    predicted = []

    def counted(network, experiment, manifest, entries, context):
        predicted.extend(entry.name for entry in entries)
        return predict(network, experiment, manifest, entries, context)

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

    monkeypatch.setattr("affect.evaluation.prediction_files.write_csv", fail_in_the_middle)
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
