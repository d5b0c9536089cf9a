"""Predicts sound that is still being recorded: PCM from stdin to CSV lines on stdout, as the values become ready.

    ffmpeg -i rtsp://camera/sound -f s16le -ar 16000 -ac 1 - | python -m affect.serving.predict --model_dir=M --input=-

The lines are those that `affect.serving.predict` writes for a file. Everything else goes to stderr. The sound is
standardised by the mean and deviation of its first seconds, see `affect.serving.streaming.LiveStream`. If the sound is
no longer than that, the values are also those of a file.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO, TextIO

import numpy as np

from affect import cli
from affect.errors import UserError
from affect.serving.contract import Contract
from affect.serving.model import ServedModel
from affect.serving.online_chain import OnlineChains
from affect.serving.streaming import LiveStream, SoundConstants
from affect.serving.wording import MEANING, NOT_EVALUATED, SYNTHETIC
from affect.timebase import SAMPLE_RATE_HZ

_BLOCK_BYTES = 2**16  # 2 s; a pipe holds no more. A live source delivers what it has.
_SAMPLE_BYTES = 2
# The first bytes of files that hold more than bare samples.
_HEADERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"\x1aE\xdf\xa3": "Matroska or WebM"}
_PIPE = f"ffmpeg -i FILE -f s16le -ar {SAMPLE_RATE_HZ} -ac 1 - | COMMAND"


def predict_stdin(
    model_dir: str,
    calibration_secs: float = 10.0,
    raw: bool = False,
    sound: SoundConstants | None = None,
    stdin: BinaryIO | None = None,
    stdout: TextIO | None = None,
) -> None:
    """Predicts sound from stdin until it ends, and prints CSV lines; stops without an error if their reader ends first.

    Args:
      model_dir: folder of an exported model that takes sound alone.
      calibration_secs: length of the stretch whose mean and deviation are used; the first lines come after it.
      raw: leave out the post-processing chain.
      sound: known constants; there is no calibration then.
      stdin: signed 16-bit little-endian PCM at 16 kHz, mono; default: stdin of the process.
      stdout: default: stdout of the process.

    Raises:
      UserError: the model cannot be loaded or takes video, its chain needs the whole recording, or stdin is a terminal,
        is empty or shorter than half a frame, or holds a file with a header.
      KeyboardInterrupt: Ctrl-C; all lines of the sound so far have been printed.
    """
    stdin = stdin or getattr(sys.stdin, "buffer", None)  # None if stdin is closed
    if stdin is None or stdin.isatty():
        raise UserError(f"--input=- needs sound on stdin, which is not connected to a program or file; use {_PIPE}")
    model = ServedModel.load(model_dir)
    contract = model.contract
    if model.takes_video:
        raise UserError(f"{model_dir}: the model takes video, and --input=- brings only sound; predict from a file")
    stream = LiveStream(model, calibration_secs, sound)
    chains = OnlineChains(contract, raw)
    for remark in _opening(contract, chains, raw):
        _tell(remark)
    if stream.calibrating:
        _tell(f"the first lines come after {calibration_secs:g} s, whose sound gives mean and deviation")
    source, output = _Source(stdin, contract.frame_samples), stdout or sys.stdout
    told = 0
    in_main_thread = threading.current_thread() is threading.main_thread()  # only there can handlers be set
    previous = signal.signal(signal.SIGINT, source.interrupt) if in_main_thread else None
    try:
        printer = _Printer(chains, contract, output)
        for frames in source.frames():
            values = stream.push(frames)
            told = _tell_new(stream.remarks, told)
            printer.push(values)
        values = stream.finish(source.rest)
        _tell_new(stream.remarks, told)
        printer.finish(values)
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Python flushes stdout at exit; that must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, previous)
    if source.interrupted:
        raise KeyboardInterrupt


def _opening(contract: Contract, chains: OnlineChains, raw: bool) -> Iterator[str]:
    """Yields the remarks that precede the first line."""
    if contract.synthetic:
        yield SYNTHETIC
    yield MEANING
    if contract.postprocessing is None and not raw:
        yield NOT_EVALUATED
    latency_secs = (contract.delay_frames + chains.latency_frames) / contract.frame_rate_hz
    yield f"reading {contract.sample_rate_hz} Hz mono PCM from stdin; values come {latency_secs:.2f} s late"


class _Source:
    """The frames of stdin.

    Attributes:
      rest: int16 [samples], the sound after the last whole frame; known at the end.
      interrupted: whether Ctrl-C ended the sound.
    """

    def __init__(self, stdin: BinaryIO, frame_samples: int):
        self._stdin = stdin
        self._frame_bytes = frame_samples * _SAMPLE_BYTES
        self._frames = 0
        self._waiting = False
        self.rest = np.empty(0, np.int16)
        self.interrupted = False

    def interrupt(self, *_: object) -> None:
        """Ends the sound on Ctrl-C, so that the lines of what has come in are printed; a second one ends at once."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.interrupted = True
        if self._waiting:
            raise KeyboardInterrupt

    def frames(self) -> Iterator[np.ndarray]:
        """Yields int16 [frames, frame_samples], as many as have come in.

        Raises:
          UserError: stdin holds a file with a header, or less than half a frame.
        """
        pending = b""
        while block := self._read():
            pending += block
            whole = len(pending) // self._frame_bytes * self._frame_bytes
            if not whole:
                continue
            if not self._frames:
                _check_no_header(pending)
            samples, pending = _samples(pending[:whole]), pending[whole:]
            self._frames += whole // self._frame_bytes
            yield samples.reshape(-1, self._frame_bytes // _SAMPLE_BYTES)
        if len(pending) % _SAMPLE_BYTES:
            _tell("stdin ended in the middle of a sample, which is left out; is it 16-bit PCM?")
            pending = pending[:-1]
        self.rest = _samples(pending)
        # Half a frame or more counts as one, as in a file.
        if not self._frames and not round(len(pending) / self._frame_bytes) and not self.interrupted:
            if not pending:
                raise UserError(f"no sound came in on stdin; use {_PIPE}")
            raise UserError("the sound on stdin is shorter than one frame of 40 ms")

    def _read(self) -> bytes:
        """Waits for sound and returns what has come in; nothing at the end."""
        try:
            self._waiting = True
            if self.interrupted:
                return b""
            return self._stdin.read1(_BLOCK_BYTES)  # pyright: ignore[reportAttributeAccessIssue] - a buffered reader
        except KeyboardInterrupt:
            self.interrupted = True
            return b""
        finally:
            self._waiting = False


class _Printer:
    """Post-processes values and prints them as lines of CSV, like those of `affect.serving.outputs`."""

    def __init__(self, chains: OnlineChains, contract: Contract, stdout: TextIO):
        self._chains = chains
        self._rate_hz = contract.frame_rate_hz
        self._end = ",,synthetic" if contract.synthetic else ","
        self._stdout = stdout
        self._count = 0
        columns = ["time", *contract.outputs, "face_found", *(["training_data"] if contract.synthetic else [])]
        self._print(",".join(columns) + "\n")

    def push(self, values: np.ndarray) -> None:
        """Prints what has become ready with the next values of the network, [n, 2]."""
        self._lines(self._chains.push(values))

    def finish(self, values: np.ndarray) -> None:
        """Prints the rest, after the last values of the network."""
        self._lines(self._chains.push(values))
        self._lines(self._chains.finish())

    def _lines(self, values: np.ndarray) -> None:
        times = (self._count + 1 + np.arange(len(values))) / self._rate_hz
        rows = zip(times, *values.T, strict=True)
        self._print("".join(f"{time:.3f},{arousal:.6g},{valence:.6g}{self._end}\n" for time, arousal, valence in rows))
        self._count += len(values)

    def _print(self, text: str) -> None:
        self._stdout.write(text)
        self._stdout.flush()


def _check_no_header(start: bytes) -> None:
    for header, name in _HEADERS.items():
        if start.startswith(header):
            raise UserError(f"stdin holds a {name} file, but --input=- reads samples without a header; use {_PIPE}")


def _samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(np.int16)


def _tell_new(remarks: list[str], told: int) -> int:
    """Prints the remarks after the first `told`; returns the number of remarks printed so far."""
    for remark in remarks[told:]:
        _tell(remark)
    return len(remarks)


def _tell(remark: str) -> None:
    print(cli.one_line(remark), file=sys.stderr, flush=True)
