"""The command: which flags reach the library, and one line for wrong ones."""

from pathlib import Path

import pytest
from absl import flags as absl_flags

from affect.errors import UserError
from affect.learning import train_command
from affect.learning.multi_run import TrainingPlan
from affect.learning.options import RunOptions, TensorBoardOptions
from tests.helpers.commands import error_lines, run_command, train_flags
from tests.helpers.in_process import call_main

# Runs the command, then prints which heavy packages it has imported.
IMPORTED_BY_COMMAND = """
import sys
from affect.learning.train_command import command
try:
    command()
finally:
    print({"tensorflow", "keras", "pandas", "cv2", "av", "scipy"} & set(sys.modules))
"""


def called_with(monkeypatch, *arguments):
    """What `main` passes to `train_plan`."""
    calls = []
    monkeypatch.setattr(train_command, "train_plan", lambda *arguments: calls.append(arguments))
    call_main(train_command, *arguments)
    (call,) = calls
    return call


def test_every_flag_reaches_the_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plan, options, strategy, tpu = called_with(
        monkeypatch,
        "--preset=demo", "--modality=audio", "--data_dir=records", "--run_dir=runs/a", "--set=train.epochs=3",
        "--set=train.seed=5", "--init_audio=x", "--init_video=y", "--pretrain", "--seeds=4", "--fresh",
        "--checkpoint_steps=7", "--strategy=tpu", "--tpu=node", "--picture_epochs=2", "--histogram_epochs=3",
        "--profile=10,12", "--allow_faceless",
    )  # fmt: skip
    settings = ["train.epochs=3", "train.seed=5", f"data.data_dir={tmp_path}/records"]
    initial_runs = {"audio": Path("x"), "video": Path("y")}
    assert plan == TrainingPlan("demo", "audio", settings, Path("runs/a"), initial_runs, True, 4)
    assert options == RunOptions(7, True, TensorBoardOptions(2, 3, (10, 12)), allow_faceless=True)
    assert (strategy, tpu) == ("tpu", "node")


def test_defaults_train_the_papers_audiovisual_network_once(monkeypatch):
    plan, options, strategy, tpu = called_with(monkeypatch, "--data_dir=s3://bucket/records/", "--run_dir=run")
    assert plan == TrainingPlan("paper", "audiovisual", ["data.data_dir=s3://bucket/records"], Path("run"))
    assert options == RunOptions() == RunOptions(200, False, TensorBoardOptions(1, 0, None), False)
    assert (strategy, tpu) == ("auto", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set=train.batchsize=2"], "did you mean 'train.batch_size'"),
        (["--set=train.precision=float8"], "train.precision is 'float8'"),
        (["--set=data.label_delay_secs=8"], "leaves none"),
        (["--set=model.frame_samples=320"], "the shards hold frame_samples 640, but the run's model.frame_samples"),
        (["--init_audio=nowhere"], "--init_audio is for --modality=audiovisual"),
        (["--modality=audiovisual", "--init_audio=nowhere"], "run folder nowhere does not exist"),
        (["--pretrain", "--modality=audio"], "--pretrain trains audio and video itself"),
        (["--pretrain", "--modality=audiovisual", "--init_audio=x"], "--pretrain trains audio and video itself"),
        (["--profile=3"], "expected the first and the last update"),
        (["--strategy=multi_worker"], "--strategy=multi_worker needs TF_CONFIG"),
        (["--run_dir=s3://bucket/run"], "--run_dir=s3://bucket/run"),
        (["--init_audio=s3://bucket/audio"], "--init_audio=s3://bucket/audio must be a local folder"),
    ],
)
def test_wrong_options_are_refused_and_leave_no_folder(data_dir, tmp_path, monkeypatch, arguments, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError) as caught:
        call_main(train_command, *train_flags(data_dir, tmp_path / "run"), *arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--preset=nonsense", "nonsense"),
        ("--colour=blue", "Unknown command line flag 'colour'"),
        ("--seeds=0", "--seeds=0"),
        ("--checkpoint_steps=-1", "--checkpoint_steps=-1"),
    ],
)
def test_wrong_flags_are_refused(data_dir, tmp_path, argument, message):
    with pytest.raises(absl_flags.Error, match=message):
        call_main(train_command, *train_flags(data_dir, tmp_path / "run"), argument)


def test_a_wrong_flag_ends_the_script_with_one_line(data_dir, tmp_path):
    done = run_command("train.py", *train_flags(data_dir, tmp_path / "run"), "--colour=blue")
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert line.startswith("error: ") and "Unknown command line flag 'colour'" in line
    assert not (tmp_path / "run").exists()


def test_a_wrong_setting_is_reported_before_tensorflow_is_imported(data_dir, tmp_path):
    done = run_command("-c", IMPORTED_BY_COMMAND, *train_flags(data_dir, tmp_path / "run"), "--set=train.batchsize=2")
    assert done.returncode == 2
    assert done.stdout == "set()\n"
    (line,) = error_lines(done)
    assert line.startswith("error: ") and "did you mean 'train.batch_size'" in line
    assert not (tmp_path / "run").exists()


def test_an_error_after_tensorflow_was_imported_is_one_line_too(data_dir, tmp_path):
    done = run_command("train.py", *train_flags(data_dir, tmp_path / "run"), "--set=model.frame_samples=320")
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert line.startswith(f"error: {data_dir}: ") and "frame_samples 640" in line
    assert not (tmp_path / "run").exists()


def test_help_shows_every_flag_without_importing_tensorflow():
    done = run_command("-c", IMPORTED_BY_COMMAND, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Trains the network of one modality, or of both, on shards made by make_tfrecords.")
    assert done.stdout.endswith("\nset()\n")
    for name in (
        "preset", "modality", "data_dir", "run_dir", "set", "init_audio", "init_video", "seeds", "checkpoint_steps",
        "strategy", "tpu", "picture_epochs", "histogram_epochs", "profile", "[no]pretrain", "[no]fresh",
        "[no]allow_faceless",
    ):  # fmt: skip
        assert f"\n  --{name}:" in done.stdout, name
    assert run_command("train.py", "--help").stdout + "set()\n" == done.stdout
