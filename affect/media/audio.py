"""Sound files to one mono waveform at 16 kHz.

libsndfile reads WAV, FLAC and AIFF; PyAV (FFmpeg) reads everything else, such as MP3 or AAC in mp4; soxr resamples.
All three work block by block, so the whole recording is in memory only once, as int16.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from av.error import FFmpegError

from affect.errors import UserError
from affect.media.container import open_media, start_of_timeline_secs
from affect.media.settings import MAX_HOURS
from affect.timebase import PCM_FULL_SCALE, SAMPLE_RATE_HZ

_LIBSNDFILE_SUFFIXES = (".wav", ".flac", ".aif", ".aiff")
_BLOCK_VALUES = 2**20
# Buffers are as large as the header says, and a damaged header may say anything.
_RATES_HZ = (2_000, 768_000)
_MAX_CHANNELS = 64
_MIN_GAP_SECS = 0.02
_MAX_GAP_SECS = 600.0  # longer gaps mean corrupt timestamps

# One block of sound: its sampling rate in Hz, and float32 [samples], mono.
_Block = tuple[int, np.ndarray]


def read_audio(path: Path) -> np.ndarray:
    """Decodes one recording, mixes it to mono and resamples it.

    Args:
      path: a sound file, or a video file with a sound track. A track that starts late is padded with silence.

    Returns:
      int16 [samples] at `SAMPLE_RATE_HZ`, the mean of all channels; values beyond full scale are clipped.

    Raises:
      UserError: the file is missing or unreadable, has no sound, is longer than `MAX_HOURS`, or holds NaN or infinity.
    """
    if not path.is_file():
        raise UserError(f"{path}: audio file does not exist")
    try:
        blocks = _libsndfile_blocks(path) if path.suffix.lower() in _LIBSNDFILE_SUFFIXES else _ffmpeg_blocks(path)
        pcm, size = [], 0
        for block in _resampled(blocks, path):
            pcm.append(_to_pcm(block))
            size += block.size
            if size > MAX_HOURS * 3600 * SAMPLE_RATE_HZ:
                raise UserError(f"{path}: longer than {MAX_HOURS} hours; split it into several recordings")
    except (soundfile.LibsndfileError, FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded as sound ({error})") from error
    if not sum(block.size for block in pcm):
        raise UserError(f"{path}: the file contains no samples")
    return np.concatenate(pcm)


def mean_and_std(pcm: np.ndarray) -> tuple[float, float]:
    """Returns the mean and the population standard deviation of int16 samples, full scale = 1.

    Args:
      pcm: int16 [samples], not empty.
    """
    blocks = [pcm[start : start + _BLOCK_VALUES] for start in range(0, pcm.size, _BLOCK_VALUES)]
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks) / pcm.size
    variance = sum(float(np.square(block - mean).sum()) for block in blocks) / pcm.size
    return mean / PCM_FULL_SCALE, variance**0.5 / PCM_FULL_SCALE


def _libsndfile_blocks(path: Path) -> Iterator[_Block]:
    with soundfile.SoundFile(path) as file:
        _check_format(file.samplerate, file.channels, path)
        for block in file.blocks(_BLOCK_VALUES // file.channels, dtype="float32", always_2d=True):
            yield file.samplerate, block.mean(axis=1)


def _ffmpeg_blocks(path: Path) -> Iterator[_Block]:
    with open_media(path) as container:
        if not container.streams.audio:
            raise UserError(f"{path}: the file has no sound track")
        stream = container.streams.audio[0]
        if stream.codec_context is None or not stream.channels:
            raise UserError(f"{path}: the codec of the sound track is unknown; convert it, for example to WAV")
        _check_format(stream.rate, stream.channels, path)
        zero_secs = start_of_timeline_secs(container)
        position = None  # where the next sample belongs in the recording
        to_float = av.AudioResampler(format="fltp")  # keeps the sampling rate and the channels
        for frame in container.decode(stream):
            rate_hz = frame.sample_rate
            gap = 0 if frame.time is None else round((frame.time - zero_secs) * rate_hz) - (position or 0)
            if position is not None and abs(gap) < _MIN_GAP_SECS * rate_hz:
                gap = 0  # the container's clock is coarser than a sample
            if abs(gap) > _MAX_GAP_SECS * rate_hz:
                secs = gap / rate_hz
                raise UserError(f"{path}: the sound jumps by {secs:.0f} s; the timestamps are probably corrupt")
            if gap > 0:  # the track starts late, or packets were lost
                yield rate_hz, np.zeros(gap, np.float32)
            position = (position or 0) + gap + frame.samples
            for part in to_float.resample(frame):
                # Encoders put padding before time 0; it is not part of the recording.
                yield part.sample_rate, part.to_ndarray().mean(axis=0)[max(-gap, 0) :]
                gap = min(gap + part.samples, 0)


def _check_format(rate_hz: int, channels: int, path: Path) -> None:
    if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise UserError(f"{path}: a sampling rate of {rate_hz} Hz is not plausible; the header is probably damaged")
    if not 1 <= channels <= _MAX_CHANNELS:
        raise UserError(
            f"{path}: {channels} channels are not supported (1 to {_MAX_CHANNELS} are); the header is probably damaged"
        )


def _resampled(blocks: Iterator[_Block], path: Path) -> Iterator[np.ndarray]:
    resampler, first_rate_hz = None, None
    for rate_hz, block in blocks:
        if resampler is None:
            first_rate_hz = rate_hz
            resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        if rate_hz != first_rate_hz:
            raise UserError(f"{path}: the sampling rate changes from {first_rate_hz} to {rate_hz} Hz within the file")
        if not np.isfinite(block).all():
            raise UserError(f"{path}: the file contains samples that are NaN or infinite")
        yield resampler.resample_chunk(np.ascontiguousarray(block, dtype=np.float32))
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _to_pcm(block: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(block * PCM_FULL_SCALE), -32_768, 32_767).astype(np.int16)
