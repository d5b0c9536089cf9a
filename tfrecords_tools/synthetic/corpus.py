"""Writes a synthetic corpus as real files in the AVEC 2016 layout, for the demo and the tests.

RECOLA is licensed and cannot be shipped. This stands in: every file has the format that a reader meets in the
AVEC 2016 release, but nobody in it is real, and whatever is computed from it must be called synthetic.

    OUTPUT_DIR/
      synthetic.json                                    how it was made; marks the corpus as synthetic
      recordings_audio/train_1.wav                      44.1 kHz, 16 bit, mono
      recordings_video/train_1.mp4                      H.264, 320 x 240, 25 fps
      recordings_video_frame_time/train_1.csv           ';' separated, second column = time of that frame
      ratings_individual/{arousal,valence}/train_1.csv  six raters: bias, noise, reaction delay
      ratings_gold_standard/{arousal,valence}/train_1.arff

Arousal drives the voice, valence the face and a little the voice (`voice`, `face`). Every
recording is a new speaker. The same seed gives the same samples, pixels (before encoding) and labels.
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
    """What defines a corpus: recordings per partition, their length, the raters' reaction delay, the seed."""

    train: int = 32
    dev: int = 6
    test: int = 18
    seconds: int = 20
    delay_secs: float = 0.6
    seed: int = 0

    def __post_init__(self):
        if min(self.train, self.dev, self.test) < 0 or self.train + self.dev + self.test == 0:
            raise UserError(f"--recordings must not be negative or all zero, got {self.train},{self.dev},{self.test}")
        if self.seconds < 2:
            raise UserError(f"--seconds must be at least 2, got {self.seconds}")
        if not 0.0 <= self.delay_secs <= 10.0:
            raise UserError(f"--delay_secs must lie in [0, 10], got {self.delay_secs}")

    @property
    def names(self) -> list[str]:
        """`train_1`, ... in the release's order."""
        return [f"{partition}_{i + 1}" for partition in PARTITIONS for i in range(getattr(self, partition))]


@dataclass(frozen=True)
class Performance:
    """One recording before encoding: waveform at 16 kHz, pictures, ratings [frames + 1, raters] per dimension."""

    signal: np.ndarray
    pictures: Iterator[np.ndarray]
    ratings: dict[str, np.ndarray]


def perform(config: SyntheticConfig, name: str) -> Performance:
    """Makes one recording in memory; a pure function of the config and the name."""
    seed = np.random.SeedSequence([config.seed, config.names.index(name)])
    curve_rng, voice_rng, face_rng, rater_rng = (np.random.default_rng(child) for child in seed.spawn(4))
    frames = config.seconds * FRAME_RATE_HZ
    curves = {dimension: _emotion_curve(frames + 1, curve_rng) for dimension in DIMENSIONS}
    ratings = {dimension: _rate(curve, config.delay_secs, rater_rng) for dimension, curve in curves.items()}
    # Frame k carries the label at its end, t = 0.04 (k + 1), so the performance starts at curve sample 1.
    arousal, valence = (curves[dimension][1:] for dimension in DIMENSIONS)
    signal, opening = voice.speak(voice.draw_voice(voice_rng), arousal, valence, voice_rng)
    pictures = face.show(face.draw_face(face_rng), valence, opening, face_rng)
    return Performance(signal, pictures, ratings)


def write_corpus(config: SyntheticConfig, output_dir: Path) -> None:
    """Writes the whole tree; one process per core.

    Raises:
      UserError: the folder holds something already.
    """
    if output_dir.exists() and any(output_dir.iterdir()):
        raise UserError(f"{output_dir} is not empty; choose another --output_dir or delete it")
    output_dir.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        written = pool.map(partial(write_recording, config, output_dir), config.names)
        for _ in tqdm(written, total=len(config.names), desc="synthetic recordings", unit="rec"):
            pass
    # The marker comes last: a folder without it was cut off.
    (output_dir / MARKER).write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")


def write_recording(config: SyntheticConfig, output_dir: Path, name: str) -> None:
    """Writes the files of one recording."""
    cv2.setNumThreads(1)  # one process per core already
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
    """A smooth curve in [-1, 1] that changes within seconds, with a slower drift below it."""
    curve = sum(
        weight * _unit(gaussian_filter1d(rng.standard_normal(frames + 2000), sigma)[1000:-1000])
        for weight, sigma in ((0.7, 32.0), (0.5, 90.0))
    )
    return np.clip(0.42 * _unit(curve), -1.0, 1.0)


def _unit(curve: np.ndarray) -> np.ndarray:
    return (curve - curve.mean()) / curve.std()


def _rate(curve: np.ndarray, delay_secs: float, rng: np.random.Generator) -> np.ndarray:
    """Six raters, [frames, 6]: each late by the reaction delay (give or take), biased, rescaled and unsteady."""
    ratings = []
    for _ in RATERS:
        late_frames = max(0.0, delay_secs + rng.normal(0.0, 0.08)) * FRAME_RATE_HZ
        late = shift(curve, late_frames, order=1, mode="nearest")
        unsteady = 0.05 * _unit(gaussian_filter1d(rng.standard_normal(curve.size), 15.0))
        ratings.append(rng.uniform(0.8, 1.2) * late + rng.normal(0.0, 0.05) + unsteady)
    return np.clip(np.stack(ratings, axis=1), -1.0, 1.0)


def _write_mp4(path: Path, pictures: Iterator[np.ndarray]) -> int:
    """H.264 at 25 fps; returns the number of frames. One encoder thread, so that the bytes repeat."""
    frames = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE_HZ, options={"preset": "ultrafast", "crf": "25"})
        stream.width, stream.height, stream.pix_fmt = face.WIDTH, face.HEIGHT, "yuv420p"
        stream.thread_count = 1
        for picture in pictures:
            # OpenCV converts ten times faster than the encoder's own scaler.
            yuv = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
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
