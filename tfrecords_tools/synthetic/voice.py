"""Speech-like sound whose pitch, brightness, rate and (unreliably) loudness follow arousal.

In: arousal and valence per 40 ms frame and a seeded generator. Out: a waveform at 16 kHz, and the mouth opening per
frame, which moves the jaw of `face`. A pulse train is filtered by vowel formants (a source-filter voice) and gated by
syllables and pauses. Loudness is an unreliable cue on purpose: it follows arousal, but the simulated distance from the
microphone changes it more.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.signal import lfilter

from affect.timebase import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ

# First three formants of five vowels in Hz, from dark to bright (Peterson and Barney, 1952, rounded).
VOWEL_FORMANTS_HZ = ((300, 870, 2240), (570, 840, 2410), (730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010))
FORMANT_BANDWIDTHS_HZ = (70.0, 100.0, 140.0)


@dataclass(frozen=True)
class Voice:
    """What differs between speakers.

    Attributes:
      pitch_hz: fundamental frequency at neutral arousal.
      tract_scale: factor of all formant frequencies; a shorter vocal tract has higher ones.
      syllable_rate_hz: syllables per second at neutral arousal.
      gain_db: level of the voice.
      noise_db: level of the background noise.
    """

    pitch_hz: float
    tract_scale: float
    syllable_rate_hz: float
    gain_db: float
    noise_db: float


def draw_voice(rng: np.random.Generator) -> Voice:
    """Draws a random speaker's voice."""
    return Voice(
        pitch_hz=rng.uniform(110.0, 180.0),
        tract_scale=rng.uniform(0.92, 1.08),
        syllable_rate_hz=rng.uniform(3.6, 4.8),
        gain_db=rng.uniform(-22.0, -12.0),
        noise_db=rng.uniform(-62.0, -52.0),
    )


def speak(
    voice: Voice, arousal: np.ndarray, valence: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Generates speech that is as long as the curves.

    Args:
      voice: the speaker.
      arousal: [frames] in [-1, 1], one value per 40 ms.
      valence: [frames] in [-1, 1].
      rng: generator for everything random.

    Returns:
      float32 [frames * 640] in (-1, 1) at 16 kHz, and mouth opening [frames] in [0, 1].
    """
    arousal_16k, valence_16k = _per_sample(arousal), _per_sample(valence)
    syllable_phase = np.cumsum(voice.syllable_rate_hz * (1.0 + 0.4 * arousal_16k)) / SAMPLE_RATE_HZ
    syllable = syllable_phase.astype(int)
    opening = np.sin(np.pi * (syllable_phase - syllable)) ** 1.5 * _talking(arousal.size, rng)

    source = _glottal_source(voice, arousal_16k, rng)
    voiced = _vowels(source, voice, _vowel_position(syllable, valence_16k, rng)) * opening
    drift_db = _smooth_noise(arousal.size, 60, 6.0, rng)
    level_db = voice.gain_db + _per_sample(4.0 * arousal + drift_db)
    noise = lfilter([1.0], [1.0, -0.7], rng.standard_normal(voiced.size)) * 10.0 ** (voice.noise_db / 20.0)
    # tanh limits softly, as a microphone does, and keeps every sample within (-1, 1).
    signal = np.tanh(voiced * 10.0 ** (level_db / 20.0) + noise)
    return signal.astype(np.float32), opening.reshape(arousal.size, FRAME_SAMPLES).mean(axis=1)


def _glottal_source(voice: Voice, arousal_16k: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a pulse train; from lowest to highest arousal, pitch rises by 1.4 octaves, brightness by 22 dB."""
    frames = arousal_16k.size // FRAME_SAMPLES
    intonation_octaves = _per_sample(_smooth_noise(frames, 8, 0.06, rng))
    pitch_hz = voice.pitch_hz * 2.0 ** (0.7 * arousal_16k + intonation_octaves)
    ramp = np.cumsum(pitch_hz) / SAMPLE_RATE_HZ % 1.0
    dark = lfilter([0.12], [1.0, -0.88], 2.0 * ramp - 1.0)
    bright = np.diff(ramp, prepend=ramp[0]) * 0.9 + 0.1 * rng.standard_normal(ramp.size)
    brightness_db = -8.0 + 11.0 * arousal_16k
    return dark + bright * 10.0 ** (brightness_db / 20.0)


def _vowels(source: np.ndarray, voice: Voice, position: np.ndarray) -> np.ndarray:
    """Filters the source by vowels: `position` in [0, 4] cross-fades between five, each scaled to unit variance."""
    voiced = np.zeros_like(source)
    for index, formants_hz in enumerate(VOWEL_FORMANTS_HZ):
        vowel = source
        for formant_hz, bandwidth_hz in zip(formants_hz, FORMANT_BANDWIDTHS_HZ, strict=True):
            vowel = _resonate(vowel, formant_hz * voice.tract_scale, bandwidth_hz)
        voiced += vowel / vowel.std() * np.maximum(0.0, 1.0 - np.abs(position - index))
    return voiced


def _resonate(signal: np.ndarray, centre_hz: float, bandwidth_hz: float) -> np.ndarray:
    """Applies a two-pole resonator with unit gain at its centre, plus a direct path that preserves high frequencies."""
    radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
    angle = 2.0 * np.pi * centre_hz / SAMPLE_RATE_HZ
    gain = (1.0 - radius) * np.sqrt(1.0 - 2.0 * radius * np.cos(2.0 * angle) + radius**2)
    return lfilter([gain], [1.0, -2.0 * radius * np.cos(angle), radius**2], signal) + 0.1 * signal


def _vowel_position(syllable: np.ndarray, valence_16k: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the vowel in [0, 4] per sample: random for each syllable, slightly brighter when valence is high."""
    vowel = rng.uniform(0.0, 4.0, size=syllable[-1] + 1)[syllable]
    smooth = uniform_filter1d(vowel, int(0.06 * SAMPLE_RATE_HZ))
    return np.clip(smooth + 0.8 * valence_16k, 0.0, 4.0)


def _talking(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Returns 1 while speaking and 0 in pauses, per sample; phrases last 1.5-4 s and pauses 0.3-0.9 s."""
    talking = np.ones(frames)
    position = 0
    while position < frames:
        position += int(rng.uniform(1.5, 4.0) * FRAME_RATE_HZ)
        pause = int(rng.uniform(0.3, 0.9) * FRAME_RATE_HZ)
        talking[position : position + pause] = 0.0
        position += pause
    return uniform_filter1d(np.repeat(talking, FRAME_SAMPLES), int(0.04 * SAMPLE_RATE_HZ))


def _smooth_noise(frames: int, sigma_frames: float, std: float, rng: np.random.Generator) -> np.ndarray:
    """Returns low-passed Gaussian noise with the given standard deviation, [frames]."""
    noise = gaussian_filter1d(rng.standard_normal(frames + 8 * int(sigma_frames)), sigma_frames, mode="wrap")
    return (noise / noise.std())[:frames] * std


def _per_sample(curve: np.ndarray) -> np.ndarray:
    """Interpolates a curve linearly between frame centres: [frames] to [frames * 640]."""
    centres = (np.arange(curve.size) + 0.5) * FRAME_SAMPLES
    return np.interp(np.arange(curve.size * FRAME_SAMPLES), centres, curve)
