r"""Measures the speed of make_tfrecords, and its stages, on 640 x 480 H.264 video with 44.1 kHz sound.

Writes a synthetic corpus of moving faces in the AVEC 2016 layout. Prints how many seconds of recording are processed
per second, with the start of the worker processes included: with each face detector, and with given face boxes. Then
prints the time of each stage in one process, and the time to read one ARFF file of 7501 x 633 values.

Example:
  python -m benchmarks.bench_preprocess --work_dir=/tmp/bench --recordings=4 --seconds=300
"""

import shutil
import time
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from absl import flags

from affect import cli
from affect.data.records import encode_jpeg, serialize
from affect.media.arff import read_arff
from affect.media.audio import read_audio
from affect.media.faces import crop_face, make_detector
from affect.media.settings import DETECTORS
from affect.media.tracking import detect_faces, follow_face
from affect.media.video import read_frames
from affect.timebase import FRAME_RATE_HZ
from tests.helpers import trees
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing

MAX_ARFF_SECS = 1.0


def write_corpus(root: Path, recordings: int, seconds: int) -> None:
    """Writes the corpus; noise over the portrait keeps a still background from making decoding too easy."""
    frames = seconds * FRAME_RATE_HZ
    centres = trees.face_centres(frames)
    start = trees.face_centres(1)[0]
    portrait = cv2.resize(trees.face_pictures(1, dot=False)[0], (640, 480), interpolation=cv2.INTER_CUBIC)
    rng = np.random.default_rng(0)

    def pictures():
        for x, y in 2 * (centres - start):
            moved = cv2.warpAffine(
                portrait, np.float32([[1, 0, x], [0, 1, y]]), (640, 480), borderMode=cv2.BORDER_REFLECT
            )
            noise = rng.integers(0, 8, (120, 160, 3), dtype=np.uint8)
            yield cv2.add(moved, cv2.resize(noise, (640, 480), interpolation=cv2.INTER_NEAREST))

    first = root / "recordings_video/train_1.mp4"
    trees.write_video(first, pictures(), preset="medium", crf=23)
    for name in (f"train_{i + 1}" for i in range(recordings)):
        if name != "train_1":
            shutil.copy(first, first.with_stem(name))
        trees.write_wav(root / f"recordings_audio/{name}.wav", trees.tones(44_100, seconds))
        for dimension in trees.DIMENSIONS:
            trees.write_gold_arff(
                root / f"ratings_gold_standard/{dimension}/{name}.arff", name, trees.rating_curve(0, frames + 1)
            )


def add_boxes(root: Path, recordings: int, seconds: int) -> None:
    """Adds face boxes in the format of the release."""
    centres = 2 * trees.face_centres(seconds * FRAME_RATE_HZ)
    for name in (f"train_{i + 1}" for i in range(recordings)):
        trees.write_boxes(root / f"features_video_face_bounding_box/{name}.arff", name, centres)


def timed(work) -> float:
    """Returns the seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def stages(root: Path) -> dict[str, float]:
    """Returns the seconds per stage for one recording, measured one after the other in one process."""
    video, audio = root / "recordings_video/train_1.mp4", root / "recordings_audio/train_1.wav"
    settings, jpegs = Preprocessing(), []
    pictures = [picture() for picture in islice(read_frames(video, FRAME_RATE_HZ), 250)]
    repeat = sum(1 for _ in read_frames(video, FRAME_RATE_HZ)) / len(pictures)
    shown = [lambda p=p: p for p in pictures]
    tracks = {}

    def detect(name):
        detections = detect_faces(shown, make_detector(name), settings.detect_every)
        tracks[name] = follow_face(detections, FRAME_RATE_HZ)

    detection = {}
    for name in DETECTORS:
        make_detector(name)([pictures[0]])  # loads it
        detection[f"detection, {name}"] = repeat * timed(partial(detect, name))
    track = tracks[settings.face_detector]

    def crop_and_encode():
        jpegs.clear()
        for picture, square in zip(pictures, track.squares, strict=True):
            crop = crop_face(picture, square, settings.face_margin, settings.crop_size)
            jpegs.append(encode_jpeg(crop))

    def write():
        pcm, zeros = np.zeros((25, 640), np.int16), np.zeros((25, 3))
        with tf.io.TFRecordWriter(str(root / "written")) as writer:
            for start in range(0, len(jpegs), 25):
                writer.write(serialize("x", start, jpegs[start : start + 25], zeros, zeros[:, 0], pcm, zeros[:, :2]))

    return {
        "decoding": timed(lambda: sum(1 for _ in read_frames(video, FRAME_RATE_HZ))),
        "colours": timed(lambda: sum(picture().size for picture in read_frames(video, FRAME_RATE_HZ))),
        **detection,
        "crops and JPEG": repeat * timed(crop_and_encode),
        "sound": timed(lambda: read_audio(audio)),
        "writing": repeat * timed(write),
    }


def main() -> None:
    """Writes the corpus, if it does not exist yet, and prints all measurements."""
    args = flags.FLAGS
    cv2.setNumThreads(1)
    work_dir, length = Path(args.work_dir), args.recordings * args.seconds
    corpus = work_dir / "corpus"
    if not corpus.exists():
        write_corpus(corpus, args.recordings, args.seconds)

    def measure(what, target, settings):
        secs = timed(lambda: make_tfrecords(find_corpus(str(corpus)), work_dir / "records", settings, overwrite=True))
        print(
            f"{what}: {length} s of recordings in {secs:.1f} s, {length / secs:.1f} times real time (target: {target})"
        )

    for name in DETECTORS:
        measure(f"with detection by {name}", 8, Preprocessing(face_detector=name))
    add_boxes(corpus, args.recordings, args.seconds)
    measure("with given boxes", 25, Preprocessing())
    shutil.rmtree(corpus / "features_video_face_bounding_box")
    measured = stages(corpus)  # both detectors, of which a run uses one
    measured["colours"] -= measured["decoding"]
    for stage, secs in measured.items():
        print(f"{stage:<18}{secs:6.2f} s per {args.seconds} s, {secs / sum(measured.values()):4.0%}")
    print("with detection, the video is decoded twice")
    arff = work_dir / "big.arff"
    if not arff.exists():
        _write_arff(arff)
    print(f"a 7501 x 633 ARFF: {min(timed(lambda: read_arff(arff)) for _ in range(3)):.2f} s (target: {MAX_ARFF_SECS})")


def _write_arff(path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(7501, 631))
    header = ["@relation x", "@attribute name string", "@attribute frameTime numeric"]
    header += [f"@attribute f{i} numeric" for i in range(631)] + ["@data"]
    rows = [f"'train_1',{k * 0.04:.2f}," + ",".join(f"{value:.6f}" for value in row) for k, row in enumerate(values)]
    path.write_text("\n".join([*header, *rows]) + "\n")


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("work_dir", None, "Folder for the corpus and the shards.", required=True)
    flags.DEFINE_integer("recordings", 4, "Number of recordings.", lower_bound=1)
    flags.DEFINE_integer("seconds", 300, "Length of each recording in seconds.", lower_bound=1)


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
