"""What a run shows: TensorBoard's tags, pictures, and the line that ends a run which went wrong."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.config import MODALITIES, ModelConfig, TrainConfig, override
from affect.errors import UserError
from affect.figures import filter_responses, to_png
from affect.learning import multi_run
from affect.learning.callbacks import BestWeights, Patience, trim_log
from affect.learning.loop import Loop, NotFiniteError, Totals, compile_network
from affect.learning.train_state import TrainState
from affect.models.network import build_network
from affect.presets import get_preset
from tests.helpers.commands import error_lines, run_command, train_flags
from tests.learning.test_loop import CONFIG, batches, network


def events(folder):
    """Tag to values, or to whole tensors, in the order they were written."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor))
    return found


def test_tensorboard_shows_curves_rates_and_pictures(audio_run):
    train, dev = events(audio_run / "tensorboard/train"), events(audio_run / "tensorboard/validation")
    for tag in ("loss", "ccc", "ccc_arousal", "ccc_valence"):
        assert len(train[f"epoch_{tag}"]) == len(dev[f"epoch_{tag}"]) == 2
    assert train["epoch_learning_rate"] == pytest.approx([1e-3, 1e-3])
    for tag in ("gradient_norm", "frames_per_second"):
        assert min(train[f"epoch_{tag}"]) > 0.0
    assert all(0.0 <= share <= 1.0 for share in train["epoch_input_wait"])
    rows = (audio_run / "training.csv").read_text().splitlines()
    logged = [float(row.split(",")[rows[0].split(",").index("val_ccc")]) for row in rows[1:]]
    assert dev["epoch_ccc"] == pytest.approx(logged, abs=1e-6)

    pictures = events(audio_run / "tensorboard/pictures")
    assert set(pictures) == {"predictions/dev_1", "predictions/dev_2", "filters/conv1"}
    for drawn in pictures.values():
        assert len(drawn) == 2
        assert all(tf.image.decode_png(image[2]).numpy().std() > 1.0 for image in drawn)


def test_histograms_and_profile_on_request(data_dir, tmp_path):
    run_dir = tmp_path / "run"
    done = run_command("train.py", *train_flags(data_dir, run_dir), "--histogram_epochs=1", "--profile=2,3")
    assert done.returncode == 0, done.stderr
    assert any("conv1" in tag for tag in events(run_dir / "tensorboard/train"))
    assert list(run_dir.glob("tensorboard/**/*.xplane.pb"))


def test_filter_responses_are_sorted_by_frequency():
    time = np.arange(80) / 16_000
    kernel = np.stack([np.sin(2 * np.pi * hz * time) for hz in (6000, 500, 3000)], axis=1)
    figure = filter_responses(kernel, 16_000)
    picture = figure.axes[1].images[0]
    loudest_khz = picture.get_array().argmax(axis=1) / (picture.get_array().shape[1] - 1) * 8.0
    assert loudest_khz == pytest.approx([0.5, 3.0, 6.0], abs=0.1)
    assert to_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda audio, labels: (audio, labels * np.nan), "the loss is nan"),
        (lambda audio, labels: (audio * np.inf, labels), "the loss is nan"),
    ],
)
def test_what_is_not_finite_stops_the_step(spoil, message):
    inputs, labels, mask = next(iter(batches(1)))
    audio, labels = spoil(inputs["audio"].numpy(), labels.numpy())
    batch = ({"audio": tf.constant(audio)}, tf.constant(labels), mask)
    with pytest.raises(NotFiniteError, match=message):
        Loop(network(), seed=0).train_step(batch, 0, Totals.of([]))


def test_a_run_that_diverges_names_step_recordings_and_checkpoint(data_dir, tmp_path):
    run_dir = tmp_path / "run"
    done = run_command(
        "train.py", *train_flags(data_dir, run_dir), "--set=train.learning_rate=1e30", "--checkpoint_steps=1"
    )
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert " is nan at step " in line or " is inf at step " in line
    assert " of epoch 0, after " in line and "train_1 from frame " in line or "train_2 from frame " in line
    newest = max((run_dir / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    assert f"last good checkpoint: {newest}." in line


def test_float16_scales_the_loss_and_skips_steps_that_overflow():
    def step(precision):
        keras_policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(precision)
        try:
            keras.utils.set_random_seed(1)
            model = build_network(ModelConfig(**{**CONFIG.__dict__, "dropout": 0.0}), "audio")
        finally:
            keras.config.set_dtype_policy(keras_policy)
        compile_network(model, TrainConfig(learning_rate=1e-2, precision=precision))
        loop, totals = Loop(model, 0), Totals.of([])
        norms = []
        for index, batch in enumerate(batches(3)):
            _, norm, totals = loop.train_step(batch, index, totals)
            norms.append(norm)
        return model, norms

    reference, norms = step("float32")
    for precision in ("mixed_bfloat16", "mixed_float16"):
        model, ours = step(precision)
        assert ours == pytest.approx(norms, rel=0.1)
        assert all(weight.dtype == "float32" for weight in model.trainable_weights)
    assert float(model.optimizer.dynamic_scale) == 2.0**15
    # An overflow: the scale is halved, the weights stay.
    model.optimizer.dynamic_scale.assign(3e38)
    before = model.get_weights()
    Loop(model, 0).train_step(next(iter(batches(1))), 0, Totals.of([]))
    assert float(model.optimizer.dynamic_scale) == pytest.approx(1.5e38)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_clipping_shortens_the_gradient_to_the_norm():
    def change(clip_norm):
        model = network()
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss=model.loss, jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        before = model.get_weights()
        _, norm, _ = Loop(model, 0, clip_norm).train_step(next(iter(batches(1))), 0, Totals.of([]))
        return norm, [a - b for a, b in zip(model.get_weights(), before, strict=True)]

    norm, whole = change(0.0)
    assert np.sqrt(sum(np.sum(np.square(part)) for part in whole)) == pytest.approx(norm, rel=1e-5)
    same_norm, short = change(norm / 4)
    assert same_norm == pytest.approx(norm)  # reported before clipping
    for a, b in zip(short, whole, strict=True):
        np.testing.assert_allclose(a, b / 4, atol=1e-6)


def test_patience_stops_and_reduces_from_the_progress_alone(tmp_path):
    model, progress = network(), TrainState()
    config = TrainConfig(early_stop_epochs=4, plateau_epochs=2, plateau_factor=0.5)
    rates = []
    for epoch, score in enumerate([0.1, 0.3, 0.2, 0.3, 0.1, 0.0]):
        # New callbacks each time, as after a restart.
        progress = TrainState.from_json(progress.to_json())
        for callback in (BestWeights(tmp_path / "best.weights.h5", progress, True), Patience(config, progress)):
            callback.set_model(model)
            callback.on_epoch_end(epoch, {"val_ccc": score})
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3])
    assert (progress.best_epoch, progress.best_score, progress.stopped) == (2, 0.3, True)


def test_the_log_keeps_only_finished_epochs(tmp_path):
    log = tmp_path / "training.csv"
    log.write_text("epoch,loss\n0,1.0\n1,0.5\n2,0.")
    trim_log(log, 2)
    assert log.read_text() == "epoch,loss\n0,1.0\n1,0.5\n"
    trim_log(log, 0)
    assert log.read_text() == ""


def test_pretraining_trains_both_modalities_alone_and_then_together(monkeypatch, tmp_path):
    calls = []

    def train(experiment, run_dir, initial_runs, strategy, options):
        calls.append((experiment, run_dir.relative_to(tmp_path), dict(initial_runs)))
        return 0.1 * len(calls)

    monkeypatch.setattr(multi_run, "train", train)
    experiments = {modality: get_preset("demo", modality) for modality in MODALITIES}
    assert multi_run.pretrain(experiments, tmp_path, None, None) == pytest.approx(0.3)
    unimodal = {name: tmp_path / name for name in ("audio", "video")}
    assert calls == [
        (experiments["audio"], Path("audio"), {}),
        (experiments["video"], Path("video"), {}),
        (experiments["audiovisual"], Path("audiovisual"), unimodal),
    ]
    (tmp_path / "config.json").touch()
    with pytest.raises(UserError, match="holds a single run; --pretrain needs another --run_dir"):
        multi_run.pretrain(experiments, tmp_path, None, None)


def test_seeds_are_summed_up_as_mean_and_deviation(tmp_path):
    scores = {4: 0.1, 5: 0.3, 6: 0.8}

    def train_one(seed, run_dir):
        assert run_dir == tmp_path / f"seed{seed}"
        return scores[seed]

    multi_run.repeat(train_one, [4, 5, 6], tmp_path, writes=False)
    assert not (tmp_path / "seeds.json").exists()
    multi_run.repeat(train_one, [4, 5, 6], tmp_path, writes=True)
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert summary["best_dev_ccc"] == {"4": 0.1, "5": 0.3, "6": 0.8}
    assert summary["mean"] == pytest.approx(0.4)
    assert summary["deviation"] == pytest.approx(np.std(list(scores.values()), ddof=1))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pretrain", "--modality=audio"], "--pretrain trains audio and video itself"),
        (["--pretrain", "--modality=audiovisual", "--init_audio=x"], "--pretrain trains audio and video itself"),
        (["--profile=3"], "expected the first and the last update"),
        (["--set=train.precision=float8"], "train.precision is 'float8'"),
        (["--set=data.label_delay_secs=8"], "leaves none"),
        (["--strategy=multi_worker"], "--strategy=multi_worker needs TF_CONFIG"),
    ],
)
def test_wrong_options_are_one_line_and_leave_no_folder(data_dir, tmp_path, flags, message):
    done = run_command("train.py", *train_flags(data_dir, tmp_path / "run"), *flags)
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "run").exists()


def test_presets_never_clip_and_keep_their_rate():
    for preset in ("paper", "adieu2016"):
        train = get_preset(preset, "audio").train
        assert (train.clip_norm, train.plateau_epochs, train.early_stop_epochs, train.precision) == (0, 0, 0, "float32")
    assert override(get_preset("paper"), ["train.precision=mixed_bfloat16"]).train.precision == "mixed_bfloat16"
