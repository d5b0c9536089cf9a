"""Sound files to blocks of samples: by libsndfile, and by FFmpeg whatever libsndfile refuses.

    path  ->  blocks  (sampling rate in Hz, float32 [samples, channels]), full scale = 1

Both decoders work block by block, and raise `DecodingError` where they cannot go on. A header is only a claim: what
counts is how many samples were decoded.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from av.container import InputContainer
from av.error import FFmpegError

from affect.errors import UserError
from affect.media.boxes import cut_remark
from affect.media.container import choose_track, open_media, start_of_timeline_secs, track_remark
from affect.media.joined import refuse_joined

# One block of sound: its sampling rate in Hz, and float32 [samples, channels].
Block = tuple[int, np.ndarray]

_BLOCK_VALUES = 2**20
# Buffers are as large as the header says, and a damaged header may say anything.
_RATES_HZ = (2_000, 768_000)
_MAX_CHANNELS = 64
# From here on a size in a header stands for "unknown": recorders and pipes write all ones, or the largest they can.
_UNKNOWN_BYTES, _UNKNOWN_FRAMES = 0x7FFF_0000, 2**40
_CUT_CHUNK = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)

_MIN_GAP_SECS = 0.02  # the clocks of some containers are coarser than a sample
_MAX_GAP_SECS = 600.0  # longer gaps mean corrupt timestamps
_MAX_OVERLAP_SECS = 0.5  # a longer one is a clock that starts again
_SILENCE_TO_REPORT_SECS = 1.0
_MISSING_TO_REPORT_SECS = 0.5
# Formats whose headers say how long each track is; of others FFmpeg only has an estimate.
_FORMATS_WITH_LENGTH = {
    "aiff", "ape", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "tta", "w64", "wav", "wv",
}  # fmt: skip


class DecodingError(Exception):
    """A decoder cannot read a file, or not to its end; says which one and why.

    Attributes:
      damaged: whether the decoder had taken the file and stopped within the sound.
    """

    def __init__(self, reason: str, damaged: bool = False) -> None:
        """Takes the reason without the name of the file."""
        super().__init__(reason)
        self.damaged = damaged


def libsndfile_blocks(path: Path, remarks: list[str]) -> Iterator[Block]:
    """Decodes WAV, FLAC and AIFF.

    Args:
      path: the file.
      remarks: receives what a person should know about the sound, when it has been decoded.

    Raises:
      DecodingError: libsndfile refuses the file, delivers less than it announces, or is known to read it wrongly.
      UserError: the sampling rate or the number of channels is implausible.
    """
    opened, frames = False, 0
    try:
        with soundfile.SoundFile(path) as file:
            # It guesses the length of MPEG sound, reads only the first part of chained Ogg, and adds a block to GSM,
            # which it cannot seek in. The length of FLAC from a pipe is unknown, which it cannot read at all.
            if file.format in ("MP3", "OGG") or file.subtype.startswith("MPEG") or not file.seekable():
                raise DecodingError(f"libsndfile: {file.subtype} in {file.format} is not supported")
            if file.frames >= _UNKNOWN_FRAMES:
                raise DecodingError("libsndfile: the length is unknown")
            check_format(file.samplerate, file.channels, path)
            opened = True
            # Not `SoundFile.blocks`: it hands out its buffer whether or not libsndfile has filled it.
            while (block := file.read(_BLOCK_VALUES // file.channels, dtype="float32", always_2d=True)).size:
                frames += len(block)
                yield file.samplerate, block
            if frames == 0:
                if _ends_after_empty_data(path):
                    raise UserError(f"{path}: the file contains no samples")
                raise DecodingError("libsndfile: the file contains no samples")
            secs, announced_secs = frames / file.samplerate, file.frames / file.samplerate
            if frames < file.frames:
                raise DecodingError(f"libsndfile: {secs:.2f} s of {announced_secs:.2f} s could be read", damaged=True)
            if cut := _CUT_CHUNK.search(file.extra_info):
                announced_bytes, held_bytes = int(cut[1]), int(cut[2])
                if held_bytes and announced_bytes < _UNKNOWN_BYTES:
                    _report_missing(secs, secs * announced_bytes / held_bytes, remarks)
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").strip(" .\n")
        raise DecodingError(f"libsndfile: {reason}", damaged=opened) from error


def _ends_after_empty_data(path: Path) -> bool:
    """Returns whether a WAV file without samples is whole: a recorder that crashed leaves a size of 0, and sound."""
    content_bytes = path.stat().st_size
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            end = file.tell() + int.from_bytes(header[4:], "little")
            if end > content_bytes or not header[:4].decode("latin-1").isprintable():
                return False
            file.seek(end + end % 2)
    return not header


def ffmpeg_blocks(path: Path, remarks: list[str]) -> Iterator[Block]:
    """Decodes the sound track of a file in any of `container.FORMATS`.

    A track that starts late is preceded by silence, lost packets become silence, and what lies before time 0 or
    overlaps by less than half a second is dropped, so that sample k is heard at k / rate.

    Args:
      path: the file.
      remarks: receives what a person should know about the sound; most of it when it has been decoded.

    Raises:
      DecodingError: FFmpeg refuses the file or a part of it; names the time.
      UserError: the file has no sound track, or its clock, sampling rate or number of channels is implausible.
    """
    secs = 0.0
    try:
        with open_media(path) as container:
            stream = choose_track(container, "audio", path)
            remarks += track_remark(container, stream) + cut_remark(path, container.format.name)
            check_format(stream.rate, stream.channels, path)
            if stream.codec_context.name == "flac":
                # Otherwise a damaged block is decoded to noise.
                stream.codec_context.options = {"err_detect": "crccheck+explode"}
            refuse_joined(path, container.format.name, 1)
            announced_secs = _announced_secs(container, stream)
            for rate_hz, block in _joined(_placed(container, stream, path, remarks)):
                check_format(rate_hz, block.shape[1], path)
                secs += len(block) / rate_hz
                yield rate_hz, block
            _report_missing(secs, announced_secs, remarks)
    except (FFmpegError, OSError) as error:
        raise DecodingError(f"FFmpeg: {error.strerror or error}") from error


def check_format(rate_hz: int, channels: int, path: Path) -> None:
    """Refuses what only a damaged header can say.

    Raises:
      UserError: the sampling rate or the number of channels is implausible.
    """
    if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise UserError(f"{path}: a sampling rate of {rate_hz} Hz is not plausible; the header is probably damaged")
    if not 1 <= channels <= _MAX_CHANNELS:
        raise UserError(
            f"{path}: {channels} channels are not supported (1 to {_MAX_CHANNELS} are); the header is probably damaged"
        )


def _announced_secs(container: InputContainer, stream: av.AudioStream) -> float:
    """Returns the time at which the header says that the track ends; 0 if it does not say so."""
    # FFmpeg knows a start of MP3 only from the tag that also holds the length.
    if container.format.name not in _FORMATS_WITH_LENGTH and not (container.format.name == "mp3" and stream.start_time):
        return 0.0
    if stream.duration and stream.time_base:
        end_secs = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        return end_secs - start_of_timeline_secs(container)
    return (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0


def _report_missing(secs: float, announced_secs: float, remarks: list[str]) -> None:
    if announced_secs - secs > _MISSING_TO_REPORT_SECS:
        remarks.append(
            f"the header announces {announced_secs:.2f} s of sound, but the file holds {secs:.2f} s; is it truncated?"
        )


def _placed(container: InputContainer, stream: av.AudioStream, path: Path, remarks: list[str]) -> Iterator[Block]:
    """Decodes a track to blocks of which each follows the one before in time."""
    zero_secs = start_of_timeline_secs(container)
    # The parts of chained Ogg are heard one after the other, and each has its own clock.
    chained = container.format.name == "ogg" and not container.streams.video
    rate_hz = written = filled = 0
    first_gap_secs = 0.0
    for frame, is_last in _decoded(container, stream, zero_secs):
        if rate_hz not in (0, frame.sample_rate):
            raise UserError(
                f"{path}: the sampling rate changes from {rate_hz} to {frame.sample_rate} Hz at "
                f"{written / rate_hz:.2f} s within the file; convert the file to one rate, for example to WAV"
            )
        rate_hz = frame.sample_rate
        block = _to_float(frame)[: _shown_samples(frame) if is_last else None]
        gap = 0 if frame.time is None else round((frame.time - zero_secs) * rate_hz) - written
        if written and abs(gap) < _MIN_GAP_SECS * rate_hz:
            gap = 0
        if written and gap < -_MAX_OVERLAP_SECS * rate_hz:
            if not chained:
                raise UserError(
                    f"{path}: the clock of the sound jumps back from {written / rate_hz:.2f} s to "
                    f"{(written + gap) / rate_hz:.2f} s; the file was probably joined from several; join them again "
                    "with ffmpeg's concat demuxer, or split the recording"
                )
            zero_secs += gap / rate_hz
            gap = 0
        if abs(gap) > _MAX_GAP_SECS * rate_hz:
            raise UserError(f"{path}: the sound jumps by {gap / rate_hz:.0f} s; the timestamps are probably corrupt")
        if gap > 0:
            first_gap_secs = first_gap_secs if filled else written / rate_hz
            filled += gap
            yield rate_hz, np.zeros((gap, block.shape[1]), np.float32)
        # Encoders put padding before time 0; it is not part of the recording.
        block = block[max(-gap, 0) :]
        written += max(gap, 0) + len(block)
        yield rate_hz, block
    # FLAC stores no time, so a gap is a block that was damaged.
    if filled > (0 if container.format.name == "flac" else _SILENCE_TO_REPORT_SECS * rate_hz):
        remarks.append(
            f"the file has no sound for {filled / rate_hz:.2f} s in total, first at {first_gap_secs:.2f} s; this is "
            "silence here"
        )


def _decoded(
    container: InputContainer, stream: av.AudioStream, zero_secs: float
) -> Iterator[tuple[av.AudioFrame, bool]]:
    """Yields what FFmpeg decodes, and whether it is the last of the track."""
    frame, secs = None, 0.0
    try:
        for following in container.decode(stream):
            if frame is not None:
                yield frame, False
            frame = following
            secs = (secs if frame.time is None else frame.time - zero_secs) + frame.samples / frame.sample_rate
    except FFmpegError as error:
        raise DecodingError(f"FFmpeg: {error.strerror} at {secs:.2f} s", damaged=True) from error
    if frame is not None:
        yield frame, True


def _to_float(frame: av.AudioFrame) -> np.ndarray:
    """Returns float32 [samples, channels], full scale = 1."""
    values = frame.to_ndarray()
    values = values.reshape(-1, frame.layout.nb_channels) if frame.format.is_packed else values.T
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    zero, full_scale = (128, 128) if values.dtype == np.uint8 else (0, 2 ** (8 * values.itemsize - 1))
    return (values.astype(np.float32) - np.float32(zero)) / np.float32(full_scale)


def _shown_samples(frame: av.AudioFrame) -> int:
    """Returns how much of the last frame is sound: encoders fill it up, and mp4 says how much they added."""
    if not frame.duration or frame.time_base != Fraction(1, frame.sample_rate):
        return frame.samples
    return frame.duration


def _joined(blocks: Iterator[Block]) -> Iterator[Block]:
    """Joins small blocks of the same kind, because each has a cost when it is resampled."""
    parts: list[np.ndarray] = []
    first_rate_hz, values = 0, 0
    for rate_hz, block in blocks:
        if parts and (values >= _BLOCK_VALUES or block.shape[1] != parts[0].shape[1]):
            yield first_rate_hz, np.concatenate(parts)
            parts, values = [], 0
        parts.append(block)
        first_rate_hz, values = rate_hz, values + block.size
    if parts:
        yield first_rate_hz, np.concatenate(parts)
