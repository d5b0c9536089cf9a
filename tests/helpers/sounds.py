"""Writes sound files of many kinds: a tone of which the frequency and amplitude are known, and damaged copies."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import soundfile
from av.stream import Disposition

TONE_HZ, AMPLITUDE = 440.0, 0.5


def tone(rate_hz, seconds=2.0, frequency_hz=TONE_HZ):
    """Returns a sine of half of full scale, [samples]."""
    return AMPLITUDE * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def amplitude(read, frequency_hz=TONE_HZ):
    """Returns the amplitude of a tone in the middle half of int16 samples at 16 kHz, and the rms of all the rest."""
    middle = read[read.size // 4 : 3 * read.size // 4] / 32_768
    phase = 2 * np.pi * frequency_hz * np.arange(middle.size) / 16_000
    waves = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    weights = np.linalg.lstsq(waves, middle, rcond=None)[0]
    return np.hypot(*weights), np.std(middle - waves @ weights)


class Pipe(io.RawIOBase):
    """Takes bytes and cannot go back, so that a header cannot be completed."""

    def __init__(self):
        self.content = b""

    def writable(self):
        """Returns True."""
        return True

    def write(self, part):
        """Appends bytes to the content."""
        self.content += bytes(part)
        return len(part)


def sound_frame(signal, rate_hz, start_secs=0.0, layout="mono"):
    """Returns a signal, [samples] or [samples, channels], as one frame of FFmpeg that begins at `start_secs`."""
    planes = np.ascontiguousarray(np.atleast_2d(np.asarray(signal, np.float32).T))
    frame = av.AudioFrame.from_ndarray(planes, "fltp", layout)
    frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
    frame.pts = round(start_secs * rate_hz)
    return frame


def encode(path, *tracks, muxer=None, piped=False, cover=None):
    """Writes sound tracks with FFmpeg, whatever the suffix of the path says.

    Args:
      path: the file.
      tracks: for each one a dictionary: codec, signal [samples] or [samples, channels], rate_hz, and optionally
        bit_rate, start_secs, default (bool) and language.
      muxer: FFmpeg's name of the format; None: by the suffix.
      piped: the muxer cannot seek.
      cover: [height, width, 3], written as the first track, marked as the picture of an album.
    """
    pipe = Pipe()
    with av.open(pipe if piped else str(path), "w", format=muxer) as container:
        streams = []
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1, options={"strict": "unofficial"})
            picture.width, picture.height, picture.pix_fmt = cover.shape[1], cover.shape[0], "yuvj420p"
            picture.disposition = Disposition.attached_pic
        for track in tracks:
            signal = np.atleast_2d(np.asarray(track["signal"], np.float32).T)
            layout = {1: "mono", 2: "stereo"}[len(signal)]
            stream = container.add_stream(track["codec"], rate=track["rate_hz"], layout=layout)
            if "bit_rate" in track:
                stream.bit_rate = track["bit_rate"]
            if "default" in track:
                stream.disposition = Disposition.default if track["default"] else Disposition(0)
            if "language" in track:
                stream.metadata["language"] = track["language"]
            streams.append((stream, signal, layout, track))
        if cover is not None:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, "rgb24")))
            container.mux(picture.encode())
        for stream, signal, layout, track in streams:
            frame = sound_frame(signal.T, track["rate_hz"], track.get("start_secs", 0.0), layout)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    if piped:
        path.write_bytes(pipe.content)


def encoder(codec, muxer, rate_hz=44_100, **options):
    """Returns a function that writes the tone with FFmpeg to a path."""

    def write(path):
        extra = {"bit_rate": options["bit_rate"]} if "bit_rate" in options else {}
        encode(
            path, {"codec": codec, "signal": tone(rate_hz), "rate_hz": rate_hz, **extra}, muxer=muxer,
            piped=options.get("piped", False),
        )  # fmt: skip

    return write


def plain(subtype, container="WAV", rate_hz=44_100):
    """Returns a function that writes the tone with libsndfile to a path."""
    return lambda path: soundfile.write(path, tone(rate_hz), rate_hz, subtype=subtype, format=container)


def with_sizes(riff_bytes, data_bytes):
    """Returns a function that writes the tone as WAV whose header has other sizes."""

    def write(path):
        plain("PCM_16")(path)
        content = bytearray(path.read_bytes())
        at = content.index(b"data")
        if riff_bytes is not None:
            content[4:8] = struct.pack("<I", riff_bytes)
        content[at + 4 : at + 8] = struct.pack("<I", data_bytes)
        path.write_bytes(content)

    return write


def with_chunk(name, content):
    """Returns a function that writes the tone as WAV with another chunk before the sound."""

    def write(path):
        plain("PCM_16")(path)
        wav = path.read_bytes()
        chunk = name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        path.write_bytes(wav[:4] + struct.pack("<I", len(wav) - 8 + len(chunk)) + wav[8:12] + chunk + wav[12:])

    return write
