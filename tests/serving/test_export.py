"""The exported model: it runs without this package, and gives the predictions of the network."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from affect.config import DataConfig, Experiment
from affect.data.dataset import evaluation_dataset, open_data
from affect.errors import UserError
from affect.evaluation.postprocess import delay
from affect.models.trained import TrainedNetwork
from affect.serving import export
from affect.serving.export import ExportContract, read_contract
from tests.helpers.commands import read_recording
from tests.helpers.in_process import call_main
from tests.helpers.planted import plant_in_sound, rewrite_shards, sound_reader, use_network
from tests.helpers.text_folders import write_folder

SERVE = """
import sys
sys.modules["affect"] = None  # importing the package would fail
sys.modules["keras"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
audio = np.load(sys.argv[2])
np.save(sys.argv[3], serve(audio=tf.constant(audio))["predictions"].numpy())
for batch, time in ((1, 1), (3, 17)):
    assert serve(audio=tf.zeros((batch, time, 640)))["predictions"].shape == (batch, time, 2)
"""


@pytest.fixture(scope="module")
def exported(audio_run, tmp_path_factory):
    """The export of `audio_run`."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    (folder.parent / ".99999.export/variables").mkdir(parents=True)  # left by a killed export
    call_main(export, f"--run_dir={audio_run}", f"--output_dir={folder}")
    return folder


@pytest.mark.parametrize("name", ["study [2024]", "a\\b"])
def test_a_folder_from_which_tensorflow_could_not_load_the_model_is_refused_before_the_work(audio_run, tmp_path, name):
    folder = tmp_path / name / "export"
    with pytest.raises(UserError) as refused:
        call_main(export, f"--run_dir={audio_run}", f"--output_dir={folder}")
    assert str(refused.value) == (
        f"--output_dir={folder}: TensorFlow takes [ and \\ in {folder} for patterns and could not load the model from "
        "there; choose a folder without them"
    )
    assert not folder.parent.exists()


def test_a_run_in_a_folder_with_brackets_is_exported_into_one_that_has_other_signs(audio_run, exported, tmp_path):
    run_dir = shutil.copytree(audio_run, tmp_path / "study [2024]" / "run")
    folder = tmp_path / "-* ?]{} %d$HOME#'\"é:\n" / "export"
    call_main(export, f"--run_dir={run_dir}", f"--output_dir={folder}")
    audio = tf.random.stateless_normal((1, 30, 640), seed=(1, 2))
    models = [tf.saved_model.load(str(path)) for path in (folder, exported)]
    ours, theirs = (model.signatures["serving_default"](audio=audio)["predictions"] for model in models)
    np.testing.assert_array_equal(ours, theirs)


def test_exported_model_runs_without_this_package_and_equals_the_network(audio_run, exported, tmp_path):
    trained = TrainedNetwork.load(audio_run)
    experiment = trained.run.read_config()
    manifest = open_data(experiment)
    inputs, _, _ = next(iter(evaluation_dataset(experiment, manifest, manifest.partition("test"), 2)))
    np.save(tmp_path / "audio.npy", inputs["audio"].numpy())
    served = subprocess.run(
        [sys.executable, "-c", SERVE, f"{exported}", f"{tmp_path}/audio.npy", f"{tmp_path}/out.npy"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert served.returncode == 0, served.stderr
    # Two graphs of the same kernels: the order of additions may differ, no more.
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), trained.network(inputs), atol=1e-5)


def test_an_export_removes_what_a_killed_one_left(exported):
    assert [path.name for path in exported.parent.iterdir()] == ["export"]


def test_contract_says_what_a_caller_needs(exported):
    contract = read_contract(exported)
    assert contract.standardise == "recording" and contract.modality == "audio"
    assert (contract.frame_rate_hz, contract.sample_rate_hz, contract.frame_samples) == (25, 16_000, 640)
    assert contract.outputs == ("arousal", "valence") and contract.trained_on_synthetic_data


def test_existing_folder_is_refused_and_replaced_only_with_overwrite(audio_run, exported):
    flags = [f"--run_dir={audio_run}", f"--output_dir={exported}"]
    with pytest.raises(UserError, match="--overwrite"):
        call_main(export, *flags)
    (exported / "of_an_older_export").write_text("")
    call_main(export, *flags, "--overwrite")
    assert not (exported / "of_an_older_export").exists() and (exported / "saved_model.pb").is_file()
    assert [path.name for path in exported.parent.iterdir()] == ["export"]


def bytes_of(folder):
    """Contents of all files below a folder by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def workplace(audio_run, data_dir, tmp_path, monkeypatch):
    """The current folder: a run with its data, and what may lie beside them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    shutil.copytree(audio_run, tmp_path / "runs/a")
    shutil.copytree(data_dir, tmp_path / "data/records")
    write_folder(tmp_path / "thesis", chapter="the only copy")
    write_folder(tmp_path / "tool", **{"affect.json": '{"theme": "dark"}'})
    (tmp_path / "link").symlink_to("thesis")
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("output_dir", "message"),
    [
        ("thesis", r"^thesis holds other files \(no affect\.json of ours\) and is not replaced"),
        ("tool", r"^tool is not replaced, because we did not write it: .*affect\.json: "),
        ("runs/a", "^runs/a is the run folder runs/a and is not replaced"),
        ("runs", "^runs contains the run folder runs/a and is not replaced"),
        ("runs/a/checkpoints", "^runs/a/checkpoints holds other files"),
        ("runs/a/best.weights.h5", "best.weights.h5 is not a folder"),
        ("data/records", "^data/records is the data data/records and is not replaced"),
        ("data", "^data contains the data data/records and is not replaced"),
        ("link", "^link is a link and is not replaced"),
        (".", r"^\. is the current folder and is not replaced"),
        ("runs/..", r"^runs/\.\. is the current folder and is not replaced"),
        ("..", r"^\.\. contains the current folder and is not replaced"),
        ("/", "^/ .* replaced; choose"),
        ("", "^--output_dir is empty"),
        ("file", "^--output_dir=file: .*/file is not a folder"),
        ("file/export", "^--output_dir=file/export: .*/file is not a folder"),
        ("s3://bucket/export", "^--output_dir=s3://bucket/export must be a local folder"),
    ],
)
def test_only_an_export_is_ever_replaced(workplace, output_dir, message):
    before = bytes_of(workplace)
    with pytest.raises(UserError, match=message):
        call_main(export, "--run_dir=runs/a", f"--output_dir={output_dir}", "--data_dir=data/records", "--overwrite")
    assert bytes_of(workplace) == before


def test_a_run_inside_an_older_export_is_kept(workplace):
    (workplace / "runs/affect.json").write_text(json.dumps(WRITTEN_BY_0_1_0))
    with pytest.raises(UserError, match="^runs contains the run folder runs/a and is not replaced"):
        call_main(export, "--run_dir=runs/a", "--output_dir=runs", "--overwrite")
    assert (workplace / "runs/a/best.weights.h5").is_file()


@pytest.mark.parametrize("output_dir", ["empty", "new/deep/export"])
def test_an_export_is_written_to_an_empty_or_new_folder(workplace, output_dir, capsys):
    call_main(export, "--run_dir=runs/a", f"--output_dir={output_dir}")
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {output_dir}"
    assert {"saved_model.pb", "affect.json"} <= set(os.listdir(workplace / output_dir))


def test_the_contract_undoes_the_delay_of_the_labels(audio_run, data_dir, tmp_path, monkeypatch):
    """The network reads from the sound what the raters will say 0.4 s later, and predicts it at once."""

    def plant(_, fields):
        early = np.concatenate([fields["labels"][10:], np.zeros((10, 2))])
        plant_in_sound(fields, early)

    records = rewrite_shards(data_dir, tmp_path / "records", plant)
    shutil.copytree(audio_run, tmp_path / "run")
    data = DataConfig(str(records), standardise="none", label_delay_secs=0.4, faceless_frames="mask")
    use_network(monkeypatch, tmp_path / "run", Experiment("audio", data=data), sound_reader())
    call_main(export, f"--run_dir={tmp_path}/run", f"--output_dir={tmp_path}/export")

    contract = read_contract(tmp_path / "export")
    assert (contract.label_delay_secs, contract.faceless_frames) == (0.4, "mask")
    fields = read_recording(records, "test_1")
    model = tf.saved_model.load(str(tmp_path / "export"))
    sound = fields["pcm"][np.newaxis].astype(np.float32) / 32_768
    curve = model.signatures["serving_default"](audio=sound)["predictions"].numpy()[0]
    curve = delay(curve, round(0.4 * contract.frame_rate_hz))
    np.testing.assert_allclose(curve[10:], fields["labels"][10:], atol=1e-4)
    np.testing.assert_allclose(curve[:10], np.repeat(curve[10:11], 10, axis=0))


WRITTEN_BY_0_1_0 = {
    "written_by": "affect 0.1.0",
    "modality": "audiovisual",
    "frame_rate_hz": 25,
    "sample_rate_hz": 16000,
    "frame_samples": 640,
    "crop_size": 96,
    "face_margin": 0.25,
    "standardise": "recording",
    "outputs": ["arousal", "valence"],
    "trained_on_synthetic_data": True,
}


def test_contract_of_version_0_1_0_is_read(tmp_path):
    (tmp_path / "affect.json").write_text(json.dumps(WRITTEN_BY_0_1_0, indent=2) + "\n")
    assert read_contract(tmp_path) == ExportContract(
        "affect 0.1.0", "audiovisual", 25, 16_000, 640, 96, 0.25, "recording", ("arousal", "valence"), True,
        label_delay_secs=None, faceless_frames="keep",
    )  # fmt: skip


def test_contract_with_an_unknown_or_missing_field_is_refused(tmp_path):
    with pytest.raises(UserError, match="affect.json does not exist"):
        read_contract(tmp_path)
    for content, message in (
        (WRITTEN_BY_0_1_0 | {"gain": 2}, "affect.json: .*unknown field `gain`"),
        (WRITTEN_BY_0_1_0 | {"faceless_frames": "drop"}, r"affect.json: Invalid enum value 'drop' - at `\$.faceless"),
        ({"written_by": "x"}, "affect.json: .*missing required field `modality`"),
    ):
        (tmp_path / "affect.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            read_contract(tmp_path)
