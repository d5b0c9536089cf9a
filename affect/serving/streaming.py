"""Predicts while a recording is still going on: frames of 40 ms in, values of arousal and valence out.

    model = ServedModel.load("runs/audiovisual/export")
    stream = Stream(model, SoundConstants(mean=0.0, deviation=0.05))
    for audio, video in frames:                      # int16 [n, 640], uint8 [n, 96, 96, 3], any n
        for arousal, valence in stream.push(audio, video):
            ...
    last = stream.finish()

A network that looks ahead predicts `contract.delay_frames` frames late; `finish` returns the rest, so that there is one
prediction per frame. The values are the network's own curve; `affect.serving.online_chain` delays and post-processes
it. In training, sound is standardised by the mean and deviation of the whole recording. They are unknown while
it is still going on, so a `LiveStream` uses those of its first seconds.
"""

import math
from dataclasses import dataclass

import numpy as np

from affect.media.audio import SILENT_BELOW, mean_and_std
from affect.serving.contract import distance_remarks, sound_level_dbfs
from affect.serving.model import ServedModel
from affect.timebase import PCM_FULL_SCALE

# Frames per call of the network: bounds the memory of a long push. Longer slices are not faster.
_SLICE_FRAMES = 150
_LARGEST_SAMPLE = 1 - 1 / PCM_FULL_SCALE
_NOT_FULL_SCALE = 2.0
_FINISHED = "the stream is finished; begin a new one"


@dataclass(frozen=True)
class SoundConstants:
    """The constants that standardise the sound: (sample - mean) / deviation, full scale = 1.

    Attributes:
      mean: of the samples.
      deviation: population standard deviation of the samples; where it is 0, as in digital silence, 1 is used.

    Raises:
      ValueError: a value is not finite, or the deviation is negative.
    """

    mean: float
    deviation: float

    def __post_init__(self):
        if not (math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation >= 0.0):
            raise ValueError(f"{self}; both must be finite, and the deviation at least 0")

    def __str__(self):
        return f"mean {self.mean:.6g}, deviation {self.deviation:.6g}"

    @classmethod
    def of(cls, samples: np.ndarray) -> "SoundConstants":
        """Returns the constants of int16 samples [samples], as preprocessing computes them."""
        return cls(*mean_and_std(samples))


class Stream:
    """One recording in progress. It carries all of its state; any number of streams may share a model."""

    def __init__(self, model: ServedModel, sound: SoundConstants | None = None):
        """Begins a stream.

        Args:
          model: the model; it is not changed.
          sound: constants of the sound; not used by a model without sound, or one that does not standardise it.

        Raises:
          ValueError: the model standardises the sound and there are no constants.
        """
        if standardises(model) and sound is None:
            raise ValueError("the model standardises the sound; give the SoundConstants, or use a LiveStream")
        self._model = model
        self._sound = sound if standardises(model) else None
        self._state = model.start_state()
        self._finished = False

    def push(self, audio: np.ndarray | None = None, video: np.ndarray | None = None) -> np.ndarray:
        """Takes the next frames.

        Args:
          audio: int16 [frames, 640], or float32 [frames, 640] in [-1, 1); beyond full scale float samples are clipped,
            as they are in training. None for a model without sound.
          video: face crops, uint8 RGB [frames, 96, 96, 3], of as many frames; None for a model without video.

        Returns:
          The predictions that have become valid, float32 [n, 2]: arousal and valence.

        Raises:
          ValueError: an input is missing or not expected, has the wrong dtype or shape, the numbers of frames differ,
            samples are not finite or far beyond full scale, or the stream is finished. The stream is unchanged then.
        """
        if self._finished:
            raise ValueError(_FINISHED)
        checked = check_frames(self._model, audio, video)
        count = len(next(iter(checked.values())))
        curve = [_nothing()]
        for start in range(0, count, _SLICE_FRAMES):
            frames = {name: values[start : start + _SLICE_FRAMES] for name, values in checked.items()}
            if "audio" in frames:
                frames["audio"] = self._standardised(frames["audio"])
            predictions, self._state = self._model.step(frames, self._state)
            curve.append(predictions)
        return np.concatenate(curve)

    def finish(self) -> np.ndarray:
        """Ends the stream and returns its remaining predictions, float32 [n, 2].

        Raises:
          ValueError: the stream is finished already.
        """
        if self._finished:
            raise ValueError(_FINISHED)
        self._finished = True
        return self._model.flush(self._state)

    def _standardised(self, audio: np.ndarray) -> np.ndarray:
        """Returns the samples as `affect.data.window_reader` gives them to the network, in float32 throughout."""
        if audio.dtype == np.int16:
            audio = audio.astype(np.float32) / np.float32(PCM_FULL_SCALE)
        else:
            audio = np.clip(audio, -1.0, np.float32(_LARGEST_SAMPLE))
        if self._sound is None:
            return audio
        return (audio - np.float32(self._sound.mean)) / np.float32(self._sound.deviation or 1.0)


class LiveStream:
    """A stream for live use: the constants of the sound come from its first seconds, unless they are known.

    It holds back the frames of this calibration stretch, and then predicts all of them at once; no frame is lost. The
    result does not depend on how the frames are divided into pushes.

    Attributes:
      sound: the constants; None before the calibration, and with a model that needs none.
      remarks: sentences about the sound and its standardisation for the user; complete after the calibration.
    """

    def __init__(self, model: ServedModel, calibration_secs: float = 10.0, sound: SoundConstants | None = None):
        """Begins a stream.

        Args:
          model: the model; it is not changed.
          calibration_secs: length of the calibration stretch, rounded to whole frames, at least one.
          sound: known constants; nothing is then held back.

        Raises:
          ValueError: `calibration_secs` is not a positive number.
        """
        if not 0.0 < calibration_secs < math.inf:
            raise ValueError(f"calibration_secs is {calibration_secs}; it must be positive")
        self.sound: SoundConstants | None = None
        self.remarks: list[str] = []
        self._model = model
        self._calibration_frames = max(1, round(calibration_secs * model.contract.frame_rate_hz))
        self._held: list[dict[str, np.ndarray]] = []
        self._frames = 0
        self._finished = False
        self._stream: Stream | None = None
        if not standardises(model):
            self._stream = Stream(model)
        elif sound is not None:
            self.sound, self._stream = sound, Stream(model, sound)
            self.remarks.append(f"the sound is standardised by given constants ({sound})")

    @property
    def calibrating(self) -> bool:
        """Whether frames are held back."""
        return self._stream is None

    def push(self, audio: np.ndarray | None = None, video: np.ndarray | None = None) -> np.ndarray:
        """Takes the next frames; arguments, result and errors are those of `Stream.push`, but audio must be int16."""
        if self._finished:
            raise ValueError(_FINISHED)
        frames = check_frames(self._model, audio, video)
        if "audio" in frames and frames["audio"].dtype != np.int16:
            raise ValueError(f"audio is {frames['audio'].dtype}; a live stream takes int16")
        self._frames += len(next(iter(frames.values())))
        if self._stream is not None:
            return self._stream.push(**frames)
        # Copies, because a live source may reuse its buffer.
        self._held.append({name: values.copy() for name, values in frames.items()})
        if self._frames < self._calibration_frames:
            return _nothing()
        samples = np.concatenate([held["audio"].ravel() for held in self._held])
        samples = samples[: self._calibration_frames * self._model.contract.frame_samples]
        return self._release(samples, over=False)

    def finish(self, rest: np.ndarray | None = None) -> np.ndarray:
        """Ends the stream and returns its remaining predictions, float32 [n, 2].

        Args:
          rest: int16 [samples], the sound after the last whole frame; only for a model that takes nothing but sound.
            As in a file, half a frame or more is padded with zeros, less is left out; both count for the constants.

        Raises:
          ValueError: the stream is finished already, or `rest` has the wrong dtype or shape.
        """
        size = self._model.contract.frame_samples
        rest = np.empty(0, np.int16) if rest is None else rest
        most = 0 if self._model.takes_video else size - 1
        if rest.dtype != np.int16 or rest.ndim != 1 or rest.size > most:
            raise ValueError(f"rest is {_of(rest)}; expected int16 [samples], at most {most} samples")
        if self._finished:
            raise ValueError(_FINISHED)
        curve = []
        if self._stream is None and self._frames + rest.size:
            samples = np.concatenate([*(frames["audio"].ravel() for frames in self._held), rest])
            curve.append(self._release(samples, over=True))
        # Counts frames as `affect.media.recording` does.
        if round(self._frames + rest.size / size) > self._frames:
            curve.append(self.push(np.pad(rest, (0, size - rest.size))[None]))
        if self._stream is not None:
            curve.append(self._stream.finish())
        self._finished = True
        return np.concatenate([_nothing(), *curve])

    def _release(self, samples: np.ndarray, over: bool) -> np.ndarray:
        """Computes the constants of int16 [samples] and predicts the held frames; `over`: the sound has ended."""
        secs = samples.size / self._model.contract.sample_rate_hz
        self.sound = SoundConstants.of(samples)
        share = f"its first {secs:.1f} s; a whole file would use all of it"
        if over:
            share = f"all of its {secs:.1f} s, as that of a file is"
        self.remarks.append(f"the sound is standardised by {share} ({self.sound})")
        if self.sound.deviation < SILENT_BELOW and not over:
            self.remarks.append(
                f"these {secs:.1f} s are silent, so sound that follows is standardised wrongly; begin when there is "
                "sound, or give the constants"
            )
        else:
            if 0.0 < self.sound.deviation < SILENT_BELOW:  # digital silence has a remark of its own
                self.remarks.append("the sound is silent")
            self.remarks += distance_remarks(self._model.contract, sound_level_dbfs(self.sound.deviation), None)
        self._stream = Stream(self._model, self.sound)
        held, self._held = self._held, []
        return np.concatenate([_nothing(), *(self._stream.push(**frames) for frames in held)])


def standardises(model: ServedModel) -> bool:
    """Returns whether a model takes sound that must be standardised."""
    return model.takes_audio and model.contract.standardise == "recording"


def check_frames(model: ServedModel, audio: np.ndarray | None, video: np.ndarray | None) -> dict[str, np.ndarray]:
    """Returns the inputs of the next frames by name; arguments and errors are those of `Stream.push`."""
    size = model.contract.faces.size if model.contract.faces else 0
    wanted = {
        "audio": (audio, model.takes_audio, ("int16", "float32"), (model.contract.frame_samples,)),
        "video": (video, model.takes_video, ("uint8",), (size, size, 3)),
    }
    frames = {}
    for name, (values, taken, dtypes, shape) in wanted.items():
        if not taken:
            if values is not None:
                raise ValueError(f"{name} is given, but the model takes no {name}")
            continue
        expected = f"expected {' or '.join(dtypes)} [frames, {', '.join(map(str, shape))}]"
        if not isinstance(values, np.ndarray):
            raise ValueError(f"{name} is {'missing' if values is None else type(values).__name__}; {expected}")
        if values.dtype.name not in dtypes or values.shape[1:] != shape or values.ndim != len(shape) + 1:
            raise ValueError(f"{name} is {_of(values)}; {expected}")
        frames[name] = values
    if len({len(values) for values in frames.values()}) > 1:
        counts = ", ".join(f"{len(values)} of {name}" for name, values in frames.items())
        raise ValueError(f"the numbers of frames differ ({counts}); give both for the same frames")
    if "audio" in frames and frames["audio"].dtype == np.float32:
        largest = np.abs(frames["audio"]).max(initial=0.0)
        if not largest <= _NOT_FULL_SCALE:  # NaN too
            raise ValueError(f"audio reaches {largest:g}; float samples must be finite and lie in [-1, 1)")
    return frames


def _of(values: np.ndarray) -> str:
    return f"{values.dtype} [{', '.join(map(str, values.shape))}]"


def _nothing() -> np.ndarray:
    return np.empty((0, 2), np.float32)
