"""The gold standard of several raters: cases computed by hand, and properties that follow from the formula."""

import numpy as np
import pytest

from affect.metrics import concordance_cc
from tfrecords_tools.gold_standard import gold_standard

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


def test_ratings_that_are_one_dimensional_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"\[frames, raters\]"):
        gold_standard(WAVE)
    with pytest.raises(ValueError, match="NaN"):
        gold_standard(np.full((4, 2), np.nan))
