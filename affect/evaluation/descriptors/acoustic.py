"""Acoustic features: eGeMAPS, or the descriptors of it that librosa can compute.

The samples of a recording go in; low-level descriptors every 10 ms and their functionals per frame come out.

- If the package `opensmile` is installed, it computes the 25 descriptors of eGeMAPSv02. Its licence allows
  non-commercial research only, so we neither require nor install it.
- Otherwise librosa computes loudness, F0 and voicing (YIN), the harmonics-to-noise ratio, balance, slopes and flux of
  the spectrum, and MFCC 1-4, under openSMILE's names. Spectral centroid, bandwidth, roll-off and flatness replace
  jitter, shimmer and formants. The values measure the same as openSMILE's but do not equal them.

Functionals are the same for both, see `descriptors.functionals`.
"""

import importlib.metadata
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from scipy.ndimage import uniform_filter1d

from affect.errors import UserError
from affect.evaluation.descriptors.functionals import F0, LOUDNESS
from affect.timebase import PCM_FULL_SCALE

ROWS_PER_FRAME = 4  # rows of 10 ms in a frame of 40 ms
_MIN_F0_HZ, _MAX_F0_HZ, _SEMITONE_ZERO_HZ = 55.0, 1000.0, 27.5
# A row is voiced if the signal resembles itself one period later, and is louder than the noise of a converter.
_MIN_CORRELATION, _MIN_VOICED_POWER = 0.55, 1e-6
_SPECTRUM_SECS, _PITCH_SECS = 0.020, 0.060  # lengths of the analysis windows, as in eGeMAPS
_MEL_BANDS, _MIN_MEL_HZ, _MAX_MEL_HZ = 26, 20.0, 8000.0
_LOUDNESS_EXPONENT = 0.3  # Stevens' power law
_MFCCS = 4
_FLOOR = 1e-10  # smallest power; keeps logarithms finite
_BLOCK_ROWS = 3000  # 30 s; bounds the memory


@dataclass(frozen=True)
class Descriptors:
    """Low-level descriptors of a recording, `ROWS_PER_FRAME` rows per frame.

    Attributes:
      names: names of the descriptors; those that end in `nz` are 0 in unvoiced rows.
      values: float32 [rows, names].
      power: float64 [rows], mean square of the samples of each row; full scale is 1.
    """

    names: tuple[str, ...]
    values: np.ndarray
    power: np.ndarray


def acoustic_source() -> str:
    """Returns what computes the descriptors here, with its version.

    Raises:
      UserError: neither opensmile nor librosa is installed.
    """
    smile = _opensmile()
    if smile is not None:
        return f"eGeMAPSv02 by opensmile {smile.__version__}"
    try:
        return f"librosa {importlib.metadata.version('librosa')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            'the acoustic features need librosa, which is not installed; run pip install "affect[baseline]"'
        ) from error


def low_level_descriptors(pcm: np.ndarray, sample_rate_hz: int) -> Descriptors:
    """Computes the low-level descriptors of a recording, with opensmile if it is installed, otherwise with librosa.

    Args:
      pcm: int16 [frames, frame_samples], the whole recording.
      sample_rate_hz: sampling rate.

    Raises:
      UserError: a frame cannot be divided into `ROWS_PER_FRAME` rows.
    """
    if pcm.shape[1] % ROWS_PER_FRAME:
        raise UserError(
            f"the acoustic features need frames of a multiple of {ROWS_PER_FRAME} samples; the shards have "
            f"{pcm.shape[1]}, see frame_samples in their manifest.json"
        )
    hop = pcm.shape[1] // ROWS_PER_FRAME
    signal = pcm.ravel().astype(np.float32) / np.float32(PCM_FULL_SCALE)
    power = np.square(signal.reshape(-1, hop), dtype=np.float64).mean(axis=1)
    smile = _opensmile()
    if smile is not None:
        return Descriptors(*_by_opensmile(smile, signal, sample_rate_hz, len(power)), power)
    names, values = _by_librosa(signal, sample_rate_hz, hop, power)
    return Descriptors(names, _smooth(names, values).astype(np.float32), power)


def _opensmile() -> ModuleType | None:
    try:
        import opensmile  # pyright: ignore[reportMissingImports] - not installed here, because of its licence
    except ModuleNotFoundError as error:
        if error.name != "opensmile":  # installed, but broken
            raise
        return None
    return opensmile


def _by_opensmile(
    smile: ModuleType, signal: np.ndarray, sample_rate_hz: int, rows: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns names and values of eGeMAPSv02; its rows end before the recording does, so the last one is repeated."""
    extractor = smile.Smile(
        feature_set=smile.FeatureSet.eGeMAPSv02, feature_level=smile.FeatureLevel.LowLevelDescriptors
    )
    table = extractor.process_signal(signal, sample_rate_hz)
    values = np.nan_to_num(table.to_numpy(np.float32))[:rows]  # NaN where the sound is too short
    if len(values) == 0:
        values = np.zeros((1, len(table.columns)), np.float32)
    return tuple(table.columns), np.pad(values, [(0, rows - len(values)), (0, 0)], mode="edge")


def _by_librosa(
    signal: np.ndarray, sample_rate_hz: int, hop: int, power: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns names and values of the descriptors, before smoothing."""
    fft_size, pitch_size = (_power_of_two(secs * sample_rate_hz) for secs in (_SPECTRUM_SECS, _PITCH_SECS))
    # Silence at both ends, so that every analysis window can be centred on its row of `hop` samples.
    padded = np.pad(signal, pitch_size)
    names, blocks = (), []
    for start in range(0, len(power), _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, len(power))

        def cut(size: int, first: int, stop: int = stop) -> np.ndarray:
            begin = pitch_size + first * hop + (hop - size) // 2
            return padded[begin : begin + (stop - 1 - first) * hop + size]

        # The flux needs one more row before the block; before the first row there is silence.
        spectrum = _spectral(cut(fft_size, start - 1), sample_rate_hz, hop, fft_size)
        columns = _pitch(cut(pitch_size, start), sample_rate_hz, hop, pitch_size, power[start:stop]) | spectrum
        names = tuple(columns)
        blocks.append(np.stack(list(columns.values()), axis=1))
    return names, np.concatenate(blocks)


def _pitch(signal: np.ndarray, sample_rate_hz: int, hop: int, size: int, power: np.ndarray) -> dict[str, np.ndarray]:
    """Returns F0 in semitones above 27.5 Hz and the harmonics-to-noise ratio in dB; both are 0 in unvoiced rows."""
    import librosa

    f0_hz = librosa.yin(
        signal, fmin=_MIN_F0_HZ, fmax=_MAX_F0_HZ, sr=sample_rate_hz, frame_length=size, hop_length=hop, center=False
    )
    windows = np.lib.stride_tricks.sliding_window_view(signal, size)[::hop]
    windows = windows - windows.mean(axis=1, keepdims=True)
    length = size - int(np.ceil(sample_rate_hz / _MIN_F0_HZ))
    now = windows[:, :length]
    periods = np.rint(sample_rate_hz / f0_hz).astype(int)[:, np.newaxis]
    later = np.take_along_axis(windows, np.minimum(periods + np.arange(length), size - 1), axis=1)
    energies = np.square(now).sum(axis=1) * np.square(later).sum(axis=1)
    correlation = (now * later).sum(axis=1) / np.sqrt(np.maximum(energies, _FLOOR**2))
    voiced = (correlation >= _MIN_CORRELATION) & (power >= _MIN_VOICED_POWER)
    correlation = np.clip(correlation, 1e-4, 1.0 - 1e-4)
    return {
        F0: np.where(voiced, 12.0 * np.log2(f0_hz / _SEMITONE_ZERO_HZ), 0.0),
        "HNRdBACF_sma3nz": np.where(voiced, 10.0 * np.log10(correlation / (1.0 - correlation)), 0.0),
    }


def _spectral(signal: np.ndarray, sample_rate_hz: int, hop: int, size: int) -> dict[str, np.ndarray]:
    """Returns the descriptors of the spectrum; the first row of the signal only serves the flux of the next one."""
    import librosa

    magnitudes = np.abs(
        librosa.stft(
            signal, n_fft=size, win_length=round(_SPECTRUM_SECS * sample_rate_hz), hop_length=hop, window="hamming",
            center=False,
        )
    )  # fmt: skip
    flux = np.sqrt(np.square(np.diff(magnitudes, axis=1)).mean(axis=0))
    magnitudes = magnitudes[:, 1:]
    power, frequencies = np.square(magnitudes), librosa.fft_frequencies(sr=sample_rate_hz, n_fft=size)
    mel = {"n_mels": _MEL_BANDS, "fmin": _MIN_MEL_HZ, "fmax": min(_MAX_MEL_HZ, sample_rate_hz / 2)}
    mel_power = librosa.feature.melspectrogram(S=power, sr=sample_rate_hz, n_fft=size, **mel)
    # A-weighting approximates the curves of equal loudness.
    weights = 10.0 ** (
        librosa.A_weighting(librosa.mel_frequencies(_MEL_BANDS, fmin=mel["fmin"], fmax=mel["fmax"])) / 10
    )
    loudness = ((weights[:, np.newaxis] * mel_power) ** _LOUDNESS_EXPONENT).sum(axis=0)
    mel_db = librosa.power_to_db(mel_power, amin=_FLOOR, top_db=None)
    mfcc = librosa.feature.mfcc(S=mel_db, n_mfcc=_MFCCS + 1)[1:]
    power_db = librosa.power_to_db(power, amin=_FLOOR, top_db=None)

    def band(low_hz: float, high_hz: float) -> np.ndarray:
        return (frequencies >= low_hz) & (frequencies < high_hz)

    def band_db(*limits: float) -> np.ndarray:
        return librosa.power_to_db(power[band(*limits)].sum(axis=0), amin=_FLOOR, top_db=None)

    def slope(*limits: float) -> np.ndarray:
        inside = band(*limits)
        return np.polyfit(frequencies[inside], power_db[inside], 1)[0]

    centroid = librosa.feature.spectral_centroid(S=magnitudes, sr=sample_rate_hz)
    return {
        LOUDNESS: loudness,
        "alphaRatio_sma3": band_db(50.0, 1000.0) - band_db(1000.0, 5000.0),
        "hammarbergIndex_sma3": power_db[band(0.0, 2000.0)].max(axis=0) - power_db[band(2000.0, 5000.0)].max(axis=0),
        "slope0-500_sma3": slope(0.0, 500.0),
        "slope500-1500_sma3": slope(500.0, 1500.0),
        "spectralFlux_sma3": flux,
        **{f"mfcc{index + 1}_sma3": row for index, row in enumerate(mfcc)},
        "centroidHz_sma3": centroid[0],
        "bandwidthHz_sma3": librosa.feature.spectral_bandwidth(S=magnitudes, sr=sample_rate_hz, centroid=centroid)[0],
        "rolloffHz_sma3": librosa.feature.spectral_rolloff(S=magnitudes, sr=sample_rate_hz)[0],
        "flatness_sma3": librosa.feature.spectral_flatness(S=magnitudes)[0],
    }


def _smooth(names: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    """Returns moving averages over three rows; descriptors of voiced rows are averaged over voiced rows only."""
    voiced = values[:, names.index(F0)] > 0.0
    smooth = uniform_filter1d(values, 3, axis=0, mode="nearest")
    share = uniform_filter1d(voiced.astype(float), 3, mode="nearest")
    of_voiced = smooth / np.where(voiced, share, 1.0)[:, np.newaxis]
    of_voiced = np.where(voiced[:, np.newaxis], of_voiced, 0.0)
    return np.where([name.endswith("nz") for name in names], of_voiced, smooth)


def _power_of_two(samples: float) -> int:
    """Returns the smallest power of two that is at least `samples`."""
    return 1 << int(np.ceil(np.log2(samples)))
