"""Late fusion: equals NumPy's least squares, and has a model for frames in which a system has nothing to say."""

import numpy as np
import pytest

from affect.evaluation.avec2016.fusion import fit_fusion, side_by_side

SYSTEMS = ("audio", "appearance", "geometric")


def planted(frames=500):
    rng = np.random.default_rng(5)
    predicted = rng.standard_normal((frames, 3)) * 0.2
    predicted[:, 2] += 0.5 * predicted[:, 1]
    return predicted, 0.05 + predicted @ [0.6, 0.1, 0.3] + rng.normal(0, 0.05, frames)


def least_squares(predicted, gold):
    solution, *_ = np.linalg.lstsq(np.column_stack([predicted, np.ones(len(gold))]), gold, rcond=None)
    return solution


def test_late_fusion_equals_least_squares():
    predicted, gold = planted()
    present = np.ones_like(predicted, dtype=bool)
    fusion = fit_fusion(SYSTEMS, predicted, present, gold)
    *weights, bias = least_squares(predicted, gold)
    assert fusion.models[0].systems == SYSTEMS
    np.testing.assert_allclose(fusion.models[0].weights, weights, atol=1e-8)
    assert fusion.models[0].bias == pytest.approx(bias, abs=1e-8)
    np.testing.assert_allclose(fusion.apply(predicted, present), predicted @ weights + bias, atol=1e-8)


def test_frames_without_video_use_a_model_without_it():
    predicted, gold = planted()
    present = np.ones_like(predicted, dtype=bool)
    present[100:180, 1:] = False
    predicted[100:180, 1:] = 1e6  # must not be looked at
    fused = fit_fusion(SYSTEMS, predicted, present, gold).apply(predicted, present)
    weight, bias = least_squares(predicted[:, :1], gold)  # the model without video learns from every frame with sound
    np.testing.assert_allclose(fused[100:180], predicted[100:180, 0] * weight + bias, atol=1e-8)
    seen = present.all(axis=1)
    *weights, bias = least_squares(predicted[seen], gold[seen])
    np.testing.assert_allclose(fused[seen], predicted[seen] @ weights + bias, atol=1e-8)


def test_a_combination_that_dev_never_had_uses_the_largest_that_it_had():
    predicted, gold = planted()
    present = np.ones_like(predicted, dtype=bool)
    present[:250, 1] = False
    present[250:, 0] = False  # audio and appearance never predict together
    fusion = fit_fusion(SYSTEMS, predicted, present, gold)
    assert {model.systems for model in fusion.models} == {
        ("audio", "geometric"), ("appearance", "geometric"), ("audio",), ("appearance",), ("geometric",),
    }  # fmt: skip
    fused = fusion.apply(predicted, np.ones_like(present))
    *weights, bias = least_squares(predicted[:250, [0, 2]], gold[:250])
    np.testing.assert_allclose(fused, predicted[:, [0, 2]] @ weights + bias, atol=1e-8)


def test_an_interpolated_prediction_counts_only_where_there_is_no_other():
    curves = {"appearance": np.array([0.1, 0.2, 0.3]), "geometric": np.array([0.4, 0.5, 0.6])}
    measured = {"appearance": np.array([True, False, False]), "geometric": np.array([True, True, False])}
    predicted, present = side_by_side(curves, measured, SYSTEMS, 3)
    np.testing.assert_array_equal(present, [[False, True, True], [False, False, True], [False, True, True]])
    np.testing.assert_array_equal(predicted[:, 1:], np.stack(list(curves.values()), axis=1))
