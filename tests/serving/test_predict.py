"""`affect.serving.predict` on the files of recordings whose shards are evaluated too, and what the command refuses."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from msgspec.structs import replace

from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.evaluation import eval_command
from affect.evaluation.chain import PostProcessing
from affect.evaluation.predictions import predict as evaluate
from affect.media import recording
from affect.models.network import build_network
from affect.models.stepping import delay_frames
from affect.presets import get_preset
from affect.serving import export, live, predict
from affect.serving.contract import CONTRACT_NAME, Spread, TrainingData
from affect.serving.model import ServedModel
from affect.serving.prediction import predict_recording
from affect.serving.signatures import write_saved_model
from affect.serving.wording import MEANING, PROHIBITED, SYNTHETIC
from affect.storage import write_json
from tests.helpers.commands import REPOSITORY, made_once, read_recording
from tests.helpers.contracts import CONTRACT, FACES
from tests.helpers.gauge import write_gauge
from tests.helpers.in_process import call_main
from tests.helpers.sounds import tone
from tests.helpers.trees import face_pictures, tones, write_video, write_wav
from tests.helpers.videos import write_clip
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing

MODALITIES = ("audio", "video", "audiovisual")
CHAINS = {"arousal": PostProcessing(25.0, 9, 0.1, 1.5, 0.2, 4), "valence": PostProcessing(25.0, 5, -0.2, 0.8, 0.1, 11)}
NAME = "dev_1"


@pytest.fixture(scope="session")
def gauges(tmp_path_factory, worker_id):
    """Folder of the exported models `audio`, `video` and `audiovisual` of `tests.helpers.gauge`."""

    def make(path):
        for modality in MODALITIES:
            write_gauge(path / modality, modality)

    return made_once(tmp_path_factory, worker_id, "gauges", make)


@pytest.fixture(scope="module")
def recorded(corpus_dir, tmp_path_factory):
    """A corpus of one recording, and its shards: no frame times, the last frame incomplete, and no face for 2.4 s."""
    folder = tmp_path_factory.mktemp("recorded")
    for dimension in ("arousal", "valence"):
        name = f"ratings_gold_standard/{dimension}/{NAME}.arff"
        (folder / "corpus" / name).parent.mkdir(parents=True)
        shutil.copy(corpus_dir / name, folder / "corpus" / name)
    sound, rate_hz = soundfile.read(corpus_dir / f"recordings_audio/{NAME}.wav")
    (folder / "corpus/recordings_audio").mkdir()
    soundfile.write(folder / f"corpus/recordings_audio/{NAME}.wav", sound[:-500], rate_hz)  # 181 of 640 samples
    pictures = [*face_pictures(200)]
    pictures[60:120] = [np.full_like(pictures[0], 90)] * 60
    write_video(folder / f"corpus/recordings_video/{NAME}.mp4", pictures)
    make_tfrecords(find_corpus(str(folder / "corpus"), "avec2016"), folder / "records", Preprocessing(), processes=1)
    return folder


def untrained(modality, data_dir):
    """Returns an experiment with a label delay and masked crops, and a network of random weights that looks ahead."""
    experiment = get_preset("demo", modality)
    model = replace(experiment.model, audio_framed=False, audio_taps=(80, 400))
    data = replace(experiment.data, data_dir=str(data_dir), label_delay_secs=0.2, faceless_frames="mask")
    keras.utils.set_random_seed(7)
    return replace(experiment, model=model, data=data), build_network(model, modality)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_files_of_a_recording_give_the_curve_of_its_shards(recorded, tmp_path, modality):
    experiment, network = untrained(modality, recorded / "records")
    manifest = read_manifest(recorded / "records")
    assert 0.25 < 1 - manifest.recordings[0].faces_found / 200 < 0.35
    expected = evaluate(network, experiment, manifest, list(manifest.recordings), "recording")[0].predicted
    assert (expected.std(axis=0) > 1e-3).all()

    write_saved_model(network, experiment.model, modality, tmp_path, experiment.data.standardise)
    ahead = delay_frames(experiment.model, modality)
    assert ahead == (0 if modality == "video" else 3)
    contract = replace(
        CONTRACT, modality=modality, delay_frames=ahead, label_delay_secs=0.2, postprocessing=CHAINS,
        faces=replace(FACES, faceless_frames="mask") if modality != "audio" else None,
    )  # fmt: skip
    write_json(tmp_path / CONTRACT_NAME, contract)
    model = ServedModel.load(tmp_path)
    files = (recorded / f"corpus/recordings_audio/{NAME}.wav", recorded / f"corpus/recordings_video/{NAME}.mp4")
    raw, curve = (predict_recording(model, *files, raw=raw) for raw in (True, False))

    np.testing.assert_allclose(raw.predicted, expected, rtol=0, atol=1e-5)
    for axis, chain in enumerate(CHAINS.values()):
        np.testing.assert_allclose(curve.predicted[:, axis], chain.apply(expected[:, axis]), rtol=0, atol=1e-5)
    assert (raw.postprocessed, curve.postprocessed) == (False, True)
    assert curve.source == f"{NAME}.mp4"
    np.testing.assert_allclose(curve.times_secs[[0, 1, -1]], [0.04, 0.08, 8.0])
    if modality == "audio":
        assert curve.found is None and curve.squares is None
    else:
        fields = read_recording(recorded / "records", NAME)
        assert curve.found is not None and curve.squares is not None
        np.testing.assert_array_equal(curve.found, fields["face_found"])
        np.testing.assert_array_equal(curve.squares, fields["square"])


def test_an_evaluated_run_predicts_files_as_eval_does(audio_run, data_dir, corpus_dir, tmp_path, capsys):
    shutil.copytree(audio_run, tmp_path / "run")
    flags = (f"--run_dir={tmp_path}/run", f"--data_dir={data_dir}")
    call_main(eval_command, *flags, "--context=recording", "--partitions=test")
    call_main(export, *flags, f"--output_dir={tmp_path}/export")
    shutil.move(tmp_path / "run/eval/test", tmp_path / "evaluated")
    shutil.rmtree(tmp_path / "run")
    capsys.readouterr()
    for flags, folder in ((), "predictions_postprocessed"), (("--raw",), "predictions"):
        call_main(
            predict, f"--model_dir={tmp_path}/export", f"--input={corpus_dir}/recordings_audio/test_2.wav",
            f"--output={tmp_path}/curve.csv", *flags,
        )  # fmt: skip
        written, evaluated = (
            pd.read_csv(path) for path in (tmp_path / "curve.csv", tmp_path / f"evaluated/{folder}/test_2.csv")
        )
        columns = ["time", "arousal", "valence"]
        np.testing.assert_allclose(written[columns], evaluated[columns], rtol=0, atol=2e-5)
        assert set(written["training_data"]) == {"synthetic"} and written["face_found"].isna().all()
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"wrote {tmp_path}/curve.csv", MEANING] * 2
    assert told.err.splitlines() == [f"test_2.wav: {SYNTHETIC}"] * 2


def test_a_prediction_needs_neither_keras_nor_the_training_code(gauges, tmp_path):
    write_clip(tmp_path / "talk.mp4", sound=lambda rate_hz: tone(rate_hz, 1.0))
    paths = [str(path) for path in (gauges / "audio", tmp_path / "talk.mp4", tmp_path / "talk.csv")]
    hidden = ("keras", "tfrecords_tools", "affect.learning", "affect.models")  # their import fails
    without = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
        "from affect.serving import predict\n"
        f"predict.predict_files({paths[0]!r}, [{paths[1]!r}], {{'output': {paths[2]!r}}})"
    )
    done = subprocess.run([sys.executable, "-c", without], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(pd.read_csv(paths[2])["arousal"][2:23], 0.5 / np.sqrt(2), atol=0.01)


@pytest.fixture
def clip(tmp_path):
    """A video of one second with a tone."""
    sound = {"sound": lambda rate_hz: tone(rate_hz, 1.0), "audio": ("flac", 16_000, "mono")}
    write_clip(tmp_path / "talk.mp4", face_pictures(25), muxer="matroska", **sound)
    return tmp_path / "talk.mp4"


def test_a_model_of_sound_decodes_no_picture(gauges, clip, monkeypatch):
    def fail(*_):
        raise AssertionError("a picture is decoded")

    for name in ("probe", "read_frames", "detect_faces"):
        monkeypatch.setattr(recording, name, fail)
    curve = predict_recording(ServedModel.load(gauges / "audio"), None, clip)
    np.testing.assert_allclose(curve.predicted[2:-2, 0], 0.5 / np.sqrt(2), atol=0.01)


def test_a_model_of_faces_decodes_no_sound(gauges, clip, monkeypatch):
    def fail(*_):
        raise AssertionError("the sound is decoded")

    monkeypatch.setattr(recording, "read_audio", fail)
    curve = predict_recording(ServedModel.load(gauges / "video"), clip, clip)
    assert len(curve.predicted) == 25 and curve.found is not None and curve.found.all()
    assert not any("sound" in remark for remark in curve.remarks)


def test_sound_in_a_file_apart_replaces_that_of_the_video(gauges, clip, tmp_path):
    soundfile.write(tmp_path / "loud.wav", 1.6 * tone(16_000, 1.0), 16_000)
    model = ServedModel.load(gauges / "audiovisual")
    own, apart = (predict_recording(model, audio, clip).predicted[5:20, 0] for audio in (None, tmp_path / "loud.wav"))
    np.testing.assert_allclose(apart / own, 1.6, rtol=0.01)


def test_a_video_without_sound_is_refused_before_it_is_decoded(gauges, tmp_path, monkeypatch):
    write_clip(tmp_path / "mute.mp4", face_pictures(25))
    monkeypatch.setattr(recording, "detect_faces", lambda *_: pytest.fail("the pictures are searched"))
    model = ServedModel.load(gauges / "audiovisual")
    with pytest.raises(UserError, match=r"mute\.mp4: the file has no sound track, but sound is needed"):
        predict_recording(model, None, tmp_path / "mute.mp4")
    with pytest.raises(UserError, match=r"mute\.wav: the model takes video; give a video file"):
        predict_recording(model, tmp_path / "mute.wav", None)


def with_contract(model, **changes):
    """Returns the model with another contract."""
    return ServedModel(replace(model.contract, **changes), model.saved_model)


def test_remarks_name_what_is_unlike_training(gauges, clip):
    training = TrainingData(
        synthetic=True, layout="table", recordings=1, subjects=1, frames=100,
        sound_level_dbfs=Spread(-60.0, -50.0, -40.0), face_share=Spread(1.0, 1.0, 1.0),
    )  # fmt: skip
    faces = replace(FACES, smoothing_secs=0.3, jpeg_quality=75)
    model = with_contract(ServedModel.load(gauges / "audiovisual"), training_data=training, faces=faces)
    assert predict_recording(model, None, clip).remarks == [
        SYNTHETIC,
        "training had crops with smoothing_secs 0.3, this version makes them with 0.24; the curve may differ a little",
        "training had crops with jpeg_quality 75, this version makes them with 90; the curve may differ a little",
        "the curve is raw: the run was not evaluated before its export, so there is no post-processing",
        "the sound's level of -9.0 dBFS is far from that of the training recordings (-60.0 to -40.0 dBFS), so the "
        "curve may be wrong",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"frame_rate_hz": 50},
            r"takes frames of 640 samples at 16000 Hz, 50 per second; this version makes 640, 16000",
        ),
        (
            {"faces": replace(FACES, detector="retina")},
            "names the face detector 'retina'; this version knows mtcnn, haar",
        ),
        ({"faces": None}, "names the face detector none"),
    ],
)
def test_a_contract_whose_inputs_this_version_cannot_make_is_refused(gauges, clip, changes, message):
    model = with_contract(ServedModel.load(gauges / "audiovisual"), **changes)
    with pytest.raises(UserError, match=message):
        predict_recording(model, None, clip)


def test_progress_counts_the_pictures_and_then_the_frames(gauges, tmp_path):
    write_clip(tmp_path / "talk.mp4", face_pictures(110))
    calls = []
    predict_recording(
        ServedModel.load(gauges / "video"), None, tmp_path / "talk.mp4", progress=lambda *call: calls.append(call)
    )
    assert [call[1] for call in calls if call[0] == "searching for faces"] == list(range(1, 111))
    assert [call[1] for call in calls if call[0] == "predicting"] == [50, 100, 110]
    assert {call[2] for call in calls} == {110}


def test_one_bad_file_in_a_folder_does_not_stop_the_others(gauges, clip, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(clip, folder / "b.mp4")
    shutil.copy(clip, folder / "b.mkv")
    (folder / "a.mp4").write_text("no video")
    (folder / "notes.txt").write_text("text")
    flags = (f"--model_dir={gauges}/audio", f"--input={folder}", f"--output={tmp_path}/out", f"--plot={tmp_path}/out")
    with pytest.raises(UserError, match=r"^1 of 3 files failed: a\.mp4$"):
        call_main(predict, *flags)
    names = ["b.mkv.csv", "b.mkv.json", "b.mkv.png", "b.mp4.csv", "b.mp4.json", "b.mp4.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    told = capsys.readouterr()
    assert f"{folder}: left out, neither sound nor video: notes.txt" in told.err
    assert "failed a.mp4: " in told.err and told.out.splitlines()[-1] == MEANING
    content = json.loads((tmp_path / "out/b.mp4.json").read_text())
    assert content["source"] == "b.mp4" and content["meaning"] == [MEANING, PROHIBITED]
    assert any("not evaluated" in remark for remark in content["remarks"])


def test_a_file_of_sound_in_a_list_has_no_overlay_but_all_other_outputs(gauges, clip, tmp_path, capsys):
    write_wav(tmp_path / "voice.wav", tones(44_100, 1.0))
    folders = (f"--output={tmp_path}/out", f"--overlay={tmp_path}/out")
    call_main(predict, f"--model_dir={gauges}/audio", f"--input={clip}", f"--input={tmp_path}/voice.wav", *folders)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["talk.csv", "talk.json", "talk.mp4", "voice.csv", "voice.json"]
    assert "no overlay: " in capsys.readouterr().err


def test_whatever_a_single_file_causes_is_one_line(gauges, clip, tmp_path, monkeypatch):
    def fail(*arguments):
        raise KeyError("of a library")

    monkeypatch.setattr("affect.serving.prediction.predict_recording", fail)
    with pytest.raises(UserError, match=r"talk\.mp4: KeyError: 'of a library'$"):
        call_main(predict, f"--model_dir={gauges}/audio", f"--input={clip}", f"--output={tmp_path}/o.csv")


@pytest.mark.parametrize("secs", ["inf", "nan", "0", "601"])
def test_a_calibration_of_no_or_endless_length_is_refused(gauges, secs):
    with pytest.raises(UserError, match=rf"^--calibration_secs={secs} must be between 0\.04 and 600$"):
        call_main(predict, f"--model_dir={gauges}/audio", "--input=-", f"--calibration_secs={secs}")


def test_a_plot_and_an_overlay_are_written(gauges, clip, tmp_path):
    call_main(
        predict, f"--model_dir={gauges}/audiovisual", f"--input={clip}", f"--plot={tmp_path}/p.png",
        f"--overlay={tmp_path}/o.mp4",
    )  # fmt: skip
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "o.mp4").stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "p.png", "talk.mp4"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "^nothing to write; give --output, --plot or --overlay"),
        (("--output=talk.txt",), r"^--output=talk\.txt must end with \.csv or \.json"),
        (("--output=talk.csv", "--audio=gone.wav"), r"^--audio=gone\.wav does not exist"),
        (("--output=out", "--input=talk.mp4,more.mp4", "--audio=more.mp4"), "^--audio belongs to one --input"),
        (("--overlay=talk.mp4",), r"^talk\.mp4 is an input"),
        (("--overlay=more.mp4", "--audio=more.mp4"), r"^more\.mp4 is an input"),
        (("--output=talk.csv", "--plot=more.mp4/x.png"), r"^--plot=more\.mp4/x\.png: .*more\.mp4 is not a folder"),
    ],
)
def test_mistakes_are_refused_before_the_model_is_loaded(clip, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "more.mp4")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        call_main(predict, "--model_dir=gone", "--input=talk.mp4", *flags)
    assert sorted(tmp_path.iterdir()) == before


def test_stdin_goes_to_the_live_prediction(monkeypatch):
    calls = []
    monkeypatch.setattr(live, "predict_stdin", lambda *call: calls.append(call))
    call_main(predict, "--model_dir=m", "--input=-", "--calibration_secs=4", "--raw")
    assert calls == [("m", 4.0, True)]
    with pytest.raises(UserError, match=r"^--input=- must be the only input and prints to stdout; leave out --plot"):
        call_main(predict, "--model_dir=m", "--input=-", "--plot=x.png")


def test_help_says_what_the_numbers_mean():
    text = " ".join(str(predict.__doc__).split())
    assert MEANING in text and PROHIBITED in text
