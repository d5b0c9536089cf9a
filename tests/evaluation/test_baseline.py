"""The baseline command from end to end, on shards with planted features."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from affect.data.features import FeatureTable, write_features
from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.evaluation import baseline
from affect.evaluation.avec2016 import make_baseline
from affect.evaluation.avec2016.files import read_baseline
from affect.evaluation.prediction_files import read_curves
from affect.evaluation.scores import Metrics, scores_that_belong_together
from affect.metrics import concordance_cc
from affect.runs import RunFolder
from affect.storage import read_json, sha256_of, write_json
from tests.helpers.commands import read_recording
from tests.helpers.in_process import call_main
from tests.helpers.planted import rewrite_shards

DELAY_FRAMES = 20  # 0.8 s, in the quick grid
SYSTEMS = {"audio", "appearance", "geometric", "video", "audiovisual", "trivial"}


def planted_tables(labels, seed, prefixes, starts_at_zero):
    """Returns tables that lead the gold standard: audio tells arousal, video valence, all else is noise."""
    rng = np.random.default_rng(seed)
    leading = np.concatenate([labels[DELAY_FRAMES:], np.repeat(labels[-1:], DELAY_FRAMES, axis=0)])
    tables = {}
    for prefix in prefixes:
        told = 0 if "audio" in prefix else 1
        for axis, dimension in enumerate(("arousal", "valence")):
            values = rng.standard_normal((len(labels), 4))
            if axis == told:
                values[:, :2] = 10 * leading[:, axis : axis + 1] + 0.5 * values[:, :2]
            times = (np.arange(len(labels)) + 1) / 25
            if starts_at_zero:  # as AVEC's tables: one row more
                values, times = np.concatenate([values[:1], values]), np.concatenate([[0.0], times])
            tables[f"{prefix}.{dimension}"] = FeatureTable(("a", "b", "c", "d"), times, values)
    return tables


def with_features(data_dir: Path, folder: Path) -> Path:
    """Copies shards and adds features as AVEC's release has them."""
    shutil.copytree(data_dir, folder)
    (folder / "features").mkdir()
    manifest = read_json(folder / "manifest.json")
    prefixes = ("features_audio", "features_video_appearance", "features_video_geometric")
    for seed, entry in enumerate(manifest["recordings"]):
        path = folder / f"features/{entry['name']}.h5"
        labels = read_recording(folder, entry["name"])["labels"]
        write_features(path, planted_tables(labels, seed, prefixes, starts_at_zero=True))
        entry |= {"features": f"features/{entry['name']}.h5", "features_sha256": sha256_of(path)}
    write_json(folder / "manifest.json", manifest)
    return folder


def run_quick(data_dir, output_dir):
    call_main(baseline, f"--data_dir={data_dir}", f"--output_dir={output_dir}", "--protocol=quick")


@pytest.fixture(scope="module")
def shipped(data_dir, tmp_path_factory):
    return with_features(data_dir, tmp_path_factory.mktemp("shipped") / "records")


@pytest.fixture(scope="module")
def made(shipped, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("made") / "baseline"
    run_quick(shipped, output_dir)
    return output_dir


def test_every_system_is_laid_out_and_scored_as_a_run(made, shipped):
    stored = read_baseline(made)
    assert set(stored.systems) == SYSTEMS == {path.name for path in made.iterdir() if path.is_dir()}
    assert (stored.protocol, stored.synthetic, stored.layout) == ("quick", True, "avec2016")
    assert any(remark.startswith("quick protocol") for remark in stored.remarks)
    for name in SYSTEMS:
        run = RunFolder(made / name)
        scores, remarks = scores_that_belong_together(run)
        assert set(scores) == {"dev", "test"} and not remarks
        for partition, metrics in scores.items():
            curves = read_curves(run.evaluation(partition) / "predictions.h5")
            assert set(curves) == {"raw", "postprocessed", "cautious"} | ({"avec"} if name != "trivial" else set())
            for kind, predictions in curves.items():
                gold = np.concatenate([one.gold for one in predictions])
                predicted = np.concatenate([one.predicted for one in predictions])
                for axis, dimension in enumerate(("arousal", "valence")):
                    stored_ccc = getattr(metrics, kind)[dimension].ccc_pooled
                    assert stored_ccc == pytest.approx(concordance_cc(gold[:, axis], predicted[:, axis]), abs=1e-5)
            assert metrics.synthetic and metrics.layout == "avec2016" and metrics.context is None
            assert metrics.digests.data == read_manifest(shipped).fingerprint() and metrics.digests.weights is None
            assert (metrics.faceless_share is None) == (name == "audio")
            assert (run.evaluation(partition) / f"predictions/{partition}_1.csv").is_file()
        assert set(read_json(run.postprocessing)) == {"arousal", "valence"}


def test_the_planted_delay_and_relations_are_found_and_generalise(made):
    systems = read_baseline(made).systems
    test = {name: read_json(made / f"{name}/eval/test/metrics.json", Metrics).avec for name in SYSTEMS}
    for name, dimension in (("audio", "arousal"), ("appearance", "valence"), ("geometric", "valence")):
        assert systems[name].dimensions[dimension].choice.delay_frames == DELAY_FRAMES
        assert systems[name].source == {name: "corpus"}
        assert test[name][dimension].ccc_pooled > 0.8
    for kind in ("raw", "avec"):  # moved forward, with the first value repeated
        start = read_curves(made / "audio/eval/test/predictions.h5")[kind][0].predicted[: DELAY_FRAMES + 1, 0]
        assert np.ptp(start) == 0.0
    raw = read_json(made / "audio/eval/test/metrics.json", Metrics).raw
    assert raw["arousal"].ccc_pooled > 0.8
    assert test["video"]["valence"].ccc_pooled > 0.8 > 0.5 > test["audio"]["valence"].ccc_pooled
    assert all(scores.ccc_pooled > 0.8 for scores in test["audiovisual"].values())
    fusion = systems["audiovisual"].dimensions["arousal"].fusion
    assert fusion.systems == ("audio", "appearance", "geometric")
    geometric = systems["geometric"].dimensions["arousal"]
    assert (geometric.table, geometric.columns, geometric.standardisation) == (
        "features_video_geometric.arousal", 4, "recording",
    )  # fmt: skip


def test_the_fusion_is_least_squares_of_the_avec_curves_of_dev(made):
    parts = [read_curves(made / f"{name}/eval/dev/predictions.h5")["avec"] for name in ("appearance", "geometric")]
    gold = np.concatenate([one.gold for one in parts[0]])[:, 1]
    columns = [np.concatenate([one.predicted for one in part])[:, 1] for part in parts]
    design = np.column_stack([*columns, np.ones(len(gold))])
    solution, *_ = np.linalg.lstsq(design, gold, rcond=None)
    fused = read_curves(made / "video/eval/dev/predictions.h5")["raw"]
    np.testing.assert_allclose(np.concatenate([one.predicted for one in fused])[:, 1], design @ solution, atol=1e-4)


def test_the_gold_standard_of_test_changes_no_choice_and_no_prediction(made, data_dir, shipped, tmp_path):
    def poison(entry, fields):
        if entry.partition == "test":
            fields["labels"][:] = np.random.default_rng(9).uniform(-1, 1, fields["labels"].shape)

    poisoned = rewrite_shards(data_dir, tmp_path / "records", poison)
    shutil.copytree(shipped / "features", poisoned / "features")
    manifest, original = read_json(poisoned / "manifest.json"), read_json(shipped / "manifest.json")
    for entry, old in zip(manifest["recordings"], original["recordings"], strict=True):
        entry |= {key: old[key] for key in ("features", "features_sha256")}
    write_json(poisoned / "manifest.json", manifest)
    run_quick(poisoned, tmp_path / "out")
    assert read_baseline(tmp_path / "out").systems == read_baseline(made).systems
    for name in SYSTEMS:
        file = f"{name}/eval/test/predictions.h5"
        before, after = read_curves(made / file), read_curves(tmp_path / "out" / file)
        for kind in before:
            for one, other in zip(before[kind], after[kind], strict=True):
                np.testing.assert_array_equal(one.predicted, other.predicted)
                assert not np.array_equal(one.gold, other.gold)


def ours(monkeypatch, prefixes):
    """Replaces the extraction of features by planted tables; returns the calls."""
    calls = []

    def extract(data_dir, output_dir, protocol):
        calls.append((Path(output_dir).name, protocol))
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        for seed, entry in enumerate(read_manifest(data_dir).recordings):
            wanted = [
                one
                for one in prefixes
                if ("audio" in one and entry.has_audio) or ("audio" not in one and entry.has_video)
            ]
            labels = read_recording(data_dir, entry.name)["labels"]
            write_features(output_dir / f"{entry.name}.h5", planted_tables(labels, seed, wanted, starts_at_zero=False))

    monkeypatch.setattr(make_baseline, "extract", extract)
    return calls


def without_video(data_dir, folder, names):
    """Copies shards and takes the video out of some recordings."""

    def change(entry, fields):
        if entry.name in names:
            for name in ("jpeg", "square", "face_found"):
                fields[name] = fields[name][:0]

    def change_entry(entry):
        return replace(entry, has_video=False, faces_found=0) if entry.name in names else entry

    return rewrite_shards(data_dir, folder, change, change_entry)


def test_a_recording_without_video_is_predicted_by_audio_alone_in_the_fusion(data_dir, tmp_path, monkeypatch, capsys):
    records = without_video(data_dir, tmp_path / "records", {"test_2"})
    calls = ours(monkeypatch, ("handcrafted_audio", "handcrafted_appearance", "handcrafted_geometric"))
    run_quick(records, tmp_path / "out")
    assert calls == [("features", "quick")]
    curves = {
        name: read_curves(tmp_path / f"out/{name}/eval/test/predictions.h5")
        for name in ("audio", "video", "audiovisual")
    }
    assert [one.recording for one in curves["video"]["raw"]] == ["test_1"]
    assert [one.recording for one in curves["audiovisual"]["raw"]] == ["test_1", "test_2"]
    models = read_baseline(tmp_path / "out").systems["audiovisual"].dimensions["arousal"].fusion.models
    (alone,) = [model for model in models if model.systems == ("audio",)]
    expected = curves["audio"]["avec"][1].predicted[:, 0] * alone.weights[0] + alone.bias
    np.testing.assert_allclose(curves["audiovisual"]["raw"][1].predicted[:, 0], expected, atol=1e-5)
    printed = capsys.readouterr().out
    assert "appearance: without video and left out: test_2" in printed
    assert "no system on loudness and brightness: some recordings have no sound or no video" in printed


def test_a_corpus_without_video_gives_the_audio_system_and_says_what_is_missing(
    data_dir, tmp_path, monkeypatch, capsys
):
    records = without_video(
        data_dir, tmp_path / "records", {f"{p}_{k}" for p in ("train", "dev", "test") for k in (1, 2)}
    )
    ours(monkeypatch, ("handcrafted_audio",))
    output_dir = tmp_path / "out"
    shutil.copytree(data_dir, output_dir / "features_elsewhere")  # other files in the folder stay
    run_quick(records, output_dir)
    assert set(read_baseline(output_dir).systems) == {"audio"}
    assert (output_dir / "features_elsewhere/manifest.json").is_file()
    assert "no geometric system: train or dev has too few faces with labels" in capsys.readouterr().out


def test_video_in_which_no_face_is_found_on_dev_gives_the_audio_system_and_says_so(
    data_dir, tmp_path, monkeypatch, capsys
):
    def without_faces(entry, fields):
        if entry.partition == "dev":
            fields["face_found"] = np.zeros_like(fields["face_found"])

    records = rewrite_shards(
        data_dir,
        tmp_path / "records",
        without_faces,
        lambda entry: replace(entry, faces_found=0) if entry.partition == "dev" else entry,
    )
    ours(monkeypatch, ("handcrafted_audio", "handcrafted_appearance", "handcrafted_geometric"))
    run_quick(records, tmp_path / "out")
    assert set(read_baseline(tmp_path / "out").systems) == {"audio", "trivial"}
    assert "no appearance system: train or dev has too few faces with labels" in capsys.readouterr().out


def test_a_rerun_replaces_the_systems_and_removes_those_that_do_not_exist_any_more(
    made, data_dir, tmp_path, monkeypatch
):
    output_dir = tmp_path / "out"
    shutil.copytree(made, output_dir)
    (output_dir / "audio/eval/test/predictions/of_an_older_corpus.csv").write_text("time\n")
    records = without_video(
        data_dir, tmp_path / "records", {f"{p}_{k}" for p in ("train", "dev", "test") for k in (1, 2)}
    )
    ours(monkeypatch, ("handcrafted_audio",))
    run_quick(records, output_dir)
    assert {path.name for path in output_dir.iterdir()} == {"audio", "features", "baseline.json"}
    assert {path.stem for path in (output_dir / "audio/eval/test/predictions").iterdir()} == {"test_1", "test_2"}


def test_a_failure_in_the_middle_leaves_no_half_written_system(made, shipped, tmp_path, monkeypatch):
    output_dir = tmp_path / "out"
    shutil.copytree(made, output_dir)
    before = {path: path.read_bytes() for path in (output_dir / "video").rglob("*.*") if path.is_file()}

    def fail(folder, *rest):
        if folder.parts[-3].endswith("video"):
            (folder.parent / "half.txt").write_text("")
            raise OSError("disk full")

    monkeypatch.setattr("affect.evaluation.avec2016.files.write_partition", fail)
    with pytest.raises(OSError, match="disk full"):
        run_quick(shipped, output_dir)
    assert before == {path: path.read_bytes() for path in (output_dir / "video").rglob("*.*") if path.is_file()}
    assert not [path for path in output_dir.iterdir() if path.name.startswith(".")]
    with pytest.raises(UserError, match="baseline.json does not exist; run affect.evaluation.baseline to the end"):
        read_baseline(output_dir)


def test_trained_runs_and_other_files_are_never_replaced(shipped, tmp_path):
    runs = tmp_path / "runs"
    (runs / "audio").mkdir(parents=True)
    (runs / "audio/config.json").write_text("{}")
    with pytest.raises(UserError, match=r"runs/audio holds other files \(no system.json of ours\) and is not replaced"):
        run_quick(shipped, runs)
    assert [path.name for path in runs.rglob("*.*")] == ["config.json"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old/baseline.json").write_text('{"dev": {}}')
    with pytest.raises(UserError, match="old/baseline.json.* it is not replaced"):
        run_quick(shipped, tmp_path / "old")


@pytest.mark.parametrize("partition", ["train", "dev"])
def test_train_and_dev_need_labels(shipped, tmp_path, partition):
    records = tmp_path / "records"
    shutil.copytree(shipped, records)
    manifest = read_json(records / "manifest.json")
    for entry in manifest["recordings"]:
        entry["has_labels"] = entry["partition"] != partition
    write_json(records / "manifest.json", manifest)
    with pytest.raises(UserError, match=f"the {partition} partition has no labelled recordings"):
        run_quick(records, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_recordings_of_test_without_labels_are_predicted_and_not_scored(shipped, tmp_path):
    records = tmp_path / "records"
    shutil.copytree(shipped, records)
    manifest = read_json(records / "manifest.json")
    for entry in manifest["recordings"]:
        entry["has_labels"] = entry["partition"] != "test"
    write_json(records / "manifest.json", manifest)
    run_quick(records, tmp_path / "out")
    for name in SYSTEMS:
        folder = tmp_path / "out" / name / "eval/test"
        assert not (folder / "metrics.json").exists()
        assert all(one.gold is None for one in read_curves(folder / "predictions.h5")["raw"])
