"""The contract of a run describes what preprocessing, training and evaluation did."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import replace
from scipy.ndimage import gaussian_filter1d

from affect.config import DataConfig, Experiment
from affect.data.manifest import read_manifest
from affect.data.records import encode_jpeg
from affect.errors import UserError
from affect.evaluation.chain import FittedChains, PostProcessing
from affect.evaluation.scores import Digests, DimensionScores, Metrics
from affect.media.tracking import follow_boxes
from affect.runs import RunFolder
from affect.serving.description import Evaluation, describe, open_training_data, read_evaluation
from affect.storage import sha256_of, write_json

OLD_RUN = Path(__file__).parents[1] / "compatibility/v0.1.0/run"
NOT_EVALUATED = Evaluation({}, None, [])
CHAINS = {"arousal": PostProcessing(25.0, 5, -0.25, 1.5, 0.125, 3), "valence": PostProcessing(25.0, gain=0.5)}


@pytest.fixture
def run(audio_run, tmp_path):
    """A copy of `audio_run`, not evaluated."""
    shutil.copytree(audio_run, tmp_path / "run", ignore=shutil.ignore_patterns("eval", "tensorboard", "checkpoints"))
    return RunFolder(tmp_path / "run")


def score(run, partition, context="recording", weights=None):
    """Writes what an evaluation of a run leaves behind, and returns its `metrics.json`."""
    if not run.postprocessing.exists():
        write_json(run.postprocessing, CHAINS)
        write_json(run.chains, FittedChains(paper=CHAINS, cautious=CHAINS, leave_one_out=dict.fromkeys(CHAINS)))
    one = DimensionScores(0.5, 0.4, 0.6, 0.1, (0.25, 0.75))
    metrics = Metrics(
        raw=dict.fromkeys(CHAINS, one), postprocessed=dict.fromkeys(CHAINS, one), recordings=2, frames=400,
        context=context, same_data_as_training=True,
        digests=Digests(
            weights=weights or sha256_of(run.best_weights), data="of the shards", chain=run.postprocessing_digest()
        ),
    )  # fmt: skip
    write_json(run.evaluation(partition) / "metrics.json", metrics)
    return metrics


def with_training_recordings(manifest, **columns):
    """Returns a manifest whose recordings of train have these values, and that has as many of them."""
    (template, *_), others = manifest.partition("train"), manifest.partition("dev") + manifest.partition("test")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    planted = [replace(template, name=f"planted_{index}", **row) for index, row in enumerate(rows)]
    return replace(manifest, recordings=(*planted, *others))


def test_distribution_of_level_and_faces_is_that_of_the_labelled_training_recordings(run, data_dir):
    generator = np.random.default_rng(5)
    stds, faces = generator.uniform(0.001, 0.5, 9), generator.integers(0, 501, 9)
    stds[3] = 0.0  # silent: no level
    labelled = [True] * 8 + [False]
    manifest = with_training_recordings(
        read_manifest(data_dir), audio_std=stds, faces_found=[int(count) for count in faces], frames=[500] * 9,
        has_labels=labelled, subject=list("aabbccddx"),
    )  # fmt: skip
    known = describe(run, Experiment("audiovisual"), manifest, NOT_EVALUATED).training_data
    levels = 20 * np.log10(np.delete(stds[:8], 3))
    for spread, values in ((known.sound_level_dbfs, levels), (known.face_share, faces[:8] / 500)):
        np.testing.assert_allclose(
            [spread.minimum, spread.median, spread.maximum], [values.min(), np.median(values), values.max()]
        )
    assert (known.recordings, known.subjects, known.frames) == (8, 4, 4000)
    assert known.synthetic and known.layout == "avec2016"


def test_ranges_of_inputs_that_the_network_does_not_take_are_left_out(run, data_dir):
    manifest = read_manifest(data_dir)
    audio, video = (describe(run, Experiment(name), manifest, NOT_EVALUATED) for name in ("audio", "video"))
    assert audio.faces is None and audio.training_data.face_share is None and audio.training_data.sound_level_dbfs
    assert video.faces and video.training_data.sound_level_dbfs is None and video.training_data.face_share


def test_silence_alone_has_no_range_of_levels(run, data_dir):
    manifest = with_training_recordings(read_manifest(data_dir), audio_std=[0.0, 0.0])
    assert describe(run, Experiment("audio"), manifest, NOT_EVALUATED).training_data.sound_level_dbfs is None


@pytest.mark.parametrize(("detector", "height"), [("mtcnn", 240), ("haar", 180)])
def test_crops_are_described_by_the_settings_of_the_shards(run, data_dir, detector, height):
    settings = {"face_detector": detector, "detect_every": 3, "face_margin": 0.4, "crop_size": 96, "version": 2}
    manifest = replace(read_manifest(data_dir), preprocessing=settings)
    experiment = Experiment("video", data=DataConfig(faceless_frames="mask"))
    faces = describe(run, experiment, manifest, NOT_EVALUATED).faces
    assert (faces.detector, faces.detector_height, faces.detect_every, faces.margin) == (detector, height, 3, 0.4)
    assert (faces.size, faces.faceless_frames) == (96, "mask")


def test_quality_and_smoothing_are_those_that_made_the_crops(run, data_dir):
    faces = describe(run, Experiment("video"), read_manifest(data_dir), NOT_EVALUATED).faces
    picture = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, faces.jpeg_quality]
    assert encode_jpeg(picture) == cv2.imencode(".jpg", picture[:, :, ::-1], quality)[1].tobytes()

    left = np.where(np.arange(100) < 50, 10.0, 60.0)
    boxes = np.stack([left, np.full(100, 5.0), np.full(100, 20.0), np.full(100, 20.0)], axis=1)
    track = follow_boxes(boxes, np.arange(100) / 25, 100, 25, 240, 320)
    smooth = gaussian_filter1d(left + 10.0, faces.smoothing_secs * 25, mode="nearest")
    np.testing.assert_allclose(track.squares[:, 0], smooth)


@pytest.mark.parametrize(
    ("layout", "synthetic", "boxes"),
    [("avec2016", False, "unknown"), ("avec2016", True, "detector"), ("recola", False, "detector")],
)
def test_boxes_are_unknown_only_where_the_corpus_may_have_shipped_them(run, data_dir, layout, synthetic, boxes):
    manifest = replace(read_manifest(data_dir), layout=layout, synthetic=synthetic)
    assert describe(run, Experiment("video"), manifest, NOT_EVALUATED).faces.boxes == boxes


def test_settings_of_a_damaged_manifest_are_refused(run, data_dir):
    manifest = replace(read_manifest(data_dir), preprocessing={"detect_every": "often"})
    experiment = Experiment("video", data=DataConfig(str(data_dir)))
    with pytest.raises(UserError, match=r"manifest.json: preprocessing: .*`int`.*detect_every.*make the shards again"):
        describe(run, experiment, manifest, NOT_EVALUATED)


def test_a_network_without_its_data_keeps_what_the_run_folder_tells(run):
    contract = describe(run, Experiment("audiovisual"), None, NOT_EVALUATED)
    assert contract.synthetic and contract.training_data.recordings is None
    assert contract.training_data.sound_level_dbfs is None and contract.training_data.face_share is None
    assert (contract.frame_rate_hz, contract.sample_rate_hz, contract.frame_samples) == (25, 16_000, 640)
    assert (contract.faces.detector, contract.faces.boxes) == ("mtcnn", "unknown")
    run.environment.unlink()
    contract = describe(run, Experiment("audio"), None, NOT_EVALUATED)
    assert contract.training_data is None and not contract.synthetic


def test_settings_of_the_run_reach_the_contract(run):
    data = DataConfig(standardise="none", label_delay_secs=0.4)
    contract = describe(run, Experiment("audio", data=data), None, NOT_EVALUATED)
    assert (contract.standardise, contract.label_delay_frames) == ("none", 10)
    assert contract.delay_frames == 7  # of the paper's network, see affect.models.stepping
    assert contract.weights_sha256 == sha256_of(run.best_weights)
    assert contract.versions["numpy"] == np.__version__


def test_only_the_shards_of_the_training_describe_it(run, data_dir, tmp_path):
    experiment = run.read_config()
    assert open_training_data(run, experiment) == read_manifest(data_dir)
    manifest = replace(read_manifest(data_dir), recordings=read_manifest(data_dir).recordings[:-1])
    (tmp_path / "others").mkdir()
    (tmp_path / "others/manifest.json").write_text(manifest.to_json())
    with pytest.raises(UserError, match="others holds other data than .*run was trained on; .*--data_dir.*without_da"):
        open_training_data(run, run.read_config(str(tmp_path / "others")))
    with pytest.raises(UserError, match="data folder /nowhere does not exist; .*--data_dir, or .*--without_data$"):
        open_training_data(run, run.read_config("/nowhere"))
    run.environment.unlink()
    with pytest.raises(UserError, match="environment.json does not exist; .*add --without_data$"):
        open_training_data(run, experiment)


def test_chains_and_scores_of_the_present_weights_are_taken(run):
    dev, test = score(run, "dev"), score(run, "test")
    evaluation = read_evaluation(run)
    assert evaluation.scores == {"dev": dev, "test": test} and evaluation.remarks == []
    contract = describe(run, Experiment("audio"), None, evaluation)
    assert contract.postprocessing == CHAINS and contract.postprocessing_context == "recording"


def test_chains_fitted_to_windows_are_taken_with_a_remark(run):
    score(run, "dev", context="window")
    evaluation = read_evaluation(run)
    assert (evaluation.chains, evaluation.context) == (CHAINS, "window")
    (remark,) = evaluation.remarks
    assert "fitted to predictions of single windows" in remark
    assert remark.endswith(f"run eval.py --run_dir={run.path} --context=recording and export again")


@pytest.mark.parametrize("case", ["other weights", "other chains", "no evaluation", "version 0.1.0"])
def test_an_evaluation_of_other_weights_or_chains_is_left_out_with_one_remark(run, case):
    if case == "version 0.1.0":
        run = RunFolder(OLD_RUN)
    elif case != "no evaluation":
        score(run, "dev", weights="0" * 64 if case == "other weights" else None)
        score(run, "test", weights="0" * 64 if case == "other weights" else None)
    if case == "other chains":
        write_json(run.postprocessing, CHAINS | {"valence": PostProcessing(25.0)})
    evaluation = read_evaluation(run)
    assert evaluation.scores == {} and evaluation.chains is None and evaluation.context is None
    (remark,) = evaluation.remarks
    reason = "it was not evaluated" if case == "no evaluation" else "its evaluation cannot be matched to its present"
    assert remark.startswith(f"{run.path}: {reason}")
    assert remark.endswith(f"run eval.py --run_dir={run.path} --context=recording and export again")


def test_an_outdated_partition_is_left_out_of_the_scores(run):
    score(run, "test", weights="0" * 64)
    score(run, "dev")
    evaluation = read_evaluation(run)
    assert list(evaluation.scores) == ["dev"] and evaluation.chains == CHAINS
    (remark,) = evaluation.remarks
    assert "test is left out: it was scored with other weights" in remark
