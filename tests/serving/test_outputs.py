"""Curves as CSV and JSON, and where the outputs of each input go."""

import os
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from affect.errors import UserError
from affect.serving.outputs import CurveFile, plan_targets, write_curve
from affect.serving.prediction import Curve
from affect.serving.wording import MEANING, PROHIBITED
from affect.storage import read_json
from tests.helpers.contracts import CONTRACT, TRAINING_DATA

CURVE = Curve(
    source="talk.mp4",
    times_secs=np.array([0.04, 0.08, 0.12]),
    predicted=np.array([[0.12345678, -0.5], [1e-7, 0.25], [-0.1, 1.0]]),
    found=np.array([True, False, True]),
    squares=np.array([[1, 2, 30], [1, 2, 30], [4, 5, 60]]),
    remarks=["the sound is silent"],
    postprocessed=True,
    contract=CONTRACT,
)
SYNTHETIC_CONTRACT = replace(CONTRACT, training_data=replace(TRAINING_DATA, synthetic=True))


def curve(**changes):
    return Curve(**(vars(CURVE) | changes))


def test_csv_has_a_row_per_frame(tmp_path):
    write_curve(CURVE, tmp_path / "new/talk.csv", "m")
    assert (tmp_path / "new/talk.csv").read_text() == (
        "time,arousal,valence,face_found\n0.040,0.123457,-0.5,1\n0.080,1e-07,0.25,0\n0.120,-0.1,1,1\n"
    )


def test_csv_of_a_model_of_sound_leaves_the_faces_empty(tmp_path):
    write_curve(curve(found=None, squares=None), tmp_path / "talk.csv", "m")
    assert (tmp_path / "talk.csv").read_text().splitlines()[1] == "0.040,0.123457,-0.5,"


def test_csv_of_a_model_trained_on_the_synthetic_corpus_says_so_in_every_row(tmp_path):
    write_curve(curve(contract=SYNTHETIC_CONTRACT), tmp_path / "talk.csv", "m")
    header, *rows = (tmp_path / "talk.csv").read_text().splitlines()
    assert header.endswith(",face_found,training_data") and all(row.endswith(",synthetic") for row in rows)


def test_json_holds_the_curve_and_what_a_reader_must_know(tmp_path):
    write_curve(curve(contract=SYNTHETIC_CONTRACT), tmp_path / "talk.JSON", "runs/m")
    assert read_json(tmp_path / "talk.JSON", CurveFile) == CurveFile(
        model="runs/m", written_by="affect 1.2.3", source="talk.mp4", frame_rate_hz=25, postprocessed=True,
        synthetic=True, remarks=["the sound is silent"], meaning=[MEANING, PROHIBITED], time=[0.04, 0.08, 0.12],
        arousal=[0.123457, 1e-7, -0.1], valence=[-0.5, 0.25, 1.0], face_found=[True, False, True],
        face_square=[(1, 2, 30), (1, 2, 30), (4, 5, 60)],
    )  # fmt: skip


def test_json_of_a_model_of_sound_has_no_faces(tmp_path):
    write_curve(curve(found=None, squares=None), tmp_path / "talk.json", "m")
    content = read_json(tmp_path / "talk.json", CurveFile)
    assert (content.face_found, content.face_square, content.synthetic) == (None, None, False)


def targets(*inputs, many=None, **flags):
    many = len(inputs) > 1 if many is None else many
    return plan_targets([Path(name) for name in inputs], many, flags, Path("model"))


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """The current folder, with inputs and a model."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/talk.mp4", "a/talk.wav", "b/talk.mp4", "c/Talk.mkv", "c/other.mkv", "model/predict.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    os.link("a/talk.wav", "hard.csv")
    Path("soft.csv").symlink_to("a/talk.wav")
    return tmp_path


def test_flags_name_files_for_one_input_and_folders_for_several():
    (one,) = targets("a/talk.mp4", output="x.json", plot="x.png", overlay="x.mp4")
    assert [str(path) for path in one.all] == ["x.json", "x.png", "x.mp4"]
    several = targets("a/talk.mp4", "c/other.mkv", output="out", overlay="drawn", plot=None)
    assert [[str(path) for path in each.all] for each in several] == [
        ["out/talk.csv", "out/talk.json", "drawn/talk.mp4"],
        ["out/other.csv", "out/other.json", "drawn/other.mp4"],
    ]


@pytest.mark.parametrize("output", ["new/", "c"])
def test_one_input_may_have_a_folder_too(output):
    (one,) = targets("a/talk.mp4", output=output)
    assert [path.name for path in one.curves] == ["talk.csv", "talk.json"]


@pytest.mark.parametrize("second", ["a/talk.wav", "c/Talk.mkv"])
def test_inputs_of_equal_names_keep_their_suffixes(second):
    first, other = targets("a/talk.mp4", second, output="out", overlay="out", plot=None)
    assert first.curves[0].name == "talk.mp4.csv" and other.curves[0].name == f"{Path(second).name}.csv"
    assert other.overlay.name == f"{Path(second).name}.mp4"


def test_inputs_of_wholly_equal_names_are_refused():
    with pytest.raises(UserError, match=r"^two inputs are named talk\.mp4.*; predict them one by one"):
        targets("a/talk.mp4", "b/talk.mp4", "c/other.mkv", output="out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"output": "hard.csv"}, r"^hard\.csv is an input and would be overwritten"),
        ({"output": "soft.csv"}, r"^soft\.csv is an input and would be overwritten"),
        ({"overlay": "a/../a/talk.mp4"}, r"^a/\.\./a/talk\.mp4 is an input and would be overwritten"),
        ({"output": "model/predict.json"}, r"^model/predict\.json lies in the folder of the model"),
        ({"output": "model/new.csv"}, "lies in the folder of the model"),
        ({"output": ""}, "^--output is empty"),
        ({"output": "s3://bucket/x.csv"}, "must be a local path"),
        ({"output": "x.npy"}, r"^--output=x\.npy must end with \.csv or \.json"),
        ({"plot": "x.jpg"}, r"^--plot=x\.jpg must end with \.png"),
        ({"overlay": "x.avi"}, r"^--overlay=x\.avi must end with \.mp4"),
        ({"plot": "a/talk.wav/x.png"}, r"^--plot=a/talk\.wav/x\.png: .*talk\.wav is not a folder"),
        ({"output": "/proc/x.csv"}, r"^--output=/proc/x\.csv: /proc cannot be written to \(.*\); choose another path"),
        ({"output": "/proc/new/deep/x.csv"}, "/proc cannot be written to"),
        ({}, "^nothing to write"),
    ],
)
def test_paths_that_cannot_or_must_not_be_written_are_refused(workplace, flags, message):
    before = sorted(workplace.rglob("*"))
    with pytest.raises(UserError, match=message):
        plan_targets([Path("a/talk.mp4")], False, flags, Path("model"), [Path("a/talk.wav")])
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"output": "x.csv"}, r"^--output=x\.csv must name a folder, because --input names a folder or several files"),
        ({"overlay": "a"}, r"^a/talk\.mp4 is an input"),
    ],
)
def test_folders_of_several_inputs_are_checked_too(flags, message):
    with pytest.raises(UserError, match=message):
        targets("a/talk.mp4", "c/other.mkv", **flags)
