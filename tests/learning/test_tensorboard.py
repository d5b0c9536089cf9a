"""What a run writes for TensorBoard: tags, values, pictures, histograms, a profile."""

import pytest
import tensorflow as tf

from affect.learning import train_command
from tests.helpers.commands import train_flags
from tests.helpers.in_process import call_main


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
    call_main(train_command, *train_flags(data_dir, run_dir), "--histogram_epochs=1", "--profile=2,3")
    assert any("conv1" in tag for tag in events(run_dir / "tensorboard/train"))
    assert list(run_dir.glob("tensorboard/**/*.xplane.pb"))
