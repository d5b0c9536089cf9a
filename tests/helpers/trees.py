"""Writes small corpora in every layout, in which sound, face positions and ratings are known exactly.

The video shows the face of a real photograph, moved from picture to picture, with a green dot at its centre. The sound
is a sum of tones, so that it is known at any sampling rate.
"""

import functools
import itertools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data
import soundfile
from scipy.ndimage import gaussian_filter1d

from tfrecords_tools.synthetic import face as synthetic_face

SECONDS = 4
FRAMES = 25 * SECONDS
RATERS = ("FM1", "FM2", "FM3", "FF1", "FF2", "FF3")
DIMENSIONS = ("arousal", "valence")
HEIGHT, WIDTH = synthetic_face.HEIGHT, synthetic_face.WIDTH


def tones(rate_hz, seconds=SECONDS):
    """Returns the sum of five tones below 7 kHz, [samples] in (-1, 1)."""
    times = np.arange(round(rate_hz * seconds)) / rate_hz
    return sum(0.15 * np.sin(2 * np.pi * f * times + f) for f in (110.0, 331.0, 997.0, 2503.0, 6011.0))


def snr_db(expected, read):
    """Returns the signal-to-noise ratio without the first and last samples, which a resampler cannot reproduce."""
    inner = slice(800, -800)
    return 10 * np.log10(np.mean(expected[inner] ** 2) / np.mean((read[inner] - expected[inner]) ** 2))


def rating_curve(seed, count=FRAMES + 1):
    """Returns a smooth rating in [-0.9, 0.9], [ratings], rounded to four decimals as in the files."""
    smooth = gaussian_filter1d(np.random.default_rng(seed).standard_normal(count + 200), 12)[100:-100]
    return np.round(0.9 * smooth / np.abs(smooth).max(), 4)


@functools.cache
def face_centres(frames=FRAMES):
    """Returns the true centre (x, y) of the face in pixels, [frames, 2]."""
    rng = np.random.default_rng(7)
    paths = [gaussian_filter1d(rng.standard_normal(frames + 400), 15)[200:-200] for _ in range(2)]
    max_moves = (40.0, 12.0)
    moves = np.stack([move * path / np.abs(path).max() for move, path in zip(max_moves, paths, strict=True)], axis=1)
    return np.array(synthetic_face.FACE_CENTRE) + moves


@functools.cache
def face_pictures(frames=FRAMES, dot=True):
    """Returns RGB pictures of the moving face, with or without the green dot."""
    portrait = skimage.data.astronaut()[
        synthetic_face.CUT_TOP : synthetic_face.CUT_TOP + HEIGHT,
        synthetic_face.CUT_LEFT : synthetic_face.CUT_LEFT + WIDTH,
    ].copy()
    if dot:
        cv2.circle(portrait, tuple(map(int, synthetic_face.FACE_CENTRE)), 3, (0, 255, 0), -1, cv2.LINE_AA)
    moves = face_centres(frames) - synthetic_face.FACE_CENTRE
    return [
        cv2.warpAffine(
            portrait, np.float32([[1, 0, x], [0, 1, y]]), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT
        )
        for x, y in moves
    ]  # fmt: skip


def write_video(
    path, pictures, times_secs=None, rate=25, sound=None, sound_codec="alac", sound_start_secs=0.0, preset="ultrafast",
    crf=8, aspect=None, **options,
):  # fmt: skip
    """Writes H.264 video with the given presentation times, and `sound` (float [samples]) as a track at 44.1 kHz.

    `aspect` is that of a pixel, and `options` are those of x264.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pictures = iter(pictures)
    first = next(pictures)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": preset, "crf": str(crf), **options})
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], "yuv420p"
        stream.thread_count = 1
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        clock = Fraction(1, 90_000)
        if times_secs is not None:
            stream.codec_context.time_base = clock
        track = None
        if sound is not None:
            track = container.add_stream(sound_codec, rate=44_100)
            track.codec_context.layout = "mono"
            track.codec_context.format = {"alac": "s16p", "aac": "fltp", "flac": "s16"}[sound_codec]
        for k, picture in enumerate(itertools.chain([first], pictures)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if times_secs is not None:
                frame.pts, frame.time_base = round(times_secs[k] / clock), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            pcm = np.round(sound * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm[None], "s16", "mono")
            frame.sample_rate, frame.time_base = 44_100, Fraction(1, 44_100)
            frame.pts = round(sound_start_secs * 44_100)
            container.mux(track.encode(frame))
            container.mux(track.encode())


def write_wav(path, signal, rate_hz=44_100, **options):
    """Writes a WAV file and creates its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate_hz, **options)


def write_lines(path, lines):
    """Writes a text file and creates its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_gold_arff(path, name, values, step=0.04):
    """Writes a gold standard as in the AVEC release."""
    header = [
        "@relation GOLDSTANDARD", "", "@attribute Instance_name string", "@attribute frameTime numeric",
        "@attribute GoldStandard numeric", "", "@data", "",
    ]  # fmt: skip
    write_lines(path, header + [f"'{name}',{k * step:.2f},{value:.4f}" for k, value in enumerate(values)])


def ratings_of(seed, count=FRAMES + 1):
    """Returns six raters, [ratings, 6]: five scale and shift the same curve, and one is constant."""
    base = rating_curve(seed, count)
    scales_and_shifts = ((1, 0), (0.8, 0.05), (1.1, -0.02), (0.5, 0.1), (0.9, 0))
    ratings = [np.round(scale * base + shift, 4) for scale, shift in scales_and_shifts]
    return np.stack([*ratings, np.full(count, 0.1)], axis=1)


def write_ratings(path, ratings):
    """Writes individual ratings as in the RECOLA and AVEC releases, with the trailing spaces of their header."""
    rows = [f"{k * 0.04:.2f};" + ";".join(f"{value:.4f}" for value in row) for k, row in enumerate(ratings)]
    write_lines(path, ["time;" + ";".join(f"{rater} " for rater in RATERS), *rows])


def avec2016_tree(root, names=("train_1",), boxes=False):
    """Writes an AVEC release and returns the gold standard [ratings, 2] by recording."""
    gold = {}
    for number, name in enumerate(names):
        write_wav(root / f"recordings_audio/{name}.wav", tones(44_100))
        write_video(root / f"recordings_video/{name}.mp4", face_pictures())
        gold[name] = np.stack([rating_curve(2 * number), rating_curve(2 * number + 1)], axis=1)
        for axis, dimension in enumerate(DIMENSIONS):
            write_gold_arff(root / f"ratings_gold_standard/{dimension}/{name}.arff", name, gold[name][:, axis])
        if boxes:
            write_boxes(root / f"features_video_face_bounding_box/{name}.arff", name, face_centres())
    return gold


def write_boxes(path, name, centres, missed=()):
    """Writes face boxes of 90 x 100 pixels as in the AVEC release; the rows in `missed` have no face, all zeros."""
    header = ["@relation BOX", "", "@attribute name string", "@attribute frameTime numeric"]
    header += [f"@attribute {what} numeric" for what in ("left", "top", "width", "height")] + ["", "@data", ""]
    rows = [
        f"'{name}',{k * 0.04:.2f}," + ("0,0,0,0" if k in missed else f"{x - 45:.2f},{y - 50:.2f},90,100")
        for k, (x, y) in enumerate(centres)
    ]
    write_lines(path, header + rows)


def recola_tree(root, subjects=("P16",)):
    """Writes an original RECOLA release and returns individual ratings {dimension: [ratings, 6]} by subject."""
    ratings = {}
    for number, subject in enumerate(subjects):
        write_wav(root / f"RECOLA-Audio-recordings/{subject}.wav", tones(44_100))
        write_video(root / f"RECOLA-Video-recordings/{subject}.mp4", face_pictures())
        ratings[subject] = {d: ratings_of(10 * number + axis) for axis, d in enumerate(DIMENSIONS)}
        for dimension, values in ratings[subject].items():
            write_ratings(root / f"RECOLA-Annotation/emotional_behaviour/{dimension}/{subject}.csv", values)
    return ratings


def tzirakis_tree(root, subjects=("P16",)):
    """Writes the authors' folder tree and returns the gold standard [ratings, 2] by subject."""
    gold = {}
    for number, subject in enumerate(subjects):
        write_video(root / f"Video_recordings_MP4/{subject}.mp4", face_pictures(), sound=tones(44_100))
        gold[subject] = np.stack([rating_curve(2 * number), rating_curve(2 * number + 1)], axis=1)
        for axis, dimension in enumerate(DIMENSIONS):
            rows = [f"{k * 0.04:.2f},{value:.4f}" for k, value in enumerate(gold[subject][:, axis])]
            write_lines(root / f"Ratings_affective_behaviour_CCC_centred/{dimension}/{subject}.csv", rows)
    return gold


def table_tree(root, rows=None):
    """Writes a corpus with a table that lists `anna`, whose labels come at 10 Hz, and returns these, [labels, 2]."""
    write_wav(root / "sound/anna voice.wav", tones(44_100))
    write_video(root / "anna.mp4", face_pictures())
    labels = np.stack([rating_curve(0, 10 * SECONDS + 1), rating_curve(1, 10 * SECONDS + 1)], axis=1)
    write_lines(
        root / "labels/anna.csv",
        ["time,arousal,valence"] + [f"{k / 10:.1f},{a:.4f},{v:.4f}" for k, (a, v) in enumerate(labels)],
    )
    rows = rows or ["anna,train,sound/anna voice.wav,anna.mp4,labels/anna.csv"]
    write_lines(root / "corpus.csv", ["recording,partition,audio,video,labels", *rows])
    return labels
