"""Writes a synthetic corpus as real files in the AVEC 2016 layout, for the demo and the tests.

RECOLA is licensed and cannot be shipped; this corpus stands in for it. Every file has the format of the AVEC 2016
release, but the people and ratings in it are not real, and any result computed from it must be called synthetic.

    OUTPUT_DIR/
      synthetic.json                                    settings of the corpus; marks it as synthetic
      recordings_audio/train_1.wav                      44.1 kHz, 16 bit, mono
      recordings_video/train_1.mp4                      H.264, 320 x 240, 25 fps
      recordings_video_frame_time/train_1.csv           ';' separated, second column = time of the frame
      ratings_individual/{arousal,valence}/train_1.csv  six raters: bias, noise, reaction delay
      ratings_gold_standard/{arousal,valence}/train_1.arff

Arousal drives the voice; valence drives the face and, weakly, the voice (modules `voice` and `face`). Every recording
has a different speaker. The same seed gives the same samples, pixels (before encoding) and labels.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
import soundfile
import soxr
from scipy.ndimage import gaussian_filter1d, shift
from tqdm import tqdm

from affect.config import DIMENSIONS, PARTITIONS
from affect.errors import UserError
from affect.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ
from tfrecords_tools.gold_standard import gold_standard
from tfrecords_tools.synthetic import MARKER, face, voice

WAV_RATE_HZ = 44_100
RATERS = ("FM1", "FM2", "FM3", "FF1", "FF2", "FF3")


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings that determine a corpus.

    Attributes:
      train: number of train recordings.
      dev: number of dev recordings.
      test: number of test recordings.
      seconds: length of each recording, at least 2.
      delay_secs: mean reaction delay of the raters, 0 to 10.
      seed: seed of all random numbers.

    Raises:
      UserError: a value is out of its range.
    """

    train: int = 32
    dev: int = 6
    test: int = 18
    seconds: int = 20
    delay_secs: float = 0.6
    seed: int = 0

    def __post_init__(self):
        if min(self.train, self.dev, self.test) < 0 or self.train + self.dev + self.test == 0:
            raise UserError(
                f"--recordings must not be negative and must not all be 0, got {self.train},{self.dev},{self.test}"
            )
        if self.seconds < 2:
            raise UserError(f"--seconds must be at least 2, got {self.seconds}")
        if not 0.0 <= self.delay_secs <= 10.0:
            raise UserError(f"--delay_secs must be between 0 and 10, got {self.delay_secs}")

    @property
    def names(self) -> list[str]:
        """Names of the recordings: `train_1`, `train_2`, ..., then those of dev, then those of test."""
        return [f"{partition}_{i + 1}" for partition in PARTITIONS for i in range(getattr(self, partition))]


@dataclass(frozen=True)
class Performance:
    """One recording before encoding.

    Attributes:
      signal: float32 [samples] at 16 kHz.
      pictures: yields uint8 RGB [240, 320, 3], one per frame.
      ratings: [frames + 1, raters] by dimension.
    """

    signal: np.ndarray
    pictures: Iterator[np.ndarray]
    ratings: dict[str, np.ndarray]


def perform(config: SyntheticConfig, name: str) -> Performance:
    """Generates one recording in memory; a pure function of the config and the name."""
    seed = np.random.SeedSequence([config.seed, config.names.index(name)])
    curve_rng, voice_rng, face_rng, rater_rng = (np.random.default_rng(child) for child in seed.spawn(4))
    frames = config.seconds * FRAME_RATE_HZ
    curves = {dimension: _emotion_curve(frames + 1, curve_rng) for dimension in DIMENSIONS}
    ratings = {dimension: _simulate_raters(curve, config.delay_secs, rater_rng) for dimension, curve in curves.items()}
    # Frame k carries the label at its end, t = 0.04 (k + 1), so sound and pictures start at the curve's second value.
    arousal, valence = (curves[dimension][1:] for dimension in DIMENSIONS)
    signal, opening = voice.speak(voice.draw_voice(voice_rng), arousal, valence, voice_rng)
    pictures = face.show(face.draw_face(face_rng), valence, opening, face_rng)
    return Performance(signal, pictures, ratings)


def write_corpus(config: SyntheticConfig, output_dir: Path) -> None:
    """Writes the whole corpus, with one process per core.

    Raises:
      UserError: the folder is not empty.
    """
    if output_dir.exists() and any(output_dir.iterdir()):
        raise UserError(f"{output_dir} is not empty; choose another --output_dir, or delete the folder")
    output_dir.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        written = pool.map(partial(write_recording, config, output_dir), config.names)
        for _ in tqdm(written, total=len(config.names), desc="synthetic recordings", unit="rec"):
            pass
    # The marker is written last, so that its presence means a complete corpus.
    (output_dir / MARKER).write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")


def write_recording(config: SyntheticConfig, output_dir: Path, name: str) -> None:
    """Writes the files of one recording."""
    cv2.setNumThreads(1)  # there is one process per core already
    performance = perform(config, name)
    wav = soxr.resample(performance.signal, SAMPLE_RATE_HZ, WAV_RATE_HZ)
    path = _make_parent(output_dir / "recordings_audio" / f"{name}.wav")
    soundfile.write(path, np.clip(wav, -1.0, 1.0), WAV_RATE_HZ, subtype="PCM_16")
    frames = _write_mp4(_make_parent(output_dir / "recordings_video" / f"{name}.mp4"), performance.pictures)
    _write_frame_times(_make_parent(output_dir / "recordings_video_frame_time" / f"{name}.csv"), frames)
    for dimension, ratings in performance.ratings.items():
        individual = _make_parent(output_dir / "ratings_individual" / dimension / f"{name}.csv")
        _write_ratings(individual, ratings)
        arff = _make_parent(output_dir / "ratings_gold_standard" / dimension / f"{name}.arff")
        _write_arff(arff, name, dimension, gold_standard(ratings))


def _emotion_curve(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a smooth curve [frames] in [-1, 1] that varies within seconds around a slower drift."""
    curve = np.zeros(frames)
    for weight, sigma in ((0.7, 32.0), (0.5, 90.0)):
        curve += weight * _standardise(gaussian_filter1d(rng.standard_normal(frames + 2000), sigma)[1000:-1000])
    return np.clip(0.42 * _standardise(curve), -1.0, 1.0)


def _standardise(curve: np.ndarray) -> np.ndarray:
    """Returns the curve with mean 0 and standard deviation 1."""
    return (curve - curve.mean()) / curve.std()


def _simulate_raters(curve: np.ndarray, delay_secs: float, rng: np.random.Generator) -> np.ndarray:
    """Returns six ratings of the curve, [frames, 6], each with its own delay, scale, bias and slow noise."""
    ratings = []
    for _ in RATERS:
        delay_frames = max(0.0, delay_secs + rng.normal(0.0, 0.08)) * FRAME_RATE_HZ
        delayed = shift(curve, delay_frames, order=1, mode="nearest")
        noise = 0.05 * _standardise(gaussian_filter1d(rng.standard_normal(curve.size), 15.0))
        ratings.append(rng.uniform(0.8, 1.2) * delayed + rng.normal(0.0, 0.05) + noise)
    return np.clip(np.stack(ratings, axis=1), -1.0, 1.0)


def _write_mp4(path: Path, pictures: Iterator[np.ndarray]) -> int:
    """Writes H.264 at 25 fps and returns the number of frames; one encoder thread makes the bytes reproducible."""
    frames = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE_HZ, options={"preset": "ultrafast", "crf": "25"})
        stream.width, stream.height, stream.pix_fmt = face.WIDTH, face.HEIGHT, "yuv420p"
        stream.thread_count = 1
        for picture in pictures:
            # OpenCV converts colours ten times faster than FFmpeg's scaler.
            yuv = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(yuv, "yuv420p")))
            frames += 1
        container.mux(stream.encode())
    return frames


def _write_frame_times(path: Path, frames: int) -> None:
    lines = ["frame;time"] + [f"{k};{k / FRAME_RATE_HZ:.2f}" for k in range(frames)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_ratings(path: Path, ratings: np.ndarray) -> None:
    lines = ["time;" + ";".join(f"{rater} " for rater in RATERS)]  # the release has these trailing spaces
    lines += [f"{k / FRAME_RATE_HZ:.2f};" + ";".join(f"{value:.4f}" for value in row) for k, row in enumerate(ratings)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_arff(path: Path, name: str, dimension: str, gold: np.ndarray) -> None:
    header = (
        f"@relation GOLDSTANDARD_{dimension.upper()}\n\n@attribute Instance_name string\n"
        "@attribute frameTime numeric\n@attribute GoldStandard numeric\n\n@data\n\n"
    )
    rows = "\n".join(f"'{name}',{k / FRAME_RATE_HZ:.2f},{value:.4f}" for k, value in enumerate(gold))
    path.write_text(header + rows + "\n", encoding="utf-8")


def _make_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
