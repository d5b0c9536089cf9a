"""Figures: what is drawn where."""

import numpy as np
import pytest

from affect.figures import filter_responses, to_png


def test_filter_responses_are_sorted_by_frequency():
    time = np.arange(80) / 16_000
    kernel = np.stack([np.sin(2 * np.pi * hz * time) for hz in (6000, 500, 3000)], axis=1)
    figure = filter_responses(kernel, 16_000)
    picture = figure.axes[1].images[0]
    loudest_khz = picture.get_array().argmax(axis=1) / (picture.get_array().shape[1] - 1) * 8.0
    assert loudest_khz == pytest.approx([0.5, 3.0, 6.0], abs=0.1)
    assert to_png(figure).startswith(b"\x89PNG")
