"""Recordings without a face: predicted and scored like all others, and the scores say so."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from affect.config import override
from affect.evaluation import baseline, eval_command, report
from affect.evaluation.report import as_text
from affect.evaluation.scores import DimensionScores, Metrics
from affect.presets import get_preset
from tests.helpers.in_process import call_main
from tests.helpers.planted import linear_network, rewrite_shards, use_network, with_faces

DIMENSIONS = ("arousal", "valence")
FACES = {"dev_1": 192, "dev_2": 200, "test_1": 170, "test_2": 0}  # of 200 frames each
# Two random projections of all pixels.
WEIGHTS = (np.random.default_rng(0).normal(size=(96 * 96 * 3, 2)) / 5_000).astype(np.float32)


def plant_faces(data_dir, output_dir, faces):
    """Shards in which the first frames of each recording show a face, as many as `faces` says, and the manifest too."""

    def plant(entry, fields):
        fields["face_found"] = np.arange(entry.frames) < faces.get(entry.name, entry.frames)

    return with_faces(rewrite_shards(data_dir, output_dir / "planted", plant), output_dir / "records", faces)


@pytest.fixture(scope="module")
def faceless(data_dir, tmp_path_factory):
    return plant_faces(data_dir, tmp_path_factory.mktemp("faceless"), FACES)


@pytest.fixture
def video_run(run_dir, monkeypatch):
    """Returns a function that makes a run of a linear video network on shards; crops without a face are black."""

    def make(records):
        settings = [f"data.data_dir={records}", "data.faceless_frames=mask", "data.eval_window_frames=100"]
        network = linear_network("video", (96, 96, 3), "uint8", WEIGHTS)
        use_network(monkeypatch, run_dir, override(get_preset("demo", "video"), settings), network)
        return run_dir

    return make


def read_strictly(path):
    """Reads JSON that has no NaN and no infinity."""

    def refuse(text):
        raise AssertionError(f"{path}: {text}")

    return json.loads(path.read_text(), parse_constant=refuse)


def numpy_ccc(gold, predicted):
    covariance = np.mean((gold - gold.mean()) * (predicted - predicted.mean()))
    return 2 * covariance / (gold.var() + predicted.var() + (gold.mean() - predicted.mean()) ** 2)


def read_curve(run_dir, folder, name):
    return pd.read_csv(run_dir / "eval" / name.split("_")[0] / folder / f"{name}.csv")


def test_a_recording_without_a_face_is_predicted_scored_and_named(faceless, video_run, capsys):
    run_dir = video_run(faceless)
    assert call_main(eval_command, f"--run_dir={run_dir}") == 0
    first, second = (read_curve(run_dir, "predictions", name) for name in ("test_1", "test_2"))
    assert first["arousal"][:170].std() > 0.001 and not first[list(DIMENSIONS)][170:].any(axis=None)
    assert len(second) == 200 and not second[list(DIMENSIONS)].any(axis=None)  # what the matrix makes of black

    metrics = read_strictly(run_dir / "eval/test/metrics.json")
    assert (metrics["recordings"], metrics["frames"]) == (2, 400)
    for name in DIMENSIONS:
        scores, gold = metrics["raw"][name], (first[f"{name}_gold"], second[f"{name}_gold"])
        pooled = np.concatenate(gold), np.concatenate([first[name], second[name]])
        assert scores["ccc_pooled"] == pytest.approx(numpy_ccc(*pooled), abs=1e-4)
        assert scores["ccc_per_recording"] == pytest.approx((numpy_ccc(gold[0], first[name]) + 0.0) / 2, abs=1e-4)
        assert scores["rmse_pooled"] == pytest.approx(np.sqrt(np.mean((pooled[0] - pooled[1]) ** 2)), abs=1e-4)
    assert metrics["faceless_share"] == 0.575
    assert metrics["faceless_share_per_recording"] == {"test_1": 0.15, "test_2": 1.0}
    dev = read_strictly(run_dir / "eval/dev/metrics.json")
    assert (dev["faceless_share"], dev["faceless_share_per_recording"]) == (0.02, {"dev_1": 0.04, "dev_2": 0.0})

    printed, page = capsys.readouterr().out, (run_dir / "eval/report.html").read_text()
    assert "  run: no face in 2.0% of the frames\nSYNTHETIC corpus, test" in printed  # no line for 4 % and 0 %
    assert (
        "  run: no face in 57.5% of the frames\n    test_2: no face in 100.0%\n    test_1: no face in 15.0%\n"
        in printed
    )
    in_test, in_dev = re.findall(r">run: no face in (.*)</p>", page)
    assert in_test.startswith("57.5 % of the frames.") and in_dev.startswith("2.0 % of the frames.")
    assert re.findall(r"((?:dev|test)_\d) \((\d+)", in_test) == [("test_2", "100"), ("test_1", "15")]
    assert "dev_" not in in_dev


def test_without_any_face_in_dev_the_post_processing_changes_nothing(data_dir, video_run, tmp_path):
    """All predictions on dev are one constant, of which no chain can make more."""
    run_dir = video_run(plant_faces(data_dir, tmp_path, {"dev_1": 0, "dev_2": 0}))
    assert call_main(eval_command, f"--run_dir={run_dir}") == 0
    unchanged = {"median_frames": 1, "offset": 0.0, "gain": 1.0, "centre": 0.0, "shift_frames": 0}
    unchanged |= {"recording_mean": None, "recording_deviation": None}
    for chain in read_strictly(run_dir / "eval/postprocessing.json").values():
        assert chain == {"frame_rate": 25.0} | unchanged
    for kind in ("raw", "postprocessed"):
        for scores in read_strictly(run_dir / "eval/dev/metrics.json")[kind].values():
            assert (scores["ccc_pooled"], scores["ccc_per_recording"], scores["pearson_pooled"]) == (0.0, 0.0, 0.0)
    assert read_strictly(run_dir / "eval/test/metrics.json")["faceless_share"] == 0.0


def test_recordings_that_are_predicted_and_not_scored_are_named_too(faceless, video_run, tmp_path, capsys):
    withheld = {name: {"has_labels": False} for name in ("dev_2", "test_1", "test_2")}
    run_dir = video_run(with_faces(faceless, tmp_path / "withheld", FACES | {"dev_2": 100}, **withheld))
    assert call_main(eval_command, f"--run_dir={run_dir}", "--partitions=test") == 0
    assert capsys.readouterr().out.startswith(
        "dev, without labels: no face in 50.0% of the frames\n"
        "  dev_2: no face in 50.0%\n"
        "test, without labels: no face in 57.5% of the frames\n"
        "  test_2: no face in 100.0%\n"
        "  test_1: no face in 15.0%\n"
    )
    assert read_strictly(run_dir / "eval/dev/metrics.json")["faceless_share_per_recording"] == {"dev_1": 0.04}


def test_a_network_that_only_hears_says_nothing_about_faces(run_dir, faceless, capsys):
    assert call_main(eval_command, f"--run_dir={run_dir}", f"--data_dir={faceless}") == 0
    metrics = read_strictly(run_dir / "eval/test/metrics.json")
    assert (metrics["faceless_share"], metrics["faceless_share_per_recording"]) == (None, None)
    assert "no face" not in capsys.readouterr().out + (run_dir / "eval/report.html").read_text()


def test_systems_that_saw_the_same_share_a_line_and_others_have_their_own():
    scores = {name: DimensionScores(0.1, 0.1, 0.1, 0.1) for name in DIMENSIONS}

    def metrics(share=None, **per_recording):
        facts = {"faceless_share": share, "faceless_share_per_recording": per_recording if per_recording else None}
        return Metrics(raw=scores, postprocessed=scores, recordings=2, frames=400, **facts)

    table = {
        "audio": metrics(), "video": metrics(0.5, r=1.0, s=0.0), "other": metrics(0.0, t=0.0),
        "audiovisual": metrics(0.5, r=1.0, s=0.0),
    }  # fmt: skip
    assert as_text(table, "test").splitlines()[-3:] == [
        "  video, audiovisual: no face in 50.0% of the frames",
        "    r: no face in 100.0%",
        "  other: no face in 0.0% of the frames",
    ]


def test_the_baseline_looks_at_the_crops_and_says_so(faceless, evaluated, tmp_path, capsys):
    call_main(baseline, f"--data_dir={faceless}", f"--output_dir={tmp_path}/baseline", "--protocol=quick")
    printed = "  loudness and brightness: no face in 57.5% of the frames\n    test_2: no face in 100.0%"
    assert printed in capsys.readouterr().out
    scores = read_strictly(tmp_path / "baseline/trivial/eval/test/metrics.json")
    assert scores["faceless_share_per_recording"] == {"test_1": 0.15, "test_2": 1.0}
    call_main(report, f"--run_dirs={evaluated}", f"--baseline={tmp_path}/baseline", f"--output={tmp_path}/page.html")
    assert printed.strip() in capsys.readouterr().out  # other systems that saw the same may stand before it
