"""Predicts a recording from its files; the curve equals that of evaluation on the shards of the same files.

    audio, video (paths)  ->  Curve: arousal and valence per frame of 40 ms, where the face was, remarks

The recording is decoded as in preprocessing (`affect.media.recording`), and its face crops go through JPEG as in the
shards. The network runs over the recording in chunks and carries its state along, as `eval.py --context=recording`
does. Memory does not grow with the video; only the sound is held as a whole (two hours are 230 MB).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from affect.config import modalities_of
from affect.errors import UserError
from affect.evaluation.chain import delay
from affect.media.faces import DETECTOR_TYPES
from affect.media.recording import DecodedRecording, decode_recording
from affect.media.settings import DETECTORS, DecodingSettings
from affect.media.tracking import SMOOTHING_SIGMA_SECS
from affect.serving.contract import CONTRACT_NAME, Contract, FaceCrops, distance_remarks, sound_level_dbfs
from affect.serving.model import ServedModel
from affect.serving.streaming import SoundConstants, Stream
from affect.serving.wording import NOT_EVALUATED, SYNTHETIC
from affect.timebase import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ

# Frames per call of the network. Longer chunks are no faster and need more memory: see docs/serving.md.
CHUNK_FRAMES = 50

# Called with the name of the stage, the number of finished frames and the number of all frames.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Curve:
    """What a model predicts for one recording.

    Attributes:
      source: name of the file, without its folder.
      times_secs: float64 [frames], the end of each frame, as in the files that evaluation writes.
      predicted: float64 [frames, 2], arousal and valence.
      found: bool [frames], whether a face was found; None for a model without video.
      squares: int [frames, 3], left, top and edge of each face crop in pixels of the first picture; None for a model
        without video.
      remarks: what a person should know about the recording or the model.
      postprocessed: whether the post-processing chain was applied.
      contract: contract of the model.
    """

    source: str
    times_secs: np.ndarray
    predicted: np.ndarray
    found: np.ndarray | None
    squares: np.ndarray | None
    remarks: list[str]
    postprocessed: bool
    contract: Contract


def predict_recording(
    model: ServedModel,
    audio: Path | None,
    video: Path | None,
    raw: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Curve:
    """Predicts every frame of one recording.

    Args:
      model: the loaded model.
      audio: a sound file, or a video file with a sound track; None: the sound track of `video`. A model without sound
        does not read it.
      video: a video file. A model without video reads only its sound track, and only if `audio` is None.
      raw: leave out the post-processing chain; the delay of the labels is undone all the same.
      progress: called after every picture that was searched for faces, and after every chunk that was predicted.

    Returns:
      The curve. A model whose run was not evaluated has no chain; its curve is then raw, and a remark says so.

    Raises:
      UserError: a file cannot be decoded or lacks what the model takes, or this version cannot make the model's inputs.
      ValueError: neither audio nor video is given.
    """
    contract = model.contract
    source = video or audio
    if source is None:
        raise ValueError("a recording needs audio or video")
    name = source.name.encode("utf-8", "backslashreplace").decode()  # names of other systems are not always UTF-8
    remarks = ([SYNTHETIC] if contract.synthetic else []) + differences(contract)
    decoded = _decode(model, audio, video, progress)
    predicted = delay(_network_curve(model, decoded, name, progress), contract.label_delay_frames).astype(np.float64)
    chains = None if raw else contract.postprocessing
    if chains is not None:
        columns = zip(contract.outputs, predicted.T, strict=True)
        predicted = np.column_stack([chains[name].apply(column) for name, column in columns])
    elif not raw:
        remarks.append(NOT_EVALUATED)
    # Preprocessing draws contact sheets, prediction does not.
    remarks += [remark.removesuffix("; see the contact sheet") for remark in decoded.remarks]
    level = sound_level_dbfs(decoded.audio_std) if model.takes_audio else None
    remarks += distance_remarks(contract, level, float(decoded.found.mean()) if model.takes_video else None)
    return Curve(
        source=name,
        times_secs=(np.arange(decoded.frames) + 1) / FRAME_RATE_HZ,
        predicted=predicted,
        found=decoded.found if model.takes_video else None,
        squares=decoded.squares if model.takes_video else None,
        remarks=remarks,
        postprocessed=chains is not None,
        contract=contract,
    )


def differences(contract: Contract) -> list[str]:
    """Returns a remark on each small difference between the inputs that this version makes and those of the training.

    Raises:
      UserError: a difference is so large that the curve would be wrong.
    """
    from affect.data.records import JPEG_QUALITY

    rates = (contract.frame_rate_hz, contract.sample_rate_hz, contract.frame_samples)
    if rates != (FRAME_RATE_HZ, SAMPLE_RATE_HZ, FRAME_SAMPLES):
        raise UserError(
            f"the model ({contract.written_by}) takes frames of {rates[2]} samples at {rates[1]} Hz, {rates[0]} per "
            f"second; this version makes {FRAME_SAMPLES}, {SAMPLE_RATE_HZ} and {FRAME_RATE_HZ}; use the version of "
            "affect that exported it"
        )
    if "video" not in modalities_of(contract.modality):
        return []
    faces = _faces(contract)
    ours = {
        "detector_height": DETECTOR_TYPES[faces.detector].height,
        "smoothing_secs": SMOOTHING_SIGMA_SECS,
        "jpeg_quality": JPEG_QUALITY,
    }
    return [
        f"training had crops with {name} {getattr(faces, name)}, this version makes them with {value}; the curve may "
        "differ a little"
        for name, value in ours.items()
        if getattr(faces, name) != value
    ]


def _faces(contract: Contract) -> FaceCrops:
    """Returns how the crops of a model that takes video are made."""
    faces = contract.faces
    if faces is None or faces.detector not in DETECTORS:
        detector = "none" if faces is None else repr(faces.detector)
        raise UserError(
            f"{CONTRACT_NAME} names the face detector {detector}; this version knows {', '.join(DETECTORS)}; use the "
            "version of affect that exported the model"
        )
    return faces


def _decode(model: ServedModel, audio: Path | None, video: Path | None, progress: Progress) -> DecodedRecording:
    """Decodes what the model takes; faces are detected here, crops are made later."""
    if not model.takes_video:
        return decode_recording(audio or video, None, DecodingSettings())
    if video is None:
        raise UserError(f"{audio}: the model takes video; give a video file")
    faces = _faces(model.contract)
    settings = DecodingSettings(faces.size, faces.detector, faces.detect_every, faces.margin)
    return decode_recording(
        audio if model.takes_audio else None,
        video,
        settings,
        sound="needed" if model.takes_audio else "ignored",
        lengths_may_differ=True,
        progress=lambda done, total: progress("searching for faces", done, total),
    )


def _network_curve(model: ServedModel, decoded: DecodedRecording, name: str, progress: Progress) -> np.ndarray:
    """Returns the network's own curve, float32 [frames, 2]."""
    sound = SoundConstants(decoded.audio_mean, decoded.audio_std) if model.takes_audio else None
    stream = Stream(model, sound)
    crops = _crops(decoded, _faces(model.contract), name) if model.takes_video else None
    parts = []
    for start in range(0, decoded.frames, CHUNK_FRAMES):
        stop = min(start + CHUNK_FRAMES, decoded.frames)
        audio = decoded.pcm(start, stop) if model.takes_audio else None
        parts.append(stream.push(audio, next(crops) if crops is not None else None))
        progress("predicting", stop, decoded.frames)
    return np.concatenate([*parts, stream.finish()])


def _crops(decoded: DecodedRecording, faces: FaceCrops, name: str) -> Iterator[np.ndarray]:
    """Yields the face crops as the training reader does, uint8 [frames, size, size, 3], `CHUNK_FRAMES` at a time."""
    from affect.data.records import encode_jpeg

    decode, mask = _jpeg_decoder(faces.size), faces.faceless_frames == "mask"
    jpegs = map(encode_jpeg, decoded.crops)
    for start in range(0, decoded.frames, CHUNK_FRAMES):
        crops = decode(list(islice(jpegs, CHUNK_FRAMES)), name).numpy()
        if mask:
            crops[~decoded.found[start : start + CHUNK_FRAMES]] = 0
        yield crops


@cache
def _jpeg_decoder(size: int) -> Callable:
    """Returns the function from JPEGs, string [frames], and a name for errors to uint8 [frames, size, size, 3]."""
    import tensorflow as tf

    from affect.data.records import decode_jpeg

    # Without AutoGraph, which is not needed here and warns if it cannot read the source.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.string)], autograph=False)
    def decode(jpegs, name):
        spec = tf.TensorSpec([size, size, 3], tf.uint8)
        return tf.map_fn(lambda jpeg: decode_jpeg(jpeg, size, name), jpegs, fn_output_signature=spec)

    return decode
