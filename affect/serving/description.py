"""Gathers what an export says about a run: the contract, and the scores of its model card.

In: a run folder, and the manifest of its training data if available. Out: `Contract` and `Evaluation`. An evaluation
is used only if it was computed with the weights that are exported.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from affect import __version__
from affect.config import DIMENSIONS, Experiment
from affect.data.manifest import MANIFEST_NAME, Manifest
from affect.errors import UserError
from affect.evaluation.chain import PostProcessing, read_chains
from affect.evaluation.scores import Context, Metrics, scores_that_belong_together
from affect.media.settings import DecodingSettings
from affect.runs import RunFolder, TrainingOrigin
from affect.serving.contract import LABEL_TIME, Contract, FaceCrops, Spread, TrainingData, sound_level_dbfs
from affect.storage import join, read_json
from affect.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ

# The only layout whose releases may ship face boxes, see `tfrecords_tools.corpora.avec2016`.
_LAYOUT_WITH_BOXES = "avec2016"


@dataclass(frozen=True)
class Evaluation:
    """The parts of a run's `eval/` folder that belong to its present weights.

    Attributes:
      scores: by partition; empty if the weights were not evaluated.
      chains: the chosen post-processing of each dimension; None if the weights were not evaluated.
      remarks: what was left out, and what to run for a complete export.
    """

    scores: dict[str, Metrics]
    chains: dict[str, PostProcessing] | None
    remarks: list[str]

    @property
    def context(self) -> Context | None:
        """The kind of predictions that the chains were fitted to, see `Metrics.context`."""
        return next((metrics.context for metrics in self.scores.values()), None)


def read_evaluation(run: RunFolder) -> Evaluation:
    """Reads those scores and chains of a run that come from its present weights.

    Every `metrics.json` holds the digests of the weights and the chains that it was computed with. Scores without
    digests (version 0.1.0) cannot be checked and are left out.

    Raises:
      UserError: a file in `eval/` is damaged.
    """
    stored, remarks = scores_that_belong_together(run)
    scores = {name: metrics for name, metrics in stored.items() if metrics.digests is not None}
    again = f"run eval.py --run_dir={run.path} --context=recording and export again"
    if not scores or not run.postprocessing.is_file():
        reason = "its evaluation cannot be matched to its present weights" if remarks else "it was not evaluated"
        left_out = "the export has no post-processing and the model card no scores"
        return Evaluation({}, None, [f"{run.path}: {reason}, so {left_out}; {again}"])
    evaluation = Evaluation(scores, read_chains(run.postprocessing), [f"{run.path}: {remark}" for remark in remarks])
    if evaluation.context != "recording":
        evaluation.remarks.append(
            f"{run.path}: the post-processing was fitted to predictions of single windows, but an export predicts "
            f"whole recordings; for chains that fit it, {again}"
        )
    return evaluation


def open_training_data(run: RunFolder, experiment: Experiment) -> Manifest:
    """Reads the manifest of the shards that a run was trained on.

    Raises:
      UserError: the manifest cannot be read, does not fit the network, or is of other data than the training.
    """
    from affect.data.dataset import open_data

    way_out = "name the shards of the training with --data_dir, or export with --without_data"
    try:
        manifest = open_data(experiment)
    except UserError as error:
        raise UserError(f"{error}; if they have moved, {way_out}") from error
    origin = read_json(
        run.environment, TrainingOrigin, hint="was the run trained by train.py? If not, add --without_data"
    )
    if not manifest.has_fingerprint(origin.data_fingerprint):
        raise UserError(f"{experiment.data.data_dir} holds other data than {run.path} was trained on; {way_out}")
    return manifest


def describe(run: RunFolder, experiment: Experiment, manifest: Manifest | None, evaluation: Evaluation) -> Contract:
    """Returns the contract of an exported run.

    Args:
      run: the run folder.
      experiment: its config.
      manifest: that of the training data; None if it is not available.
      evaluation: scores and chains of the exported weights.

    Raises:
      UserError: the preprocessing settings in the manifest are not valid.
    """
    from affect.models.stepping import delay_frames

    return Contract(
        written_by=f"affect {__version__}",
        versions=_versions(),
        weights_sha256=run.best_weights_digest(),
        modality=experiment.modality,
        outputs=DIMENSIONS,
        frame_rate_hz=manifest.frame_rate_hz if manifest else FRAME_RATE_HZ,
        sample_rate_hz=manifest.sample_rate_hz if manifest else SAMPLE_RATE_HZ,
        frame_samples=experiment.model.frame_samples,
        label_time=LABEL_TIME,
        standardise=experiment.data.standardise,
        delay_frames=delay_frames(experiment.model, experiment.modality),
        label_delay_secs=experiment.data.label_delay_secs,
        faces=_face_crops(experiment, manifest) if "video" in experiment.modalities else None,
        postprocessing=evaluation.chains,
        postprocessing_context=evaluation.context,
        training_data=_training_data(experiment, manifest) if manifest else _remembered(run),
    )


def _versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def _face_crops(experiment: Experiment, manifest: Manifest | None) -> FaceCrops:
    """Returns how the crops were made; without a manifest, the defaults of preprocessing."""
    from affect.data.records import JPEG_QUALITY
    from affect.media.faces import DETECTOR_TYPES
    from affect.media.tracking import SMOOTHING_SIGMA_SECS

    settings = _decoding_settings(manifest, experiment.data.data_dir) if manifest else DecodingSettings()
    detected = manifest is not None and (manifest.synthetic or manifest.layout != _LAYOUT_WITH_BOXES)
    return FaceCrops(
        detector=settings.face_detector,
        detector_height=DETECTOR_TYPES[settings.face_detector].height,
        detect_every=settings.detect_every,
        margin=settings.face_margin,
        smoothing_secs=SMOOTHING_SIGMA_SECS,
        size=experiment.model.crop_size,
        jpeg_quality=JPEG_QUALITY,
        faceless_frames=experiment.data.faceless_frames,
        boxes="detector" if detected else "unknown",
    )


def _decoding_settings(manifest: Manifest, data_dir: str) -> DecodingSettings:
    path = join(data_dir, MANIFEST_NAME)
    try:
        return msgspec.convert(manifest.preprocessing, DecodingSettings)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: preprocessing: {error}; make the shards again") from error


def _training_data(experiment: Experiment, manifest: Manifest) -> TrainingData:
    """Describes the labelled recordings of the partition train."""
    entries = [entry for entry in manifest.partition("train") if entry.has_labels]
    levels = [sound_level_dbfs(entry.audio_std) for entry in entries if entry.audio_std > 0.0]
    shares = [entry.faces_found / entry.frames for entry in entries]
    return TrainingData(
        synthetic=manifest.synthetic,
        layout=manifest.layout,
        recordings=len(entries),
        subjects=len({entry.subject for entry in entries}),
        frames=sum(entry.frames for entry in entries),
        sound_level_dbfs=_spread(levels) if "audio" in experiment.modalities else None,
        face_share=_spread(shares) if "video" in experiment.modalities else None,
    )


def _remembered(run: RunFolder) -> TrainingData | None:
    """Returns what the run folder records about its training data; None for weights from elsewhere."""
    if not run.environment.is_file():
        return None
    unknown = dict.fromkeys(("layout", "recordings", "subjects", "frames", "sound_level_dbfs", "face_share"))
    return TrainingData(synthetic=read_json(run.environment, TrainingOrigin).synthetic_data, **unknown)


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread(float(np.min(values)), float(np.median(values)), float(np.max(values))) if values else None
