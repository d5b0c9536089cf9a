"""Curves as CSV, HDF5 and AVEC's ARFF, and how strictly the HDF5 file is read."""

import time
from dataclasses import replace

import h5py
import numpy as np
import pytest

from affect.errors import UserError
from affect.evaluation.curves import Prediction
from affect.evaluation.prediction_files import read_curves, read_predictions, write_curves
from affect.media.arff import read_arff
from tests.helpers.text_folders import content_of

FRAMES = {"dev_9": 30, "dev_2": 7500, "dev_3": 1}


def curves_of(seed=0):
    """Three recordings, the last one without a gold standard, as raw and as cautiously post-processed curves."""
    rng = np.random.default_rng(seed)
    raw = [
        Prediction(name, rng.normal(size=(n, 2)).astype(np.float32), rng.uniform(-1, 1, (n, 2)).astype(np.float32))
        for name, n in FRAMES.items()
    ]
    raw[-1] = Prediction("dev_3", raw[-1].predicted, None)
    cautious = [Prediction(one.recording, one.predicted.astype(np.float64) * 2 + 0.5, one.gold) for one in raw]
    return {"raw": raw, "cautious": cautious}


@pytest.fixture
def written(tmp_path):
    write_curves(tmp_path, curves_of(), "cautious", 25, ["avec"])
    return tmp_path


def test_what_is_written_as_hdf5_comes_back(written):
    stored, expected = read_predictions(written / "predictions.h5"), curves_of()
    assert (stored.chosen, stored.frame_rate_hz) == ("cautious", 25.0)
    assert list(stored.curves) == ["raw", "cautious"]
    for kind, predictions in stored.curves.items():
        # In the order of writing, and not sorted by name, which would put dev_2 before dev_9.
        assert [one.recording for one in predictions] == list(FRAMES)
        for one, wanted in zip(predictions, expected[kind], strict=True):
            np.testing.assert_array_equal(one.predicted, wanted.predicted.astype(np.float32))
            if one.gold is None or wanted.gold is None:
                assert one.gold is wanted.gold is None and one.recording == "dev_3"
            else:
                np.testing.assert_array_equal(one.gold, wanted.gold)


def test_the_hdf5_file_reads_without_our_code(written):
    with h5py.File(written / "predictions.h5") as file:
        assert dict(file.attrs)["frame_rate_hz"] == 25.0 and dict(file.attrs)["chosen"] == b"cautious"
        assert list(file.attrs["dimensions"]) == [b"arousal", b"valence"]
        assert set(file["dev_2"]) == {"gold", "raw", "cautious"} and set(file["dev_3"]) == {"raw", "cautious"}
        np.testing.assert_array_equal(file["dev_2/raw"], curves_of()["raw"][1].predicted)
        assert file["dev_2/cautious"].dtype == np.float32


def test_equal_curves_give_equal_bytes_at_any_time(written, tmp_path):
    (tmp_path / "again").mkdir()
    time.sleep(1.1)  # HDF5 stamps in whole seconds
    write_curves(tmp_path / "again", curves_of(), "cautious", 25, ["avec"])
    for name in ("predictions.h5", "predictions/dev_2.csv", "predictions_avec/valence/dev_2.arff"):
        assert (written / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_csv_has_the_raw_curve_and_the_chosen_one_and_no_gold_where_there_is_none(written):
    text = content_of(written / "predictions")["dev_3.csv"].splitlines()
    (values,) = curves_of()["raw"][2].predicted
    assert text == ["time,arousal,valence", f"0.040,{values[0]:.6g},{values[1]:.6g}"]
    text = content_of(written / "predictions_postprocessed")["dev_3.csv"].splitlines()
    assert text[1] == f"0.040,{values[0] * 2.0 + 0.5:.6g},{values[1] * 2.0 + 0.5:.6g}"
    header = content_of(written / "predictions")["dev_2.csv"].splitlines()[0]
    assert header == "time,arousal,valence,arousal_gold,valence_gold"


def test_arff_has_the_form_of_the_release_with_a_row_for_the_beginning(written):
    path = written / "predictions_avec/valence/dev_2.arff"
    chosen = curves_of()["cautious"][1].predicted[:, 1]
    lines = path.read_text().splitlines()
    assert lines[:8] == [
        "@relation PREDICTION_VALENCE", "", "@attribute Instance_name string", "@attribute frameTime numeric",
        "@attribute Prediction numeric", "", "@data", "",
    ]  # fmt: skip
    assert lines[8:11] == [
        f"'dev_2',0.00,{chosen[0]:.6g}", f"'dev_2',0.04,{chosen[0]:.6g}", f"'dev_2',0.08,{chosen[1]:.6g}",
    ]  # fmt: skip
    table = read_arff(path)
    assert table.values.shape == (7501, 2) and set(table.text_columns["Instance_name"]) == {"dev_2"}
    np.testing.assert_allclose(table.values[:, 0], np.arange(7501) / 25, atol=1e-9)
    np.testing.assert_allclose(table.values[1:, 1], chosen, rtol=1e-5)
    assert table.values[0, 1] == table.values[1, 1]


def test_arff_is_written_on_request_only(tmp_path):
    write_curves(tmp_path, curves_of(), "raw", 25)
    assert {name.split("/")[0] for name in content_of_names(tmp_path)} == {
        "predictions", "predictions_postprocessed", "predictions.h5",
    }  # fmt: skip
    # Without a chain the post-processed files hold the raw curve.
    assert content_of(tmp_path / "predictions") == content_of(tmp_path / "predictions_postprocessed")


def content_of_names(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "change",
    [
        lambda curves: curves.pop("raw"),
        lambda curves: curves.update(smoothed=curves["raw"]),
        lambda curves: curves["cautious"].reverse(),
        lambda curves: curves["cautious"].pop(),
        lambda curves: curves["cautious"].__setitem__(1, Prediction("dev_2", np.zeros((3, 2)), None)),
        lambda curves: curves["cautious"].__setitem__(0, replace(curves["cautious"][0], recording="dev_8")),
    ],
    ids=["no raw", "unknown kind", "other order", "one less", "other length", "other recording"],
)
def test_kinds_that_do_not_belong_together_are_refused(change, tmp_path):
    curves = curves_of()
    change(curves)
    with pytest.raises(ValueError):
        write_curves(tmp_path, curves, "cautious", 25)
    assert not content_of_names(tmp_path)


def replaced(file, name, values):
    del file[name]
    file[name] = values


def external(file):
    """Makes a curve be read from another file on the disk."""
    del file["dev_9/raw"]
    file["dev_9"].create_dataset("raw", shape=(30, 2), dtype="f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file):
    del file["dev_9/raw"]
    layout = h5py.VirtualLayout((30, 2), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "raw", (30, 2))
    file["dev_9"].create_virtual_dataset("raw", layout)


def enlarged(file):
    """Announces 8 TB of one value, in a file of kilobytes."""
    del file["dev_9/raw"]
    file["dev_9"].create_dataset("raw", shape=(10**12, 2), dtype="f4", chunks=(10**6, 2))


def many_names(file):
    """Gives one table so many names that reading all of them would take many times the file's size."""
    for i in range(3000):
        file[f"copy_{i}"] = file["dev_2"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.attrs.__delitem__("chosen"), "chosen"),
        (lambda file: file.attrs.__setitem__("chosen", np.bytes_(b"best")), "its chosen kind is"),
        (lambda file: file.attrs.__setitem__("chosen", np.bytes_(b"avec")), "has the curves cautious, raw"),
        (lambda file: file.attrs.__setitem__("frame_rate_hz", np.nan), "its frame rate is"),
        (lambda file: file.attrs.__setitem__("frame_rate_hz", np.inf), "its frame rate is"),
        (lambda file: file.attrs.__setitem__("dimensions", np.array([b"valence", b"arousal"])), "its dimensions are"),
        (lambda file: [file.__delitem__(name) for name in list(file)], "it holds no recordings"),
        (lambda file: file.move("dev_3", ".."), "'..' is not a valid name of a recording"),
        (lambda file: file.move("dev_3", ".hidden"), "'.hidden' is not a valid name of a recording"),
        (lambda file: replaced(file, "dev_3", np.zeros((1, 2), "f4")), "dev_3 is not a group"),
        (lambda file: file.__setitem__("dev_4", h5py.SoftLink("/dev_3")), "'dev_4' is a link"),
        (lambda file: file.__setitem__("dev_4", h5py.ExternalLink("/etc/passwd", "/")), "'dev_4' is a link"),
        (lambda file: file["dev_3"].__setitem__("gold", h5py.SoftLink("/dev_9/gold")), "'gold' is a link"),
        (lambda file: file.__delitem__("dev_3/raw"), "dev_3 has the curves cautious"),
        (lambda file: file["dev_3"].__setitem__("mine", np.zeros((1, 2), "f4")), "dev_3 has the curves"),
        (lambda file: file["dev_3"].__setitem__("avec", np.zeros((1, 2), "f4")), "dev_3 has the curves"),
        (lambda file: replaced(file, "dev_3/raw", np.zeros((2, 2), "f4")), "different numbers of frames"),
        (lambda file: file["dev_3"].__setitem__("gold", np.zeros((2, 2), "f4")), "different numbers of frames"),
        (lambda file: replaced(file, "dev_3/raw", np.zeros((1, 2), "f8")), "dev_3/raw is not a table of float32"),
        (lambda file: replaced(file, "dev_3/raw", np.zeros(2, "f4")), "dev_3/raw is not a table of float32"),
        (lambda file: replaced(file, "dev_3/raw", np.zeros((1, 3), "f4")), r"dev_3/raw has the shape \(1, 3\)"),
        (lambda file: replaced(file, "dev_3/raw", np.full((1, 2), np.nan, "f4")), "not finite"),
        (external, "not stored in the file"),
        (virtual, "not stored in the file"),
        (enlarged, "not stored in the file"),
        (many_names, "not stored in the file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_ours_is_refused_in_one_line(damage, reason, written):
    path = written / "predictions.h5"
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=reason) as error:
        read_curves(path)
    message = str(error.value)
    assert message.startswith(f"{path} is not a file of predictions, or is damaged (") and "\n" not in message


@pytest.mark.parametrize("kept", [0, 1, 100, 3000, -1000])
def test_a_cut_file_is_refused(kept, written):
    path = written / "predictions.h5"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="is not a file of predictions, or is damaged"):
        read_curves(path)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=f"^{tmp_path}/nothing.h5 does not exist; evaluate again"):
        read_curves(tmp_path / "nothing.h5")
    with pytest.raises(UserError, match=f"^{tmp_path} does not exist; evaluate again"):
        read_curves(tmp_path)
