"""The loop: same weights as `fit`, exact repetition and continuation, and runs that cannot be mixed up."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.config import ModelConfig, TrainConfig
from affect.learning.loop import Loop, Totals, compile_network
from affect.models.network import build_network
from tests.helpers.commands import error_lines, run_command, train_flags

CONFIG = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(5, 4), audio_channel_pool=2, audio_framed=True,
    lstm_units=(5,), dropout=0.0,
)  # fmt: skip


def batches(count=5):
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(count, 3, 8, 16)).astype(np.float32)
    labels = rng.uniform(-1, 1, size=(count, 3, 8, 2)).astype(np.float32)
    mask = rng.random((count, 3, 8)) < 0.8
    return tf.data.Dataset.from_tensor_slices(({"audio": audio}, labels, mask))


def network(dropout=0.0):
    keras.utils.set_random_seed(1)
    model = build_network(ModelConfig(**{**CONFIG.__dict__, "dropout": dropout}), "audio")
    compile_network(model, TrainConfig(learning_rate=1e-2))
    return model


def run_loop(model, data, seed=0, first_step=0):
    loop, totals = Loop(model, seed), Totals.of([])
    for step, batch in enumerate(data, first_step):
        _, _, totals = loop.train_step(batch, step, totals)
    return totals.logs()


def test_loop_gives_the_same_weights_as_keras_fit_with_masks():
    ours, keras_own = network(), network()
    logs = run_loop(ours, batches())
    history = keras_own.fit(batches(), verbose=0, shuffle=False).history
    for a, b in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert logs["loss"] == pytest.approx(history["loss"][0], abs=1e-5)
    assert logs["ccc_arousal"] == pytest.approx(history["ccc_arousal"][0], abs=1e-5)


def test_dropout_masks_depend_on_seed_and_step_only():
    once, again, other = network(0.5), network(0.5), network(0.5)
    run_loop(once, batches(), seed=3)
    run_loop(again, batches().take(2), seed=3)
    run_loop(again, batches().skip(2), seed=3, first_step=2)  # a new Loop, as after a restart
    run_loop(other, batches(), seed=4)
    for a, b in zip(once.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert not np.allclose(once.get_weights()[0], other.get_weights()[0], atol=1e-4)


def test_evaluation_reports_the_loss_of_the_pooled_cccs():
    logs = Loop(network(), 0).evaluate(batches())
    assert logs["val_loss"] == pytest.approx(1 - (logs["val_ccc_arousal"] + logs["val_ccc_valence"]) / 2, abs=1e-6)


def weights_of(run_dir):
    """Every array of the best weights, by its path."""
    arrays = {}
    with h5py.File(run_dir / "best.weights.h5") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def dev_scores(run_dir):
    rows = [line.split(",") for line in (run_dir / "training.csv").read_text().splitlines()]
    return [float(row[rows[0].index("val_ccc")]) for row in rows[1:]]


def test_a_run_folder_holds_everything_and_two_runs_agree(audio_run, data_dir, tmp_path):
    expected = {"config.json", "environment.json", "best.weights.h5", "checkpoints", "tensorboard", "training.csv"}
    assert {path.name for path in audio_run.iterdir()} >= expected
    environment = json.loads((audio_run / "environment.json").read_text())
    assert environment["synthetic_data"] is True
    assert environment["packages"]["keras"] == keras.__version__

    again = tmp_path / "again"
    assert run_command("train.py", *train_flags(data_dir, again)).returncode == 0
    np.testing.assert_allclose(dev_scores(again), dev_scores(audio_run), atol=1e-6)
    first, second = weights_of(audio_run), weights_of(again)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, atol=1e-6)


def test_a_stopped_run_continues_to_the_same_result(audio_run, data_dir, tmp_path):
    """Stopped after its first epoch, a run ends as the uninterrupted one."""
    stopped = tmp_path / "stopped"
    shutil.copytree(audio_run, stopped)
    assert {path.name for path in (stopped / "checkpoints").iterdir()} == {"step-3", "step-6"}
    shutil.rmtree(stopped / "checkpoints/step-6")  # the log has two rows, and the second must be written again

    continued = run_command("train.py", *train_flags(data_dir, stopped))
    assert continued.returncode == 0, continued.stderr
    assert "after epoch 1 of 2" in continued.stdout
    np.testing.assert_allclose(dev_scores(stopped), dev_scores(audio_run), atol=1e-6)


def test_tensorboard_has_loss_and_cccs_of_train_and_dev(audio_run):
    for folder, prefix in (("train", "epoch_"), ("validation", "epoch_")):
        files = list((audio_run / "tensorboard" / folder).glob("events*"))
        tags = {value.tag for file in files for event in tf.compat.v1.train.summary_iterator(str(file))
                for value in event.summary.value}  # fmt: skip
        assert {f"{prefix}loss", f"{prefix}ccc_arousal", f"{prefix}ccc_valence"} <= tags


def test_fresh_never_continues(audio_run, data_dir):
    done = run_command("train.py", *train_flags(data_dir, audio_run, "--fresh"))
    assert done.returncode == 2
    assert error_lines(done) == [
        f"error: {audio_run} is not empty, and --fresh never overwrites; delete it or use another --run_dir"
    ]


def test_another_experiment_does_not_overwrite_a_run(audio_run, data_dir):
    done = run_command("train.py", *train_flags(data_dir, audio_run, "--set=train.learning_rate=0.5"))
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert line.startswith("error: ") and "train.learning_rate: 0.001 there, 0.5 now" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set=train.batchsize=2"], "did you mean 'train.batch_size'"),
        (["--set=model.frame_samples=320"], "the shards hold frame_samples 640, but the run's model.frame_samples"),
        (["--init_audio=nowhere"], "--init_audio is for --modality=audiovisual"),
        (["--modality=audiovisual", "--init_audio=nowhere"], "run folder nowhere does not exist"),
        (["--preset=nonsense"], "nonsense"),
        (["--colour=blue"], "Unknown command line flag 'colour'"),
    ],
)
def test_wrong_flags_are_one_line_and_leave_no_folder(data_dir, tmp_path, flags, message):
    done = run_command("train.py", *train_flags(data_dir, tmp_path / "run"), *flags)
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "run").exists()


def test_data_without_dev_is_refused(data_dir, tmp_path):
    copy = tmp_path / "records"
    shutil.copytree(data_dir, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recordings"] = [entry for entry in manifest["recordings"] if entry["partition"] != "dev"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    done = run_command("train.py", *train_flags(copy, tmp_path / "run"))
    assert done.returncode == 2
    assert error_lines(done) == [f"error: {copy}: the dev partition has no labelled recordings"]
