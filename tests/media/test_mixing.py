"""Mixing to mono says which channels cancel each other, by the correlation that NumPy computes."""

import numpy as np
import pytest

from affect.media.mixing import Mixer


def mixed(channels, block=1_000):
    """Mixes [channels, samples] in blocks; returns the mix, the channels that should be used alone, and the remarks."""
    mixer = Mixer()
    signal = np.stack(channels, axis=1).astype(np.float32)
    mix = np.concatenate([mixer.mix(signal[start : start + block]) for start in range(0, len(signal), block)])
    return mix, *mixer.cancelling()


def noise(seed, amplitude=0.1):
    return amplitude * np.random.default_rng(seed).standard_normal(44_100)


def test_the_mix_is_the_mean_of_the_channels():
    channels = [noise(seed) for seed in range(3)]
    mix, alone, remarks = mixed(channels)
    np.testing.assert_allclose(mix, np.mean(channels, axis=0), atol=1e-7)
    assert alone == {} and remarks == []


def test_an_inverted_channel_is_found_over_the_whole_recording_and_the_louder_is_used():
    first = noise(0)
    second = -1.05 * first + noise(1, 0.002)
    correlation = np.corrcoef(first, second)[0, 1]
    _, alone, (remark,) = mixed([first, second])
    assert alone == {2: 1}
    assert f"have a correlation of {correlation:.2f}; one is" in remark and "only channel 2, the loudest" in remark
    only = Mixer(alone).mix(np.stack([first, second], axis=1).astype(np.float32))
    np.testing.assert_array_equal(only, second.astype(np.float32))


def test_a_constant_offset_does_not_hide_that_channels_cancel_each_other():
    first = noise(0, 0.01)
    assert mixed([0.5 + first, 0.5 - first])[1] == {2: 0}


def test_silence_and_independent_or_equal_channels_do_not_cancel_each_other():
    silence = np.zeros(44_100)
    for channels in ([noise(0), silence], [silence, silence], [noise(0), noise(1)], [noise(0), noise(0)]):
        assert mixed(channels)[1:] == ({}, [])
    assert mixed([noise(seed) for seed in range(64)])[1:] == ({}, [])


def test_a_pair_that_cancels_among_other_channels_is_remarked_upon():
    _, alone, (remark,) = mixed([noise(1), noise(0), 0.9 * noise(2), -noise(0)])
    assert alone == {} and remark.startswith("channels 2 and 4 partly cancel each other in the mix (correlation -1.00)")


def test_a_few_channels_that_cancel_each_other_together_are_found():
    first, second = noise(0), noise(1)
    _, alone, (remark,) = mixed([first, second, -first - second])
    assert alone == {3: 2} and remark.startswith("the 3 channels cancel each other")


@pytest.mark.parametrize("gain", [-0.70, -0.80, -0.83, -0.90])
def test_one_channel_is_used_from_a_loss_of_twenty_decibels_on(gain):
    loss_db = 10 * np.log10((1 + gain**2) / 2 / ((1 + gain) / 2) ** 2)
    _, alone, remarks = mixed([noise(0), gain * noise(0)])
    assert alone == ({2: 0} if loss_db > 20 else {}) and len(remarks) == 1
