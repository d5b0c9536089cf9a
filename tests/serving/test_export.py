"""The exported model: it runs without this package, and gives the predictions of the network."""

import json
import subprocess
import sys

import numpy as np
import pytest

from affect.data.dataset import evaluation_dataset, open_data
from affect.errors import UserError
from affect.models.trained import TrainedNetwork
from affect.serving import export
from affect.serving.export import ExportContract, read_contract
from tests.helpers.in_process import call_main

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
        "affect 0.1.0", "audiovisual", 25, 16_000, 640, 96, 0.25, "recording", ("arousal", "valence"), True
    )


def test_contract_with_an_unknown_or_missing_field_is_refused(tmp_path):
    with pytest.raises(UserError, match="affect.json does not exist"):
        read_contract(tmp_path)
    for content, message in (
        (WRITTEN_BY_0_1_0 | {"gain": 2}, "affect.json: .*unknown field `gain`"),
        ({"written_by": "x"}, "affect.json: .*missing required field `modality`"),
    ):
        (tmp_path / "affect.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            read_contract(tmp_path)
