"""The network with explicit state: the same weights and outputs, but computed a few frames at a time.

    frames, present, states  ->  predictions, valid, states

This is for live streams, and for recordings too long to process at once. The audio net that convolves the whole signal
looks ahead, so the prediction for a frame comes `delay_frames` frames later: 7 at the paper's sizes, where conv 2 needs
2000 steps ahead at 8 kHz and conv 1 another 40 samples at 16 kHz, 252.5 ms in all. A stream therefore begins with
`start_state`, after which the first predictions are not yet valid, and ends with `delay_frames` absent frames, which
flush out the remaining predictions. Each item of `chunks` is a dict of "audio" and/or "video", and "present",
which is all True:

    state, curve = start_state(network, batch=1), []
    for frames in [*chunks, absent_frames(network, batch=1, frames=delay)]:
        predictions, valid, state = step(network, frames, state)
        curve.append(predictions[valid])

Absent frames may only follow present ones. The borders of a stream are padded like those of a whole window: zeros are
added to the POOLED signal in front of conv 2. Feeding silence instead would differ, since conv 1 has a bias.

Shapes in comments: B batch, T frames of this step, D frames of delay. Numbers are the paper's sizes.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from affect.config import ModelConfig, modalities_of
from affect.models.audio_net import conv1_block, conv2_block
from affect.models.folding import FramesToSignal, StepsToFrames
from affect.models.network import BUILDERS, head, lstm


@dataclass(frozen=True)
class AudioDelay:
    """Delay of the audio net in a stream, and how much of the past must be kept.

    Attributes:
      frames: delay of the predictions in frames.
      pooled_lag: steps by which the pooled signal lags behind the samples, because conv 1 looks ahead.
      samples_kept: past samples that the next frame still needs.
      steps_kept: past steps of the pooled signal that the next frame still needs.
    """

    frames: int
    pooled_lag: int
    samples_kept: int
    steps_kept: int

    @classmethod
    def of(cls, config: ModelConfig) -> "AudioDelay":
        """Computes the delay of an audio net that convolves the whole signal."""
        steps_per_frame = config.frame_samples // config.audio_pool
        # "Same" padding puts the larger half of an even filter ahead.
        (past1, ahead1), (past2, ahead2) = (((taps - 1) // 2, taps // 2) for taps in config.audio_taps)
        lag = math.ceil(ahead1 / config.audio_pool)
        frames = math.ceil((lag + ahead2) / steps_per_frame)
        return cls(frames, lag, lag * config.audio_pool + past1, frames * steps_per_frame - lag + past2)


def delay_frames(config: ModelConfig, modality: str) -> int:
    """Returns the delay of predictions in frames: 0 unless the network convolves audio as one signal."""
    looks_ahead = "audio" in modalities_of(modality) and not config.audio_framed
    return AudioDelay.of(config).frames if looks_ahead else 0


def build_stepping_network(config: ModelConfig, modality: str) -> keras.Model:
    """Builds the network of one modality or of both, for one or more frames at a time.

    Args:
      config: sizes and rates.
      modality: "audio", "video" or "audiovisual".

    Returns:
      A model that maps a dict to a dict. Inputs: "audio" and/or "video" as in `build_network`, "present" bool
      [batch, time] (False after the end of a stream), and states named "state_...". Outputs: "predictions" float32
      [batch, time, 2], "valid" bool [batch, time] (False until the delay has passed), and the new states under the same
      names. Batch and time may vary; time may differ in every call. `copy_weights` copies the weights of
      `build_network(config, modality)` into it.

    Raises:
      UserError: `modality` is unknown.
    """
    delay = delay_frames(config, modality)
    inputs = {"present": keras.Input((None,), dtype="bool", name="present")}  # (B, T)
    outputs, features = {}, []
    present = valid = inputs["present"]
    if delay:
        inputs["state_present"] = keras.Input((delay,), dtype="bool", name="state_present")  # (B, D)
        present, _ = Carry(reach=delay, name="present_reach")([inputs["state_present"], present])  # (B, D + T)
        valid, outputs["state_present"] = Carry(name="valid")([inputs["state_present"], inputs["present"]])  # (B, T)

    for name in modalities_of(modality):
        if name == "audio" and delay:
            net = _build_delayed_audio_net(config)
            states = ("state_samples", "state_steps")
            own = {key: keras.Input(net.input[key].shape[1:], name=key) for key in ("audio", *states)}
            own_outputs = net(own | {"present": present})
            inputs |= own
            outputs |= {key: own_outputs[key] for key in states}
            features.append(own_outputs["features"])  # (B, T, 1280)
            continue
        net = BUILDERS[name](config)
        inputs[name] = keras.Input(net.input_shape[1:], dtype=net.inputs[0].dtype, name=name)
        x = net(inputs[name])  # (B, T, 1280) audio, (B, T, 2048) video
        if delay:
            # These features need no look-ahead; delay them to align them with the audio features.
            state = f"state_{name}"
            inputs[state] = keras.Input((delay, x.shape[-1]), name=state)  # (B, D, 2048)
            x, outputs[state] = Carry(name=f"{name}_delay")([inputs[state], x])
        features.append(x)

    x = layers.Concatenate(name="fusion")(features) if len(features) > 1 else features[0]  # (B, T, 3328)
    for index, units in enumerate(config.lstm_units, start=1):
        names = [f"state_lstm{index}_{part}" for part in ("hidden", "cell")]
        inputs |= {name: keras.Input((units,), name=name) for name in names}  # (B, 256) each
        # The mask keeps invalid frames from changing the LSTM's state. cuDNN supports no masks that begin with False.
        x, *states = lstm(index, units, config, return_state=True, use_cudnn=False)(
            x, initial_state=[inputs[name] for name in names], mask=valid
        )  # (B, T, 256)
        outputs |= dict(zip(names, states, strict=True))
    outputs |= {"predictions": head(config)(x), "valid": valid}
    return keras.Model(inputs, outputs, name=f"affect_{modality}_stepping")


def copy_weights(network: keras.Model, stepping: keras.Model) -> None:
    """Copies the weights of a whole-window network into the stepping network of the same config, in place."""
    for layer in stepping.layers:
        if layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())


def step(network: keras.Model, frames: dict, state: dict) -> tuple[np.ndarray, np.ndarray, dict]:
    """Runs a stepping network on the next frames.

    Args:
      network: a stepping network.
      frames: all inputs except the states, including "present"; all have the same number of frames.
      state: result of `start_state`, or the state that the previous step returned.

    Returns:
      A tuple of predictions, float32 [batch, time, 2]; which of them are valid, bool [batch, time]; the new state.
    """
    batch, count = frames["present"].shape
    if not count:
        return np.zeros((batch, 0, 2), np.float32), np.zeros((batch, 0), bool), state
    outputs = network({name: ops.convert_to_tensor(value) for name, value in (frames | state).items()})
    predictions, valid = (ops.convert_to_numpy(outputs[name]) for name in ("predictions", "valid"))
    return predictions, valid, {name: outputs[name] for name in state}


def start_state(network: keras.Model, batch: int) -> dict[str, np.ndarray]:
    """Returns the states of a stepping network before the first frame, all zero."""
    return {
        name: np.zeros((batch, *tensor.shape[1:]), tensor.dtype)
        for name, tensor in network.input.items()
        if name.startswith("state_")
    }


def absent_frames(network: keras.Model, batch: int, frames: int) -> dict[str, np.ndarray]:
    """Returns the inputs for `frames` frames after the end of every stream."""
    return {
        name: np.zeros((batch, frames, *tensor.shape[2:]), tensor.dtype)
        for name, tensor in network.input.items()
        if not name.startswith("state_")
    }


def _build_delayed_audio_net(config: ModelConfig) -> keras.Model:
    """Builds the audio net that takes its past samples and steps as state; its convolutions use no padding."""
    delay = AudioDelay.of(config)
    steps_per_frame = config.frame_samples // config.audio_pool
    audio = keras.Input((None, config.frame_samples), name="audio")  # (B, T, 640)
    # Presence of the D previous frames, followed by that of the new frames.
    present = keras.Input((None,), dtype="bool", name="present")  # (B, D + T)
    past_samples = keras.Input((delay.samples_kept, 1), name="state_samples")
    past_steps = keras.Input((delay.steps_kept, config.audio_filters[0]), name="state_steps")

    signal = FramesToSignal(name="window_signal")(audio)  # (B, T * 640, 1)
    skip = delay.frames * config.frame_samples
    signal = ZeroAbsentFrames(config.frame_samples, skip, name="end")([signal, present])
    window, samples = Carry(reach=config.audio_taps[0] - 1, name="sample_reach")([past_samples, signal])
    pooled = conv1_block(window, config, padding="valid")  # (B, T * 320, 20)
    skip = delay.frames * steps_per_frame - delay.pooled_lag
    pooled = ZeroAbsentFrames(steps_per_frame, skip, name="padding")([pooled, present])
    window, steps = Carry(reach=config.audio_taps[1] - 1, name="step_reach")([past_steps, pooled])
    x = conv2_block(window, config, padding="valid")  # (B, T * 320, 4)
    features = StepsToFrames(steps_per_frame, name="frames")(x)  # (B, T, 1280)
    return keras.Model(
        {"audio": audio, "present": present, "state_samples": past_samples, "state_steps": past_steps},
        {"features": features, "state_samples": samples, "state_steps": steps},
        name="audio_net",
    )


@keras.saving.register_keras_serializable("affect")
class Carry(layers.Layer):
    """Carries the end of a sequence over to the next step: ([batch, kept, ...], [batch, n, ...]) to (window, kept).

    Both inputs are joined in time. The window is the oldest `n + reach` items, for filters of `reach + 1` taps; the
    newest `kept` items are the state for the next step.
    """

    def __init__(self, reach: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.reach = reach

    def call(self, inputs):
        """Returns the window and the new state."""
        state, new = inputs
        count = ops.shape(new)[1]
        joined = ops.concatenate([state, new], axis=1)  # (B, kept + n, ...)
        return joined[:, : count + self.reach], joined[:, count:]

    def compute_output_shape(self, input_shape):
        """Returns the output shapes of `call`."""
        state, new = input_shape
        count = None if new[1] is None else new[1] + self.reach
        return (new[0], count, *new[2:]), state

    def compute_output_spec(self, inputs):
        """Returns the output shapes with the dtype of the second input, which may be bool."""
        window, state = self.compute_output_shape([tensor.shape for tensor in inputs])
        dtype = inputs[1].dtype
        return keras.KerasTensor(window, dtype), keras.KerasTensor(state, dtype)

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        return super().get_config() | {"reach": self.reach}


@keras.saving.register_keras_serializable("affect")
class ZeroAbsentFrames(layers.Layer):
    """Sets absent frames to zero: (signal [batch, steps, channels], present [batch, frames]) to signal.

    A frame has `steps_per_frame` steps; the signal starts `skip` steps after the first frame of `present`.
    """

    def __init__(self, steps_per_frame: int, skip: int, **kwargs):
        super().__init__(**kwargs)
        self.steps_per_frame = steps_per_frame
        self.skip = skip

    def call(self, inputs):
        """Returns the signal with absent frames set to zero; selects, because a product with NaN would stay NaN."""
        signal, present = inputs
        steps = ops.repeat(present, self.steps_per_frame, axis=1)  # (B, frames * steps_per_frame)
        steps = steps[:, self.skip : self.skip + ops.shape(signal)[1], None]  # (B, steps, 1)
        return ops.where(steps, signal, ops.zeros_like(signal))

    def compute_output_shape(self, input_shape):
        """Returns the shape of the signal."""
        return input_shape[0]

    def get_config(self):
        """Returns the constructor's arguments, for Keras' serialisation."""
        return super().get_config() | {"steps_per_frame": self.steps_per_frame, "skip": self.skip}
