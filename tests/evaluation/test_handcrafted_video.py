"""Appearance and geometry: LGBP-TOP against a plain loop, gratings, planted components and planted movement."""

import cv2
import numpy as np
import pytest

from affect.evaluation.descriptors import appearance
from affect.evaluation.descriptors.appearance import Components, gabor_kernels, gabor_magnitudes, histograms
from affect.evaluation.descriptors.functionals import Windows, interpolate_missing, mean_and_std_columns
from affect.evaluation.descriptors.geometry import NAMES, geometric_descriptors


def clip(crops, height=50, width=50, seed=0):
    """Returns smooth random pictures, uint8 [crops, height, width]."""
    pictures = np.random.default_rng(seed).normal(128, 60, (crops, height, width))
    return np.clip([cv2.GaussianBlur(picture, (0, 0), 1.0) for picture in pictures], 0, 255).astype(np.uint8)


def uniform_patterns():
    """Returns the 58 patterns with at most two changes around the ring, smallest first."""
    written = [format(pattern, "08b") for pattern in range(256)]
    return [int(bits, 2) for bits in written if sum(a != b for a, b in zip(bits, bits[1:] + bits[0], strict=True)) <= 2]


def by_loop(magnitudes):
    """LBP-TOP, one voxel after the other: [crops, filters, planes, rows of cells, columns of cells, bins]."""
    filters, height, width, crops = magnitudes.shape
    uniform = uniform_patterns()
    counts = np.zeros((crops - 2, filters, 3, 4, 4, 59))
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    for f in range(filters):
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                for t in range(1, crops - 1):
                    centre = magnitudes[f, y, x, t]
                    for plane in range(3):
                        pattern = 0
                        for bit, (a, b) in enumerate(ring):
                            place = [(y + a, x + b, t), (y, x + b, t + a), (y + b, x, t + a)][plane]
                            pattern += 2**bit * (magnitudes[(f, *place)] >= centre)
                        cell = (y - 1) * 4 // (height - 2), (x - 1) * 4 // (width - 2)
                        counts[(t - 1, f, plane, *cell, uniform.index(pattern) if pattern in uniform else 58)] += 1
    return counts / counts.sum(axis=-1, keepdims=True)


def test_lbp_top_histograms_equal_a_plain_loop():
    magnitudes = np.random.default_rng(1).integers(0, 6, (2, 11, 14, 5)).astype(np.uint8)
    expected = by_loop(magnitudes).reshape(3, -1)
    np.testing.assert_allclose(histograms(magnitudes), expected, rtol=1e-6)
    assert len(uniform_patterns()) == 58


@pytest.mark.parametrize("wavelength", range(3))
@pytest.mark.parametrize("orientation", range(6))
def test_a_full_scale_grating_excites_its_own_filter_most_and_uses_the_8_bits(wavelength, orientation):
    y, x = np.mgrid[:64, :64]
    angle, length = orientation * np.pi / 6, 4.0 * 2 ** (wavelength / 2)
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / length)
    grating = np.round(127.5 + 127.5 * wave).astype(np.uint8)
    middle = gabor_magnitudes(np.stack([grating] * 3))[:, 20:44, 20:44, 1].astype(float).mean(axis=(1, 2))
    assert middle.argmax() == wavelength * 6 + orientation
    assert middle.max() > 230


def test_an_evenly_grey_picture_excites_no_filter():
    assert len(gabor_kernels()) == 18
    assert gabor_magnitudes(np.full((3, 50, 50), 200, np.uint8)).max() == 0


def test_crops_filtered_together_equal_crops_filtered_one_by_one():
    crops = clip(7)
    together = gabor_magnitudes(crops)
    for index in range(7):
        alone = gabor_magnitudes(np.stack([crops[index]] * 3))[..., 1].astype(int)
        assert np.abs(together[..., index] - alone).max() <= 1  # rounding


def test_components_are_those_of_the_singular_value_decomposition_and_explain_98_per_cent():
    rng = np.random.default_rng(2)
    directions = np.linalg.qr(rng.normal(size=(300, 5)))[0]
    samples = (rng.normal(size=(80, 5)) * [10, 5, 4, 2, 0.5]) @ directions.T + rng.normal(size=300)
    components = Components.fit(samples.astype(np.float32))
    _, _, exact = np.linalg.svd(samples - samples.mean(axis=0), full_matrices=False)
    assert components.directions.shape == (300, 4)  # the fifth explains 0.2 %
    np.testing.assert_allclose(np.abs((components.directions * exact[:4].T).sum(axis=0)), 1.0, atol=1e-4)
    largest = np.abs(components.directions).argmax(axis=0)
    assert (components.directions[largest, range(4)] > 0).all()
    np.testing.assert_array_equal(Components.fit(samples.astype(np.float32)).directions, components.directions)


def test_a_limit_of_components_is_kept_and_without_one_they_explain_98_per_cent():
    noise = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    variances = np.linalg.svd(noise - noise.mean(axis=0), compute_uv=False) ** 2
    needed = np.argmax(variances.cumsum() >= 0.98 * variances.sum()) + 1
    assert needed > 150
    assert Components.fit(noise).directions.shape[1] == needed
    assert Components.fit(noise, 84).directions.shape[1] == 84


def test_values_of_crops_are_their_projected_histograms_whatever_the_blocks(monkeypatch):
    crops = clip(12)
    padded = np.concatenate([crops[:1], crops, crops[-1:]])
    directions = np.random.default_rng(3).normal(size=(18 * 3 * 16 * 59, 2)).astype(np.float32)
    components = Components(np.full(len(directions), 0.01, np.float32), directions)
    expected = (histograms(gabor_magnitudes(padded)).astype(float) - 0.01) @ directions
    np.testing.assert_allclose(components.describe(crops), expected, atol=1e-3)
    monkeypatch.setattr(appearance, "_BLOCK_CROPS", 5)
    np.testing.assert_allclose(components.describe(crops), expected, atol=1e-3)
    assert components.describe(crops[:0]).shape == (0, 2)


def moving_box(frames=100):
    """A box of edge 100 pixels whose centre moves 2 pixels right and 1 pixel up per frame."""
    left, top = 40.0 + 2.0 * np.arange(frames), 300.0 - 1.0 * np.arange(frames)
    return np.stack([left, top, np.full(frames, 100.0)], axis=1)


def test_velocities_of_a_moving_box_are_in_edges_per_second():
    found = np.ones(100, bool)
    columns = dict(zip(NAMES, geometric_descriptors(moving_box(), found, 25).T, strict=True))
    np.testing.assert_allclose(columns["x_velocity"], 2 * 25 / 100)
    np.testing.assert_allclose(columns["y_velocity"], -1 * 25 / 100)
    np.testing.assert_allclose(columns["speed"], np.hypot(2, 1) * 25 / 100)
    np.testing.assert_allclose(columns["x"], (2 * np.arange(100) - 99) / 100, atol=1e-12)
    np.testing.assert_allclose(columns["distance"][0], np.hypot(99, 49.5) / 100)
    np.testing.assert_allclose(columns["log_edge"], 0.0, atol=1e-12)


def test_geometry_does_not_depend_on_the_size_of_the_picture():
    rng = np.random.default_rng(0)
    squares = moving_box() + rng.normal(0, 2, (100, 3))
    found = rng.random(100) < 0.9
    np.testing.assert_allclose(
        geometric_descriptors(3.0 * squares, found, 25), geometric_descriptors(squares, found, 25), atol=1e-9
    )


def test_frames_without_a_face_are_interpolated_and_the_ends_held():
    squares, found = moving_box(), np.ones(100, bool)
    found[[0, 1, 30, 31, 32, 99]] = False
    poisoned = squares.copy()
    poisoned[~found] = [1e4, -1e4, 5e3]
    columns = dict(zip(NAMES, geometric_descriptors(poisoned, found, 25).T, strict=True))
    expected = np.clip(2.0 * np.arange(100), 4.0, 196.0)
    np.testing.assert_allclose(columns["x"], (expected - np.median(expected[found])) / 100)


def test_interpolation_is_piecewise_cubic_hermite():
    # Fritsch and Carlson by hand: h = 2, secants 1 and 4; the inner slope is their harmonic mean 1.6.
    values = interpolate_missing(np.array([[0.0], [2.0], [10.0]]), np.array([1, 3, 5]), 7)[:, 0]
    first, middle, last = 0.0, 1.6, 5.5  # one-sided slopes at the ends; the first is limited to 0
    between = (0.0 + 2.0) / 2 + 2 * (first - middle) / 8, (2.0 + 10.0) / 2 + 2 * (middle - last) / 8
    np.testing.assert_allclose(values, [0.0, 0.0, between[0], 2.0, between[1], 10.0, 10.0])


def test_one_face_is_held_and_no_face_gives_zeros():
    assert interpolate_missing(np.array([[3.0, 4.0]]), np.array([2]), 5).tolist() == [[3.0, 4.0]] * 5
    assert interpolate_missing(np.empty((0, 2)), np.array([], int), 5).tolist() == [[0.0, 0.0]] * 5
    assert not geometric_descriptors(moving_box(), np.zeros(100, bool), 25).any()


def test_mean_and_deviation_of_a_window_equal_numpy_and_are_cut_at_the_ends():
    values = np.random.default_rng(0).normal(5.0, 2.0, (60, 2))
    columns = dict(mean_and_std_columns(["a", "b"], values, Windows.of_frames(60, 25, 0.8)))
    assert list(columns) == ["a_mean", "b_mean", "a_std", "b_std"]
    for frame in range(60):
        window = values[max(frame - 10, 0) : frame + 11]
        np.testing.assert_allclose(columns["b_mean"][frame], window[:, 1].mean())
        np.testing.assert_allclose(columns["a_std"][frame], window[:, 0].std())
