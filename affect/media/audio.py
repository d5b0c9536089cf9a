"""Sound files to one mono waveform at 16 kHz.

WAV and FLAC go through libsndfile, everything else (MP3, AAC in mp4, ...) through FFmpeg's libraries in PyAV; soxr
resamples. All three work block by block, so that hours of sound never lie in memory as floats.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from affect.errors import UserError

SAMPLE_RATE_HZ = 16_000
PCM_FULL_SCALE = 32_768.0
_BLOCK_SECS = 10
_LIBSNDFILE_SUFFIXES = (".wav", ".flac", ".aif", ".aiff")


def read_audio(path: Path) -> np.ndarray:
    """Decodes, mixes to mono and resamples one recording.

    Args:
      path: a sound file, or a video file with a sound track.

    Returns:
      int16 [samples] at `SAMPLE_RATE_HZ`; values beyond full scale are clipped.

    Raises:
      UserError: missing, unreadable, or without sound.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such audio file")
    try:
        blocks = _libsndfile_blocks(path) if path.suffix.lower() in _LIBSNDFILE_SUFFIXES else _ffmpeg_blocks(path)
        pcm = [_to_pcm(block) for block in _resampled(blocks)]
    except (soundfile.LibsndfileError, av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded as sound ({error})") from error
    if not sum(block.size for block in pcm):
        raise UserError(f"{path}: holds no sound")
    return np.concatenate(pcm)


def _libsndfile_blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (rate, float32 [samples] mono)."""
    with soundfile.SoundFile(path) as file:
        for block in file.blocks(_BLOCK_SECS * file.samplerate, dtype="float32", always_2d=True):
            yield file.samplerate, block.mean(axis=1)


def _ffmpeg_blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (rate, float32 [samples] mono)."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise UserError(f"{path}: has no sound track")
        to_float = av.AudioResampler(format="fltp")  # keeps rate and channels
        for frame in container.decode(audio=0):
            for part in to_float.resample(frame):
                yield part.sample_rate, part.to_ndarray().mean(axis=0)


def _resampled(blocks: Iterator[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
    resampler = None
    for rate_hz, block in blocks:
        if resampler is None:
            resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(np.ascontiguousarray(block, dtype=np.float32))
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _to_pcm(block: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(block * PCM_FULL_SCALE), -32_768, 32_767).astype(np.int16)
