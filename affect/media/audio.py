"""Sound files to one mono waveform at 16 kHz.

`audio_decoders` reads the file, `mixing` averages the channels, and soxr resamples, all block by block, so the whole
recording is in memory only once, as int16.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from affect.errors import UserError
from affect.media.audio_decoders import Block, DecodingError, ffmpeg_blocks, libsndfile_blocks
from affect.media.container import check_is_file
from affect.media.mixing import Mixer
from affect.media.settings import MAX_HOURS
from affect.timebase import PCM_FULL_SCALE, SAMPLE_RATE_HZ

# What these names usually hold is left to libsndfile first; the content decides.
_LIBSNDFILE_SUFFIXES = (".wav", ".flac", ".aif", ".aiff")
_BLOCK_VALUES = 2**20
SILENT_BELOW = 1e-4  # standard deviation, full scale = 1: three steps of 16 bits


def read_audio(path: Path, remarks: list[str] | None = None) -> np.ndarray:
    """Decodes one recording, mixes it to mono and resamples it.

    Args:
      path: a sound file, or a video file with a sound track. A track that starts late is padded with silence.
      remarks: if given, sentences for a person are appended: which of several tracks was used, channels that cancel
        each other, less sound than the header announces, and silence in place of sound that is missing.

    Returns:
      int16 [samples] at `SAMPLE_RATE_HZ`, the mean of all channels, or the loudest one if they cancel each other;
      values beyond full scale are clipped.

    Raises:
      UserError: the file is missing or unreadable, has no sound, is longer than `MAX_HOURS`, holds NaN or infinity, or
        its clock starts again.
    """
    check_is_file(path, "audio")
    mixer = Mixer()
    pcm, found = _read(path, mixer)
    channels, cancelling = mixer.cancelling()
    if channels:
        pcm, found = _read(path, Mixer(channels))
    if remarks is not None:
        remarks += found + cancelling
    return pcm


def mean_and_std(pcm: np.ndarray) -> tuple[float, float]:
    """Returns the mean and the population standard deviation of int16 samples, full scale = 1.

    Args:
      pcm: int16 [samples], not empty.
    """
    blocks = [pcm[start : start + _BLOCK_VALUES] for start in range(0, pcm.size, _BLOCK_VALUES)]
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks) / pcm.size
    variance = sum(float(np.square(block - mean).sum()) for block in blocks) / pcm.size
    return mean / PCM_FULL_SCALE, variance**0.5 / PCM_FULL_SCALE


def _read(path: Path, mixer: Mixer) -> tuple[np.ndarray, list[str]]:
    """Returns the samples, int16 at `SAMPLE_RATE_HZ`, and remarks; FFmpeg reads whatever libsndfile refuses."""
    decoders = [libsndfile_blocks] if path.suffix.lower() in _LIBSNDFILE_SUFFIXES else []
    refusals, damaged = [], []
    for decode in [*decoders, ffmpeg_blocks]:
        remarks: list[str] = []
        mixer.reset()
        try:
            pcm = _to_pcm(decode(path, remarks), mixer, path)
        except DecodingError as error:
            refusals.append(str(error))
            if error.damaged:
                damaged.append(f"the file is damaged ({error}); it was read with FFmpeg")
        else:
            return pcm, [*damaged, *remarks]
    raise UserError(f"{path}: cannot be decoded as sound ({'; '.join(refusals)}); check the file")


def _to_pcm(blocks: Iterator[Block], mixer: Mixer, path: Path) -> np.ndarray:
    pcm = bytearray()  # grows in place, while joining arrays at the end would hold the recording twice
    for block in _resampled(blocks, mixer, path):
        pcm += np.clip(np.rint(block * PCM_FULL_SCALE), -32_768, 32_767).astype(np.int16).tobytes()
        if len(pcm) > MAX_HOURS * 3600 * SAMPLE_RATE_HZ * 2:
            raise UserError(f"{path}: longer than {MAX_HOURS} hours; split it into several recordings")
    if not pcm:
        raise UserError(f"{path}: the file contains no samples")
    return np.frombuffer(pcm, np.int16)


def _resampled(blocks: Iterator[Block], mixer: Mixer, path: Path) -> Iterator[np.ndarray]:
    resampler = None
    for rate_hz, block in blocks:
        if resampler is None:
            resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        mono = mixer.mix(block)
        if not np.isfinite(mono).all():
            raise UserError(f"{path}: the file contains samples that are NaN or infinite")
        yield resampler.resample_chunk(np.ascontiguousarray(mono))
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
