"""One run folder, one experiment: what a folder must hold for a training to use it, and what may change in it."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from affect.config import Experiment, override
from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.learning import provenance, train_command
from affect.learning.strategy import WorkerContext
from affect.presets import get_preset
from affect.runs import RunFolder
from tests.helpers.commands import train_flags
from tests.helpers.in_process import call_main


def test_fresh_never_continues(audio_run, data_dir):
    with pytest.raises(UserError) as caught:
        call_main(train_command, *train_flags(data_dir, audio_run, "--fresh"))
    assert str(caught.value) == (
        f"{audio_run} is not empty, and --fresh never overwrites; delete it or use another --run_dir"
    )


def test_another_experiment_does_not_overwrite_a_run(audio_run, data_dir):
    flags = train_flags(data_dir, audio_run, "--set=train.learning_rate=0.5", "--set=model.lstm_units=3,4")
    with pytest.raises(UserError) as caught:
        call_main(train_command, *flags)
    assert str(caught.value) == (
        f"{audio_run} holds another experiment (model.lstm_units is (64, 64) there, (3, 4) now; "
        "train.learning_rate is 0.001 there, 0.5 now); use another --run_dir"
    )
    with pytest.raises(UserError, match="modality is audio there, video now"):
        call_main(train_command, *train_flags(data_dir, audio_run, "--modality=video"))


def test_a_folder_of_other_files_is_not_used(data_dir, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and is not a run folder; use another --run_dir"):
        call_main(train_command, *train_flags(data_dir, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex"}


def changed_copy(data_dir, path, change):
    """Copies shards to `path` and changes the text of their manifest."""
    shutil.copytree(data_dir, path)
    manifest = path / "manifest.json"
    manifest.write_text(change(manifest.read_text()))
    return path


def test_a_run_is_not_continued_on_other_data(audio_run, data_dir, tmp_path):
    records = changed_copy(data_dir, tmp_path / "records", lambda text: text.replace('e": "train_1"', 'e": "train_7"'))
    with pytest.raises(UserError, match=f"{audio_run} was trained on other data than {records} holds now"):
        call_main(train_command, *train_flags(records, audio_run))


def test_a_run_continues_on_data_that_another_version_wrote_elsewhere(audio_run, data_dir, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(audio_run, run_dir)
    records = changed_copy(data_dir, tmp_path / "moved", lambda text: text.replace("affect 0.", "affect 9."))
    call_main(train_command, *train_flags(records, run_dir))
    before, after = (json.loads((run / "config.json").read_text()) for run in (audio_run, run_dir))
    assert (before["data"].pop("data_dir"), after["data"].pop("data_dir")) == (str(data_dir), str(records))
    assert before == after
    assert (run_dir / "environment.json").read_bytes() == (audio_run / "environment.json").read_bytes()


def test_fewer_epochs_are_another_experiment(audio_run, data_dir):
    with pytest.raises(UserError, match=r"\(train.epochs is 2 there, 1 now\)"):
        call_main(train_command, *train_flags(data_dir, audio_run, "--set=train.epochs=1"))


def test_a_run_in_training_is_left_alone(audio_run, data_dir, tmp_path):
    """`--fresh` is not disturbed by the lock file that an earlier process has left."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with open(run_dir / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the process that trains does
        with pytest.raises(UserError) as caught:
            call_main(train_command, *train_flags(data_dir, run_dir))
        assert str(caught.value) == (
            f"another train.py is working on {run_dir}; wait until it ends, or use another --run_dir"
        )
        assert [path.name for path in run_dir.iterdir()] == [".lock"]
    call_main(train_command, *train_flags(data_dir, run_dir, "--fresh", "--set=train.epochs=1"))
    assert (run_dir / "best.weights.h5").exists()


def test_a_refused_training_leaves_no_folder_behind(data_dir, tmp_path):
    run_dir = tmp_path / "runs/new"
    flags = train_flags(data_dir, run_dir, "--modality=audiovisual", f"--init_audio={tmp_path / 'missing'}")
    with pytest.raises(UserError, match="missing does not exist"):
        call_main(train_command, *flags)
    assert not run_dir.exists()


@pytest.fixture
def fused(audio_run, data_dir, tmp_path):
    """An audiovisual run that was started with the weights of an audio run, and has no checkpoint yet."""
    initial = tmp_path / "audio"
    shutil.copytree(audio_run, initial)
    experiment = override(get_preset("demo", "audiovisual"), [f"data.data_dir={data_dir}"])
    run, manifest = RunFolder(tmp_path / "fused"), read_manifest(data_dir)
    provenance.record_run(run, experiment, manifest, {"audio": initial}, WorkerContext(1, 0, 1), updates=0)
    return run, experiment, manifest, initial


def test_a_run_knows_its_initial_weights(fused):
    run, experiment, manifest, initial = fused
    assert provenance.check_run_folder(run, experiment, manifest, {}, fresh=False) == {"audio": initial}
    assert provenance.changed_initial_weights(run, {"audio": initial}) == []

    moved = initial.rename(initial.with_name("moved"))
    assert provenance.changed_initial_weights(run, {"audio": initial}) == [f"{initial / 'best.weights.h5'} is gone"]
    assert provenance.check_run_folder(run, experiment, manifest, {"audio": moved}, fresh=False) == {"audio": moved}

    (moved / "best.weights.h5").write_bytes(b"trained further")
    assert provenance.changed_initial_weights(run, {"audio": moved}) == [f"{moved / 'best.weights.h5'} has changed"]
    with pytest.raises(UserError, match="use another --run_dir for other --init_"):
        provenance.check_run_folder(run, experiment, manifest, {"audio": moved}, fresh=False)
    with pytest.raises(UserError, match="use another --run_dir for other --init_"):
        provenance.check_run_folder(run, experiment, manifest, {"audio": initial, "video": initial}, fresh=False)


def test_old_runs_without_digests_accept_the_recorded_folder_only(fused):
    run, experiment, manifest, initial = fused
    environment = json.loads(run.environment.read_text())
    del environment["initial_weights"]
    run.environment.write_text(json.dumps(environment))
    assert provenance.check_run_folder(run, experiment, manifest, {"audio": initial}, fresh=False) == {"audio": initial}
    assert provenance.changed_initial_weights(run, {"audio": initial}) == []
    for other in (initial.parent, Path("nowhere")):
        with pytest.raises(UserError, match="use another --run_dir for other --init_"):
            provenance.check_run_folder(run, experiment, manifest, {"audio": other}, fresh=False)


def test_settings_may_change_only_after_a_divergence_and_are_recorded(fused):
    run, experiment, manifest, _ = fused
    slower = replace(experiment, train=replace(experiment.train, learning_rate=1e-5, clip_norm=1.0))
    with pytest.raises(UserError, match="train.learning_rate is 0.0005 there, 1e-05 now; train.clip_norm is 0.0 there"):
        provenance.check_run_folder(run, slower, manifest, {}, fresh=False)
    provenance.record_divergence(run, 7)
    provenance.check_run_folder(run, slower, manifest, {}, fresh=False)
    provenance.record_run(run, slower, manifest, {}, WorkerContext(1, 0, 1), updates=5)
    environment = json.loads(run.environment.read_text())
    assert environment["changes"] == [
        {"updates": 5, "settings": {"train.learning_rate": [0.0005, 1e-05], "train.clip_norm": [0.0, 1.0]}}
    ]
    assert Experiment.from_json(run.config.read_text()) == slower
    other = replace(experiment, train=replace(experiment.train, batch_size=7))
    with pytest.raises(UserError, match="train.batch_size"):
        provenance.check_run_folder(run, other, manifest, {}, fresh=False)
