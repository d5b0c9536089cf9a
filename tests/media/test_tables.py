"""Text tables: what releases write comes back as numbers, and damage is named by file and line."""

import numpy as np
import pytest

from affect.errors import UserError
from affect.media.arff import line_of_row, read_arff
from affect.media.tables import read_numbers
from tfrecords_tools.corpora.avec2016 import read_frame_times
from tfrecords_tools.corpora.labels import from_gold_csv, from_regular_csv

ARFF = "@relation GOLD\n\n@attribute Instance_name string\n@attribute frameTime numeric\n\n@data\n\n{rows}\n"


@pytest.mark.parametrize("name", ["'train_1'", "train_1"])
@pytest.mark.parametrize("comment", ["", "% a comment\n"])
def test_arff_with_quoted_and_bare_names_and_blank_lines(tmp_path, name, comment):
    path = tmp_path / "t.arff"
    path.write_text(ARFF.format(rows=f"{name},0.00\n\n{comment}{name},0.04"))
    table = read_arff(path)
    assert list(table["Instance_name"]) == ["train_1", "train_1"]
    np.testing.assert_array_equal(table["frameTime"], [0.0, 0.04])
    assert line_of_row(path, 1) == path.read_text().splitlines().index(f"{name},0.04") + 1


@pytest.mark.parametrize("odd", ["", "\n"])  # a blank line sends it the slow way
def test_arff_the_fast_and_the_slow_way_give_equal_numbers(tmp_path, odd):
    values = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.arange(-8, 2, 4)
    rows = "\n".join("'a'," + ",".join(repr(float(value)) for value in row) for row in values)
    path = tmp_path / "t.arff"
    columns = "".join(f"@attribute 'f {i}' real\n" for i in range(3))
    path.write_text(f"@RELATION x\n@ATTRIBUTE name string\n{columns}@DATA\r\n{odd}{rows}\n{odd}'b',?,1,2\n")
    table = read_arff(path)
    np.testing.assert_array_equal(table.select(["f 0", "f 1", "f 2"]).to_numpy()[:50], values)
    assert np.isnan(table["f 0"][50]) and table["f 2"][50] == 2.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no @data line"),
        (ARFF.format(rows=""), "no rows after @data"),
        (ARFF.format(rows="'a',0.00\n'a'"), "line 9: 1 values where the header names 2; was it cut"),
        (ARFF.format(rows="'a',0.00\n'a',zero"), "line 9: 'frameTime' is 'zero', not a number"),
        (ARFF.format(rows="'a',0.00\n'a',1,2"), "line 9: 3 values where the header names 2"),
        ("@attribute x\n@data\n1\n", "line 1: expected '@attribute NAME TYPE'"),
        ("@attribute x real\n@attribute x real\n@data\n1,1\n", "line 2: a second attribute is called 'x'"),
        ("@data\n1\n", "its header names no attributes"),
    ],
)
def test_damaged_arff_names_file_and_line(tmp_path, content, message):
    path = tmp_path / "t.arff"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"t\.arff.*{message}"):
        read_arff(path)


def test_numbers_with_byte_order_mark_blank_lines_and_trailing_blanks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufefftime;FM1 ;FM2 \n\n0.00;0.5;-1\n0.04; .25;1e-3\n".encode())
    table = read_numbers(path, ";", header=True)
    assert table.columns == ("time", "FM1", "FM2")
    np.testing.assert_array_equal(table.values, [[0, 0.5, -1], [0.04, 0.25, 1e-3]])
    np.testing.assert_array_equal(table.lines, [3, 4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no rows of numbers"),
        (b"time;a\n0;1\n1;x\n", "line 3: 'x' is not a number"),
        (b"time;a\n0;1\n1\n", r"line 3: 1 cell\(s\) where 2 were expected; are the cells separated by ';'"),
        (b"time;a\n0;1\n1;2;3\n", r"line 3: 3 cell\(s\) where 2 were expected; was it cut"),
        (b"frame;time\n0;1\n1;1\n", "line 3: time 1 again; rows must be sorted by time, once each"),
        (b"time;caf\xe9\n0;1\n", "line 1: byte 0xE9 is not UTF-8"),
        (b"time;t\n0;2\n1;1\n", "line 3: time 1 after 2"),
        (b"time;t\n0;0\n1;nan\n", "line 3: the time is not a finite number"),
    ],
)
def test_damaged_tables_name_file_and_line(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"t\.csv.*{message}"):
        read_frame_times(path)


@pytest.mark.parametrize("period", [0.01, 0.04, 0.5, 1.0])
def test_labels_at_any_regular_rate_are_interpolated_at_the_frames_ends(tmp_path, period):
    times = np.arange(round(6 / period) + 1) * period
    path = tmp_path / "labels.csv"
    rows = [f"{t:.4f},{0.1 * t:.6f},{-0.1 * t:.6f}" for t in times]
    path.write_text("\n".join(["time,arousal,valence", *rows]))
    labels = from_regular_csv(path)
    ends = np.arange(1, 151) / 25
    np.testing.assert_allclose(labels, np.stack([0.1 * ends, -0.1 * ends], axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0,0,0", "1,0,0", "2,0,0", "4,0,0"], "line 5: 2 s after the label before; labels must come"),
        (["5,0,0", "6,0,0"], "labels start at 5 s"),
        (["0,0,0"], "a single label"),
        (["0,0,0", "1,nan,0"], "line 3: arousal is nan"),
        (["0,0,0", "1,0,7"], r"line 3: valence is 7; ratings lie in \[-1, 1\]"),
    ],
)
def test_irregular_labels_are_refused(tmp_path, rows, message):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["time,arousal,valence", *rows]))
    with pytest.raises(UserError, match=message):
        from_regular_csv(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0,0", "0.04,0", "0.12,0"], r"line 3: a rating at 0\.12 s where 0\.08 s was expected"),
        (["0.04,0", "0.08,0"], "ratings must start at 0"),
        (["0,0"], "fewer than two"),
        (["0,0", "0.04,nan"], "line 2: the rating is nan"),
        (["0,0", "0.08,0", "0.04,0"], r"line 3: time 0\.04 after 0\.08"),
    ],
)
def test_ratings_off_the_grid_are_refused(tmp_path, rows, message):
    path = tmp_path / "P16.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(UserError, match=message):
        from_gold_csv(path, path)
