r"""Measures the time that the handcrafted features take, by kind, on the recordings of a data folder.

Prints seconds for the acoustic part, for fitting the components of appearance, and for the visual part, per minute of
recording and for all recordings, and the peak memory. Fitting is done once, whatever the number of recordings.

Example:
  python -m benchmarks.bench_features --data_dir=data/demo/records --protocol=quick --recordings=8
"""

import resource
import time

from absl import flags

from affect import cli
from affect.data.manifest import read_manifest
from affect.evaluation.handcrafted import CROP_STEPS, FeatureExtractor


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Folder of the shards and their manifest.", required=True)
    flags.DEFINE_enum("protocol", "quick", list(CROP_STEPS), "Protocol of the features.")
    flags.DEFINE_integer("recordings", 8, "Recordings to measure; the first ones of the manifest.", lower_bound=1)


def main() -> None:
    """Measures and prints."""
    args = flags.FLAGS
    manifest = read_manifest(args.data_dir)
    extractor = FeatureExtractor(args.data_dir, manifest, args.protocol)
    entries = manifest.recordings[: args.recordings]
    extractor.audio_tables(entries[0])  # not timed: compiles librosa's pitch tracker

    started = time.perf_counter()
    components = extractor.fit_components()
    print(f"components of appearance: fitted in {time.perf_counter() - started:.1f} s")
    if components is not None:
        print(f"  {components.directions.shape[1]} components of {len(components.mean)} values")
    minutes = sum(entry.frames for entry in entries) / manifest.frame_rate_hz / 60.0
    everything = sum(entry.frames for entry in manifest.recordings) / manifest.frame_rate_hz / 60.0
    tables = {"acoustic": extractor.audio_tables, "visual": lambda entry: extractor.video_tables(entry, components)}
    for name, compute in tables.items():
        started = time.perf_counter()
        for entry in entries:
            compute(entry)
        per_minute = (time.perf_counter() - started) / minutes
        print(
            f"{name}: {per_minute:.2f} s per minute, {per_minute * everything:.0f} s for all {everything:.1f} minutes"
        )
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
