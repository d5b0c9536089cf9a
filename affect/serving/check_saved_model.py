"""Compares an exported model with recorded predictions; a standalone script that needs only TensorFlow.

    python -I check_saved_model.py FOLDER EXAMPLE.npz

EXAMPLE.npz holds those of the inputs `audio`, `video` and `waveform` that the model takes, and the `predictions`
[batch, time, 2] that every signature must return for them. If the predictions differ or the model does not run, the
exit status is 1 and the last line on stderr says why.
"""

import sys
from collections.abc import Iterator

# An export must need neither this package nor Keras: importing them fails from here on.
sys.modules["affect"] = sys.modules["keras"] = None  # pyright: ignore[reportArgumentType]

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

TOLERANCE = 1e-5  # absolute, and relative to predictions beyond 1
STREAM = "stream"


def main() -> None:
    """Checks all signatures."""
    folder, example_path = sys.argv[1:]
    with np.load(example_path, allow_pickle=False) as example:
        inputs = {name: tf.constant(example[name]) for name in ("audio", "video", "waveform") if name in example.files}
        expected, signatures = example["predictions"], example["signatures"].tolist()
    model = tf.saved_model.load(folder)
    if sorted(model.signatures) != sorted(signatures):
        sys.exit(f"it has the signatures {', '.join(model.signatures) or 'none'} instead of {', '.join(signatures)}")
    for name, signature in model.signatures.items():
        run = streamed if name == STREAM else whole
        predictions = run(signature, inputs)
        if predictions.shape != expected.shape:
            sys.exit(f"{name} gives predictions of shape {predictions.shape} instead of {expected.shape}")
        if not np.allclose(predictions, expected, rtol=TOLERANCE, atol=TOLERANCE):
            largest = np.abs(predictions - expected).max()
            sys.exit(f"the predictions of {name} differ from the network's by up to {largest:.2g}")


def whole(signature, inputs: dict) -> np.ndarray:
    """Returns the predictions of a signature that takes whole recordings."""
    names = signature.structured_input_signature[1]
    return signature(**{name: values for name, values in inputs.items() if name in names})["predictions"].numpy()


def streamed(signature, inputs: dict) -> np.ndarray:
    """Returns the predictions of the signature `stream`, fed in two pieces and flushed."""
    specs = signature.structured_input_signature[1]
    frames = {name: values for name, values in inputs.items() if name in specs}
    batch, time = next(iter(frames.values())).shape[:2]
    state = {
        name: tf.zeros([batch, *spec.shape[1:]], spec.dtype)
        for name, spec in specs.items()
        if name.startswith("state_")
    }
    delay = len(state["state_present"][0]) if "state_present" in state else 0
    curve = []
    for piece in pieces(frames, batch, time, delay):
        outputs = signature(**piece, **state)
        state = {name: outputs[name] for name in state}
        curve.append((outputs["predictions"].numpy(), outputs["valid"].numpy()))
    predictions, valid = (np.concatenate(parts, axis=1) for parts in zip(*curve, strict=True))
    return np.stack([row[counts] for row, counts in zip(predictions, valid, strict=True)])


def pieces(frames: dict, batch: int, time: int, delay: int) -> Iterator[dict]:
    """Yields the first frame, the other frames, and the `delay` absent frames that flush out the last predictions."""
    for part in (slice(0, 1), slice(1, time)):
        count = len(range(time)[part])
        yield {name: values[:, part] for name, values in frames.items()} | {"present": tf.ones([batch, count], tf.bool)}
    if delay:
        absent = {name: tf.zeros_like(values[:, :1]) for name, values in frames.items()}
        absent = {name: tf.repeat(values, delay, axis=1) for name, values in absent.items()}
        yield absent | {"present": tf.zeros([batch, delay], tf.bool)}


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever TensorFlow raises for a model that it cannot load or run
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
