"""Shards, run folders and exports that version 0.1.0 wrote still work (tests/compatibility/v0.1.0/README.md)."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.evaluation import eval_command, report
from affect.learning import train_command
from affect.models.trained import TrainedNetwork
from affect.serving import export
from affect.serving.contract import read_contract
from tests.helpers.in_process import call_main
from tfrecords_tools import inspect_tfrecords

OLD = Path(__file__).parent / "compatibility/v0.1.0"
RECORDS = OLD / "records"
SETTINGS = (
    "train.epochs=2", "train.batch_size=1", "data.window_frames=25", "model.lstm_units=4,4", "model.audio_filters=2,4",
    "model.audio_taps=20,40", "model.audio_channel_pool=2",
)  # fmt: skip


@pytest.fixture
def old_run(tmp_path):
    """A copy of the run folder; its data has moved since."""
    run_dir = tmp_path / "run"
    shutil.copytree(OLD / "run", run_dir)
    assert json.loads((run_dir / "config.json").read_text())["data"]["data_dir"] == "records"
    return run_dir


def read_columns(path, names):
    """Columns of a CSV file, float [rows, columns]."""
    with open(path, encoding="utf-8") as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])


def test_old_shards_have_the_fingerprint_that_the_old_run_recorded():
    manifest = read_manifest(RECORDS)
    environment = json.loads((OLD / "run/environment.json").read_text())
    assert manifest.has_fingerprint(environment["data_fingerprint"])
    assert [(entry.name, entry.frames, entry.has_video) for entry in manifest.recordings] == [
        ("anna", 25, True), ("ben", 40, False), ("carla", 50, False)
    ]  # fmt: skip
    assert manifest.recordings[0].audio_std == 0.14230253174057578


def test_old_shards_pass_the_inspection(capsys):
    assert not call_main(inspect_tfrecords, f"--data_dir={RECORDS}")
    shown = capsys.readouterr().out
    assert "table corpus (25 fps, 16000 Hz, 96 x 96 crops)" in shown
    assert "test     1 recordings,       50 frames" in shown


def test_shards_of_an_older_schema_are_refused_with_the_way_out(tmp_path):
    content = json.loads((RECORDS / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(content | {"schema_version": 1}))
    with pytest.raises(UserError, match="version 1.*Run make_tfrecords again") as refusal:
        read_manifest(tmp_path)
    assert "\n" not in str(refusal.value)


def test_an_old_run_is_evaluated_to_the_same_scores(tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(OLD / "run", run_dir)  # data_dir does not exist here: the data has moved
    assert not call_main(eval_command, f"--run_dir={run_dir}", f"--data_dir={RECORDS}")
    for partition, name in (("dev", "ben"), ("test", "carla")):
        old, new = (json.loads((run / f"eval/{partition}/metrics.json").read_text()) for run in (OLD / "run", run_dir))
        for version in ("raw", "postprocessed"):
            for dimension, scores in old[version].items():
                again = {name: new[version][dimension][name] for name in scores}
                assert again == pytest.approx(scores, abs=1e-4), (partition, version, dimension)
        old, new = (
            read_columns(run / f"eval/{partition}/predictions/{name}.csv", ("time", "arousal", "valence"))
            for run in (OLD / "run", run_dir)
        )
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_an_old_run_continues_to_the_scores_of_an_uninterrupted_one(old_run):
    call_main(
        train_command, "--preset=demo", "--modality=audio", f"--data_dir={RECORDS}", f"--run_dir={old_run}",
        *(f"--set={setting}" for setting in SETTINGS),
    )  # fmt: skip
    names = ("epoch", "loss", "ccc_arousal", "ccc_valence", "val_loss", "val_ccc_arousal", "val_ccc_valence")
    continued, whole = (
        read_columns(path, names) for path in (old_run / "training.csv", OLD / "uninterrupted_training.csv")
    )
    assert len(continued) == 2
    assert json.loads((old_run / "config.json").read_text())["data"]["data_dir"] == str(RECORDS)
    np.testing.assert_allclose(continued, whole, atol=1e-4)


def test_a_report_is_written_from_an_old_evaluation(tmp_path, capsys):
    page = tmp_path / "report.html"
    assert not call_main(report, f"--run_dirs={OLD / 'run'}", f"--output={page}")
    # As version 0.1.0 printed them.
    printed = capsys.readouterr().out
    assert re.search(r"0\.159 \(-0\.003\) +0\.372 \(0\.101\)", printed)
    assert "no predictions.h5 in dev and test (evaluated by an earlier version)" in printed
    assert "0.159" in page.read_text() and "earlier version" in page.read_text()


def test_an_old_export_is_loaded_by_tensorflow_and_predicts_what_the_old_run_predicts():
    model = tf.saved_model.load(str(OLD / "export"))
    frames = np.random.default_rng(0).standard_normal((1, 30, 640)).astype(np.float32)
    served = model.signatures["serving_default"](audio=tf.constant(frames))["predictions"].numpy()
    ours = TrainedNetwork.load(OLD / "run").network.predict({"audio": frames}, verbose=0)
    np.testing.assert_allclose(served, ours, atol=1e-5)
    assert served.std() > 1e-3


def test_an_old_export_is_replaced_by_one_of_today(tmp_path, capsys):
    folder = tmp_path / "export"
    shutil.copytree(OLD / "export", folder)
    with pytest.raises(UserError, match="exported by an earlier version; export the run again$"):
        read_contract(folder)
    flags = [f"--run_dir={OLD / 'run'}", f"--output_dir={folder}", f"--data_dir={RECORDS}"]
    with pytest.raises(UserError, match="already exists; choose another --output_dir, or add --overwrite"):
        call_main(export, *flags)
    assert not call_main(export, *flags, "--overwrite")
    assert "its evaluation cannot be matched to its present weights" in capsys.readouterr().out
    assert not (folder / "affect.json").exists()
    contract = read_contract(folder)
    assert (contract.modality, contract.training_data.recordings, contract.synthetic) == ("audio", 1, False)
    assert contract.training_data.sound_level_dbfs.median == pytest.approx(20 * np.log10(0.14230253174057578))
    models = [tf.saved_model.load(str(path)) for path in (OLD / "export", folder)]
    frames = tf.random.stateless_normal((1, 30, 640), seed=(1, 2))
    old, new = (model.signatures["serving_default"](audio=frames)["predictions"] for model in models)
    np.testing.assert_allclose(new, old, atol=1e-5)
