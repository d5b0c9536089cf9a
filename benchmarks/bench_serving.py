r"""Measures exported models on a CPU: latency of a live stream, speed of whole recordings, `predict` end to end.

Each network has random weights and is exported into a temporary folder. A process on ONE core then loads the export
and times the network, one stream at a time:

    stream            1, 3, 25 or 150 frames per call
    serving_default   a recording of 500 frames in one call
    onnx              as stream, by ONNX Runtime; with --onnx, which needs the extra `onnx`

A frame is 40 ms, so a live stream needs less than 40 ms per frame. With --video=FILE, `predict_recording` is timed on
all cores instead: decoding, face detection, network. The real-time factor is the length of the video divided by that
time, and the peak memory is that of the whole process. The start takes some seconds more and is shown separately.

Example:
  python -m benchmarks.bench_serving --presets=paper --modalities=audio
  python -m benchmarks.bench_serving --presets=paper --modalities=audiovisual --video=talk.mp4
"""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from affect import cli
from affect.config import MODALITIES
from affect.presets import PRESETS, get_preset
from affect.storage import write_json
from affect.timebase import FRAME_RATE_HZ

STREAM_CHUNKS = (1, 3, 25, 150)
WHOLE_FRAMES = 500
WARM_UP_CALLS = 5


def export_random(preset: str, modality: str, onnx: bool, folder: Path) -> Path:
    """Exports a network with random weights; returns the folder of the export."""
    from affect.models.network import build_network
    from affect.runs import RunFolder
    from affect.serving.export import export

    run = RunFolder(folder / f"{preset}-{modality}")
    run.path.mkdir()
    experiment = get_preset(preset, modality)
    write_json(run.config, experiment)
    build_network(experiment.model, modality).save_weights(run.best_weights)
    with contextlib.redirect_stdout(io.StringIO()):  # export prints remarks on the missing evaluation
        export(run.path, run.path / "export", without_data=True, onnx=onnx)
    return run.path / "export"


def in_fresh_process(measure: str, folder: Path) -> dict:
    """Runs `measure_<measure>` of an export in a separate process and returns its result."""
    args = flags.FLAGS
    command = [sys.executable, "-m", "benchmarks.bench_serving", f"--measure={measure}", f"--model_dir={folder}"]
    command += [f"--calls={args.calls}", *([f"--video={args.video}"] if args.video else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def timed(call: Callable[[], object], frames: int) -> dict[str, float]:
    """Returns median and 95th percentile of the duration of a call in milliseconds, and the median per frame."""
    warm_up, calls = (3, max(flags.FLAGS.calls // frames, 5)) if frames < 100 else (1, 3)
    times_ms = []
    for _ in range(warm_up + calls):
        started = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - started) * 1e3)
    median, p95 = np.percentile(times_ms[warm_up:], [50, 95])
    return {"median_ms": median, "p95_ms": p95, "median_ms_per_frame": median / frames}


def noise(shapes: dict[str, tuple[int, ...]], frames: int) -> dict[str, np.ndarray]:
    """Returns random audio and/or video of `frames` frames, given the shape of one frame of each."""
    rng, arrays = np.random.default_rng(0), {}
    if "audio" in shapes:
        arrays["audio"] = rng.standard_normal((frames, *shapes["audio"]), np.float32)
    if "video" in shapes:
        arrays["video"] = rng.integers(0, 256, (frames, *shapes["video"]), np.uint8)
    return arrays


def measure_signatures(folder: Path) -> dict[str, dict[str, float]]:
    """Times the signatures of an export on one core of this machine."""
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])  # before TensorFlow counts the cores
    from affect.serving.model import ServedModel
    from affect.serving.onnx import ONNX_NAME
    from affect.serving.signatures import WHOLE

    model = ServedModel.load(folder)
    serve = model.saved_model.signatures[WHOLE]
    shapes = {name: tuple(spec.shape[2:]) for name, spec in serve.structured_input_signature[1].items()}
    rows = {}
    for chunk in STREAM_CHUNKS:
        frames, state = noise(shapes, chunk), model.start_state()

        def step(frames=frames):
            nonlocal state
            _, state = model.step(frames, state)

        rows[f"stream, {chunk}"] = timed(step, chunk)
    recording = {name: values[None] for name, values in noise(shapes, WHOLE_FRAMES).items()}
    rows[f"{WHOLE}, {WHOLE_FRAMES}"] = timed(lambda: serve(**recording)["predictions"].numpy(), WHOLE_FRAMES)
    if (folder / ONNX_NAME).is_file():
        start = {name: values.numpy() for name, values in model.start_state().items()}
        rows |= measure_onnx(folder / ONNX_NAME, shapes, start)
    return rows


def measure_onnx(path: Path, shapes: dict[str, tuple[int, ...]], start: dict[str, np.ndarray]) -> dict[str, dict]:
    """Times ONNX Runtime with the stream's chunks."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = {}
    for chunk in STREAM_CHUNKS:
        frames = {name: values[None] for name, values in noise(shapes, chunk).items()}
        frames["present"], state = np.ones((1, chunk), bool), start

        def step(frames=frames):
            nonlocal state
            outputs = dict(zip(names, session.run(names, frames | state), strict=True))
            state = {name: outputs[f"next_{name}"] for name in start}

        rows[f"onnx, {chunk}"] = timed(step, chunk)
    return rows


def measure_video(folder: Path) -> dict[str, float]:
    """Predicts a video from file to curve on all cores; Linux gives the peak memory in KiB."""
    from affect.serving.model import ServedModel
    from affect.serving.prediction import predict_recording

    started = time.perf_counter()
    model = ServedModel.load(folder)
    loaded, cpu = time.perf_counter(), time.process_time()
    curve = predict_recording(model, None, Path(flags.FLAGS.video))
    secs, cpu_secs = time.perf_counter() - loaded, time.process_time() - cpu
    video_secs = len(curve.predicted) / FRAME_RATE_HZ
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "video_secs": video_secs,
        "loading_secs": loaded - started,
        "secs": secs,
        "cpu_secs": cpu_secs,
        "realtime_factor": video_secs / secs,
        "peak_mib": peak_mib,
    }


def main() -> None:
    """Measures every combination of preset and modality; with --measure, one export in this process."""
    args = flags.FLAGS
    if args.measure:
        measure = {"signatures": measure_signatures, "video": measure_video}[args.measure]
        print(json.dumps(measure(Path(args.model_dir))))
        return
    results = {}
    for preset in args.presets:
        for modality in args.modalities:
            with tempfile.TemporaryDirectory() as folder:
                export = export_random(preset, modality, args.onnx, Path(folder))
                name = f"{preset} {modality}"
                results[name] = in_fresh_process("video" if args.video else "signatures", export)
            if args.video:
                print(
                    "{name}: {video_secs:.1f} s of video in {secs:.1f} s, {realtime_factor:.1f} times real time; "
                    "{cpu_secs:.1f} s of CPU, peak {peak_mib:.0f} MiB; {loading_secs:.1f} s to start".format(
                        name=name, **results[name]
                    )
                )
                continue
            print(f"{name + ', one core':<28} {'median':>10} {'95 %':>10} {'per frame':>12}")
            for row, times in results[name].items():
                columns = "{median_ms:>7.2f} ms {p95_ms:>7.2f} ms {median_ms_per_frame:>9.2f} ms".format(**times)
                print(f"  {row:<26} {columns}")
    if args.json:
        write_json(args.json, results)


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_list("presets", ["demo", "paper"], f"Networks to measure: {', '.join(PRESETS)}.")
    flags.DEFINE_list("modalities", list(MODALITIES), f"Modalities to measure: {', '.join(MODALITIES)}.")
    flags.DEFINE_bool("onnx", False, "Also export and time model.onnx.")
    flags.DEFINE_string("video", None, "Predict this video end to end instead of timing the signatures.")
    flags.DEFINE_integer("calls", 200, "Calls with one frame; longer chunks are timed less often.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the results to.")
    flags.DEFINE_enum("measure", None, ["signatures", "video"], "Measure one export here; used internally.")
    flags.DEFINE_string("model_dir", None, "With --measure: folder of the export; used internally.")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
