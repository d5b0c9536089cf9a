r"""A trained run to a SavedModel that needs neither this package nor Keras to run.

    OUTPUT_DIR/
      saved_model.pb variables/ ...   signature "serving_default"
      affect.json                     modality, rates, and how to standardise the sound

Inputs by name, any batch, any time: `audio` float32 [batch, time, 640] and/or `video` uint8 [batch, time, 96, 96, 3];
output `predictions` float32 [batch, time, 2], arousal and valence. Pixels are scaled inside; sound is standardised
by the caller as `affect.json` says, since that takes the whole recording. Keep the loaded model in a variable while
its signature is in use:

    model = tf.saved_model.load("runs/audio/export")
    curve = model.signatures["serving_default"](audio=frames)["predictions"]

Example:
  python -m affect.serving.export --run_dir=runs/audio --output_dir=runs/audio/export
"""

import json
import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf
from absl import flags

from affect import __version__, cli
from affect.config import DIMENSIONS
from affect.data.dataset import open_data
from affect.errors import UserError
from affect.models.trained import TrainedNetwork

SIGNATURE = "serving_default"


def export(run_dir: Path, output_dir: Path, overwrite: bool = False, data_dir: str | None = None) -> None:
    """Exports a run's best weights.

    Args:
      run_dir: a trained run.
      output_dir: folder to write, complete or not at all.
      overwrite: whether an existing folder is replaced.
      data_dir: the shards, if they have moved since training; only their manifest is read.

    Raises:
      UserError: no trained run there, no data manifest, or an output folder in the way.
    """
    if output_dir.exists() and not overwrite:
        raise UserError(f"{output_dir} exists; choose another --output_dir, or replace it with --overwrite")
    trained = TrainedNetwork.load(run_dir)
    experiment = trained.run.read_config(data_dir)
    manifest = open_data(experiment)

    beside = output_dir.with_name(f".{output_dir.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        _write_saved_model(trained.network, beside)
        contract = {
            "written_by": f"affect {__version__}",
            "modality": experiment.modality,
            "frame_rate_hz": manifest.frame_rate_hz,
            "sample_rate_hz": manifest.sample_rate_hz,
            "frame_samples": manifest.frame_samples,
            "crop_size": manifest.crop_size,
            "face_margin": manifest.preprocessing["face_margin"],
            "standardise": experiment.data.standardise,
            "outputs": DIMENSIONS,
            "trained_on_synthetic_data": manifest.synthetic,
        }
        (beside / "affect.json").write_text(json.dumps(contract, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(output_dir, ignore_errors=True)
        os.replace(beside, output_dir)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_saved_model(network: keras.Model, folder: Path) -> None:
    """One signature with named inputs and a named output; batch and time stay unknown."""
    names = list(network.input)
    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name) for name, tensor in network.input.items()
    ]

    def serve(*inputs):
        return {"predictions": network(dict(zip(names, inputs, strict=True)), training=False)}

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(SIGNATURE, serve, input_signature=signature)
    archive.write_out(str(folder), verbose=False)


def _main() -> None:
    args = flags.FLAGS
    export(Path(args.run_dir), Path(args.output_dir), args.overwrite, args.data_dir)
    print(f"wrote {args.output_dir}")


if __name__ == "__main__":
    flags.DEFINE_string("run_dir", None, "Folder of a trained run.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder of the SavedModel to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace an existing output folder.")
    flags.DEFINE_string("data_dir", None, "The shards, if they have moved since training.")
    cli.run(_main)
