"""Correlations of activations with features, and the control with other recordings."""

import numpy as np
import pytest

from affect.evaluation.introspection.correlations import best_per_feature, correlations

FRAMES = (70, 50, 90)
FEATURES = ("energy", "pitch")


def random_features(seed=0):
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(frames, 2)) * [1.0, 30.0] + [0.0, 150.0] for frames in FRAMES]
    for values in features:
        values[rng.random(len(values)) < 0.3, 1] = np.nan  # not voiced
    return features


def random_activations(features, units=(4, 3), seed=1):
    """[frames, units] of two gates per recording; the second gate's unit 2 follows pitch, its unit 1 is constant."""
    rng = np.random.default_rng(seed)
    recordings = []
    for values in features:
        gates = {"input": rng.normal(size=(len(values), units[0])), "cell": rng.normal(size=(len(values), units[1]))}
        gates["cell"][:, 2] = -0.1 * np.nan_to_num(values[:, 1], nan=150.0) + 0.5 * rng.normal(size=len(values))
        gates["cell"][:, 1] = 0.1
        recordings.append({gate: activations.astype(np.float32) for gate, activations in gates.items()})
    return recordings


def in_chunks(recordings, size=16):
    for gates in recordings:
        frames = len(gates["input"])
        parts = [slice(start, start + size) for start in range(0, frames, size)]
        yield frames, iter([{"lstm1": {gate: values[part] for gate, values in gates.items()}} for part in parts])


def numpy_r(activation, feature):
    """Pearson's r over the frames that both have, and their number."""
    frames = min(len(activation), len(feature))
    known = np.isfinite(feature[:frames])
    return np.corrcoef(activation[:frames][known], feature[:frames][known])[0, 1], known.sum()


@pytest.fixture
def found():
    features = random_features()
    recordings = random_activations(features)
    return features, recordings, correlations(in_chunks(recordings), features)


def test_correlations_equal_numpys_for_own_and_other_recordings(found):
    features, recordings, computed = found
    assert computed.r.shape == (3, 3, 2, 7)
    for recording, gates in enumerate(recordings):
        for pairing in range(3):
            other = features[(recording + pairing) % 3]
            for feature in range(2):
                for unit, (_, gate, index) in enumerate(computed.units):
                    if (gate, index) == ("cell", 1):
                        continue
                    r, frames = numpy_r(gates[gate][:, index], other[:, feature])
                    assert computed.r[recording, pairing, feature, unit] == pytest.approx(r, abs=1e-9)
                    assert computed.frames[recording, pairing, feature] == frames


def test_pooled_is_the_correlation_of_all_frames_standardised_per_recording(found):
    features, recordings, computed = found
    activation, pitch = [], []
    for gates, values in zip(recordings, features, strict=True):
        known = np.isfinite(values[:, 1])
        for parts, signal in ((activation, gates["cell"][known, 2]), (pitch, values[known, 1])):
            parts.append((signal - signal.mean()) / signal.std())
    expected = np.corrcoef(np.concatenate(activation), np.concatenate(pitch))[0, 1]
    assert expected < -0.9
    best = best_per_feature(computed, None, ["a", "b", "c"], FEATURES)["pitch"].best[0]
    assert (best.layer, best.gate, best.unit) == ("lstm1", "cell", 2)
    assert best.pearson == pytest.approx(expected, abs=1e-6)
    assert best.per_recording["b"] == pytest.approx(numpy_r(recordings[1]["cell"][:, 2], features[1][:, 1])[0])


def test_the_control_selects_the_best_activation_too(found):
    features, recordings, computed = found
    largest = 0.0
    for pairing in (1, 2):
        for gate, index in [("input", 0), ("input", 1), ("input", 2), ("input", 3), ("cell", 0), ("cell", 2)]:
            pairs = [
                numpy_r(gates[gate][:, index], features[(recording + pairing) % 3][:, 0])
                for recording, gates in enumerate(recordings)
            ]
            largest = max(largest, abs(sum(r * n for r, n in pairs) / sum(n for _, n in pairs)))
    energy = best_per_feature(computed, computed, ["a", "b", "c"], FEATURES)["energy"]
    assert energy.other_recordings == pytest.approx(largest)
    assert energy.untrained == pytest.approx(abs(energy.best[0].pearson))


def test_constants_have_no_correlation(found):
    _, _, computed = found
    constant = computed.units.index(("lstm1", "cell", 1))
    np.testing.assert_array_equal(computed.r[..., constant], 0.0)


def test_recordings_in_which_a_feature_does_not_vary_are_left_out(found):
    features, recordings, _ = found
    features[1][:, 0] = 0.1  # digital silence
    computed = correlations(in_chunks(recordings), features)
    energy = best_per_feature(computed, None, ["a", "b", "c"], FEATURES)["energy"]
    assert energy.frames == FRAMES[0] + FRAMES[2]
    assert list(energy.best[0].per_recording) == ["a", "c"]


def test_a_feature_without_any_value_and_a_single_recording_have_no_control():
    features = [np.full((50, 2), np.nan)]
    features[0][:, 0] = np.random.default_rng(0).normal(size=50)
    found = best_per_feature(correlations(in_chunks(random_activations(features)), features), None, ["alone"], FEATURES)
    assert found["energy"].other_recordings is None
    assert len(found["energy"].best) == 5
    assert (found["pitch"].frames, found["pitch"].best, found["pitch"].other_recordings) == (0, [], None)
