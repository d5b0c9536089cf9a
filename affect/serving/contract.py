"""What a caller of an exported model must know: the content of its `predict.json`.

The contract describes everything between a file and the network's input, and between the network's output and the
curve: how pictures and sound are read, how the sound is standardised, which convention the times follow, which chain
post-processes the curve, and what the training data were like. `affect.serving.predict` needs only this file and the
SavedModel.
"""

import math
from pathlib import Path
from typing import Literal

import msgspec

from affect.config import DIMENSIONS, modalities_of
from affect.errors import UserError
from affect.evaluation.chain import PostProcessing
from affect.evaluation.scores import Context
from affect.storage import exists, join, read_json

CONTRACT_NAME = "predict.json"
OLD_CONTRACT_NAME = "affect.json"  # what version 0.1.0 wrote
LABEL_TIME = (
    "frame k, counted from 0, covers the sound from 0.04 k s to 0.04 (k + 1) s and shows the picture at its start; its "
    "values belong to its end and are written with the time 0.04 (k + 1) s"
)
# How far outside the range of the training recordings an input may be before `distance_remarks` says so. 10 dB is the
# difference between one speaking distance and three times that distance. Frames without a face show the last crop, so
# a share that is 0.2 smaller means a held crop in another fifth of the frames.
LEVEL_TOLERANCE_DB = 10.0
FACE_SHARE_TOLERANCE = 0.2


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Range and median of a quantity over the recordings of the training partition.

    Attributes:
      minimum, median, maximum: over the recordings.
    """

    minimum: float
    median: float
    maximum: float


class TrainingData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the network was trained on: the labelled recordings of the partition train.

    Attributes:
      synthetic: whether it is the synthetic corpus; the model then says nothing about people.
      layout: layout of the corpus, as in the manifest; None if the shards were not available at export.
      recordings, subjects: number of recordings and of the people in them; None as for `layout`.
      frames: number of frames, 40 ms each; None as for `layout`.
      sound_level_dbfs: level of the sound, see `sound_level_dbfs`, over the recordings that are not silent; None if
        the network takes no sound, and as for `layout`.
      face_share: share of the frames in which the detector found a face, in [0, 1]; None if the network takes no video,
        and as for `layout`.
    """

    synthetic: bool
    layout: str | None
    recordings: int | None
    subjects: int | None
    frames: int | None
    sound_level_dbfs: Spread | None
    face_share: Spread | None


class FaceCrops(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the face crops were made; crops for prediction must be made in the same way as those for training.

    Attributes:
      detector: "mtcnn" or "haar".
      detector_height: pictures are reduced to this height before detection, in pixels.
      detect_every: the detector runs on every n-th frame; boxes are interpolated in between.
      margin: how far a crop extends beyond the face box on every side, as a fraction of the box edge.
      smoothing_secs: standard deviation of the Gaussian that smooths the track.
      size: edge of the crop in pixels.
      jpeg_quality: the crops went through JPEG of this quality, 4:2:0 as OpenCV writes it.
      faceless_frames: what the network gets in frames without a face: "keep" the held crop, "mask" a black crop.
      boxes: where the boxes of the training data came from. "detector": from the detector above. "unknown": not
        recorded. Releases in the layout of AVEC 2016 may ship boxes, which preprocessing uses instead of the
        detector's; the crops in training then differed slightly from those of the detector. Also "unknown" if the
        shards were not available at export; the fields above are then the defaults of make_tfrecords.
    """

    detector: str
    detector_height: int
    detect_every: int
    margin: float
    smoothing_secs: float
    size: int
    jpeg_quality: int
    faceless_frames: Literal["keep", "mask"]
    boxes: Literal["detector", "unknown"] = "unknown"


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `predict.json`.

    Attributes:
      written_by: program and version that exported the model.
      versions: of Python, TensorFlow, Keras and NumPy at export.
      weights_sha256: SHA-256 of the `best.weights.h5` that was exported.
      modality: "audio", "video" or "audiovisual"; decides which inputs the signatures take.
      outputs: names of the two values per frame, in order.
      frame_rate_hz: frames per second of inputs and predictions.
      sample_rate_hz: sampling rate of the sound.
      frame_samples: audio samples per frame.
      label_time: the convention that says which instant a frame is.
      standardise: "recording" if the mean of the whole recording's sound is subtracted and the result divided by its
        standard deviation (by 1 where the sound is constant); "none" if the samples stay in [-1, 1).
      delay_frames: by how many frames the predictions of the signature `stream` come late.
      label_delay_secs: how many seconds early the network's curve is, because each frame was trained on the label
        this much later. Before the post-processing, the curve is delayed by this time, rounded to whole frames; its
        first value fills the gap.
      faces: how the crops were made; None for a network without video.
      postprocessing: the chosen chain of each dimension, applied to the curve of a whole recording; None if the
        exported weights were not evaluated.
      postprocessing_context: whether the chains were fitted to predictions of each "window" on its own or of the whole
        "recording" with carried state, as the exported model predicts; None without chains.
      training_data: what the network was trained on, as far as it is known; None if nothing is.
    """

    written_by: str
    versions: dict[str, str]
    weights_sha256: str | None = None
    modality: str
    outputs: tuple[str, ...]
    frame_rate_hz: int
    sample_rate_hz: int
    frame_samples: int
    label_time: str
    standardise: Literal["recording", "none"]
    delay_frames: int
    label_delay_secs: float
    faces: FaceCrops | None
    postprocessing: dict[str, PostProcessing] | None
    postprocessing_context: Context | None = None
    training_data: TrainingData | None

    def __post_init__(self):
        if self.outputs != DIMENSIONS:
            raise ValueError(f"outputs are {', '.join(self.outputs)}; expected {', '.join(DIMENSIONS)}")
        for name in ("delay_frames", "label_delay_secs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.postprocessing is not None and set(self.postprocessing) != set(DIMENSIONS):
            raise ValueError(
                f"postprocessing has chains of {', '.join(self.postprocessing) or 'nothing'}; it needs both"
            )

    @property
    def label_delay_frames(self) -> int:
        """Returns `label_delay_secs` in whole frames."""
        return round(self.label_delay_secs * self.frame_rate_hz)

    @property
    def synthetic(self) -> bool:
        """Whether the network is known to be trained on the synthetic corpus; every output must then say so."""
        return self.training_data is not None and self.training_data.synthetic


def read_contract(model_dir: str | Path) -> Contract:
    """Reads `predict.json` of an exported model.

    Raises:
      UserError: the folder is not an export or was exported by version 0.1.0, or a field is missing, unknown or of the
        wrong type.
    """
    path = join(model_dir, CONTRACT_NAME)
    if not exists(path) and exists(join(model_dir, OLD_CONTRACT_NAME)):
        raise UserError(
            f"{model_dir} has no {CONTRACT_NAME}: it was exported by an earlier version; export the run again"
        )
    return read_json(path, Contract, hint="give the --output_dir of python -m affect.serving.export")


def sound_level_dbfs(deviation: float) -> float:
    """Returns the level of sound in dB from the standard deviation of its samples, full scale = 1; silence is -inf."""
    return 20.0 * math.log10(deviation) if deviation > 0.0 else -math.inf


def distance_remarks(contract: Contract, level_dbfs: float | None, face_share: float | None) -> list[str]:
    """Says where an input is far from what the network saw in training; its curve may then be wrong.

    An input is far if its sound is constant, if its level is more than `LEVEL_TOLERANCE_DB` below the softest or above
    the loudest training recording, or if its face share is more than `FACE_SHARE_TOLERANCE` below the smallest.
    Inputs that the network does not take and unknown ranges are ignored.

    Args:
      contract: the contract of the model.
      level_dbfs: level of the whole input's sound, see `sound_level_dbfs`; None without sound.
      face_share: share of its frames in which a face was found, in [0, 1]; None without video.

    Returns:
      One sentence for each such distance, without a full stop.
    """
    inputs, known, remarks = modalities_of(contract.modality), contract.training_data, []
    if "audio" in inputs and level_dbfs is not None:
        levels = known.sound_level_dbfs if known else None
        if level_dbfs == -math.inf:
            remarks.append("the sound is digital silence, from which the network can tell nothing")
        elif levels and _outside(level_dbfs, levels, LEVEL_TOLERANCE_DB):
            remarks.append(
                f"the sound's level of {level_dbfs:.1f} dBFS is far from that of the training recordings "
                f"({levels.minimum:.1f} to {levels.maximum:.1f} dBFS), so the curve may be wrong"
            )
    if "video" in inputs and face_share is not None:
        shares = known.face_share if known else None
        if shares and face_share < shares.minimum - FACE_SHARE_TOLERANCE:
            remarks.append(
                f"a face was found in only {face_share:.0%} of the frames (training recordings: "
                f"{shares.minimum:.0%} to {shares.maximum:.0%}), so the curve may be wrong"
            )
    return remarks


def _outside(value: float, spread: Spread, tolerance: float) -> bool:
    return value < spread.minimum - tolerance or value > spread.maximum + tolerance
