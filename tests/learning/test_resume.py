"""Killed runs: when continued, they end with the weights of an uninterrupted run."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf

from affect.errors import UserError
from affect.learning import train_command
from tests.helpers.commands import REPOSITORY, made_once, train_flags
from tests.helpers.in_process import call_main
from tests.helpers.worker_processes import finish, start_workers

STEPS = 60


def flags(data_dir, run_dir, *more):
    """Sixty steps in six epochs, with dropout and augmentation, and a checkpoint every third step."""
    return [
        "--preset=demo", "--modality=video", f"--data_dir={data_dir}", f"--run_dir={run_dir}",
        "--set=train.epochs=6", "--set=train.batch_size=2", "--set=data.window_frames=18", "--set=augment.enabled=true",
        "--set=train.plateau_epochs=1", "--picture_epochs=0", "--checkpoint_steps=3", *more,
    ]  # fmt: skip


def state(run_dir, step=STEPS):
    """Every number of a checkpoint: weights, batch norm, Adam's moments, learning rate."""
    reader = tf.train.load_checkpoint(str(run_dir / f"checkpoints/step-{step}/state"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name}


def assert_same_run(run_dir, reference):
    ours, theirs = state(run_dir), state(reference)
    assert ours.keys() == theirs.keys() and len(ours) > 50
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-6, err_msg=name)
    ours, theirs = (
        json.loads((run / f"checkpoints/step-{STEPS}/progress.json").read_text()) for run in (run_dir, reference)
    )
    assert ours == theirs
    logs = [(run / "training.csv").read_text().splitlines() for run in (run_dir, reference)]
    assert [row.split(",")[0] for row in logs[0]] == [row.split(",")[0] for row in logs[1]]


@pytest.fixture(scope="session")
def uninterrupted(data_dir, tmp_path_factory, worker_id):
    def make(run_dir):
        call_main(train_command, *flags(data_dir, run_dir))

    return made_once(tmp_path_factory, worker_id, "uninterrupted", make)


def writing(checkpoints):
    """Whether a checkpoint is being written right now."""
    return any(checkpoints.glob(".*.step-*"))


def kill_once(arguments, checkpoints, rng, during_write):
    """Starts a run and kills it: while it writes a checkpoint, or shortly after it has written one.

    Returns:
      The files in `checkpoints` when the process died, or None if it finished before.
    """
    process = subprocess.Popen([sys.executable, "train.py", *arguments], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    before = set(checkpoints.glob("step-*"))
    writes, delay = rng.randrange(1, 5), rng.uniform(0.0, 0.4)
    while process.poll() is None:
        if during_write and writing(checkpoints):
            writes -= 1
            if writes <= 0:
                break
            while writing(checkpoints) and process.poll() is None:
                time.sleep(0.0005)
        elif not during_write and set(checkpoints.glob("step-*")) - before:
            time.sleep(delay)
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        assert process.returncode == 0
        return None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return sorted(path.name for path in checkpoints.iterdir())


def interrupted(data_dir, run_dir, kills, seed):
    """Kills a run once for each of `kills` (True: during a write), then lets it finish; prints every kill."""
    rng, done = random.Random(seed), []
    for during_write in kills:
        left = kill_once(flags(data_dir, run_dir), run_dir / "checkpoints", rng, during_write)
        if left is None:
            break
        done.append(during_write and any(name.startswith(".") for name in left))
        print(f"kill {len(done)}, {'while writing' if done[-1] else 'between writes'}: {left}")
    call_main(train_command, *flags(data_dir, run_dir))
    assert not writing(run_dir / "checkpoints")
    return done


def test_a_killed_run_continues_to_the_same_weights(data_dir, uninterrupted, tmp_path):
    done = interrupted(data_dir, tmp_path / "run", kills=[False, True], seed=1)
    assert done == [False, True]
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_ten_kills_at_random_points_change_nothing(data_dir, uninterrupted, tmp_path):
    kills = [False, True, False, False, True, False, True, False, True, False]
    done = interrupted(data_dir, tmp_path / "run", kills, seed=int.from_bytes(os.urandom(4), "little"))
    assert len(done) == 10 and sum(done) >= 3
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_damaged_checkpoint_is_passed_over_and_the_lost_steps_are_stated(data_dir, uninterrupted, tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, run_dir)
    (data,) = (run_dir / f"checkpoints/step-{STEPS}").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:-1000])
    call_main(train_command, *flags(data_dir, run_dir))
    printed = capsys.readouterr().out
    assert f"checkpoints/step-{STEPS} cannot be read" in printed
    assert "using step-57, 3 steps are lost" in printed
    assert_same_run(run_dir, uninterrupted)

    for data in (run_dir / "checkpoints").glob("*/*.data-*"):
        data.write_bytes(b"")
    with pytest.raises(UserError, match="start again in another --run_dir$") as caught:
        call_main(train_command, *flags(data_dir, run_dir))
    assert "\n" not in str(caught.value)


def test_a_run_continues_in_a_folder_of_any_name_from_data_in_such_a_folder(data_dir, audio_run, tmp_path, capsys):
    # TensorFlow takes the paths of checkpoints for patterns: "[2024]" is one digit, and a backslash quotes.
    name = "study [2024]/a\\b/* ?/ -~$HOME %d #'\"é:1\n"
    records = {"plain": data_dir, name: shutil.copytree(data_dir, tmp_path / name / "records")}
    runs = [shutil.copytree(audio_run, tmp_path / folder / "run") for folder in records]
    for run_dir, shards in zip(runs, records.values(), strict=True):
        call_main(train_command, *train_flags(shards, run_dir, "--set=train.epochs=3", "--picture_epochs=0"))
        assert f"continuing {run_dir} after epoch 2 of 3" in capsys.readouterr().out
    theirs, ours = (h5py.File(run_dir / "best.weights.h5") for run_dir in runs)
    with theirs, ours:
        compared = []

        def compare(path, values):
            if isinstance(values, h5py.Dataset):
                compared.append(path)
                np.testing.assert_array_equal(ours[path], values, err_msg=path)

        theirs.visititems(compare)
    assert len(compared) > 10
    rows = [(run_dir / "training.csv").read_text().splitlines() for run_dir in runs]
    assert len(rows[1]) == 4 and rows[0][3].split(",")[:4] == rows[1][3].split(",")[:4]


def test_workers_stop_together_continue_together_and_end_together(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's errors are shown
    run_dir = tmp_path / "run"
    # The audio network starts sooner than the video network, and four processes start here.
    changes = ["--modality=audio", "--set=train.plateau_epochs=0", "--set=train.epochs=1000"]
    arguments = ["train.py", *flags(data_dir, run_dir, *changes)]
    workers = start_workers(arguments, arguments)
    deadline = time.time() + 240
    while not (run_dir / "checkpoints").exists() or not any((run_dir / "checkpoints").glob("step-*")):
        assert time.time() < deadline and workers[0].poll() is None, finish(workers, 30)
        time.sleep(0.1)
    workers[1].kill()
    died = time.time()
    printed = finish(workers, timeout=120)[0]
    assert time.time() - died < 60
    assert workers[0].returncode == 2
    assert "error: another worker has stopped; restart all workers to continue this run" in printed
    assert "Traceback" not in printed

    newest = max(int(path.name[5:]) for path in (run_dir / "checkpoints").glob("step-*"))
    config = json.loads((run_dir / "config.json").read_text())
    config["train"]["epochs"] = epochs = newest // 10 + 1
    (run_dir / "config.json").write_text(json.dumps(config))
    arguments = ["-m", "tests.helpers.slow_chief", *arguments[1:-1], f"--set=train.epochs={epochs}"]
    workers = start_workers(arguments, arguments)
    printed = finish(workers)
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert all(f"continuing {run_dir} after epoch" in text for text in printed)
    assert json.loads((run_dir / "environment.json").read_text())["workers"] == 2
    for text in printed:
        assert text.splitlines()[-1].startswith("best mean dev CCC "), text
        assert not re.search("has failed|StartAbort", text), text  # no worker left before the others were done
