"""What a caller of an exported model must know: the content of its `predict.json`.

Everything between a file and the network's input, and between its output and the curve: how pictures and sound are
read, what standardises the sound, which convention the times follow, which chain post-processes the curve, and what the
training data were like. `affect.serving.predict` needs nothing else besides the SavedModel.
"""

from pathlib import Path
from typing import Literal

import msgspec

from affect.evaluation.chain import PostProcessing
from affect.storage import read_json

CONTRACT_NAME = "predict.json"
LABEL_TIME = (
    "frame k, counted from 0, covers the sound from 0.04 k s to 0.04 (k + 1) s and is written with time 0.04 k s"
)


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a quantity is spread over the recordings of the training partition.

    Attributes:
      minimum, median, maximum: over the recordings.
    """

    minimum: float
    median: float
    maximum: float


class TrainingData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the network was trained on.

    Attributes:
      synthetic: whether it is the synthetic corpus; the model then says nothing about people.
      layout: layout of the corpus, as in the manifest.
      recordings, subjects: of the training partition.
      frames: of the training partition, 40 ms each.
      sound_level_dbfs: level of the sound, 20 log10 of its standard deviation (full scale = 1); None without sound.
      face_share: share of the frames in which the detector found a face, in [0, 1]; None without video.
    """

    synthetic: bool
    layout: str
    recordings: int
    subjects: int
    frames: int
    sound_level_dbfs: Spread | None
    face_share: Spread | None


class FaceCrops(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the face crops were made; a network must see at prediction what it saw in training.

    Attributes:
      detector: "mtcnn" or "haar".
      detector_height: pictures are reduced to this height before detection, in pixels.
      detect_every: the detector runs on every n-th frame; boxes are interpolated in between.
      margin: how far a crop extends beyond the face box on every side, as a fraction of the box edge.
      smoothing_secs: standard deviation of the Gaussian that smooths the track.
      size: edge of the crop in pixels.
      jpeg_quality: the crops went through JPEG of this quality, 4:2:0 as OpenCV writes it.
      faceless_frames: "keep" passes what there is for frames without a face, "mask" passes black crops.
    """

    detector: str
    detector_height: int
    detect_every: int
    margin: float
    smoothing_secs: float
    size: int
    jpeg_quality: int
    faceless_frames: Literal["keep", "mask"]


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `predict.json`.

    Attributes:
      written_by: program and version that exported the model.
      versions: of Python, TensorFlow, Keras and NumPy at export.
      modality: "audio", "video" or "audiovisual"; decides which inputs the signatures take.
      outputs: names of the two values per frame, in order.
      frame_rate_hz: frames per second of inputs and predictions.
      sample_rate_hz: sampling rate of the sound.
      frame_samples: audio samples per frame.
      label_time: the convention that says which instant a frame is.
      standardise: "recording" if the mean of the whole recording's sound is subtracted and the result divided by its
        standard deviation; "none" if the samples stay in [-1, 1).
      delay_frames: by how many frames the predictions of the signature `stream` come late.
      label_delay_secs: how many seconds early the network's curve is, because it was trained on labels of so much
        later. The curve is delayed by this time, rounded to whole frames, before the post-processing; its first value
        fills the gap.
      faces: how the crops were made; None for a network without video.
      postprocessing: the chosen chain of each dimension, applied to the curve of a whole recording; None if the run was
        not evaluated.
      training_data: what the network was trained on.
    """

    written_by: str
    versions: dict[str, str]
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
    training_data: TrainingData

    @property
    def label_delay_frames(self) -> int:
        """Returns `label_delay_secs` in whole frames."""
        return round(self.label_delay_secs * self.frame_rate_hz)


def read_contract(model_dir: str | Path) -> Contract:
    """Reads `predict.json` of an exported model.

    Raises:
      UserError: the file does not exist, or a field is missing, unknown or of the wrong type.
    """
    return read_json(Path(model_dir) / CONTRACT_NAME, Contract)
