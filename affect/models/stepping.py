"""The network with its state going in and out: the same weights and outputs, some frames at a time.

    frames, present, states  ->  predictions, valid, states

For streams, and for recordings too long to hold at once. The long filters of the whole-signal audio net look ahead, so
predictions come `delay_frames` later than the frames they belong to (7 for the paper's sizes: conv 2 sees 2000 steps
ahead at 8 kHz, conv 1 another 40 samples at 16 kHz, 252.5 ms in all). A stream therefore begins with `start_state`,
whose first predictions are not `valid` yet, and ends with `delay_frames` of `absent_frames`, which flush the rest
(`chunks` are dicts of "audio" and/or "video", and "present", all true):

    state, curve = start_state(network, batch=1), []
    for frames in [*chunks, absent_frames(network, batch=1, frames=delay)]:
        predictions, valid, state = step(network, frames, state)
        curve.append(predictions[valid])

Absent frames may only follow present ones. Before its start and after its end a stream equals the zero padding of the
whole-window network, which pads the POOLED signal in front of conv 2: conv 1's answer to silence is not zero.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from affect.config import ModelConfig, modalities_of
from affect.models.audio_net import build_audio_net, long_filters, short_filters
from affect.models.folding import FramesToSignal, StepsToFrames
from affect.models.network import head, lstm
from affect.models.video_net import build_video_net


@dataclass(frozen=True)
class AudioDelay:
    """How far a stream's audio net lags behind, and what it must remember for that.

    Attributes:
      frames: that predictions come late by.
      pooled_lag: steps by which the pooled signal lags behind the samples, since conv 1 looks ahead.
      samples_kept, steps_kept: past samples, and past pooled steps, that the next frame still needs.
    """

    frames: int
    pooled_lag: int
    samples_kept: int
    steps_kept: int

    @classmethod
    def of(cls, config: ModelConfig) -> "AudioDelay":
        """Of the whole-signal audio net; "same" padding puts the larger half of a filter's reach ahead."""
        steps_per_frame = config.frame_samples // config.audio_pool
        (past1, ahead1), (past2, ahead2) = (((taps - 1) // 2, taps // 2) for taps in config.audio_taps)
        lag = math.ceil(ahead1 / config.audio_pool)
        frames = math.ceil((lag + ahead2) / steps_per_frame)
        return cls(frames, lag, lag * config.audio_pool + past1, frames * steps_per_frame - lag + past2)


def delay_frames(config: ModelConfig, modality: str) -> int:
    """Frames by which predictions lag behind: 0 unless whole-signal audio is heard."""
    return 0 if modality == "video" or config.audio_framed else AudioDelay.of(config).frames


def build_stepping_network(config: ModelConfig, modality: str) -> keras.Model:
    """Builds the network of one modality or of both for one or more frames at a time.

    Args:
      config: sizes.
      modality: "audio", "video" or "audiovisual".

    Returns:
      A model from a dict to a dict. In: "audio" and/or "video" as in `build_network`, "present" bool [batch, time]
      (False after the end of a stream), and states "state_...". Out: "predictions" float32 [batch, time, 2], "valid"
      bool [batch, time] (False until the delay has passed), and the states by the same names. Any batch, any time,
      another time in every call. `copy_weights` brings it those of `build_network(config, modality)`.

    Raises:
      UserError: another modality.
    """
    modalities = modalities_of(modality)
    delay = delay_frames(config, modality)
    inputs = {"present": keras.Input((None,), dtype="bool", name="present")}
    outputs, features = {}, []
    present = valid = inputs["present"]
    if delay:
        inputs["state_present"] = keras.Input((delay,), dtype="bool", name="state_present")
        present, _ = Carry(reach=delay, name="present_reach")([inputs["state_present"], present])
        valid, outputs["state_present"] = Carry(name="valid")([inputs["state_present"], inputs["present"]])

    if "audio" in modalities and not delay:
        net = build_audio_net(config)
        inputs["audio"] = keras.Input(net.input_shape[1:], name="audio")
        features.append(net(inputs["audio"]))
    elif "audio" in modalities:
        net = _build_delayed_audio_net(config)
        inputs["audio"], inputs["state_samples"], inputs["state_steps"] = (
            keras.Input(net.input[name].shape[1:], name=name) for name in ("audio", "state_samples", "state_steps")
        )
        heard = net({name: inputs[name] for name in ("audio", "state_samples", "state_steps")} | {"present": present})
        features.append(heard["features"])
        outputs |= {name: heard[name] for name in ("state_samples", "state_steps")}
    if "video" in modalities:
        net = build_video_net(config)
        inputs["video"] = keras.Input(net.input_shape[1:], dtype="uint8", name="video")
        seen = net(inputs["video"])
        if delay:
            inputs["state_video"] = keras.Input((delay, seen.shape[-1]), name="state_video")
            seen, outputs["state_video"] = Carry(name="video_delay")([inputs["state_video"], seen])
        features.append(seen)

    x = layers.Concatenate(name="fusion")(features) if len(features) > 1 else features[0]
    for index, units in enumerate(config.lstm_units, start=1):
        names = [f"state_lstm{index}_{part}" for part in ("hidden", "cell")]
        inputs |= {name: keras.Input((units,), name=name) for name in names}
        # Frames that are not valid leave the LSTM's state as it is; cuDNN takes no mask that begins with them.
        x, *states = lstm(index, units, config, return_state=True, use_cudnn=False)(
            x, initial_state=[inputs[name] for name in names], mask=valid
        )
        outputs |= dict(zip(names, states, strict=True))
    outputs |= {"predictions": head(config)(x), "valid": valid}
    return keras.Model(inputs, outputs, name=f"affect_{modality}_stepping")


def copy_weights(network: keras.Model, stepping: keras.Model) -> None:
    """Gives a stepping network, changed in place, the weights of the whole-window network of the same config."""
    for layer in stepping.layers:
        if layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())


def step(network: keras.Model, frames: dict, state: dict) -> tuple[np.ndarray, np.ndarray, dict]:
    """Feeds some frames.

    Args:
      network: a stepping network.
      frames: its inputs but for the states, "present" among them, with the same number of frames in each.
      state: `start_state`, or what the step before returned.

    Returns:
      Predictions float32 [batch, time, 2], which of them are valid, bool [batch, time], and the new state.
    """
    batch, count = frames["present"].shape
    if not count:
        return np.zeros((batch, 0, 2), np.float32), np.zeros((batch, 0), bool), state
    outputs = network({name: ops.convert_to_tensor(value) for name, value in (frames | state).items()})
    predictions, valid = (ops.convert_to_numpy(outputs[name]) for name in ("predictions", "valid"))
    return predictions, valid, {name: outputs[name] for name in state}


def start_state(network: keras.Model, batch: int) -> dict[str, np.ndarray]:
    """The states of a stepping network before the first frame: zeros."""
    return {
        name: np.zeros((batch, *tensor.shape[1:]), tensor.dtype)
        for name, tensor in network.input.items()
        if name.startswith("state_")
    }


def absent_frames(network: keras.Model, batch: int, frames: int) -> dict[str, np.ndarray]:
    """Inputs that stand for `frames` frames after the end of every stream."""
    return {
        name: np.zeros((batch, frames, *tensor.shape[2:]), tensor.dtype)
        for name, tensor in network.input.items()
        if not name.startswith("state_")
    }


def _build_delayed_audio_net(config: ModelConfig) -> keras.Model:
    """The audio net on samples that bring their past along; convolutions are "valid", nothing is padded."""
    delay = AudioDelay.of(config)
    steps_per_frame = config.frame_samples // config.audio_pool
    audio = keras.Input((None, config.frame_samples), name="audio")
    present = keras.Input((None,), dtype="bool", name="present")  # of the delay's frames, then of audio's own
    past_samples = keras.Input((delay.samples_kept, 1), name="state_samples")
    past_steps = keras.Input((delay.steps_kept, config.audio_filters[0]), name="state_steps")

    signal = FramesToSignal(name="window_signal")(audio)
    signal = Silence(config.frame_samples, skip=delay.frames * config.frame_samples, name="end")([signal, present])
    window, samples = Carry(reach=config.audio_taps[0] - 1, name="sample_reach")([past_samples, signal])
    pooled = short_filters(window, config, padding="valid")
    skip = delay.frames * steps_per_frame - delay.pooled_lag
    pooled = Silence(steps_per_frame, skip=skip, name="padding")([pooled, present])
    window, steps = Carry(reach=config.audio_taps[1] - 1, name="step_reach")([past_steps, pooled])
    features = StepsToFrames(steps_per_frame, name="frames")(long_filters(window, config, padding="valid"))
    return keras.Model(
        {"audio": audio, "present": present, "state_samples": past_samples, "state_steps": past_steps},
        {"features": features, "state_samples": samples, "state_steps": steps},
        name="audio_net",
    )


@keras.saving.register_keras_serializable("affect")
class Carry(layers.Layer):
    """Joins what is remembered with what is new: ([batch, kept, ...], [batch, n, ...]) to (window, remembered).

    The window is the oldest `n + reach` of both, for filters that reach over `reach` more; the `kept` newest are
    remembered.
    """

    def __init__(self, reach: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.reach = reach

    def call(self, inputs):
        """Concatenates along time, and cuts."""
        remembered, new = inputs
        count = ops.shape(new)[1]
        joined = ops.concatenate([remembered, new], axis=1)
        return joined[:, : count + self.reach], joined[:, count:]

    def compute_output_shape(self, input_shape):
        """Shape arithmetic of `call`."""
        remembered, new = input_shape
        count = None if new[1] is None else new[1] + self.reach
        return (new[0], count, *new[2:]), remembered

    def compute_output_spec(self, inputs):
        """The dtype of what is new, booleans included."""
        window, remembered = self.compute_output_shape([tensor.shape for tensor in inputs])
        dtype = inputs[1].dtype
        return keras.KerasTensor(window, dtype), keras.KerasTensor(remembered, dtype)

    def get_config(self):
        """Keras' serialisation."""
        return super().get_config() | {"reach": self.reach}


@keras.saving.register_keras_serializable("affect")
class Silence(layers.Layer):
    """Zeroes the steps of absent frames: (signal [batch, steps, channels], present [batch, frames]) to signal.

    A frame lasts `steps_per_frame` steps; the signal begins `skip` steps after the first frame of `present` does.
    """

    def __init__(self, steps_per_frame: int, skip: int, **kwargs):
        super().__init__(**kwargs)
        self.steps_per_frame = steps_per_frame
        self.skip = skip

    def call(self, inputs):
        """Selects, since an absent frame may hold anything, NaN included."""
        signal, present = inputs
        steps = ops.repeat(present, self.steps_per_frame, axis=1)
        return ops.where(steps[:, self.skip : self.skip + ops.shape(signal)[1], None], signal, ops.zeros_like(signal))

    def compute_output_shape(self, input_shape):
        """The signal's."""
        return input_shape[0]

    def get_config(self):
        """Keras' serialisation."""
        return super().get_config() | {"steps_per_frame": self.steps_per_frame, "skip": self.skip}
