"""Writes a network as `model.onnx`, one graph for whole recordings and streams, and compares it with the SavedModel.

    audio and/or video, present, state_*  ->  predictions, valid, next_state_*

It is the stepping network (`affect.models.stepping`), with the names of the signature `stream`, except that a state
comes out as `next_state_...`: names are unique in an ONNX graph. Batch and time are free. Start with states of zero and
pass each `next_state_X` as `state_X` of the next call; a whole recording is one call, or several to save memory. Then
`delay_frames` absent frames (`present` False) flush out the last predictions; the states after that are not used.

tf2onnx converts the TensorFlow graph. Long filters are plain convolutions here, because ONNX Runtime has no fast FFT.

Shapes in comments: B batch, T frames, F features.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affect.config import ModelConfig
from affect.errors import UserError
from affect.serving.contract import CONTRACT_NAME, Contract
from affect.serving.signatures import STREAM
from affect.serving.wording import MEANING, SYNTHETIC

if TYPE_CHECKING:
    import keras
    import onnx

ONNX_NAME = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "tf2onnx")
TOLERANCE = 1e-4
# ONNX Runtime 1.20 and newer support it, and the network needs no later opset.
_OPSET = 17
_STATE, _NEXT = "state_", "next_"
_USAGE = (
    "Start with zero states, and pass each output next_state_X as state_X of the next call; present is True. At the "
    "end, delay_frames absent frames (present False) give the last predictions. Predictions count where valid is True."
)
# Frames of each call when the graph is compared with the SavedModel.
_CHUNKS = (1, 3, 12)


def check_installed() -> None:
    """Checks that the packages of the extra `onnx` are installed, without importing them.

    Raises:
      UserError: at least one package is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'--format=onnx lacks the packages {", ".join(missing)}; run pip install "affect[onnx]"')


def write_onnx(network: "keras.Model", config: ModelConfig, modality: str, contract: Contract, folder: Path) -> None:
    """Writes `model.onnx` beside a SavedModel, and compares the predictions of both.

    The same network gives the same bytes.

    Args:
      network: network of `build_network(config, modality)`.
      config: sizes and rates.
      modality: "audio", "video" or "audiovisual".
      contract: its essentials become the metadata of the graph.
      folder: holds the SavedModel of the same network.

    Raises:
      UserError: the predictions differ by more than `TOLERANCE`.
    """
    import onnx

    from affect.models.inference import inference_network

    model = _converted(_without_masks(inference_network(network, config, modality, long_filters="direct")))
    _rename_in_order_of_use(model.graph)
    _describe(model, contract)
    onnx.checker.check_model(model, full_check=True)
    path = folder / ONNX_NAME
    path.write_bytes(model.SerializeToString(deterministic=True))
    difference = largest_difference(path, folder)
    if not difference <= TOLERANCE:
        import onnxruntime
        import tf2onnx

        raise UserError(
            f"{ONNX_NAME} predicts other values than the SavedModel: they differ by up to {difference:.2g} (allowed: "
            f"{TOLERANCE:g}; tf2onnx {tf2onnx.__version__}, onnxruntime {onnxruntime.__version__}). The export was not "
            "written; try other versions of these packages, or export without --format=onnx"
        )


def largest_difference(path: Path, saved_model: Path) -> float:
    """Returns the largest difference between the valid predictions of `model.onnx` and of a SavedModel.

    Both step through the same noise in chunks of several sizes, with a batch of 1 and of 3. The streams of a batch end
    at different frames. The difference is infinite if they disagree about which predictions are valid, and NaN if one
    predicts NaN.
    """
    import onnxruntime
    import tensorflow as tf

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    loaded = tf.saved_model.load(str(saved_model))
    stream = loaded.signatures[STREAM]
    specs = stream.structured_input_signature[1]
    start = {name: spec for name, spec in specs.items() if name.startswith(_STATE)}
    delay = start["state_present"].shape[1] if "state_present" in start else 0
    rng = np.random.default_rng(seed=0)
    differences = [0.0]
    for batch in (1, 3):
        states = {name: np.zeros((batch, *spec.shape[1:]), spec.dtype.as_numpy_dtype) for name, spec in start.items()}
        onnx_states = states
        lengths = sum(_CHUNKS) - 2 * np.arange(batch)  # frames of each stream
        first = 0
        for count in (*_CHUNKS, delay) if delay else _CHUNKS:
            times = first + np.arange(count)
            first += count
            frames = {
                name: _noise(rng, (batch, count, *spec.shape[2:]), spec.dtype.as_numpy_dtype)
                for name, spec in specs.items()
                if name in ("audio", "video")
            } | {"present": times < lengths[:, None]}
            expected = {name: values.numpy() for name, values in stream(**_tensors(frames | states)).items()}
            got = run(session, frames | onnx_states)
            states = {name: expected[name] for name in states}
            onnx_states = {name: got[_NEXT + name] for name in states}
            valid = expected["valid"]
            if not np.array_equal(valid, got["valid"]):
                return np.inf
            differences.append(np.max(np.abs(expected["predictions"] - got["predictions"])[valid], initial=0.0))
    return float(np.max(differences))


def run(session: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of an `onnxruntime.InferenceSession` by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype)
    return rng.standard_normal(shape, dtype)


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(values) for name, values in arrays.items()}


def _without_masks(network: "keras.Model") -> "keras.Model":
    """Returns a stepping network whose LSTMs need no mask, so that they become ONNX's operator instead of a loop.

    Predictions are invalid only before the start of a stream, when the LSTM's state is zero, and after its end, when
    the state no longer matters. An LSTM without bias whose input and state are zero keeps a state of exactly zero: the
    candidate tanh(0) is 0. So invalid inputs are set to zero, and the bias becomes the weights of a further input,
    which is 1 in valid frames.
    """
    import keras
    from keras import ops

    masked = {layer.name: layer for layer in network.layers if isinstance(layer, keras.layers.LSTM)}

    def renewed(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name not in masked:
            return layer
        return keras.layers.LSTM.from_config(layer.get_config() | {"use_bias": False})

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name not in masked:
            return layer(*args, **kwargs)
        x, valid = args[0], kwargs.pop("mask")  # (B, T, F), (B, T)
        x = ops.concatenate([x, ops.ones_like(x[..., :1])], axis=-1)  # (B, T, F + 1)
        return layer(ops.where(valid[..., None], x, 0.0), *args[1:], **kwargs)

    unmasked = keras.models.clone_model(network, clone_function=renewed, call_function=call)
    for name, layer in masked.items():
        kernel, recurrent_kernel, bias = layer.get_weights()
        unmasked.get_layer(name).set_weights([np.concatenate([kernel, bias[None]]), recurrent_kernel])
    return unmasked


def _converted(network: "keras.Model") -> "onnx.ModelProto":
    """Converts a stepping network; its new states are called `next_state_...`."""
    import tensorflow as tf
    import tf2onnx

    names = list(network.input)
    specs = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name) for name, tensor in network.input.items()
    ]

    @tf.function(input_signature=specs, autograph=False)
    def step(*inputs):
        outputs = network(dict(zip(names, inputs, strict=True)), training=False)
        return {_NEXT + name if name.startswith(_STATE) else name: values for name, values in outputs.items()}

    def select(context, node, name, arguments):
        """Converts to Where; tf2onnx itself multiplies by 0 and 1, so NaN passes where it is not selected."""
        node.type = "Where"

    model, _ = tf2onnx.convert.from_function(
        step, input_signature=specs, opset=_OPSET, custom_op_handlers={"SelectV2": (select, [])}
    )
    return model


def _rename_in_order_of_use(graph: "onnx.GraphProto") -> None:
    """Orders nodes and constants as the outputs need them, and numbers them; tf2onnx's order differs in every run."""
    position = {name: index for index, name in enumerate(_order_of_use(graph))}
    graph.node.sort(key=lambda node: max(position.get(name, -1) for name in node.output))
    names = {name: name for name in ("", *(value.name for value in (*graph.input, *graph.output)))}
    constants = {}
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}{index}"
        for name in node.input:  # what no earlier node outputs is a constant
            if name not in names:
                names[name] = f"constant{len(constants)}"
                constants[name] = len(constants)
        for output, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_{output}")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    graph.initializer.sort(key=lambda constant: constants[constant.name])
    for constant in graph.initializer:
        constant.name = names[constant.name]
    del graph.value_info[:]  # shapes by the old names


def _order_of_use(graph: "onnx.GraphProto") -> list[str]:
    """Returns the outputs of all nodes, each after what it needs; follows the graph from its outputs backwards."""
    makers = {output: node for node in graph.node for output in node.output if output}
    ordered = {}
    waiting = [output.name for output in reversed(graph.output)]
    while waiting:
        missing = [name for name in makers[waiting[-1]].input if name in makers and name not in ordered]
        if missing:
            waiting += reversed(missing)
        else:
            ordered |= dict.fromkeys(makers[waiting.pop()].output)
    return list(ordered)


def _describe(model: "onnx.ModelProto", contract: Contract) -> None:
    """Names the free axes, and writes the description of the graph into its metadata."""
    import onnx

    for value in (*model.graph.input, *model.graph.output):
        for axis, dimension in zip(("batch", "time"), value.type.tensor_type.shape.dim, strict=False):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = axis
    model.graph.name = f"affect_{contract.modality}"
    model.graph.doc_string = ""  # tf2onnx counts its conversions there
    model.doc_string = f"{_USAGE} {MEANING}"
    properties = {
        "written_by": contract.written_by,
        "modality": contract.modality,
        "outputs": ", ".join(contract.outputs),
        "frame_rate_hz": f"{contract.frame_rate_hz}",
        "sample_rate_hz": f"{contract.sample_rate_hz}",
        "frame_samples": f"{contract.frame_samples}",
        "standardise": contract.standardise,
        "delay_frames": f"{contract.delay_frames}",
        "label_delay_secs": f"{contract.label_delay_secs}",
        "weights_sha256": contract.weights_sha256 or "",
        "training_data": SYNTHETIC if contract.synthetic else f"see {CONTRACT_NAME}",
        "synthetic": f"{contract.synthetic}".lower(),
        "contract": f"{CONTRACT_NAME}, in the folder of this export, says all that a caller must know",
    }
    onnx.helper.set_model_props(model, properties)
