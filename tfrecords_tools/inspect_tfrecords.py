r"""Checks a folder of shards and prints a summary of it.

Every record is read and every picture is decoded. The command fails with exit code 2 at the first shard that is
missing, empty, damaged, or differs from the manifest. `--contact_sheets=DIR` draws the contact sheets of the recordings
again, from the shards.

Example:
  python -m tfrecords_tools.inspect_tfrecords --data_dir=data/records --contact_sheets=data/sheets
"""

from absl import flags

from affect import cli
from affect.storage import local_folder


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Folder of the shards and their manifest.", required=True)
    flags.DEFINE_string("contact_sheets", None, "Folder in which to draw a contact sheet of every recording.")


def main() -> None:
    """Checks the shards and prints a line per partition, the remarks, and what was left out."""
    import numpy as np

    from tfrecords_tools.corpora.labels import scale_remarks
    from tfrecords_tools.corpora.recording import partition_remarks
    from tfrecords_tools.inspection import inspect  # loads TensorFlow, which --help does not need

    args = flags.FLAGS
    sheets_dir = local_folder(args.contact_sheets, "contact_sheets") if args.contact_sheets is not None else None
    manifest, summaries = inspect(args.data_dir, sheets_dir)
    kind = "synthetic, " if manifest.synthetic else ""
    print(
        f"{manifest.layout} corpus ({kind}{manifest.frame_rate_hz} fps, {manifest.sample_rate_hz} Hz, "
        f"{manifest.crop_size} x {manifest.crop_size} crops), data fingerprint {manifest.fingerprint()[:12]}"
    )
    for name, summary in summaries.items():
        minutes = summary.frames / manifest.frame_rate_hz / 60.0
        line = f"{name:<6}{summary.recordings:4d} recordings, {summary.frames:8d} frames, {minutes:6.1f} min"
        if summary.video_frames:
            line += f", a face in {summary.faces_found / summary.video_frames:.1%}"
        for what, count in (("sound", summary.without_sound), ("video", summary.without_video)):
            line += f", {count} without {what}" if count else ""
        if summary.label_range is not None:
            low, high = summary.label_range
            line += f", arousal {low[0]:+.2f}..{high[0]:+.2f}, valence {low[1]:+.2f}..{high[1]:+.2f}"
        else:
            line += ", no labels"
        print(line)
    for entry in manifest.recordings:
        for remark in entry.remarks:
            print(f"{entry.name}: {remark}")
    for remark in partition_remarks(manifest.recordings):
        print(remark)
    ranges = [summary.label_range for summary in summaries.values() if summary.label_range is not None]
    if ranges:
        lowest, highest = (np.stack(bounds) for bounds in zip(*ranges, strict=True))
        for remark in scale_remarks(lowest.min(axis=0), highest.max(axis=0)):
            print(remark)
    for name, reason in manifest.left_out.items():
        print(f"left out {name}: {reason}")


def command() -> None:
    """Entry point of the command."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
