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

import platform
from pathlib import Path

from absl import flags

from affect import __version__, cli
from affect.config import DIMENSIONS, Experiment
from affect.data.manifest import Manifest
from affect.errors import UserError
from affect.evaluation.chain import read_chains
from affect.runs import RunFolder
from affect.serving.contract import CONTRACT_NAME, LABEL_TIME, Contract, FaceCrops, TrainingData
from affect.serving.signatures import write_saved_model
from affect.storage import (
    atomic_write,
    check_loadable,
    check_replaceable,
    local_folder,
    remove_leftovers,
    write_json,
)


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
    folder = check_replaceable(output_dir, CONTRACT_NAME, Contract, keep)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{output_dir} already exists; choose another --output_dir, or add --overwrite to replace it")
    from affect.data.dataset import open_data
    from affect.models.trained import TrainedNetwork

    trained = TrainedNetwork.load(run_dir)
    manifest = open_data(experiment)
    contract = describe(experiment, manifest, trained.run)
    remove_leftovers(folder.parent, folder.name)
    with atomic_write(folder) as temporary:
        write_saved_model(trained.network, experiment.model, experiment.modality, temporary)
        write_json(temporary / CONTRACT_NAME, contract)


def describe(experiment: Experiment, manifest: Manifest, run: RunFolder) -> Contract:
    """Returns the contract of an exported run."""
    import keras
    import tensorflow as tf

    from affect.data.records import JPEG_QUALITY
    from affect.models.stepping import delay_frames

    train = manifest.partition("train")
    chains = run.path / "eval/postprocessing.json"
    settings = manifest.preprocessing
    return Contract(
        written_by=f"affect {__version__}",
        versions={"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras.__version__},
        modality=experiment.modality,
        outputs=DIMENSIONS,
        frame_rate_hz=manifest.frame_rate_hz,
        sample_rate_hz=manifest.sample_rate_hz,
        frame_samples=manifest.frame_samples,
        label_time=LABEL_TIME,
        standardise=experiment.data.standardise,
        delay_frames=delay_frames(experiment.model, experiment.modality),
        label_delay_secs=experiment.data.label_delay_secs,
        faces=FaceCrops(
            detector=settings["face_detector"],
            detector_height=360,
            detect_every=settings["detect_every"],
            margin=settings["face_margin"],
            smoothing_secs=0.24,
            size=manifest.crop_size,
            jpeg_quality=JPEG_QUALITY,
            faceless_frames=experiment.data.faceless_frames,
        )
        if "video" in experiment.modalities
        else None,
        postprocessing=read_chains(chains) if chains.exists() else None,
        training_data=TrainingData(
            synthetic=manifest.synthetic,
            layout=manifest.layout,
            recordings=len(train),
            subjects=len({entry.subject for entry in train}),
            frames=sum(entry.frames for entry in train),
            sound_level_dbfs=None,
            face_share=None,
        ),
    )


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
