"""The report: only scores that belong together, and everything that is left out is named."""

import json
import re
import shutil

import h5py
import pytest

from affect.errors import UserError
from affect.evaluation import eval_command, report
from affect.evaluation.predictions import predict
from affect.storage import read_json, write_json
from tests.helpers.commands import REPOSITORY
from tests.helpers.in_process import call_main
from tests.helpers.planted import rewrite_shards

OLD = REPOSITORY / "tests/compatibility/v0.1.0"


@pytest.fixture
def scored(evaluated, tmp_path):
    """A copy of the run `evaluated`, of which dev and test are evaluated."""
    shutil.copytree(evaluated, tmp_path / "scored")
    return tmp_path / "scored"


@pytest.fixture
def other_data(data_dir, tmp_path):
    """Shards with other sound in the test recordings. Dev and therefore the post-processing are the same."""

    def halve(entry, fields):
        if entry.partition == "test":
            fields["pcm"][::2] //= 2

    return rewrite_shards(data_dir, tmp_path / "other", halve)


def change_weights(run_dir):
    with h5py.File(run_dir / "best.weights.h5", "r+") as file:
        found = []
        file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) and item.ndim else None)
        for item in found:
            item[...] *= 1.1


def edit_scores(run_dir, partition, **changes):
    path = run_dir / "eval" / partition / "metrics.json"
    write_json(path, read_json(path) | changes)


def shown_partitions(page):
    return re.findall(r'<h2 id="scores-(\w+)"', page.read_text())[::-1]


def test_report_is_self_contained_and_says_synthetic(evaluated):
    page = (evaluated / "eval/report.html").read_text()
    assert "<strong>synthetic</strong>" in page
    assert page.count("<svg") == 1 + 2 + 1  # training curves, two test recordings, their scatter
    assert not re.search(r'(src|href)="(?!#)', page)
    metrics = json.loads((evaluated / "eval/test/metrics.json").read_text())
    assert f"{metrics['postprocessed']['arousal']['ccc_pooled']:.3f}".replace("-", "−") in page


def test_after_new_weights_old_test_scores_are_left_out_and_named(scored, capsys):
    page = scored / "eval/report.html"
    assert shown_partitions(page) == ["dev", "test"]
    change_weights(scored)
    assert call_main(eval_command, f"--run_dir={scored}", "--partitions=dev") == 0
    remark = (
        "scored: test is left out: it was scored with other weights and with other post-processing; "
        "run eval.py again on test"
    )
    assert remark in capsys.readouterr().out
    assert shown_partitions(page) == ["dev"]
    assert remark in page.read_text()
    assert "scored, dev, dev_1: prediction" in page.read_text() and "test_1" not in page.read_text()
    # After the evaluation that the remark asks for, they are back.
    assert call_main(eval_command, f"--run_dir={scored}", "--partitions=test") == 0
    assert shown_partitions(page) == ["dev", "test"]
    assert "is left out" not in capsys.readouterr().out + page.read_text()


def test_after_new_weights_alone_nothing_is_reported(scored, tmp_path):
    change_weights(scored)
    with pytest.raises(UserError, match="dev is left out: it was scored with other weights; .*test is left out"):
        call_main(report, f"--run_dirs={scored}", f"--output={tmp_path}/page.html")
    assert not (tmp_path / "page.html").exists()


def test_scores_are_outdated_if_training_replaces_the_weights_during_evaluation(run_dir, monkeypatch, capsys):
    def predict_slowly(*arguments):
        change_weights(run_dir)
        return predict(*arguments)

    monkeypatch.setattr("affect.evaluation.evaluate.predict", predict_slowly)
    (run_dir / "eval").mkdir()
    (run_dir / "eval/report.html").write_text("of an earlier evaluation")
    assert call_main(eval_command, f"--run_dir={run_dir}", "--partitions=dev") == 0
    printed = capsys.readouterr().out
    assert "dev: pooled CCC" in printed
    assert "run: dev is left out: it was scored with other weights; run eval.py again on dev" in printed
    assert not (run_dir / "eval/report.html").exists()


def test_a_run_with_outdated_scores_is_left_out_beside_one_with_present_ones(evaluated, scored, tmp_path, capsys):
    change_weights(scored)
    page = tmp_path / "page.html"
    call_main(report, f"--run_dirs={scored},{evaluated}", f"--output={page}")
    printed = capsys.readouterr().out
    assert "scored: dev is left out" in printed and "scored: test is left out" in printed
    assert ">evaluated<" in page.read_text() and ">scored<" not in page.read_text()


def test_a_chain_that_was_changed_by_hand_outdates_all_scores(scored, tmp_path):
    chains = scored / "eval/postprocessing.json"
    chains.write_text(chains.read_text().replace('"shift_frames": ', '"shift_frames": 1'))
    with pytest.raises(UserError, match="dev is left out: it was scored with other post-processing"):
        call_main(report, f"--run_dirs={scored}", f"--output={tmp_path}/page.html")


@pytest.mark.parametrize(("partition", "shown"), [("test", ["dev", "test"]), ("dev", ["dev"])])
def test_partitions_of_different_data_are_not_shown_together(scored, other_data, capsys, partition, shown):
    chains = (scored / "eval/postprocessing.json").read_bytes()
    assert call_main(eval_command, f"--run_dir={scored}", f"--data_dir={other_data}", f"--partitions={partition}") == 0
    assert (scored / "eval/postprocessing.json").read_bytes() == chains
    assert shown_partitions(scored / "eval/report.html") == shown
    left_out = "scored: test is left out: it was scored on other data; run eval.py again on test"
    assert (left_out in capsys.readouterr().out) == (partition == "dev")


def test_evaluation_on_other_data_is_said_and_recorded(scored, other_data, data_dir, capsys):
    assert json.loads((scored / "eval/test/metrics.json").read_text())["same_data_as_training"] is True
    assert call_main(eval_command, f"--run_dir={scored}", f"--data_dir={other_data}") == 0
    printed = capsys.readouterr().out
    assert f"{other_data} holds other data than {scored} was trained on" in printed
    remark = "scored: scored on other data than the network was trained on"
    assert remark in printed and remark in (scored / "eval/report.html").read_text()
    other = json.loads((scored / "eval/test/metrics.json").read_text())
    assert other["same_data_as_training"] is False

    moved = shutil.copytree(data_dir, scored.parent / "moved")
    assert call_main(eval_command, f"--run_dir={scored}", f"--data_dir={moved}") == 0
    assert "other data" not in capsys.readouterr().out + (scored / "eval/report.html").read_text()
    here = json.loads((scored / "eval/test/metrics.json").read_text())
    assert here["same_data_as_training"] is True
    assert here["digests"]["data"] != other["digests"]["data"]
    assert here["digests"]["weights"] == other["digests"]["weights"]


@pytest.mark.parametrize(
    ("trained_on_synthetic", "evaluated_on_synthetic"), [(True, False), (False, True), (False, False)]
)
def test_scores_are_synthetic_if_the_data_of_training_or_of_evaluation_are(
    run_dir, data_dir, tmp_path, capsys, trained_on_synthetic, evaluated_on_synthetic
):
    records = rewrite_shards(data_dir, tmp_path / "records", synthetic=evaluated_on_synthetic)
    environment = read_json(run_dir / "environment.json")
    write_json(run_dir / "environment.json", environment | {"synthetic_data": trained_on_synthetic})
    assert call_main(eval_command, f"--run_dir={run_dir}", f"--data_dir={records}", "--partitions=dev") == 0
    synthetic = trained_on_synthetic or evaluated_on_synthetic
    assert json.loads((run_dir / "eval/dev/metrics.json").read_text())["synthetic"] is synthetic
    assert ("SYNTHETIC corpus, dev" in capsys.readouterr().out) == synthetic
    assert ("<strong>synthetic</strong>" in (run_dir / "eval/report.html").read_text()) == synthetic


def test_synthetic_scores_are_marked_beside_others(evaluated, scored, tmp_path, capsys):
    for partition in ("dev", "test"):
        edit_scores(scored, partition, synthetic=False)
    page = tmp_path / "page.html"
    call_main(report, f"--run_dirs={scored},{evaluated}", f"--output={page}")
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("SYNTHETIC") for line in lines if line.startswith("  scored")] == [False, False]
    assert [line.endswith("SYNTHETIC") for line in lines if line.startswith("  evaluated")] == [True, True]
    assert "The numbers marked synthetic come" in page.read_text()
    assert page.read_text().count(">evaluated (synthetic)<") == 2
    assert ">scored (synthetic)<" not in page.read_text()


def test_systems_of_other_data_are_named(evaluated, scored, tmp_path, capsys):
    for partition in ("dev", "test"):
        digests = read_json(scored / f"eval/{partition}/metrics.json")["digests"]
        edit_scores(scored, partition, digests=digests | {"data": "of other recordings"})
    call_main(report, f"--run_dirs={evaluated},{scored}", f"--output={tmp_path}/x.html")
    assert "scored: scored on other data than evaluated" in capsys.readouterr().out


def test_runs_of_the_same_name_are_both_shown(evaluated, tmp_path, capsys):
    paths = [tmp_path / "a/audio", tmp_path / "b/audio"]
    for path in paths:
        shutil.copytree(evaluated, path)
    call_main(report, f"--run_dirs={paths[0]},{paths[1]}", f"--output={tmp_path}/page.html")
    printed = capsys.readouterr().out
    for path in paths:
        assert printed.count(f"  {path.parent.name}/audio ") == 2  # dev and test


def test_scores_of_version_0_1_0_are_shown_until_a_new_evaluation_outdates_them(tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(OLD / "run", run_dir)
    call_main(report, f"--run_dirs={run_dir}", f"--output={tmp_path}/page.html")
    assert "run: the scores do not tell their weights and data (affect 0.1.0)" in capsys.readouterr().out
    assert shown_partitions(tmp_path / "page.html") == ["dev", "test"]
    page = (tmp_path / "page.html").read_text()
    assert "no predictions.h5 in dev and test (evaluated by an earlier version)" in page
    assert "0.534" in page and "The best end-to-end system" not in page  # the scores are there, curves are not
    assert call_main(eval_command, f"--run_dir={run_dir}", f"--data_dir={OLD / 'records'}", "--partitions=dev") == 0
    assert "run: test is left out: it was scored by affect 0.1.0" in capsys.readouterr().out
    assert shown_partitions(run_dir / "eval/report.html") == ["dev"]


def test_damaged_scores_are_refused_by_name(scored, tmp_path):
    edit_scores(scored, "dev", recordings="two")
    with pytest.raises(UserError, match=r"eval/dev/metrics.json: Expected `int`, got `str` - at `\$.recordings`"):
        call_main(report, f"--run_dirs={scored}", f"--output={tmp_path}/page.html")
