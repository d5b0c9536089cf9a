"""Evaluation of networks whose predictions are known beforehand, compared with NumPy."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from affect.config import override
from affect.evaluation.evaluate import evaluate
from affect.presets import get_preset
from tests.helpers.commands import read_recording
from tests.helpers.planted import linear_network, plant_in_sound, rewrite_shards, sound_reader, use_network

DIMENSIONS = ["arousal", "valence"]


def sound_experiment(data_dir, *settings):
    return override(get_preset("demo", "audio"), [f"data.data_dir={data_dir}", "data.standardise=none", *settings])


def numpy_ccc(gold, predicted):
    covariance = np.mean((gold - gold.mean()) * (predicted - predicted.mean()))
    return 2 * covariance / (gold.var() + predicted.var() + (gold.mean() - predicted.mean()) ** 2)


def read_curves(run_dir, partition, folder="predictions"):
    """Predicted and gold, each [recordings, frames, 2]."""
    tables = [pd.read_csv(path) for path in sorted((run_dir / "eval" / partition / folder).glob("*.csv"))]
    gold_columns = [f"{name}_gold" for name in DIMENSIONS]
    return np.stack([table[DIMENSIONS] for table in tables]), np.stack([table[gold_columns] for table in tables])


def test_a_network_that_learnt_delayed_labels_is_scored_against_the_labels_of_now(
    data_dir, run_dir, tmp_path, monkeypatch
):
    # Trained on labels 7 frames late, a perfect network says in frame t what the raters say in frame t + 7.
    def early(_, fields):
        labels = fields["labels"]
        plant_in_sound(fields, np.concatenate([labels[7:], np.full((7, 2), 0.9)]))

    planted = rewrite_shards(data_dir, tmp_path / "early", early)
    # Windows of 60 frames: the delay must not begin anew in each.
    experiment = sound_experiment(planted, "data.label_delay_secs=0.28", "data.eval_window_frames=60")
    use_network(monkeypatch, run_dir, experiment, sound_reader())
    evaluate(run_dir, ["test"])
    predicted, gold = read_curves(run_dir, "test")
    assert gold.std() > 0.05
    np.testing.assert_allclose(predicted[:, 7:], gold[:, 7:], atol=1e-4)
    np.testing.assert_allclose(predicted[:, :7], np.repeat(gold[:, 7:8], 7, axis=1), atol=1e-4)
    scores = json.loads((run_dir / "eval/test/metrics.json").read_text())["raw"]
    for axis, name in enumerate(DIMENSIONS):
        expected = numpy_ccc(
            gold[..., axis], np.concatenate([np.repeat(gold[:, 7:8, axis], 7, 1), gold[:, 7:, axis]], 1)
        )
        assert scores[name]["ccc_pooled"] == pytest.approx(expected, abs=1e-4)
        assert expected > 0.99


def test_post_processing_is_fitted_on_dev_alone(data_dir, run_dir, tmp_path, monkeypatch):
    # The network is wrong by a known gain and offset. The labels of train and test suggest others.
    def plant(entry, fields):
        plant_in_sound(fields, 0.5 * fields["labels"] + 0.1)
        if entry.partition != "dev":
            fields["labels"][:] = 0.3 - 0.2 * fields["labels"]

    planted = rewrite_shards(data_dir, tmp_path / "planted", plant)
    use_network(monkeypatch, run_dir, sound_experiment(planted), sound_reader())
    evaluate(run_dir, ["train", "dev", "test"])
    chains = json.loads((run_dir / "eval/postprocessing.json").read_text())
    for partition in ("train", "dev", "test"):
        predicted, gold = read_curves(run_dir, partition, "predictions_postprocessed")
        true_labels = gold if partition == "dev" else (0.3 - gold) / 0.2
        np.testing.assert_allclose(predicted, true_labels, atol=1e-3)
    for name in DIMENSIONS:
        assert chains[name]["gain"] == pytest.approx(2.0, abs=1e-3)
        assert (chains[name]["median_frames"], chains[name]["shift_frames"]) == (1, 0)


def test_a_preset_that_augments_is_evaluated_on_the_pictures_as_they_are(data_dir, run_dir, monkeypatch):
    experiment = override(get_preset("paper", "video"), [f"data.data_dir={data_dir}", "data.eval_window_frames=70"])
    assert experiment.augment.enabled
    size = (96, 96, 3)
    # Two random projections of all pixels: no changed picture has the same two values.
    weights = (np.random.default_rng(0).normal(size=(np.prod(size), 2)) / 5_000).astype(np.float32)
    use_network(monkeypatch, run_dir, experiment, linear_network("video", size, "uint8", weights))
    evaluate(run_dir, ["dev"])
    predicted, _ = read_curves(run_dir, "dev")
    for curve, name in zip(predicted, ("dev_1", "dev_2"), strict=True):
        pictures = np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in read_recording(data_dir, name)["jpeg"]])
        expected = pictures.reshape(len(pictures), -1).astype(np.float64) @ weights
        np.testing.assert_allclose(curve, expected, atol=1e-3)
        assert expected.std() > 0.01
