"""Figures: what is drawn where."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from affect.figures import (
    centre_frequencies,
    filter_responses,
    prediction_over_gold,
    to_png,
    to_svg,
)


def test_filter_responses_are_sorted_by_frequency():
    time = np.arange(80) / 16_000
    kernel = np.stack([np.sin(2 * np.pi * hz * time) for hz in (6000, 500, 3000)], axis=1)
    figure = filter_responses(kernel, 16_000)
    picture = figure.axes[1].images[0]
    loudest_khz = picture.get_array().argmax(axis=1) / (picture.get_array().shape[1] - 1) * 8.0
    assert loudest_khz == pytest.approx([0.5, 3.0, 6.0], abs=0.1)
    assert to_png(figure).startswith(b"\x89PNG")


def test_filters_are_sorted_by_centre_frequency_and_not_by_their_peak():
    time = np.arange(800) / 16_000
    peak_is_low = np.sin(2 * np.pi * 500 * time) + 0.9 * np.sin(2 * np.pi * 6000 * time)
    kernel = np.stack([peak_is_low, np.sin(2 * np.pi * 1000 * time)], axis=1)
    centre_hz = (500 + 0.81 * 6000) / 1.81  # weighted by power
    assert centre_frequencies(kernel, 16_000) == pytest.approx([centre_hz, 1000], rel=0.02)
    picture = filter_responses(kernel, 16_000).axes[1].images[0].get_array()
    peaks_khz = picture.argmax(axis=1) / (picture.shape[1] - 1) * 8.0
    assert peaks_khz == pytest.approx([1.0, 0.5], abs=0.1)


def test_any_title_is_shown_as_text_and_every_colour_follows_the_page():
    curve = np.zeros((50, 2))
    figure = prediction_over_gold(curve, curve, 25.0, ("arousal", "valence"), r"a $\frac & <b>", raw=curve)
    svg = to_svg(figure, "<i>", "one")
    ElementTree.fromstring(svg)
    assert r"a $\frac &amp; &lt;b&gt;</text>" in svg and '<title id="one-title">&lt;i&gt;</title>' in svg
    assert svg.count("fill: currentColor") == svg.count("<text ")
    assert re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg)) == []
