r"""Predicts arousal and valence of any recording with an exported model.

    talk.mp4  ->  talk.csv    time,arousal,valence,face_found: one row per frame of 40 ms, time in seconds
                  talk.json   the same, with the model and the remarks
                  talk.png    --plot: both curves over time, and their path in the arousal-valence plane
                  out.mp4     --overlay: the pictures with face box and curves, with their sound

--input is any file that FFmpeg reads, a folder (its sound and video files, without subfolders), or a comma-separated
list; it can be repeated. A model of sound alone reads only the sound track of a video; a model of faces alone reads no
sound. With one input, every output flag names a file; --output ends with .csv or .json. With several inputs, or a
folder, every output flag names a folder, and --output writes both CSV and JSON of each. A file that cannot be read does
not stop the others; the failed ones are named at the end, and the exit code is 2. Existing outputs are replaced, but
never an input. Files appear complete or not at all.

The values are those of `eval.py --context=recording`, post-processed with the constants of the development set unless
--raw. Remarks (no face, silence, an unusual level, ...) go to stderr and into the JSON. Memory does not grow with the
video: two hours took 1.9 GiB with a small network.

--input=- reads 16 kHz mono PCM, signed 16 bit, from stdin, and prints CSV lines as the values become ready. The sound
is standardised by the mean and deviation of its first --calibration_secs seconds.

Arousal and valence estimate how people would rate the recording; they do not say what the person in it feels. The EU AI
Act, article 5(1)(f), prohibits inferring the emotions of people at work and in education, other than for medical or
safety reasons.

Example:
  python -m affect.serving.predict --model_dir=runs/demo/audiovisual/export --input=talk.mp4 --output=talk.csv \
    --plot=talk.png
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from affect import cli
from affect.errors import UserError
from affect.serving.inputs import find_inputs
from affect.serving.outputs import Targets, plan_targets, write_curve
from affect.serving.wording import MEANING
from affect.storage import write_bytes

if TYPE_CHECKING:
    from affect.serving.model import ServedModel

# The model, the decoders and the figures are imported inside functions, so that --help and flag errors are fast.

STDIN = "-"


def predict_files(
    model_dir: str,
    given: Sequence[str],
    outputs: dict[str, str | None],
    audio: str | None = None,
    raw: bool = False,
) -> None:
    """Predicts files and writes the requested outputs; prints their paths, and remarks on stderr.

    Args:
      model_dir: folder of the exported model.
      given: values of --input.
      outputs: values of --output, --plot and --overlay.
      audio: a sound file that belongs to the only input.
      raw: leave out the post-processing chain.

    Raises:
      UserError: a path or the model is not valid, or a file failed; the outputs of the other files are still written.
    """
    inputs = find_inputs(given)
    if audio is not None and len(inputs.files) > 1:
        raise UserError("--audio belongs to one --input; predict files with separate sound one by one")
    if audio is not None and not Path(audio).is_file():
        raise UserError(f"--audio={audio} does not exist or is not a file; check the path")
    others = [] if audio is None else [Path(audio)]
    targets = plan_targets(inputs.files, inputs.many, outputs, Path(model_dir), others)
    from affect.serving.model import ServedModel

    model = ServedModel.load(model_dir)
    for remark in inputs.remarks:
        _tell(remark)
    if audio is not None and not model.takes_audio:
        _tell("--audio is not used for the prediction: the model takes no sound")
    failed: list[str] = []
    for path, target in zip(inputs.files, targets, strict=True):
        try:
            if inputs.many:
                target = _without_impossible_overlay(path, target)
            _predict_file(model, model_dir, path, others[0] if others else None, target, raw)
        except Exception as error:  # whatever a file causes is its own failure and not that of the others
            cause = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            if len(inputs.files) == 1:
                raise (error if isinstance(error, UserError | OSError) else UserError(f"{path}: {cause}")) from error
            failed.append(path.name)
            _tell(f"failed {path.name}: {cause}")
    if len(failed) < len(inputs.files):
        print(MEANING)
    if failed:
        raise UserError(f"{len(failed)} of {len(inputs.files)} files failed: {', '.join(failed)}")


def _without_impossible_overlay(path: Path, target: Targets) -> Targets:
    """Gives up the overlay of a file without pictures, if anything else is written for it; a remark says so."""
    from affect.serving.overlay import check_overlay

    if target.overlay is None or len(target.all) == 1:
        return target
    try:
        check_overlay(path, None, target.overlay)
    except UserError as error:
        _tell(f"no overlay: {error}")
        return replace(target, overlay=None)
    return target


def _predict_file(
    model: "ServedModel", model_dir: str, path: Path, audio: Path | None, target: Targets, raw: bool
) -> None:
    """Predicts one file and writes its outputs."""
    from affect.serving.overlay import check_overlay, write_overlay
    from affect.serving.prediction import predict_recording

    if target.overlay is not None:
        check_overlay(path, audio, target.overlay)
    with _Bar(path.name) as bar:
        curve = predict_recording(model, audio, path, raw, bar)
    for remark in curve.remarks:
        _tell(f"{path.name}: {remark}")
    for output in target.curves:
        write_curve(curve, output, model_dir)
        _print_path(output)
    if target.plot is not None:
        from affect.figures import to_png
        from affect.serving.pictures import plot_curve

        write_bytes(str(target.plot), to_png(plot_curve(curve)))
        _print_path(target.plot)
    if target.overlay is not None:
        with _Bar(path.name) as bar:
            write_overlay(curve, path, audio, target.overlay, lambda done, total: bar("drawing", done, total))
        _print_path(target.overlay)


class _Bar:
    """A progress bar per stage of one file, on stderr if that is a terminal."""

    def __init__(self, name: str):
        self._name, self._what, self._bar = cli.one_line(name), "", None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows how far a stage is, see `affect.serving.prediction.Progress`."""
        if self._bar is None or what != self._what:
            self.__exit__()
            self._what = what
            self._bar = tqdm(total=total, desc=f"{self._name}: {what}", unit="frames", disable=None)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _tell(text: str) -> None:
    print(cli.one_line(text), file=sys.stderr)


def _print_path(path: Path) -> None:
    print(cli.one_line(f"wrote {path}"))


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("model_dir", None, "Folder that affect.serving.export wrote.", required=True)
    flags.DEFINE_multi_string(
        "input", None, "File, folder or comma-separated list; can be repeated. - reads PCM from stdin.", required=True
    )
    flags.DEFINE_string("output", None, "File to write, .csv or .json; with several inputs a folder for both.")
    flags.DEFINE_string("audio", None, "Sound file, if the sound is not in the video; with a single input only.")
    flags.DEFINE_string("plot", None, "PNG to write; with several inputs a folder.")
    flags.DEFINE_string("overlay", None, "Video to write, .mp4; with several inputs a folder.")
    flags.DEFINE_bool("raw", False, "Leave out the post-processing chain.")
    flags.DEFINE_float("calibration_secs", 10.0, "With --input=-: seconds for mean and deviation, 0.04 to 600.")


def main() -> None:
    """Passes the flags to `predict_files`, or to `affect.serving.live` for --input=-."""
    args = flags.FLAGS
    outputs = {"output": args.output, "plot": args.plot, "overlay": args.overlay}
    if STDIN not in args.input:
        predict_files(args.model_dir, args.input, outputs, args.audio, args.raw)
        return
    unused = [f"--{name}" for name in (*outputs, "audio") if getattr(args, name) is not None]
    if len(args.input) > 1 or unused:
        raise UserError(
            f"--input=- must be the only input and prints to stdout; leave out {', '.join(unused) or 'the others'}"
        )
    if not 0.04 <= args.calibration_secs <= 600.0:
        raise UserError(f"--calibration_secs={args.calibration_secs:g} must be between 0.04 and 600")
    from affect.serving import live

    live.predict_stdin(args.model_dir, args.calibration_secs, args.raw)


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
