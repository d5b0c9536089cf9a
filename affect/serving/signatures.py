"""Writes a network as a SavedModel with the signatures that `affect.serving.export` describes."""

from pathlib import Path
from typing import TYPE_CHECKING

from affect.config import ModelConfig

if TYPE_CHECKING:
    import keras

WHOLE, WAVEFORM, STREAM = "serving_default", "predict_waveform", "stream"


def write_saved_model(network: "keras.Model", config: ModelConfig, modality: str, folder: Path) -> None:
    """Writes the SavedModel of a trained network into a folder."""
    import keras
    import tensorflow as tf

    from affect.models.stepping import build_stepping_network, copy_weights

    stepping = build_stepping_network(config, modality)
    copy_weights(network, stepping)
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.track(stepping)

    def specs(model, any_time):
        return [
            tf.TensorSpec(
                (None, None, *tensor.shape[2:]) if any_time(name) else (None, *tensor.shape[1:]),
                tensor.dtype,
                name=name,
            )
            for name, tensor in model.input.items()
        ]

    names, step_names = list(network.input), list(stepping.input)

    def serve(*inputs):
        return {"predictions": network(dict(zip(names, inputs, strict=True)), training=False)}

    def stream(*inputs):
        return stepping(dict(zip(step_names, inputs, strict=True)), training=False)

    archive.add_endpoint(WHOLE, serve, input_signature=specs(network, lambda name: True))
    archive.add_endpoint(STREAM, stream, input_signature=specs(stepping, lambda name: not name.startswith("state_")))
    archive.write_out(str(folder), verbose=False)
