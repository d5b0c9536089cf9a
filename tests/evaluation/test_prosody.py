"""Prosody of sounds of which it is known."""

import numpy as np
import pytest

from affect.evaluation.introspection.prosody import FEATURES, prosody

RATE_HZ, FRAME = 16_000, 640


@pytest.fixture(scope="module")
def spoken():
    """Three seconds of a 220 Hz tone with a harmonic, whose amplitude changes from frame to frame, then silence."""
    rng = np.random.default_rng(0)
    amplitude = np.repeat(rng.uniform(0.2, 0.4, 75), FRAME)
    phase = 2 * np.pi * 220.0 * np.arange(amplitude.size) / RATE_HZ
    sound = amplitude * (np.sin(phase) + 0.5 * np.sin(2 * phase))
    return np.concatenate([np.round(sound * 32_767), np.zeros(25 * FRAME)]).astype(np.int16).reshape(-1, FRAME)


def column(pcm, name):
    return prosody(pcm, RATE_HZ)[:, FEATURES.index(name)]


def test_energy_and_its_range_equal_a_loop_over_frames(spoken):
    energy = [np.sqrt(sum(float(sample / 32_768) ** 2 for sample in frame) / FRAME) for frame in spoken]
    np.testing.assert_allclose(column(spoken, "rms_energy"), energy, atol=1e-7)
    spread = [max(energy[max(0, k - 24) : k + 1]) - min(energy[max(0, k - 24) : k + 1]) for k in range(len(energy))]
    np.testing.assert_allclose(column(spoken, "rms_range"), spread, atol=1e-7)


def test_f0_is_in_semitones_and_exists_only_where_there_is_voice(spoken):
    f0 = column(spoken, "f0")
    np.testing.assert_allclose(f0[2:73], 36.0, atol=0.1)  # 220 Hz is three octaves above 27.5 Hz
    assert np.isnan(f0[78:]).all()


def test_loudness_grows_with_the_amplitude(spoken):
    loud, quiet = column(spoken, "loudness"), column(spoken // 8, "loudness")
    assert (loud[2:73] > 1.5 * quiet[2:73]).all()
    assert loud[80:].max() < 0.1 * loud[:75].mean()
