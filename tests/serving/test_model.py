"""Loading an exported model: what it gives, and one clear line for every folder that is not one."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from affect.errors import UserError
from affect.serving.model import ServedModel
from affect.storage import write_json
from tests.helpers.commands import REPOSITORY
from tests.helpers.served import TINY, contract_of, export_network, network_of
from tests.helpers.text_folders import write_folder

# Importing Keras fails; so does what would import it.
WITHOUT_KERAS = """
import sys
sys.modules["keras"] = None
import numpy as np
from affect.serving.model import ServedModel
from affect.serving.streaming import LiveStream
stream = LiveStream(ServedModel.load(sys.argv[1]), calibration_secs=0.2)
np.save(sys.argv[2], np.concatenate([stream.push(np.arange(160, dtype=np.int16).reshape(10, 16)), stream.finish()]))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The export of a tiny audio network."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    folder.mkdir()
    export_network(network_of(TINY, "audio"), TINY, contract_of(TINY, "audio"), folder)
    return folder


def test_a_model_tells_what_it_takes_and_starts_with_zero_states(exported):
    model = ServedModel.load(exported)
    assert (model.takes_audio, model.takes_video) == (True, False)
    state = model.start_state()
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if "lstm2" in name} == {
        "state_lstm2_hidden": (1, 6),
        "state_lstm2_cell": (1, 6),
    }
    assert not any(np.any(tensor) for tensor in state.values())


def test_a_model_is_loaded_and_used_without_keras(exported, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS, exported, tmp_path / "curve.npy"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "curve.npy").shape == (10, 2)


def test_a_model_in_a_folder_with_brackets_is_loaded(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "study [2024] a\\b")
    assert ServedModel.load(folder).contract == ServedModel.load(exported).contract


def refusal(folder) -> str:
    with pytest.raises(UserError) as refused:
        ServedModel.load(folder)
    return str(refused.value)


def test_a_folder_that_is_no_export_is_refused_with_the_way_to_one(exported, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    command = "python -m affect.serving.export --run_dir=RUN --output_dir=FOLDER"
    run = tmp_path / "run"
    write_folder(run, **{"config.json": "{}"})
    for folder, message in (
        (tmp_path / "none", f"{tmp_path}/none does not exist; name the folder of an exported model ({command})"),
        (file, f"{file} is not a folder; name the folder of an exported model ({command})"),
        (run, f"{run} is a run folder, not an exported model; export it first ({command})"),
        (tmp_path, f"{tmp_path} is not an exported model (predict.json is missing); export a run first ({command})"),
        ("s3://bucket/export", "s3://bucket/export must be a local folder; copy the model first"),
    ):
        assert refusal(folder) == message


def test_an_export_of_an_earlier_version_must_be_made_again(tmp_path):
    folder = tmp_path / "old"
    write_folder(folder, **{"affect.json": "{}", "saved_model.pb": ""})
    assert refusal(folder) == (
        f"{folder} has no predict.json: it was exported by an earlier version; export the run again"
    )


def damage(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("saved_model.pb", lambda content: b"", "is damaged and cannot be loaded"),
        ("saved_model.pb", lambda content: content[: len(content) // 2], "is damaged and cannot be loaded"),
        ("saved_model.pb", lambda content: b"\0" * len(content), "is damaged and cannot be loaded"),
        ("variables/variables.index", lambda content: content[:20], "is damaged and cannot be loaded"),
        ("variables/variables.data-00000-of-00001", lambda content: content[:100], "is damaged and cannot be loaded"),
        ("predict.json", lambda content: content[:40], "predict.json: the text is not JSON"),
        ("predict.json", lambda content: content.replace(b"16,", b'"16",'), "predict.json: Expected `int`"),
    ],
)
def test_a_damaged_export_is_refused_in_one_line(exported, tmp_path, name, change, message):
    folder = shutil.copytree(exported, tmp_path / "export")
    damage(folder, name, change)
    said = refusal(folder)
    assert str(folder) in said and message in said and "\n" not in said


@pytest.mark.parametrize("name", ["saved_model.pb", "variables"])
def test_an_export_that_lacks_a_part_is_refused(exported, tmp_path, name):
    folder = shutil.copytree(exported, tmp_path / "export", ignore=shutil.ignore_patterns(name))
    said = refusal(folder)
    if name == "saved_model.pb":
        assert said == f"{folder} holds no SavedModel (saved_model.pb is missing); export the run again"
    else:
        assert said.startswith(f"{folder} is damaged and cannot be loaded (")


def test_a_saved_model_without_the_signature_or_of_another_modality_is_refused(exported, tmp_path):
    contract = json.loads((exported / "predict.json").read_text())
    other = shutil.copytree(exported, tmp_path / "other")
    write_json(other / "predict.json", contract_of(TINY, "audiovisual"))
    assert refusal(other) == (
        f"{other}: predict.json describes a model of modality 'audiovisual', but the SavedModel takes audio; "
        "the two belong to different models; export again"
    )
    foreign = tmp_path / "foreign"
    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(foreign), {"serving_default": module.double})
    (foreign / "predict.json").write_text(json.dumps(contract))
    assert refusal(foreign) == (
        f"{foreign}: the SavedModel has no signature 'stream' (found: serving_default); export again"
    )
