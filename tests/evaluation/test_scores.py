"""Scores of curves, compared with audmetric and with values worked out by hand; which scores belong together."""

import json

import audmetric
import msgspec
import numpy as np
import pytest
from sklearn.metrics import mean_squared_error

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.chain import PostProcessing
from affect.evaluation.curves import Prediction
from affect.evaluation.scores import Digests, DimensionScores, Metrics, scores_that_belong_together
from affect.evaluation.scoring import compute_metrics, score
from affect.metrics import concordance_cc
from affect.runs import RunFolder
from affect.storage import read_json, write_json


def root_mean_squared_error(gold, predicted):
    return np.sqrt(mean_squared_error(gold, predicted))


def prediction(name, gold, predicted):
    """A prediction whose two dimensions are the same signal."""
    gold, predicted = (np.stack([np.asarray(signal, dtype=float)] * 2, axis=1) for signal in (gold, predicted))
    return Prediction(name, predicted, gold)


def random_predictions(recordings, seed=0):
    rng = np.random.default_rng(seed)
    predictions = []
    for index in range(recordings):
        gold = rng.normal(rng.normal(), 1.0, (rng.integers(50, 90), 2))
        predictions.append(Prediction(f"r{index}", 0.6 * gold + rng.normal(0.1, 0.5, gold.shape), gold))
    return predictions


def test_scores_are_those_of_audmetric_which_uses_population_moments_too():
    predictions = random_predictions(7)
    for axis, name in enumerate(DIMENSIONS):
        pairs = [(one.gold[:, axis], one.predicted[:, axis]) for one in predictions]
        pooled = [np.concatenate(signals) for signals in zip(*pairs, strict=True)]
        scores = score(predictions)[name]
        measures = {"ccc": audmetric.concordance_cc, "pearson": audmetric.pearson_cc, "rmse": root_mean_squared_error}
        for kind, measure in measures.items():
            assert getattr(scores, f"{kind}_pooled") == pytest.approx(measure(*pooled), abs=1e-12)
            mean = np.mean([measure(*pair) for pair in pairs])
            assert getattr(scores, f"{kind}_per_recording") == pytest.approx(mean, abs=1e-12)


def test_pooled_and_per_recording_ccc_differ_by_the_amount_worked_out_by_hand():
    # The first recording is perfect, CCC 1; the second 2 too low, CCC 2 / (1 + 1 + 2^2) = 1/3. Their mean is 2/3.
    # Pooled: means 3 and 2, variances 5 and 2, covariance 3: CCC 6 / (5 + 2 + 1) = 3/4.
    scores = score([prediction("a", [0, 2], [0, 2]), prediction("b", [4, 6], [2, 4])])["arousal"]
    assert scores.ccc_per_recording == pytest.approx(2 / 3, abs=1e-12)
    assert scores.ccc_pooled == pytest.approx(3 / 4, abs=1e-12)
    assert scores.ccc_pooled - scores.ccc_per_recording == pytest.approx(1 / 12, abs=1e-12)


def test_recordings_without_gold_are_left_out_of_the_scores_and_counted():
    labelled = random_predictions(3)
    blank = Prediction("blank", np.full((500, 2), 9.0), None)
    curves = {key: [labelled[0], blank, *labelled[1:]] for key in ("raw", "postprocessed", "cautious")}
    metrics = compute_metrics(curves)
    assert metrics.raw == score(labelled)
    assert (metrics.recordings, metrics.unlabelled_recordings) == (3, 1)
    assert metrics.frames == sum(len(one.predicted) for one in labelled)
    assert compute_metrics({"raw": [blank], "postprocessed": [blank]}) is None


def test_every_kind_of_curves_has_its_own_scores_and_the_chosen_one_is_the_headline():
    raw = random_predictions(3)

    def scaled(factor):
        return [Prediction(one.recording, one.predicted * factor, one.gold) for one in raw]

    curves = {"raw": raw, "postprocessed": scaled(0.5), "cautious": scaled(0.2), "avec": scaled(0.1)}
    for chosen, kind in (("paper", "postprocessed"), ("cautious", "cautious"), ("none", "raw")):
        metrics = compute_metrics(curves, chosen=chosen, context="recording")
        assert metrics.headline() == score(curves[kind])
        assert metrics.avec == score(curves["avec"])
        assert metrics.context == "recording"
        assert msgspec.json.decode(msgspec.json.encode(metrics), type=Metrics) == metrics


def test_curves_of_other_recordings_cannot_be_scored_together():
    raw = random_predictions(3)
    with pytest.raises(ValueError, match="recordings differ"):
        compute_metrics({"raw": raw, "postprocessed": raw[::-1]})
    with pytest.raises(ValueError, match="some are missing"):
        compute_metrics({"raw": raw, "postprocessed": raw}, chosen="cautious")


def test_the_ccc_after_every_step_is_that_of_the_chain_up_to_it():
    raw = random_predictions(3)
    chain = PostProcessing(25.0, median_frames=3, offset=-0.1, gain=1.5, centre=0.2, shift_frames=4)
    metrics = compute_metrics({"raw": raw, "postprocessed": raw}, dict.fromkeys(DIMENSIONS, chain))
    up_to = {
        "raw": PostProcessing(25.0),
        "median": PostProcessing(25.0, median_frames=3),
        "centring": PostProcessing(25.0, median_frames=3, offset=-0.1),
        "scaling": msgspec.structs.replace(chain, shift_frames=0),
        "shift": chain,
    }
    for axis, name in enumerate(DIMENSIONS):
        gold = np.concatenate([one.gold[:, axis] for one in raw])
        expected = {
            step: concordance_cc(gold, np.concatenate([part.apply(one.predicted[:, axis]) for one in raw]))
            for step, part in up_to.items()
        }
        assert metrics.ccc_after_steps[name] == pytest.approx(expected, abs=1e-12)
        assert list(metrics.ccc_after_steps[name]) == list(up_to)


def test_metrics_of_earlier_versions_can_be_read():
    scores = {name: {"ccc_pooled": 0.1, "ccc_per_recording": 0.2, "pearson_pooled": 0.3, "rmse_pooled": 0.4}
              for name in DIMENSIONS}  # fmt: skip
    old = {"raw": scores, "postprocessed": scores, "recordings": 2, "frames": 400}
    metrics = msgspec.convert(old, Metrics)
    assert metrics.headline()["valence"] == DimensionScores(0.1, 0.2, 0.3, 0.4)
    assert (metrics.cautious, metrics.context, metrics.unlabelled_recordings) == (None, None, 0)


def test_a_choice_without_its_scores_is_a_damaged_file(tmp_path):
    scores = {name: DimensionScores(0.1, 0.2, 0.3, 0.4) for name in DIMENSIONS}
    path = tmp_path / "metrics.json"
    write_json(path, Metrics(raw=scores, postprocessed=scores, recordings=2, frames=400))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chosen": "cautious"}))
    with pytest.raises(UserError, match=r"metrics.json: chosen is cautious, but there are no scores of the cautious"):
        read_json(path, Metrics)


def test_other_chains_than_the_chosen_one_outdate_the_scores_too(tmp_path):
    run = RunFolder(tmp_path)
    write_json(run.postprocessing, {"chain": 1})
    write_json(run.chains, {"cautious": 1})
    scores = {name: DimensionScores(0.1, 0.2, 0.3, 0.4) for name in DIMENSIONS}
    for partition in ("dev", "test"):
        digests = Digests(data="d", chain=run.postprocessing_digest())
        metrics = Metrics(raw=scores, postprocessed=scores, recordings=2, frames=400, digests=digests)
        write_json(run.evaluation(partition) / "metrics.json", metrics)
    assert list(scores_that_belong_together(run)[0]) == ["dev", "test"]
    write_json(run.chains, {"cautious": 2})
    current, remarks = scores_that_belong_together(run)
    assert current == {}
    assert remarks[1] == "test is left out: it was scored with other post-processing; run eval.py again on test"
