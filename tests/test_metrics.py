"""The NumPy metrics against Lin's definition by expectations, hand-computed cases, and the documented edge cases."""

import numpy as np
import pytest

from affect.metrics import concordance_cc, pearson_cc, rmse


def ccc_by_mean_squared_difference(gold, predicted):
    """Lin's other form: 1 - E[(x - y)^2] / (E[(x - y)^2] were x and y independent)."""
    squared = np.mean((gold[:, None] - predicted[None, :]) ** 2)  # expectation under independence
    return 1.0 - np.mean((gold - predicted) ** 2) / squared


def test_ccc_equals_one_minus_the_ratio_of_squared_differences():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=400)
    predicted = 0.6 * gold + rng.normal(0.2, 0.5, size=400)
    assert concordance_cc(gold, predicted) == pytest.approx(ccc_by_mean_squared_difference(gold, predicted), abs=1e-12)


def test_ccc_of_a_hand_computed_case():
    # means 1 and 2, variances 2/3 and 2/3, covariance 2/3: 2 * 2/3 / (4/3 + 1) = 4/7
    assert concordance_cc([0, 1, 2], [1, 2, 3]) == pytest.approx(4 / 7)


def test_ccc_is_one_for_equal_and_minus_one_for_mirrored_signals():
    signal = np.sin(np.arange(50))
    signal -= signal.mean()
    assert concordance_cc(signal, signal) == pytest.approx(1.0)
    assert concordance_cc(signal, -signal) == pytest.approx(-1.0)


@pytest.mark.parametrize("measure", [concordance_cc, pearson_cc])
def test_constants_score_zero(measure):
    assert measure([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]) == 0.0
    assert measure([0.5, 0.5, 0.5], [0.0, 0.1, 0.2]) == 0.0
    assert measure([0.3], [0.3]) == 0.0


@pytest.mark.parametrize("measure", [concordance_cc, pearson_cc])
@pytest.mark.parametrize("value", [0.1, 0.3, -0.07, 1e6])
@pytest.mark.parametrize("frames", [3, 100, 7501])
def test_constants_whose_mean_is_rounded_score_exactly_zero(measure, value, frames):
    constant, moving = np.full(frames, value), np.sin(np.arange(frames))
    for pair in ((constant, constant), (constant, moving), (moving, constant), (constant, -constant)):
        assert measure(*pair) == 0.0


@pytest.mark.parametrize("measure", [concordance_cc, pearson_cc])
def test_a_small_movement_on_a_high_level_is_no_constant(measure):
    signal = 0.9 + 1e-6 * np.sin(np.arange(1000))
    assert measure(signal, signal) == pytest.approx(1.0)


def test_pearson_ignores_scale_and_level_but_ccc_does_not():
    signal = np.cos(np.arange(60) / 5)
    assert pearson_cc(signal, 0.1 * signal + 3) == pytest.approx(1.0)
    assert concordance_cc(signal, 0.1 * signal + 3) < 0.05


def test_rmse_of_a_hand_computed_case():
    assert rmse([0, 0, 0, 0], [1, -1, 3, -3]) == pytest.approx(np.sqrt(5))


@pytest.mark.parametrize("measure", [concordance_cc, pearson_cc, rmse])
@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([], [], "empty"),
        ([1.0, 2.0], [1.0], "same length"),
        ([[1.0], [2.0]], [[1.0], [2.0]], "1-D"),
        ([1.0, np.nan], [1.0, 2.0], "gold has 1 NaN"),
        ([1.0, 2.0], [np.inf, 2.0], "predicted has 1 NaN"),
    ],
)
def test_invalid_signals_are_refused(measure, gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        measure(gold, predicted)
