"""Writes a network as a SavedModel with three signatures, which all predict [batch, time, 2] float32.

    serving_default    audio and/or video of whole recordings                        -> predictions
    predict_waveform   waveform, and video where the network has it                  -> predictions
    stream             the next frames, present, and the states that came out last   -> predictions, valid, states

    audio     float32 [batch, time, 640]         sound at 16 kHz, standardised as `predict.json` says
    video     uint8   [batch, time, 96, 96, 3]   face crops, RGB
    waveform  float32 [batch, samples]           sound at 16 kHz in [-1, 1), not standardised
    present   bool    [batch, time]              False after the end of a stream

All three run the same stepping network (`affect.models.stepping`, which describes `stream`; the start state is zero).
The first two step through a recording in slices, so that memory does not grow with the activations of a long one. No
graph holds a cuDNN kernel or names a device. Every input is checked in the graph: TensorFlow itself checks dtypes and
names of inputs, but not shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from affect.config import ModelConfig

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WHOLE, WAVEFORM, STREAM = "serving_default", "predict_waveform", "stream"

# Frames per slice, over all recordings of a batch, and at least per recording. Slices of 25 to 300 frames take about
# the same time per frame; those of 300 frames need 0.2 GiB more with the paper's networks.
SLICE_FRAMES, SHORTEST_SLICE = 100, 25


@dataclass(frozen=True)
class Input:
    """An input of a signature.

    Attributes:
      name: name of the input.
      dtype: name of its dtype.
      axes: sizes of the fixed axes and names of the others. In all inputs of a signature, axes of one name have the
        same size.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]

    def spec(self) -> "tf.TensorSpec":
        """Returns the named spec, None for axes of any size."""
        import tensorflow as tf

        return tf.TensorSpec([None if isinstance(axis, str) else axis for axis in self.axes], self.dtype, self.name)

    def __str__(self):
        return f"{self.name} must be {self.dtype} [{', '.join(map(str, self.axes))}]"


def write_saved_model(
    network: "keras.Model", config: ModelConfig, modality: str, folder: Path, standardise: str = "recording"
) -> None:
    """Writes the SavedModel of a trained network.

    Args:
      network: network of `build_network(config, modality)`.
      config: sizes and rates.
      modality: "audio", "video" or "audiovisual".
      folder: folder to write into.
      standardise: "recording" if `predict_waveform` standardises each waveform, "none" if it takes it unchanged.
    """
    import tensorflow as tf

    from affect.models.inference import inference_network
    from affect.models.stepping import delay_frames

    stepping = inference_network(network, config, modality)
    steps = _inputs(stepping)
    frames = [item for item in steps if item.name in ("audio", "video")]
    states = [item for item in steps if item.name.startswith("state_")]
    delay = delay_frames(config, modality)

    # Separate functions, so that the network is traced once for all signatures.
    step = tf.function(
        lambda inputs: stepping(inputs, training=False),
        input_signature=[{item.name: item.spec() for item in steps}],
        autograph=False,
    )
    whole = tf.function(
        lambda inputs: _predict_in_slices(step, inputs, states, delay),
        input_signature=[{item.name: item.spec() for item in frames}],
        autograph=False,
    )

    def of_waveform(inputs: dict) -> "tf.Tensor":
        video = {name: values for name, values in inputs.items() if name == "video"}
        time = tf.shape(video["video"])[1] if video else _count_frames(inputs["waveform"], config.frame_samples)
        audio = _frames_of(inputs["waveform"], config.frame_samples, time, standardise == "recording")
        return whole(video | {"audio": audio})

    signatures = {
        WHOLE: _signature(WHOLE, frames, lambda inputs: {"predictions": whole(inputs)}),
        STREAM: _signature(STREAM, steps, step),
    }
    if modality != "video":
        waveform = [Input("waveform", "float32", ("batch", "samples")), *(i for i in frames if i.name == "video")]
        signatures[WAVEFORM] = _signature(WAVEFORM, waveform, lambda inputs: {"predictions": of_waveform(inputs)})
    module = tf.Module()
    module.network_variables = [  # pyright: ignore[reportAttributeAccessIssue] - the stubs know no new attributes
        variable.value for variable in stepping.weights
    ]
    tf.saved_model.save(module, str(folder), signatures)


def _inputs(stepping: "keras.Model") -> list[Input]:
    """Returns the inputs of a stepping network, audio and video first."""
    inputs = [
        Input(name, tensor.dtype, ("batch", *("time" if size is None else size for size in tensor.shape[1:])))
        for name, tensor in stepping.input.items()
    ]
    return sorted(inputs, key=lambda item: item.name not in ("audio", "video"))


def _signature(
    name: str, inputs: list[Input], function: Callable[[dict], dict]
) -> "tf.types.experimental.GenericFunction":
    """Returns the function of named, checked inputs. TensorFlow's errors quote its name: that of the signature."""
    import tensorflow as tf

    def signature(*tensors):
        return function(_checked(name, inputs, tensors))

    signature.__name__ = name
    return tf.function(signature, input_signature=[item.spec() for item in inputs], autograph=False)


def _checked(signature: str, inputs: list[Input], tensors: "tuple[tf.Tensor, ...]") -> "dict[str, tf.Tensor]":
    """Returns the inputs by name; an error names the signature if a shape does not fit."""
    import tensorflow as tf

    sizes, giver, checks = {}, {}, []
    for item, tensor in zip(inputs, tensors, strict=True):
        shape = tf.shape(tensor)  # the shape of the input, not that of the signature
        rank = len(item.axes)
        found = tf.concat([shape, tf.fill([rank + 1], -1)], axis=0)[: rank + 1]  # -1 behind the last axis
        for index, axis in enumerate(item.axes):
            if isinstance(axis, str) and axis not in sizes:
                sizes[axis], giver[axis] = tf.maximum(found[index], 1), item.name
        wanted = tf.stack([*(sizes.get(axis, axis) for axis in item.axes), -1])
        others = [axis for axis in item.axes if isinstance(axis, str) and giver.get(axis, item.name) != item.name]
        same = f"with the {' and '.join(others)} of {giver[others[0]]}" if others else "without an empty axis"
        text = f"{signature}: {item} {same}; its shape is"
        checks.append(tf.debugging.Assert(tf.reduce_all(found == wanted), [text, shape], 8, f"check_{item.name}"))
    with tf.control_dependencies(checks):
        return {item.name: tf.identity(tensor) for item, tensor in zip(inputs, tensors, strict=True)}


def _predict_in_slices(
    step: Callable[[dict], dict], inputs: "dict[str, tf.Tensor]", states: list[Input], delay: int
) -> "tf.Tensor":
    """Steps through whole recordings: {"audio" and/or "video": [batch, time, ...]} to predictions [batch, time, 2]."""
    import tensorflow as tf

    batch, time = tf.unstack(tf.shape(next(iter(inputs.values())))[:2])
    end = time + delay  # absent frames at the end flush out the last predictions
    length = tf.maximum(SLICE_FRAMES // batch, SHORTEST_SLICE)

    def predict_slice(start, state, curve):
        stop = tf.minimum(start + length, end)
        frames = {name: _part(values, start, stop) for name, values in inputs.items()}
        frames["present"] = tf.repeat(tf.range(start, stop)[tf.newaxis] < time, batch, axis=0)
        outputs = step(frames | state)
        state = {name: tf.ensure_shape(outputs[name], first[name].shape) for name in state}
        return stop, state, tf.concat([curve, outputs["predictions"]], axis=1)

    first = {item.name: tf.zeros([batch, *item.axes[1:]], item.dtype) for item in states}
    _, _, curve = tf.while_loop(
        lambda start, *_: start < end,
        predict_slice,
        (0, first, tf.zeros([batch, 0, 2])),
        shape_invariants=(
            tf.TensorShape([]),
            {name: zeros.shape for name, zeros in first.items()},
            tf.TensorShape([None, None, 2]),
        ),
        parallel_iterations=1,
    )
    return curve[:, delay:]


def _part(values: "tf.Tensor", start: "tf.Tensor", stop: "tf.Tensor") -> "tf.Tensor":
    """Returns values[:, start:stop]; what lies beyond the end is zero."""
    import tensorflow as tf

    part = values[:, start:stop]
    missing = stop - start - tf.shape(part)[1]
    return tf.pad(part, [[0, 0], [0, missing]] + [[0, 0]] * (values.shape.rank - 2))


def _count_frames(waveform: "tf.Tensor", frame_samples: int) -> "tf.Tensor":
    """Returns round(samples / frame_samples), as `affect.media.recording` counts, and at least 1."""
    import tensorflow as tf

    frames = tf.round(tf.cast(tf.shape(waveform)[1], tf.float64) / frame_samples)
    return tf.maximum(tf.cast(frames, tf.int32), 1)


def _frames_of(waveform: "tf.Tensor", frame_samples: int, time: "tf.Tensor", standardised: bool) -> "tf.Tensor":
    """Cuts waveforms [batch, samples] into frames [batch, time, frame_samples].

    As in training, a sound that is too short is padded with zeros before it is standardised. Mean and population
    deviation are those of all its samples, including samples that are cut off.
    """
    import tensorflow as tf

    signal = _part(waveform, tf.constant(0), time * frame_samples)
    if standardised:
        exact = tf.cast(waveform, tf.float64)  # the mean of equal values is then that value, and their deviation 0
        mean = tf.reduce_mean(exact, axis=1, keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(exact - mean), axis=1, keepdims=True))
        deviation = tf.where(deviation > 0, deviation, tf.ones_like(deviation))
        signal = (signal - tf.cast(mean, tf.float32)) / tf.cast(deviation, tf.float32)
    return tf.reshape(signal, [-1, time, frame_samples])
