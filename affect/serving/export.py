r"""Exports a trained run as a SavedModel that runs without this package and without Keras.

    OUTPUT_DIR/
      saved_model.pb variables/ ...   signatures "serving_default", "predict_waveform" and "stream"
      predict.json                    the contract: everything else that a caller must know (`affect.serving.contract`)
      MODEL_CARD.md                   for people and model hubs: training data, scores, limits, how to run it
      model.onnx                      with --format=onnx: the graph of "stream" for ONNX Runtime (`affect.serving.onnx`)

Signatures, with any batch size and any time; all inputs are named:

    serving_default    audio float32 [batch, time, 640], standardised, and/or video uint8 [batch, time, 96, 96, 3]
                       -> predictions float32 [batch, time, 2]: arousal, valence
    predict_waveform   waveform float32 [batch, samples] in [-1, 1), 16 kHz, mono; and video if the network takes it
                       -> predictions; absent from networks that take video only
    stream             the next frames and the state -> the predictions that are due, and the new state

The predictions are the network's own curve. `predict.json` has the delay of the labels and the post-processing, which
`python -m affect.serving.predict` applies. Scores and post-processing are taken from the run's eval/ if they belong to
its present weights, so evaluate first, with --context=recording: an export predicts whole recordings.

The settings of the crops and the ranges of level and face share come from the manifest of the training shards. For
weights without their data, --without_data leaves these out.

Example:
  python -m affect.serving.export --run_dir=runs/audio --output_dir=runs/audio/export
"""

from pathlib import Path
from typing import Annotated

import msgspec
from absl import flags
from msgspec import Meta

from affect import cli
from affect.config import Experiment
from affect.errors import UserError
from affect.runs import RunFolder
from affect.serving.contract import CONTRACT_NAME, OLD_CONTRACT_NAME
from affect.serving.description import describe, open_training_data, read_evaluation
from affect.serving.model_card import CARD_NAME, check_license, model_card
from affect.serving.onnx import check_installed, write_onnx
from affect.serving.reload_check import check_reload
from affect.serving.signatures import write_saved_model
from affect.storage import (
    atomic_write,
    check_loadable,
    check_replaceable,
    local_folder,
    remove_leftovers,
    write_bytes,
    write_json,
)


class _Export(msgspec.Struct):
    """The fields that every version of the contract has, `affect.json` of version 0.1.0 included."""

    written_by: Annotated[str, Meta(pattern="^affect ")]
    modality: str
    outputs: tuple[str, str]


def export(
    run_dir: Path,
    output_dir: Path,
    overwrite: bool = False,
    data_dir: str | None = None,
    without_data: bool = False,
    license_id: str = "",
    onnx: bool = False,
) -> None:
    """Exports the best weights of a run; prints remarks on what is missing from the export.

    Args:
      run_dir: a trained run.
      output_dir: folder to write; it appears complete or not at all.
      overwrite: replace an existing export.
      data_dir: folder of the shards, if it has moved since training; only its manifest is read.
      without_data: do not read the manifest; the export then says that the training data are unknown.
      license_id: licence of the model card, see `affect.serving.model_card`.
      onnx: also write `model.onnx`; needs the extra `onnx`.

    Raises:
      UserError: the run or the manifest of its data does not exist; the manifest describes other data than those of
        the training; the output folder holds an export and `overwrite` is False, or it holds anything else; TensorFlow
        cannot load a model from this path; or the weights change during the export.
    """
    if onnx:
        check_installed()
    check_loadable(output_dir, "output_dir")
    check_license(license_id)
    run = RunFolder(run_dir)
    experiment = run.read_config(data_dir)
    folder = _check_output(run, experiment, output_dir, overwrite)
    from affect.models.trained import TrainedNetwork

    manifest = None if without_data else open_training_data(run, experiment)
    weights = run.best_weights_digest()  # first: if training replaces the weights meanwhile, the export is refused
    evaluation = read_evaluation(run)
    network = TrainedNetwork.load(run_dir).network
    contract = describe(run, experiment, manifest, evaluation)
    if contract.weights_sha256 != weights:
        raise UserError(f"{run.best_weights} changed during the export; wait until training has ended and export again")
    card = model_card(contract, experiment, network.count_params(), evaluation.scores, license_id)

    remove_leftovers(folder.parent, folder.name)
    with atomic_write(folder) as temporary:
        write_saved_model(network, experiment.model, experiment.modality, temporary, experiment.data.standardise)
        check_reload(temporary, network, experiment.model, experiment.modality, experiment.data.standardise)
        write_json(temporary / CONTRACT_NAME, contract)
        write_bytes(str(temporary / CARD_NAME), card.encode())
        if onnx:
            write_onnx(network, experiment.model, experiment.modality, contract, temporary)
    if without_data:
        evaluation.remarks.append(f"{run_dir}: exported without its training data; the contract does not describe them")
    for remark in evaluation.remarks:
        print(remark)


def _check_output(run: RunFolder, experiment: Experiment, output_dir: Path, overwrite: bool) -> Path:
    """Checks that an export may be written to a folder, and returns it as `check_replaceable` does."""
    data_dir = experiment.data.data_dir
    keep = {f"the run folder {run.path}": run.path} | ({f"the data {data_dir}": data_dir} if data_dir else {})
    is_old = (output_dir / OLD_CONTRACT_NAME).exists() and not (output_dir / CONTRACT_NAME).exists()
    folder = check_replaceable(output_dir, OLD_CONTRACT_NAME if is_old else CONTRACT_NAME, _Export, keep)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{output_dir} already exists; choose another --output_dir, or add --overwrite to replace it")
    return folder


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("run_dir", None, "Folder of a trained run.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder in which to write the export.", required=True)
    flags.DEFINE_enum("format", "saved_model", ["saved_model", "onnx"], "With onnx, also write model.onnx.")
    flags.DEFINE_bool("overwrite", False, "Replace an existing export; no other folder is ever replaced.")
    flags.DEFINE_string("data_dir", None, "Folder of the shards, if it has moved since training.")
    flags.DEFINE_bool(
        "without_data",
        False,
        "Export without the shards of the training. The crops are then described by the defaults of make_tfrecords, "
        "and no input can be recognised as far from the training data.",
    )
    flags.DEFINE_string(
        "license",
        "",
        "Licence of the model card as hubs name it, such as cc-by-nc-4.0. Default: apache-2.0 for the synthetic "
        "corpus; for all others 'other', because the terms of the corpus decide.",
    )


def main() -> None:
    """Passes the flags to `export`."""
    args = flags.FLAGS
    output_dir = local_folder(args.output_dir, "output_dir")
    if args.without_data and args.data_dir is not None:
        raise UserError("--data_dir and --without_data exclude each other")
    run_dir = local_folder(args.run_dir, "run_dir")
    export(run_dir, output_dir, args.overwrite, args.data_dir, args.without_data, args.license, args.format == "onnx")
    print(f"wrote {args.output_dir}")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
