r"""Exports a trained run as a SavedModel that runs without this package and without Keras.

    OUTPUT_DIR/
      saved_model.pb variables/ ...   signature "serving_default"
      affect.json                     modality, rates, standardisation of the sound (`ExportContract`)

Inputs by name, with any batch size and any number of frames: `audio` float32 [batch, time, 640] and/or `video` uint8
[batch, time, 96, 96, 3]. The output is `predictions` float32 [batch, time, 2], arousal and valence. The model scales
the pixels itself. `affect.json` says what is left to the caller, because it needs the whole recording: standardising
the sound, and undoing the delay of the labels. Keep the loaded model in a variable while its signature is in use:

    model = tf.saved_model.load("runs/audio/export")
    curve = model.signatures["serving_default"](audio=frames)["predictions"]

Example:
  python -m affect.serving.export --run_dir=runs/audio --output_dir=runs/audio/export
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from absl import flags

from affect import __version__, cli
from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.runs import RunFolder
from affect.storage import (
    atomic_write,
    check_loadable,
    check_replaceable,
    local_folder,
    read_json,
    remove_leftovers,
    write_json,
)

if TYPE_CHECKING:
    import keras

SIGNATURE = "serving_default"
CONTRACT_NAME = "affect.json"


class ExportContract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller of an exported model must know: the content of `affect.json`.

    Attributes:
      written_by: program and version that exported the model.
      modality: "audio", "video" or "audiovisual"; decides which inputs the signature takes.
      frame_rate_hz: frames per second of inputs and predictions.
      sample_rate_hz: sampling rate of the sound.
      frame_samples: audio samples per frame.
      crop_size: edge of the face crop in pixels.
      face_margin: margin around the detected face, as a fraction of its edge, as in the training shards.
      standardise: "recording" if the caller must subtract the mean of the whole recording's sound and divide by its
        standard deviation; "none" if the samples stay in [-1, 1).
      outputs: names of the two values per frame, in order.
      trained_on_synthetic_data: whether the model was trained on the synthetic corpus; if so, it says nothing
        about people.
      label_delay_secs: how many seconds early the network's curve is, because it was trained on labels of so much
        later. The caller delays the curve by this time, rounded to whole frames; its first value fills the gap
        (`affect.evaluation.postprocess.delay`). None in exports of version 0.1.0, which did not record it: the run's
        config.json says it, as data.label_delay_secs.
      faceless_frames: "keep" if the caller passes what it has for frames without a detected face; "mask" if it must
        pass black crops for them (all zeros), as in training. Without meaning for an audio network.
    """

    written_by: str
    modality: str
    frame_rate_hz: int
    sample_rate_hz: int
    frame_samples: int
    crop_size: int
    face_margin: float
    standardise: str
    outputs: tuple[str, ...]
    trained_on_synthetic_data: bool
    label_delay_secs: float | None = None
    faceless_frames: Literal["keep", "mask"] = "keep"


def read_contract(model_dir: str | Path) -> ExportContract:
    """Reads `affect.json` of an exported model.

    Raises:
      UserError: the file does not exist, or a field is missing, unknown or of the wrong type.
    """
    return read_json(Path(model_dir) / CONTRACT_NAME, ExportContract)


def export(run_dir: Path, output_dir: Path, overwrite: bool = False, data_dir: str | None = None) -> None:
    """Exports the best weights of a run.

    Args:
      run_dir: a trained run.
      output_dir: folder to write; it appears complete or not at all.
      overwrite: replace an existing export.
      data_dir: folder of the shards, if it has moved since training; only its manifest is read.

    Raises:
      UserError: the run or the manifest of its data does not exist, the output folder holds an export and `overwrite`
        is False, or it holds anything else, or TensorFlow could not load a model from it.
    """
    check_loadable(output_dir, "output_dir")
    experiment = RunFolder(run_dir).read_config(data_dir)
    keep = {f"the run folder {run_dir}": run_dir, f"the data {experiment.data.data_dir}": experiment.data.data_dir}
    folder = check_replaceable(output_dir, CONTRACT_NAME, ExportContract, keep)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{output_dir} already exists; choose another --output_dir, or add --overwrite to replace it")
    from affect.data.dataset import open_data
    from affect.models.trained import TrainedNetwork

    trained = TrainedNetwork.load(run_dir)
    manifest = open_data(experiment)
    contract = ExportContract(
        written_by=f"affect {__version__}",
        modality=experiment.modality,
        frame_rate_hz=manifest.frame_rate_hz,
        sample_rate_hz=manifest.sample_rate_hz,
        frame_samples=manifest.frame_samples,
        crop_size=manifest.crop_size,
        face_margin=manifest.preprocessing["face_margin"],
        standardise=experiment.data.standardise,
        outputs=DIMENSIONS,
        trained_on_synthetic_data=manifest.synthetic,
        label_delay_secs=experiment.data.label_delay_secs,
        faceless_frames=experiment.data.faceless_frames,
    )
    remove_leftovers(folder.parent, folder.name)
    with atomic_write(folder) as temporary:
        _write_saved_model(trained.network, temporary)
        write_json(temporary / CONTRACT_NAME, contract)


def _write_saved_model(network: "keras.Model", folder: Path) -> None:
    """Writes one signature with named inputs and a named output; any batch size and number of frames."""
    import keras
    import tensorflow as tf

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


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("run_dir", None, "Folder of a trained run.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder in which to write the SavedModel.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace an existing export; no other folder is ever replaced.")
    flags.DEFINE_string("data_dir", None, "Folder of the shards, if it has moved since training.")


def main() -> None:
    """Passes the flags to `export`."""
    args = flags.FLAGS
    output_dir = local_folder(args.output_dir, "output_dir")
    export(local_folder(args.run_dir, "run_dir"), output_dir, args.overwrite, args.data_dir)
    print(f"wrote {args.output_dir}")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
