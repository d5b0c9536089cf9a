r"""Measures memory and speed of predictions with `context="recording"` for recordings of different lengths.

Writes one synthetic recording per length. Each is predicted in a process of its own, by a network with initial weights,
and the process's peak memory is printed. If it grows by 10 % or more from the shortest to the longest recording, the
exit code is 3. `--recordings` sets how many recordings of each length are predicted together.

Example:
  python -m benchmarks.bench_whole_recording --minutes=5,60
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from affect import cli
from affect.config import MODALITIES, override
from affect.presets import PRESETS, get_preset

MAX_GROWTH = 0.10


def measured(data_dir: Path, modality: str) -> dict[str, float]:
    """Returns peak memory in MiB and seconds of a prediction in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.bench_whole_recording", f"--measure={data_dir}"]
    command += [f"--modalities={modality}", f"--preset={flags.FLAGS.preset}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure_here(data_dir: str, modality: str) -> None:
    """Predicts in this process and prints memory and time; Linux gives the peak memory in KiB."""
    from affect.data.dataset import open_data
    from affect.evaluation.predictions import predict
    from affect.models.network import build_network

    settings = [f"data.data_dir={data_dir}", *(["train.video_weights=none"] if modality != "audio" else [])]
    experiment = override(get_preset(flags.FLAGS.preset, modality), settings)
    network, manifest = build_network(experiment.model, modality), open_data(experiment)
    started = time.perf_counter()
    curves = predict(network, experiment, manifest, list(manifest.recordings), context="recording")
    secs, frames = time.perf_counter() - started, sum(len(curve.predicted) for curve in curves)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mib": peak_mib, "secs": secs, "frames": frames}))


def main() -> int:
    """Measures each modality; returns exit code 3 if the memory grows too much."""
    args = flags.FLAGS
    if args.measure:
        measure_here(args.measure, args.modalities[0])
        return 0
    from tests.helpers.long_shards import write_long_shards

    grows = False
    with tempfile.TemporaryDirectory(dir=args.work_dir) as work_dir:
        folders = {}
        for minutes in sorted(map(float, args.minutes)):
            lengths = {f"dev_{i + 1}": int(minutes * 60 * 25) for i in range(args.recordings)}
            folders[minutes] = write_long_shards(Path(work_dir) / f"{minutes:g}", lengths)
        for modality in args.modalities:
            peaks = []
            for minutes, folder in folders.items():
                result = measured(folder, modality)
                peaks.append(result["peak_mib"])
                rate = result["frames"] / result["secs"]
                print(
                    f"{args.preset} {modality}, {args.recordings} x {minutes:g} min: "
                    f"peak {result['peak_mib']:.0f} MiB, {result['secs']:.1f} s, {rate:.0f} frames/s",
                    flush=True,
                )
            growth = peaks[-1] / peaks[0] - 1
            grows |= growth >= MAX_GROWTH
            print(f"{args.preset} {modality}: peak memory grows by {growth:.1%}", flush=True)
    return cli.EXIT_SCORE_TOO_LOW if grows else 0


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_list("modalities", ["audio", "audiovisual"], f"Networks to measure: {', '.join(MODALITIES)}.")
    flags.DEFINE_list("minutes", ["5", "60"], "Lengths of the recordings.")
    flags.DEFINE_integer("recordings", 1, "Recordings of each length.", lower_bound=1)
    flags.DEFINE_enum("preset", "demo", list(PRESETS), "Preset of the networks.")
    flags.DEFINE_string("work_dir", None, "Folder for the temporary shards; by default that of the system.")
    flags.DEFINE_string("measure", None, "Folder of shards to measure in this process; used internally.")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
