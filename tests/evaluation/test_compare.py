"""eval.py --compare_to: the paired comparison of runs, and what cannot be compared."""

import shutil

import numpy as np
import pytest
from msgspec.structs import replace

from affect.errors import UserError
from affect.evaluation import eval_command
from affect.evaluation.compare_runs import distinct_names, read_system
from affect.evaluation.curves import Prediction
from affect.evaluation.intervals import paired_difference
from affect.evaluation.partitions import write_partition
from affect.evaluation.prediction_files import read_curves
from affect.evaluation.scores import Metrics
from affect.evaluation.scoring import compute_metrics
from affect.storage import read_json
from tests.helpers.in_process import call_main
from tests.helpers.planted import rewrite_shards


@pytest.fixture
def own(evaluated, tmp_path):
    """A copy of an evaluated run."""
    shutil.copytree(evaluated, tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def other(evaluated, tmp_path):
    """An evaluated system that predicts half of what the run predicts, in the layout of the baseline's folders."""
    curves = read_curves(evaluated / "eval/test/predictions.h5")
    halved = {
        kind: [Prediction(one.recording, 0.5 * one.predicted, one.gold) for one in curve]
        for kind, curve in curves.items()
    }
    metrics = read_json(evaluated / "eval/test/metrics.json", Metrics)
    metrics = replace(compute_metrics(halved), digests=replace(metrics.digests, weights=None, chain=None))
    folder = tmp_path / "baseline" / "audio"
    write_partition(folder / "eval/test", halved, metrics, 25.0)
    return folder


def test_the_comparison_is_of_the_chosen_curves_on_the_last_partition(own, other, capsys):
    arguments = [f"--run_dir={own}", f"--compare_to={other}", "--partitions=dev,test"]
    assert call_main(eval_command, *arguments) == 0
    written = read_json(own / "eval/test/comparison_audio.json")
    assert (written["first"], written["second"], written["partition"]) == ("own", "audio", "test")
    assert written["synthetic"]
    curve = read_curves(own / "eval/test/predictions.h5")["postprocessed"]
    half = read_curves(other / "eval/test/predictions.h5")["postprocessed"]
    for axis, name in enumerate(("arousal", "valence")):
        signals = [one.gold[:, axis] for one in curve], *([one.predicted[:, axis] for one in c] for c in (curve, half))
        expected = paired_difference(*signals)
        for kind in ("pooled", "per_recording"):
            found = written["ccc"][name][kind]
            assert found["difference"] == pytest.approx(getattr(expected, kind).difference, abs=1e-6)
            assert abs(found["difference"]) > 1e-3
            assert (found["recordings"], found["p_value"], found["ci95"]) == (2, getattr(expected, kind).p_value, None)
    assert written["evaluated"] == [
        "post-processing paper, context window, 2 recordings", "post-processing paper, 2 recordings",
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "  own: post-processing paper, context window, 2 recordings" in printed
    assert "SYNTHETIC corpus, test, 2 recordings: CCC of own minus CCC of audio" in printed
    assert f"{written['ccc']['arousal']['pooled']['difference']:+.3f}" in printed
    assert "too few recordings" in printed
    assert "all 4 sign flips counted; the smallest possible p is 0.5" in printed
    assert not (own / "eval/dev/comparison_audio.json").exists()


def test_a_later_evaluation_removes_the_comparison_with_the_scores_it_was_of(own, other):
    assert call_main(eval_command, f"--run_dir={own}", f"--compare_to={other}") == 0
    assert call_main(eval_command, f"--run_dir={own}") == 0
    assert not list((own / "eval/test").glob("comparison*"))


def test_several_systems_of_one_name_are_told_apart(own, other, evaluated, tmp_path):
    second = tmp_path / "runs" / "audio"
    shutil.copytree(evaluated, second)
    assert call_main(eval_command, f"--run_dir={own}", f"--compare_to={other}", f"--compare_to={second}") == 0
    assert sorted(path.name for path in (own / "eval/test").glob("comparison*")) == [
        "comparison_baseline_audio.json", "comparison_runs_audio.json"
    ]  # fmt: skip
    same = read_json(own / "eval/test/comparison_runs_audio.json")["ccc"]["valence"]["pooled"]
    assert same["difference"] == pytest.approx(0.0, abs=1e-6)


def refused(own, *flags, message):
    before = (own / "eval/test/metrics.json").stat().st_mtime_ns
    with pytest.raises(UserError, match=message):
        call_main(eval_command, f"--run_dir={own}", *flags)
    assert (own / "eval/test/metrics.json").stat().st_mtime_ns == before  # refused before any work


def test_scores_of_other_data_are_refused_before_any_work(own, evaluated, data_dir, tmp_path):
    def louder(entry, fields):
        fields["pcm"][::3] //= 2

    other_data = rewrite_shards(data_dir, tmp_path / "records", louder)
    message = "^evaluated cannot be compared with own: its test was scored on other data; evaluate both on the same"
    refused(own, f"--data_dir={other_data}", f"--compare_to={evaluated}", message=message)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "^nowhere does not exist; compare with an evaluated run, or with a system of the baseline$"),
        ("tests", "^tests: test is not scored; run eval.py on it first$"),
        ("s3://bucket/run", "^--compare_to=s3://bucket/run must be a local folder"),
    ],
)
def test_what_is_not_evaluated_is_refused_before_any_work(own, folder, message):
    refused(own, f"--compare_to={folder}", message=message)


def test_a_run_is_not_compared_with_itself(own):
    refused(own, f"--compare_to={own}", message="own cannot be compared with itself; name each folder once")


def test_outdated_scores_of_the_other_run_are_refused(own, evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "stale")
    (tmp_path / "stale/best.weights.h5").write_bytes(b"other weights")
    message = "stale: test is left out: it was scored with other weights; run eval.py again on test"
    refused(own, f"--compare_to={tmp_path / 'stale'}", message=message)


def test_curves_of_earlier_versions_are_asked_for_again(own, evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "old")
    (tmp_path / "old/eval/test/predictions.h5").unlink()
    refused(
        own, f"--compare_to={tmp_path / 'old'}", message="predictions.h5 does not exist; evaluate again to write it"
    )


def test_names_are_as_long_as_it_takes_to_tell_folders_apart(tmp_path):
    folders = [tmp_path / name for name in ("a/x/audio", "a/y/audio", "b/y/video")]
    assert distinct_names(folders) == ["x/audio", "y/audio", "y/video"]
    assert distinct_names(folders[1:]) == ["audio", "video"]


def test_a_system_is_read_with_the_curves_of_its_chosen_post_processing(evaluated, tmp_path):
    curves = read_curves(evaluated / "eval/test/predictions.h5")
    curves["cautious"] = [Prediction(one.recording, one.predicted + 1.0, one.gold) for one in curves["raw"]]
    digests = read_json(evaluated / "eval/test/metrics.json", Metrics).digests
    metrics = replace(compute_metrics(curves, chosen="cautious"), digests=replace(digests, weights=None, chain=None))
    write_partition(tmp_path / "system/eval/test", curves, metrics, 25.0, "cautious")
    found = read_system(tmp_path / "system", "test").predictions
    np.testing.assert_allclose(found[1].predicted, curves["raw"][1].predicted + 1.0, atol=1e-6)
