r"""Converts a corpus to TFRecord shards and a manifest.

    CORPUS_DIR (avec2016)                        OUTPUT_DIR
      recordings_audio/train_1.wav                 manifest.json                    written last
      recordings_video/train_1.mp4          ->     train/train_1-00000-of-00001.tfrecord ...
      ratings_gold_standard/...                    features/train_1.h5              if the corpus ships features
      features_audio/...                           contact_sheets/train_1.png       for checking the face crops

For every recording the sound is resampled to 16 kHz mono PCM, the video to 25 fps by presentation time, one face is
followed and cropped to 96 x 96 pixels, and there is one label per frame of 40 ms.

Layouts: avec2016 (AVEC 2015/2016), recola (the original release), tzirakis (the authors' tree), table (a CSV file with
the header recording,partition,audio,video,labels). By default the layout is recognised.

The same command continues a run that was stopped, and the result has the same bytes. Missing files are listed before
anything is decoded. If recordings fail, they are listed at the end, and the others are kept for the next attempt; with
--allow_missing they are left out, and the exit code is 0.

Example:
  python -m tfrecords_tools.make_tfrecords --layout=avec2016 --corpus_dir=data/synthetic --output_dir=data/records
  python -m tfrecords_tools.make_tfrecords --corpus_dir=study/recordings.csv --output_dir=data/study
"""

import signal

from absl import flags

from affect import cli
from affect.media.settings import DETECTORS, DecodingSettings


def define_flags() -> None:
    """Declares the flags of this command."""
    from tfrecords_tools.corpora.layouts import LAYOUTS

    defaults = DecodingSettings()
    flags.DEFINE_enum("layout", "auto", ["auto", *LAYOUTS], "Layout of the corpus.")
    flags.DEFINE_string("corpus_dir", None, "Folder of the corpus, or a table of recordings (.csv).", required=True)
    flags.DEFINE_string("output_dir", None, "Folder to write: a new one, or one to continue.", required=True)
    flags.DEFINE_string(
        "split", "",
        "Partition of each subject, for recola and tzirakis: avec2016 (default for recola), authors (default for "
        "tzirakis), or a .csv file with the header subject,partition.",
    )  # fmt: skip
    flags.DEFINE_enum(
        "gold_standard", None, ["avec", "mean"],
        "How individual ratings are combined, for avec2016 and recola: the method of AVEC (default for recola) or the "
        "mean. By default avec2016 uses the gold standard that it ships.",
    )  # fmt: skip
    flags.DEFINE_bool("overwrite", False, "Replace complete shards, or shards made with other settings.")
    flags.DEFINE_bool("allow_missing", False, "Leave out recordings that lack a file or fail, instead of stopping.")
    flags.DEFINE_enum(
        "face_detector", defaults.face_detector, DETECTORS,
        "Face detector, used if the corpus ships no face boxes. mtcnn finds tilted, dark and talking faces too; haar, "
        "OpenCV's cascade, is faster and finds upright frontal faces only.",
    )  # fmt: skip
    flags.DEFINE_integer("detect_every", defaults.detect_every, "Detect faces in every n-th frame.", lower_bound=1)
    flags.DEFINE_float(
        "face_margin", defaults.face_margin,
        "How far a crop extends beyond the face box on every side, as a fraction of the box edge.", lower_bound=0.0,
    )  # fmt: skip
    flags.DEFINE_integer("processes", 0, "Maximum number of recordings at a time; 0: one per core.", lower_bound=0)


def main() -> None:
    """Finds the corpus, preprocesses it, and prints what was left out and what to look at."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # batch systems send SIGTERM: treat it like Ctrl-C

    # Imported here, so that --help does not load OpenCV and pandas.
    from affect.data.manifest import read_manifest
    from tfrecords_tools.corpora.layouts import LAYOUTS, find_corpus
    from tfrecords_tools.corpora.recording import partition_remarks
    from tfrecords_tools.pipeline import make_tfrecords
    from tfrecords_tools.shards import Preprocessing

    args = flags.FLAGS
    corpus = find_corpus(args.corpus_dir, args.layout, args.split, args.gold_standard or "")
    parts = [f"layout {corpus.layout}", f"{len(corpus.listing.recordings)} complete recordings"]
    parts += [f"split {corpus.split}"] if corpus.split else []
    # A table names its labels itself: there is no choice of gold standards to report.
    parts += [] if LAYOUTS[corpus.layout].LISTED_IN_TABLE else [f"gold standard: {corpus.gold_standard}"]
    print(", ".join(parts))
    for remark in corpus.listing.remarks:
        print(remark)
    settings = Preprocessing(
        face_detector=args.face_detector, detect_every=args.detect_every, face_margin=args.face_margin
    )
    make_tfrecords(corpus, args.output_dir, settings, args.overwrite, args.allow_missing, args.processes or None)
    entries = read_manifest(args.output_dir).recordings
    for entry in entries:
        for remark in entry.remarks:
            print(f"{entry.name}: {remark}")
    for remark in partition_remarks(entries):  # recordings that failed may have emptied a partition
        if remark not in corpus.listing.remarks:
            print(remark)
    print(f"inspect the result with: python -m tfrecords_tools.inspect_tfrecords --data_dir={args.output_dir}")


def command() -> None:
    """Entry point of the command."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
