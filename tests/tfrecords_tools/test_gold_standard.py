"""The gold standard of several raters: cases computed by hand, and properties that follow from the formula."""

import numpy as np
import pytest

from affect.metrics import concordance_cc
from tfrecords_tools.gold_standard import gold_standard, mean_agreement

WAVE = np.sin(np.linspace(0, 12, 200))


def test_equal_raters_give_the_curve_that_they_share():
    np.testing.assert_allclose(gold_standard(np.stack([WAVE] * 3, axis=1)), WAVE, atol=1e-12)


def test_the_mean_is_that_of_the_raters_weighted_by_their_agreement():
    ratings = np.stack([WAVE, WAVE + 0.1, 0.5 * WAVE + 0.4], axis=1)
    pair = {(i, j): concordance_cc(ratings[:, i], ratings[:, j]) for i in range(3) for j in range(3) if i != j}
    weights = np.array([(pair[0, 1] + pair[0, 2]) / 2, (pair[1, 0] + pair[1, 2]) / 2, (pair[2, 0] + pair[2, 1]) / 2])
    expected_level = (weights @ ratings.mean(axis=0)) / weights.sum()
    gold = gold_standard(ratings)
    assert gold.mean() == pytest.approx(expected_level)
    np.testing.assert_allclose(gold - gold.mean(), (WAVE - WAVE.mean()) * 2.5 / 3, atol=1e-12)


def test_the_order_of_raters_does_not_matter():
    ratings = np.random.default_rng(0).normal(size=(50, 6)) * 0.2 + WAVE[:50, None]
    np.testing.assert_allclose(gold_standard(ratings), gold_standard(ratings[:, ::-1]), atol=1e-12)


def test_constant_raters_give_their_mean_and_a_single_rater_is_unchanged():
    constant = np.tile([0.1, 0.2, 0.6], (10, 1))
    np.testing.assert_allclose(gold_standard(constant), 0.3)
    np.testing.assert_allclose(gold_standard(WAVE[:, None]), WAVE, atol=1e-12)


def test_a_rater_who_contradicts_the_others_has_a_negative_weight():
    """By hand: the curve and its negative have the CCC -1 but for their means; all have the variance v."""
    centred = WAVE - WAVE.mean()
    ratings = np.stack([centred + 0.1, centred + 0.1, 0.3 - centred], axis=1)
    v = np.mean(centred**2)
    contradicting = -2 * v / (2 * v + 0.2**2)
    weights = (1 + contradicting) / 2, (1 + contradicting) / 2, contradicting
    assert sum(weights) < 0  # the two others do not outweigh it, so all means count equally
    np.testing.assert_allclose(gold_standard(ratings).mean(), (0.1 + 0.1 + 0.3) / 3)
    more = np.concatenate([ratings[:, :1]] * 4 + [ratings[:, 2:]], axis=1)
    agreeing = (3 + contradicting) / 4
    level = (4 * agreeing * 0.1 + contradicting * 0.3) / (4 * agreeing + contradicting)
    assert level < 0.1  # pushed away from 0.3; without the negative weight it would be 0.1
    gold = gold_standard(more)
    np.testing.assert_allclose(gold, level + centred * 3 / 5, atol=1e-12)
    np.testing.assert_allclose(mean_agreement(more), [agreeing] * 4 + [contradicting], atol=1e-12)


def three_raters(sum_of_weights):
    """Returns ratings whose weights have this sum: the third rater contradicts the others by as much as that takes."""
    phase = np.arange(200) * 2 * np.pi / 200
    means, ccc = (0.0, 0.2, 0.5), lambda distance: 1 / (1 + distance**2)  # of equal curves of variance 1/2
    contradiction = (ccc(0.2) - sum_of_weights) / (ccc(0.5) + ccc(0.3))
    third = -contradiction * np.sin(phase) + np.sqrt(1 - contradiction**2) * np.cos(phase)
    weights = [
        (ccc(0.2) - contradiction * ccc(0.5)) / 2,
        (ccc(0.2) - contradiction * ccc(0.3)) / 2,
        -contradiction * (ccc(0.5) + ccc(0.3)) / 2,
    ]
    return np.stack([np.sin(phase), np.sin(phase) + 0.2, third + 0.5], axis=1), np.array(weights), np.array(means)


def test_weights_that_nearly_cancel_are_replaced_by_equal_ones_and_small_sums_are_not():
    for sum_of_weights in (0.02, 0.002):
        ratings, weights, means = three_raters(sum_of_weights)
        assert weights.sum() == pytest.approx(sum_of_weights) and weights[2] < 0
        assert gold_standard(ratings).mean() == pytest.approx(weights @ means / sum_of_weights)
    for sum_of_weights in (0.0005, 0.0, -0.0005, -0.3):
        ratings, _, means = three_raters(sum_of_weights)
        assert gold_standard(ratings).mean() == pytest.approx(means.mean())


def test_ratings_that_are_one_dimensional_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"\[frames, raters\]"):
        gold_standard(WAVE)
    with pytest.raises(ValueError, match="NaN"):
        gold_standard(np.full((4, 2), np.nan))
