"""The sound track of an overlay: AAC is copied as it is, everything else becomes AAC."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import soxr
from av.container import OutputContainer
from av.error import FFmpegError

from affect.errors import UserError
from affect.media.audio_decoders import Block, DecodingError, ffmpeg_blocks
from affect.media.container import choose_track, open_media

_AAC_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OTHER_RATE_HZ = 48_000
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}  # any other number of channels is mixed to mono
_BITS_PER_SECOND = 96_000  # of each channel
_MAX_JUMP_SECS = 0.02


def add_sound(output: OutputContainer, path: Path, end_secs: float) -> Iterator[av.Packet]:
    """Adds a sound track to an mp4 and returns its packets in the order of time.

    A track is copied if every player can play it: AAC from an mp4, without gaps. The rest is decoded as for the
    prediction, gaps filled with silence, and encoded. Time 0 stays where it is.

    Args:
      output: the mp4; its header must not be written yet.
      path: a sound file, or a video with a sound track.
      end_secs: end of the video; later sound is left out.

    Raises:
      UserError: the file has no sound that can be decoded; also while the packets are read.
    """
    if _is_plain_aac(path):
        with open_media(path) as source:
            copy = output.add_stream_from_template(choose_track(source, "audio", path))
        return _copied(path, copy, end_secs)
    blocks = ffmpeg_blocks(path, [])
    try:
        first = next(blocks, None)
    except DecodingError as error:
        raise UserError(f"{path}: cannot be decoded as sound ({error})") from error
    if first is None:
        raise UserError(f"{path}: the file contains no samples")
    rate_hz, block = first
    layout = _LAYOUTS.get(block.shape[1], "mono")
    stream = output.add_stream("aac", rate=rate_hz if rate_hz in _AAC_RATES_HZ else _OTHER_RATE_HZ, layout=layout)
    stream.bit_rate = _BITS_PER_SECOND * stream.channels
    return _encoded(path, chain([first], blocks), stream, end_secs)


def seconds_of(packet: av.Packet) -> float:
    """Returns the time at which a packet is played; 0 if it has none."""
    return 0.0 if packet.pts is None or packet.time_base is None else float(packet.pts * packet.time_base)


def _is_plain_aac(path: Path) -> bool:
    """Returns whether a file is an mp4 or mov whose sound is AAC without gaps."""
    end_secs = None
    try:
        with open_media(path) as source:
            track = choose_track(source, "audio", path)
            if not source.format.name.startswith("mov") or track.codec_context.name != "aac":
                return False
            for packet in source.demux(track):
                if not packet.size:
                    continue
                if packet.pts is None or packet.has_sidedata("encryption_info"):
                    return False
                secs = seconds_of(packet)
                cut_out = packet.is_discard and secs >= 0.0
                if cut_out or (end_secs is not None and abs(secs - end_secs) > _MAX_JUMP_SECS):
                    return False
                end_secs = secs + float((packet.duration or 0) * (packet.time_base or 0))
    except FFmpegError:  # decoding reports the error
        return False
    return end_secs is not None


def _copied(path: Path, copy: av.AudioStream, end_secs: float) -> Iterator[av.Packet]:
    """Yields the packets of a track that `_is_plain_aac`; those before time 0 prime the decoder and are not heard."""
    with open_media(path) as source:
        for packet in source.demux(choose_track(source, "audio", path)):
            if packet.size and seconds_of(packet) < end_secs:
                packet.stream = copy
                yield packet


def _encoded(path: Path, blocks: Iterator[Block], stream: av.AudioStream, end_secs: float) -> Iterator[av.Packet]:
    """Yields the sound of blocks as AAC."""
    left, written = round(end_secs * stream.rate), 0
    try:
        for samples in _resampled(blocks, stream):
            samples = samples[:left]
            if not len(samples):
                continue
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", stream.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = stream.rate, written, Fraction(1, stream.rate)
            left, written = left - len(samples), written + len(samples)
            yield from stream.encode(frame)
            if not left:
                break
    except DecodingError as error:
        raise UserError(f"{path}: cannot be decoded as sound ({error})") from error
    yield from stream.encode(None)


def _resampled(blocks: Iterator[Block], stream: av.AudioStream) -> Iterator[np.ndarray]:
    """Yields float32 [samples, channels] at the rate and with the channels of the stream."""
    resampler = None
    for rate_hz, block in blocks:
        if block.shape[1] != stream.channels:
            block = np.repeat(block.mean(axis=1, keepdims=True), stream.channels, axis=1)
        if rate_hz == stream.rate:
            yield block
            continue
        resampler = resampler or soxr.ResampleStream(rate_hz, stream.rate, stream.channels, dtype="float32")
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    if resampler is not None:
        yield resampler.resample_chunk(np.empty((0, stream.channels), np.float32), last=True)
