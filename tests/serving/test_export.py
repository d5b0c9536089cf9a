"""The export command: what it writes, what it refuses, and that the exported model gives the predictions of the run."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from affect.data.dataset import evaluation_dataset, open_data
from affect.errors import UserError
from affect.evaluation import eval_command
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder
from affect.serving import export
from affect.serving.contract import CONTRACT_NAME, read_contract
from affect.serving.model_card import CARD_NAME
from affect.storage import read_json
from tests.helpers.in_process import call_main
from tests.helpers.text_folders import write_folder

FILES = {"saved_model.pb", "variables", CONTRACT_NAME, CARD_NAME}


@pytest.fixture(scope="module")
def evaluated_run(audio_run, tmp_path_factory):
    """A copy of `audio_run` whose dev and test are evaluated."""
    run_dir = shutil.copytree(audio_run, tmp_path_factory.mktemp("evaluated") / "run")
    call_main(eval_command, f"--run_dir={run_dir}", "--partitions=dev,test", "--context=recording")
    return run_dir


@pytest.fixture(scope="module")
def exported(evaluated_run, tmp_path_factory):
    """The export of `evaluated_run`."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    (folder.parent / ".99999.export/variables").mkdir(parents=True)  # left by a killed export
    call_main(export, f"--run_dir={evaluated_run}", f"--output_dir={folder}")
    return folder


@pytest.fixture
def no_model(monkeypatch):
    """Writes an empty file instead of the SavedModel, in tests of the folder: a model takes seconds."""

    def write(network, config, modality, folder, standardise):
        (folder / "saved_model.pb").parent.mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_bytes(b"")

    monkeypatch.setattr(export, "write_saved_model", write)
    monkeypatch.setattr(export, "check_reload", lambda *model: None)


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


def test_the_exported_model_predicts_what_the_network_predicts(audio_run, exported):
    trained = TrainedNetwork.load(audio_run)
    experiment = trained.run.read_config()
    manifest = open_data(experiment)
    inputs, _, _ = next(iter(evaluation_dataset(experiment, manifest, manifest.partition("test"), 2)))
    model = tf.saved_model.load(str(exported))
    curves = model.signatures["serving_default"](audio=inputs["audio"])["predictions"]
    # Two graphs of the same kernels: the order of additions may differ, no more.
    np.testing.assert_allclose(curves, trained.network(inputs), atol=1e-5)


def test_an_export_removes_what_a_killed_one_left(exported):
    assert [path.name for path in exported.parent.iterdir()] == ["export"]
    assert set(os.listdir(exported)) >= FILES


def test_chains_and_scores_of_an_evaluated_run_are_those_of_its_files(evaluated_run, exported):
    run = RunFolder(evaluated_run)
    contract = read_json(exported / CONTRACT_NAME)
    assert contract["postprocessing"] == read_json(run.postprocessing)
    assert contract["postprocessing_context"] == "recording"
    assert contract["training_data"]["synthetic"] and contract["training_data"]["recordings"] == 2
    card = (exported / CARD_NAME).read_text(encoding="utf-8")
    for partition in ("dev", "test"):
        metrics = read_json(run.evaluation(partition) / "metrics.json")
        for dimension in ("arousal", "valence"):
            cells = [f"{metrics[kind][dimension]['ccc_pooled']:.3f}" for kind in ("postprocessed", "raw")]
            assert f"| {partition} | 2 | {dimension} | {cells[0]} | {cells[1]} | paper | recording |" in card


def test_an_evaluation_of_older_weights_is_left_out_with_a_remark(evaluated_run, tmp_path, no_model, capsys):
    run_dir = shutil.copytree(evaluated_run, tmp_path / "run")
    with open(run_dir / "best.weights.h5", "ab") as file:
        file.write(b"\0")  # HDF5 ignores what follows its end
    call_main(export, f"--run_dir={run_dir}", f"--output_dir={tmp_path}/export")
    remark, wrote = capsys.readouterr().out.splitlines()[-2:]
    assert remark == (
        f"{run_dir}: its evaluation cannot be matched to its present weights, so the export has no post-processing "
        f"and the model card no scores; run eval.py --run_dir={run_dir} --context=recording and export again"
    )
    assert wrote == f"wrote {tmp_path}/export"
    assert read_contract(tmp_path / "export").postprocessing is None
    assert "No scores are known" in (tmp_path / "export" / CARD_NAME).read_text()


def test_the_lines_of_tensorflow_in_the_card_run(exported, monkeypatch):
    card = (exported / CARD_NAME).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    monkeypatch.chdir(exported)
    names = {}
    exec(code, names)
    assert names["curve"].shape == (1, 100, 2)


def test_weights_that_change_during_the_export_are_refused(audio_run, tmp_path, no_model, monkeypatch):
    run_dir = shutil.copytree(audio_run, tmp_path / "run")
    load = TrainedNetwork.load

    def load_while_training_goes_on(path):
        trained = load(path)
        with open(path / "best.weights.h5", "ab") as file:
            file.write(b"\0")
        return trained

    monkeypatch.setattr(TrainedNetwork, "load", load_while_training_goes_on)
    with pytest.raises(UserError, match="best.weights.h5 changed during the export; wait"):
        call_main(export, f"--run_dir={run_dir}", f"--output_dir={tmp_path}/export")
    assert os.listdir(tmp_path) == ["run"]


def test_a_run_whose_data_are_gone_is_exported_only_on_request(audio_run, data_dir, tmp_path, no_model, capsys):
    run_dir = shutil.copytree(audio_run, tmp_path / "run")
    config = json.loads((run_dir / "config.json").read_text())
    config["data"]["data_dir"] = str(tmp_path / "gone")
    (run_dir / "config.json").write_text(json.dumps(config))
    flags = [f"--run_dir={run_dir}", f"--output_dir={tmp_path}/export"]
    with pytest.raises(UserError, match=r"^data folder .*gone does not exist; .*--data_dir, or .*--without_data$"):
        call_main(export, *flags)
    assert not (tmp_path / "export").exists()
    with pytest.raises(UserError, match="--data_dir and --without_data exclude each other"):
        call_main(export, *flags, "--without_data", f"--data_dir={data_dir}")

    call_main(export, *flags, "--without_data")
    assert f"{run_dir}: exported without its training data" in capsys.readouterr().out
    contract = read_contract(tmp_path / "export")
    assert contract.synthetic and contract.training_data.recordings is None
    assert "not at hand" not in (tmp_path / "export" / CARD_NAME).read_text()  # the run knows that it is synthetic

    call_main(export, *flags, "--overwrite", f"--data_dir={data_dir}")
    assert read_contract(tmp_path / "export").training_data.recordings == 2


def test_a_wrong_licence_is_refused_before_the_work_and_a_right_one_is_in_the_card(audio_run, tmp_path, no_model):
    flags = [f"--run_dir={audio_run}", f"--output_dir={tmp_path}/export"]
    with pytest.raises(UserError, match="--license=My terms must be an identifier"):
        call_main(export, *flags, "--license=My terms")
    assert os.listdir(tmp_path) == []
    call_main(export, *flags, "--license=cc-by-4.0")
    assert '\nlicense: "cc-by-4.0"\n' in (tmp_path / "export" / CARD_NAME).read_text()


def test_existing_folder_is_refused_and_replaced_only_with_overwrite(audio_run, tmp_path, no_model):
    flags = [f"--run_dir={audio_run}", f"--output_dir={tmp_path}/export"]
    call_main(export, *flags)
    (tmp_path / "export/of_an_older_export").write_text("")
    with pytest.raises(UserError, match="already exists; choose another --output_dir, or add --overwrite"):
        call_main(export, *flags)
    call_main(export, *flags, "--overwrite")
    assert set(os.listdir(tmp_path / "export")) == FILES - {"variables"}
    assert os.listdir(tmp_path) == ["export"]


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
    write_folder(tmp_path / "tool", **{"predict.json": '{"theme": "dark"}'})
    write_folder(tmp_path / "old_tool", **{"affect.json": '{"theme": "dark"}'})
    write_folder(tmp_path / "others", **{CONTRACT_NAME: json.dumps(EXPORT | {"written_by": "another program 1.0"})})
    (tmp_path / "link").symlink_to("thesis")
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    return tmp_path


EXPORT = {"written_by": "affect 0.1.0", "modality": "audiovisual", "outputs": ["arousal", "valence"]}


@pytest.mark.parametrize(
    ("output_dir", "message"),
    [
        ("thesis", r"^thesis holds other files \(no predict\.json of ours\) and is not replaced"),
        ("tool", r"^tool is not replaced, because we did not write it: .*predict\.json: "),
        ("old_tool", r"^old_tool is not replaced, because we did not write it: .*affect\.json: "),
        ("others", r"^others is not replaced, because we did not write it: .*predict\.json: .*written_by"),
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
    (workplace / "runs/affect.json").write_text(json.dumps(EXPORT))
    with pytest.raises(UserError, match="^runs contains the run folder runs/a and is not replaced"):
        call_main(export, "--run_dir=runs/a", "--output_dir=runs", "--overwrite")
    assert (workplace / "runs/a/best.weights.h5").is_file()


@pytest.mark.parametrize("output_dir", ["empty", "new/deep/export"])
def test_an_export_is_written_to_an_empty_or_new_folder(workplace, output_dir, no_model, capsys):
    call_main(export, "--run_dir=runs/a", f"--output_dir={output_dir}")
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {output_dir}"
    assert set(os.listdir(workplace / output_dir)) == FILES - {"variables"}
