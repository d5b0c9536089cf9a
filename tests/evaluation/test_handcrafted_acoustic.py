"""Acoustic features: tones of known pitch, level and spectrum, and every functional against a plain loop."""

import sys
import types

import numpy as np
import pandas as pd
import pytest

from affect.errors import UserError
from affect.evaluation.descriptors import acoustic
from affect.evaluation.descriptors.acoustic import acoustic_source, low_level_descriptors
from affect.evaluation.descriptors.functionals import F0, LOUDNESS, Windows, egemaps_functionals

RATE_HZ = 16_000
SECONDS = 2.0
INNER = slice(8, -8)  # rows whose analysis windows lie within the recording

# The low-level descriptors of eGeMAPSv02 and its functionals, as openSMILE names them.
SPECTRAL = ["alphaRatio", "hammarbergIndex", "slope0-500", "slope500-1500", "spectralFlux", "mfcc1", "mfcc2", "mfcc3",
            "mfcc4"]  # fmt: skip
VOICED_ONLY = [
    "jitterLocal", "shimmerLocaldB", "HNRdBACF", "logRelF0-H1-H2", "logRelF0-H1-A3",
    *(f"F{n}{what}" for n in (1, 2, 3) for what in ("frequency", "bandwidth", "amplitudeLogRelF0")),
]  # fmt: skip
EGEMAPS = [LOUDNESS, *(f"{name}_sma3" for name in SPECTRAL), F0, *(f"{name}_sma3nz" for name in VOICED_ONLY)]


def tones(*parts):
    """Returns the sum of sines, pairs of frequency in Hz and amplitude, as int16 [frames, 640]."""
    times = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    signal = sum(amplitude * np.sin(2 * np.pi * hz * times + hz) for hz, amplitude in parts)
    return np.round(signal * 32_768).astype(np.int16).reshape(-1, 640)


def descriptor(pcm, name):
    found = low_level_descriptors(pcm, RATE_HZ)
    return found.values[INNER, found.names.index(name)]


def level_db(pcm, window_secs):
    found = low_level_descriptors(pcm, RATE_HZ)
    columns = egemaps_functionals(
        found.names, found.values, found.power, Windows.of_frames(len(pcm), 25, window_secs, 4), 0.01
    )
    return dict(columns)["equivalentSoundLevel_dBp"]


@pytest.mark.parametrize(("hz", "semitones"), [(110.0, 24.0), (220.0, 36.0), (440.0, 48.0)])
def test_f0_of_a_tone_with_harmonics_is_its_fundamental_in_semitones_above_27_5_hz(hz, semitones):
    pcm = tones((hz, 0.2), (2 * hz, 0.15), (3 * hz, 0.1))
    np.testing.assert_allclose(descriptor(pcm, F0), semitones, atol=0.05)


def test_noise_and_silence_and_a_converter_s_noise_are_unvoiced():
    noise = np.random.default_rng(0).normal(0, 3000, (50, 640)).astype(np.int16)
    assert (descriptor(noise, F0) > 0).mean() < 0.02
    for quiet in (np.zeros((50, 640), np.int16), tones((220.0, 3e-4))):
        assert not descriptor(quiet, F0).any()


def test_harmonics_to_noise_ratio_is_that_of_the_mixture():
    voice = tones((200.0, 0.2), (400.0, 0.1))
    power = np.square(voice / 32_768).mean()
    noise = np.random.default_rng(1).normal(0, np.sqrt(power / 10.0), voice.shape)  # 10 dB
    mixture = voice + np.round(noise * 32_768).astype(np.int16)
    assert abs(descriptor(mixture, "HNRdBACF_sma3nz").mean() - 10.0) < 1.0


def test_level_of_a_sine_is_that_of_its_mean_power():
    pcm = tones((440.0, 0.1))
    np.testing.assert_allclose(level_db(pcm, 1.0), 20 * np.log10(0.1 / np.sqrt(2)), atol=0.01)
    pcm[25:] = 0  # frame 25 lies between sound and silence
    assert abs(level_db(pcm, 1.0)[25] - 10 * np.log10(0.1**2 / 2 * 48 / 101)) < 0.01


def test_loudness_follows_a_power_law_and_is_smaller_where_the_ear_is_less_sensitive():
    quiet, loud = (descriptor(tones((1000.0, amplitude)), LOUDNESS) for amplitude in (0.1, 0.2))
    np.testing.assert_allclose(loud / quiet, 2 ** (2 * 0.3), rtol=2e-3)
    assert descriptor(tones((100.0, 0.1)), LOUDNESS).mean() < 0.5 * quiet.mean()


def test_centroid_of_two_sines_equals_a_plain_fourier_sum_and_is_near_their_weighted_mean():
    pcm = tones((1000.0, 0.3), (3000.0, 0.1))
    centroid = descriptor(pcm, "centroidHz_sma3")
    middle = 100 * 160 + 80  # of row 100
    samples = pcm.ravel()[middle - 160 : middle + 160] * (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(320) / 320))
    frequencies = np.arange(257) * RATE_HZ / 512
    phases = 2j * np.pi * frequencies[:, np.newaxis] * np.arange(320) / RATE_HZ
    magnitudes = np.abs((samples * np.exp(-phases)).sum(axis=1))
    np.testing.assert_allclose(centroid[92], (frequencies * magnitudes).sum() / magnitudes.sum(), rtol=1e-3)
    # The side lobes of the analysis window pull it towards the middle of the spectrum.
    np.testing.assert_allclose(centroid, (0.3 * 1000 + 0.1 * 3000) / 0.4, rtol=0.08)


@pytest.mark.parametrize("name", ["alphaRatio_sma3", "hammarbergIndex_sma3"])
def test_balance_of_the_spectrum_is_the_ratio_of_a_low_sine_to_a_high_one_in_db(name):
    pcm = tones((500.0, 0.3), (2500.0, 0.03))
    np.testing.assert_allclose(descriptor(pcm, name), 20.0, atol=0.2)


def test_blocks_do_not_change_the_descriptors(monkeypatch):
    pcm = tones((220.0, 0.2), (660.0, 0.1)) + np.random.default_rng(0).normal(0, 300, (50, 640)).astype(np.int16)
    whole = low_level_descriptors(pcm, RATE_HZ).values
    monkeypatch.setattr(acoustic, "_BLOCK_ROWS", 37)
    np.testing.assert_allclose(low_level_descriptors(pcm, RATE_HZ).values, whole, rtol=1e-4, atol=1e-4)


def random_descriptors(rows):
    """Returns values [rows, 25] of runs of voiced and unvoiced rows, and their power."""
    rng = np.random.default_rng(5)
    values = rng.normal(3.0, 1.0, (rows, len(EGEMAPS)))
    voiced = np.sin(np.arange(rows) / 5.0) + rng.normal(0, 0.3, rows) > 0
    voiced[:30] = False
    for index, name in enumerate(EGEMAPS):
        if name.endswith("nz"):
            values[:, index] = np.where(voiced, np.abs(values[:, index]) + 1.0, 0.0)
    return values, rng.uniform(0.001, 0.1, rows)


def variation(name, values):
    """The two functionals that most descriptors have, of the rows that count; 0 if there are none."""
    mean = np.mean(values) if len(values) else 0.0
    return {f"{name}_amean": mean, f"{name}_stddevNorm": np.std(values) / mean if len(values) else 0.0}


def detailed(name, values, counted):
    kept = values[counted]
    result = variation(name, kept)
    percentiles = [np.percentile(kept, p) if len(kept) else 0.0 for p in (20, 50, 80)]
    result |= {f"{name}_percentile{p}.0": value for p, value in zip((20, 50, 80), percentiles, strict=True)}
    result[f"{name}_pctlrange0-2"] = percentiles[2] - percentiles[0]
    return result


def slopes(name, values, counted, rows):
    """Slopes between neighbouring rows that both count and of which the later one lies in the window."""
    steps = [
        (values[row] - values[row - 1]) / 0.01 for row in rows if row > 0 and counted[row] and counted[row - 1]
    ]  # fmt: skip
    result = {}
    for what, chosen in (("Rising", [s for s in steps if s > 0]), ("Falling", [s for s in steps if s < 0])):
        result[f"{name}_mean{what}Slope"] = np.mean(chosen) if chosen else 0.0
        result[f"{name}_stddev{what}Slope"] = np.std(chosen) if chosen else 0.0
    return result


def segments(inside, rows, what):
    """Lengths of the runs that begin in the window."""
    lengths = []
    for row in rows:
        if inside[row] and (row == 0 or not inside[row - 1]):
            end = row
            while end < len(inside) and inside[end]:
                end += 1
            lengths.append((end - row) * 0.01)
    return len(lengths), {
        f"Mean{what}": np.mean(lengths) if lengths else 0.0,
        f"Stddev{what}": np.std(lengths) if lengths else 0.0,
    }


def by_loop(values, power, centre, half):
    """Returns the functionals of one window, by name, apart from the rate of loudness peaks."""
    rows = range(max(centre - half, 0), min(centre + half + 1, len(values)))
    window, at = values[rows], {name: index for index, name in enumerate(EGEMAPS)}
    is_voiced = values[:, at[F0]] > 0
    voiced, everything = is_voiced[rows], np.ones(len(rows), bool)
    loudness = values[:, at[LOUDNESS]]
    result = detailed(F0, window[:, at[F0]], voiced) | slopes(F0, values[:, at[F0]], is_voiced, rows)
    result |= detailed("loudness_sma3", window[:, at[LOUDNESS]], everything)
    result |= slopes("loudness_sma3", loudness, np.ones(len(values), bool), rows)
    for name in VOICED_ONLY:
        result |= variation(f"{name}_sma3nz", window[voiced, at[f"{name}_sma3nz"]])
    for name in SPECTRAL:
        column = window[:, at[f"{name}_sma3"]]
        if name.startswith(("mfcc", "spectralFlux")):
            result |= variation(f"{name}_sma3", column)
        stem = name.replace("slope", "slopeV") if "slope" in name else f"{name}V"
        result |= variation(f"{stem}_sma3nz", column[voiced])
        if not name.startswith("mfcc"):
            unvoiced = column[~voiced]
            result[f"{stem.replace('V', 'UV')}_sma3nz_amean"] = np.mean(unvoiced) if len(unvoiced) else 0.0
    count, lengths = segments(is_voiced, rows, "VoicedSegmentLengthSec")
    result |= lengths | {"VoicedSegmentsPerSec": count / (len(rows) * 0.01)}
    result |= segments(~is_voiced, rows, "UnvoicedSegmentLength")[1]
    return result | {"equivalentSoundLevel_dBp": 10 * np.log10(np.mean(power[rows]))}


def test_the_88_functionals_of_egemaps_equal_a_plain_loop_in_every_window():
    values, power = random_descriptors(200)
    windows = Windows.of_frames(50, 25, 0.4, 4)
    columns = dict(egemaps_functionals(EGEMAPS, values, power, windows, 0.01))
    del columns["loudnessPeaksPerSec"]  # its own test
    assert len(columns) == 87
    for frame in range(50):
        expected = by_loop(values, power, 4 * frame + 2, 20)
        assert columns.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(columns[name][frame], value, rtol=1e-6, atol=1e-6, err_msg=f"{name}, {frame}")


def test_loudness_peaks_are_counted_per_second():
    values, power = random_descriptors(400)
    values[:, EGEMAPS.index(LOUDNESS)] = 2.0 + np.sin(2 * np.pi * 5.0 * np.arange(400) / 100)  # 5 peaks a second
    columns = dict(egemaps_functionals(EGEMAPS, values, power, Windows.of_frames(100, 25, 2.0, 4), 0.01))
    np.testing.assert_allclose(columns["loudnessPeaksPerSec"][30:70], 5.0, atol=0.05)


def test_a_window_far_from_zero_keeps_its_small_deviation():
    values = 1e6 + 1e-2 * np.random.default_rng(0).normal(size=1000)
    _, std = Windows.of_frames(1000, 25, 2.0).mean_and_std(values)
    np.testing.assert_allclose(std[500], np.std(values[475:526]), rtol=1e-6)


def test_functionals_of_silence_are_finite_and_say_that_nothing_is_voiced():
    found = low_level_descriptors(np.zeros((50, 640), np.int16), RATE_HZ)
    windows = Windows.of_frames(50, 25, 4.0, 4)
    columns = dict(egemaps_functionals(found.names, found.values, found.power, windows, 0.01))
    assert np.isfinite(np.stack(list(columns.values()))).all()
    assert not columns["VoicedSegmentsPerSec"].any() and not columns[f"{F0}_amean"].any()
    np.testing.assert_array_equal(columns["equivalentSoundLevel_dBp"], -100.0)


def fake_opensmile(rows):
    """Returns a module with the part of opensmile's documented interface that we use."""
    module = types.ModuleType("opensmile")
    module.__version__ = "2.5.0"
    module.FeatureSet = types.SimpleNamespace(eGeMAPSv02="set")
    module.FeatureLevel = types.SimpleNamespace(LowLevelDescriptors="level")

    class Smile:
        def __init__(self, feature_set, feature_level):
            assert (feature_set, feature_level) == ("set", "level")

        def process_signal(self, signal, sampling_rate):
            assert signal.dtype == np.float32 and abs(signal).max() <= 1.0 and sampling_rate == RATE_HZ
            starts = pd.to_timedelta(np.arange(len(rows)) * 0.01, unit="s")
            index = pd.MultiIndex.from_arrays([starts, starts + pd.Timedelta("20ms")], names=["start", "end"])
            return pd.DataFrame(rows, index, EGEMAPS)

    module.Smile = Smile
    return module


def test_opensmile_gives_the_descriptors_where_it_is_installed_and_its_last_row_is_held(monkeypatch):
    rows = random_descriptors(194)[0].astype(np.float32)
    monkeypatch.setitem(sys.modules, "opensmile", fake_opensmile(rows))
    found = low_level_descriptors(tones((220.0, 0.2)), RATE_HZ)
    assert acoustic_source() == "eGeMAPSv02 by opensmile 2.5.0"
    assert found.names == tuple(EGEMAPS)
    np.testing.assert_array_equal(found.values[:194], rows)
    np.testing.assert_array_equal(found.values[194:], np.repeat(rows[-1:], 6, axis=0))
    windows = Windows.of_frames(50, 25, 4.0, 4)
    assert len(list(egemaps_functionals(found.names, found.values, found.power, windows, 0.01))) == 88


def test_sound_too_short_for_opensmile_gives_zeros(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", fake_opensmile(np.full((1, 25), np.nan)))
    assert not low_level_descriptors(tones((220.0, 0.2))[:1], RATE_HZ).values.any()


def test_without_opensmile_and_librosa_the_message_names_the_extra(monkeypatch):
    def missing(name):
        raise acoustic.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(acoustic.importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r'pip install "affect\[baseline\]"'):
        acoustic_source()
