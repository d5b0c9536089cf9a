"""One run folder, one experiment: what a folder must hold for a training to use it."""

import shutil

import pytest

from affect.errors import UserError
from affect.learning import train_command
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


def test_a_run_is_not_continued_on_other_data(audio_run, data_dir, tmp_path):
    run_dir, records = tmp_path / "run", tmp_path / "records"
    shutil.copytree(audio_run, run_dir)
    shutil.copytree(data_dir, records)
    config = (run_dir / "config.json").read_text()
    (run_dir / "config.json").write_text(config.replace(str(data_dir), str(records)))
    manifest = (records / "manifest.json").read_text()
    (records / "manifest.json").write_text(manifest.replace("train_1", "train_7"))
    with pytest.raises(UserError, match=f"{run_dir} was trained on other data than {records} holds now"):
        call_main(train_command, *train_flags(records, run_dir))
