"""Text tables: the formats that releases use are read as numbers, and damage is named by file and line."""

import numpy as np
import pytest

from affect.errors import UserError
from affect.media import tables
from affect.media.arff import read_arff
from affect.media.feature_tables import instance_names, read_feature_table
from affect.media.tables import ANY_SEPARATOR, check_finite, check_times, read_numbers

ARFF = "@relation GOLD\n\n@attribute Instance_name string\n@attribute frameTime numeric\n\n@data\n\n{rows}\n"


@pytest.mark.parametrize("name", ["'train_1'", "train_1"])
@pytest.mark.parametrize("comment", ["", "% a comment\n", "% 'train_1',0.02\n"])
def test_arff_may_have_quoted_and_bare_names_blank_lines_and_comments(tmp_path, name, comment):
    path = tmp_path / "t.arff"
    path.write_text(ARFF.format(rows=f"{name},0.00\n\n{comment}{name},0.04"))
    table = read_arff(path)
    assert table.text_columns == {"Instance_name": ["train_1", "train_1"]}
    assert table.columns == ("frameTime",)
    np.testing.assert_array_equal(table.values, [[0.0], [0.04]])
    assert table.lines[1] == path.read_text().splitlines().index(f"{name},0.04") + 1


@pytest.mark.parametrize("last", ["'b',?,1,2", "'b',nan,1,2"])  # NumPy parses NaN, but not a missing value
def test_arff_parsed_by_numpy_or_row_by_row_gives_the_exact_numbers(tmp_path, last):
    values = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.arange(-8, 2, 4)
    rows = "\n".join("'a'," + ",".join(repr(float(value)) for value in row) for row in values)
    path = tmp_path / "t.arff"
    columns = "".join(f"@attribute 'f {i}' real\n" for i in range(3))
    path.write_text(f"@RELATION x\n@ATTRIBUTE name string\n{columns}@DATA\r\n\n{rows}\n\n{last}\n")
    table = read_arff(path)
    assert table.columns == ("f 0", "f 1", "f 2")
    np.testing.assert_array_equal(table.values[:50], values)
    np.testing.assert_array_equal(table.values[50], [np.nan, 1.0, 2.0])
    assert table.text_columns["name"] == ["a"] * 50 + ["b"]
    assert table.lines.tolist() == [*range(8, 58), 59]


def test_text_and_numbers_may_come_in_any_order_and_with_blanks(tmp_path):
    path = tmp_path / "t.arff"
    path.write_text(
        "@attribute x real\n@attribute who string\n@attribute y integer\n@attribute how {calm,tense}\n@data\n"
        "1.5, 'anna b' ,2, calm\n -2e-3,ben,3 ,'it''s'\n"
    )
    table = read_arff(path)
    assert table.columns == ("x", "y")
    np.testing.assert_array_equal(table.values, [[1.5, 2.0], [-2e-3, 3.0]])
    assert table.text_columns == {"who": ["anna b", "ben"], "how": ["calm", "it's"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no @data line"),
        (ARFF.format(rows=""), "no rows after @data"),
        (ARFF.format(rows="% 'a',0.00"), "no rows after @data"),
        (ARFF.format(rows="'a',0.00\n'a'"), r"line 9: 1 value\(s\) where the header declares 2; was it cut"),
        (ARFF.format(rows="'a',0.00\n'a',zero"), "line 9: 'frameTime' is 'zero', not a number"),
        (ARFF.format(rows="'a',0.00\n'a',1,2"), r"line 9: 3 value\(s\) where the header declares 2"),
        (ARFF.format(rows="'a',0.00,1\n'a',1,2"), r"line 8: 3 value\(s\) where the header declares 2"),
        ("@attribute x\n@data\n1\n", "line 1: expected '@attribute NAME TYPE'"),
        ("@attribute\n@data\n1\n", "line 1: expected '@attribute NAME TYPE'"),
        ("@attribute x real\n@attribute x real\n@data\n1,1\n", "line 2: attribute 'x' is declared twice"),
        ("@data\n1\n", "its header declares no attributes"),
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


LABELS = [[0, 0, -1], [0.04, 0.25, 1e-3]]


@pytest.mark.parametrize(
    "content",
    [
        "time,arousal,valence\n0,0,-1\n0.04,.25,1e-3",  # no line feed at the end
        "time;arousal;valence\r\n0;0;-1\r\n0,04;0,25;0,001\r\n",
        "time\tarousal\tvalence\r0\t0\t-1\r0,04\t0,25\t1e-3\r",
        "sep=;\ntime;arousal;valence\n0;0;-1\n0.04;0.25;0.001\n",
        "\nSEP=|\ntime|arousal|valence\n0|0|-1\n0,04|0,25|0,001\n",
        "time,arousal,valence,,\n0,0,-1,,\n0.04,0.25,0.001,,\n,,,,\n",
        "time,arousal,valence\n0,0,-1,\n0.04,0.25,0.001,\n",
        '"time","arousal","valence"\n"0","0","-1"\n\n"0.04","0.25","0.001"\n\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write_is_read_where_it_is_unambiguous(tmp_path, content, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode(encoding))
    table = read_numbers(path, ANY_SEPARATOR, header=True)
    assert table.columns == ("time", "arousal", "valence")
    np.testing.assert_array_equal(table.values, LABELS)
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert ["-1" in lines[table.lines[0] - 1], "25" in lines[table.lines[1] - 1]] == [True, True]


def test_a_table_without_a_header_may_have_decimal_commas(tmp_path):
    path = tmp_path / "P16.csv"
    path.write_text("0,00;0,5;\n0,04;-0,25;\n")
    np.testing.assert_array_equal(read_numbers(path, ANY_SEPARATOR, header=False).values, [[0, 0.5], [0.04, -0.25]])


def test_arff_may_have_the_line_ends_and_the_encoding_of_any_system(tmp_path):
    path = tmp_path / "t.arff"
    for end in ("\n", "\r\n", "\r"):
        for encoding in ("utf-8-sig", "utf-16"):
            path.write_bytes(ARFF.format(rows="'a',0.04").replace("\n", end).encode(encoding))
            table = read_arff(path)
            assert (table.values.tolist(), table.lines.tolist()) == ([[0.04]], [8])


def test_thousands_of_columns_are_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 6_373))
    path = tmp_path / "t.csv"
    rows = [f"'unknown';{k / 25};" + ";".join(map(repr, row.tolist())) for k, row in enumerate(values)]
    path.write_text("\n".join(["name;frameTime;" + ";".join(f"f{i}" for i in range(6_373)), *rows]))
    _, _, read = read_feature_table(path)
    np.testing.assert_array_equal(read, values)
    assert instance_names(path) == []  # openSMILE was not told a name


@pytest.mark.parametrize("kind", ["csv", "arff"])
def test_the_beginning_of_a_table_is_whole_lines(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tables, "HEAD_BYTES", 200)
    separator, head = (";", "frameTime;F0") if kind == "csv" else (
        ",", "@attribute frameTime real\n@attribute F0 real\n@data"
    )  # fmt: skip
    path = tmp_path / f"t.{kind}"
    path.write_text("\n".join([head, *(f"{k / 25:.2f}{separator}{k / 7:.3f}" for k in range(100)), f"9{separator}x"]))
    _, times_secs, values = read_feature_table(path, head_only=True)
    assert 5 < len(times_secs) < 20
    np.testing.assert_allclose(values[:, 0], np.arange(len(times_secs)) / 7, atol=1e-3)
    with pytest.raises(UserError, match="line 10[24]: .*x"):
        read_feature_table(path)


@pytest.mark.parametrize(
    "columns", ["name;frameIndex;frameTime", "name;frameTime", "frameIndex;frameTime", "frameTime"]
)
def test_tables_of_opensmile_may_begin_with_a_name_and_an_index(tmp_path, columns):
    cells = {"name": "'talk_1'", "frameIndex": "{k}", "frameTime": "{k}.5"}
    row = ";".join(cells[name] for name in columns.split(";"))
    path = tmp_path / "t.csv"
    path.write_text(f"{columns};F0;loud\n" + "".join(f"{row};{{k}}e-1;\n".format(k=k) for k in (0, 1)))
    names, times_secs, values = read_feature_table(path)
    assert names == ("F0", "loud")
    np.testing.assert_array_equal(times_secs, [0.5, 1.5])
    np.testing.assert_array_equal(values, [[0, np.nan], [0.1, np.nan]])  # an empty cell is a missing value
    assert instance_names(path) == (["talk_1"] if "name" in columns else [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no rows of numbers"),
        (b"time;a\n", "contains no rows of numbers"),
        (b"time,a\n0,1\n", "line 1: only one column; are the cells separated by ';'"),
        (b"time;a\n0;1\n1;x\n", "line 3: 'x' is not a number"),
        (b"time;a\n0;1\n1\n", r"line 3: 1 cell\(s\) where 2 were expected; are the cells separated by ';'"),
        (b"time;a\n0;1\n1;2;3\n", r"line 3: 3 cell\(s\) where 2 were expected; was it cut"),
        (b"frame;time\n0;1\n1;1\n", "line 3: time 1 is repeated; rows must be sorted by time, each time once"),
        (b"time;caf\xe9\n0;1\n", "line 1: byte 0xE9 is not UTF-8"),
        (b"time;t\n0;2\n1;1\n", "line 3: time 1 follows 2"),
        (b"time;t\n0;0\n1;nan\n", "line 3: the time is not a finite number"),
    ],
)
def test_damaged_tables_name_file_and_line(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"t\.csv.*{message}"):
        table = read_numbers(path, ";", header=True)
        check_times(table.values[:, 1], table.lines, path)


def test_a_value_that_is_not_finite_is_named(tmp_path):
    with pytest.raises(UserError, match=r"t\.csv, line 7: loudness is inf, not a finite number"):
        check_finite(np.array([0.0, np.inf]), np.array([5, 7]), "loudness", tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "head", "separator"),
    [
        (
            "t.arff",
            "@attribute n string\n@attribute frameTime real\n@attribute F0 real\n@attribute loud real\n@data",
            ",",
        ),
        ("t.csv", "Time;F0;loud", ";"),
    ],
)
def test_feature_tables_are_arff_or_separated_by_semicolons(tmp_path, name, head, separator):
    first = ["x"] if name.endswith("arff") else []
    rows = [separator.join([*first, *cells]) for cells in (("0.00", "1.5", "2"), ("0.04", "nan", "3"))]
    path = tmp_path / name
    path.write_text("\n".join([head, *rows]) + "\n")
    columns, times_secs, values = read_feature_table(path)
    assert columns == ("F0", "loud")
    np.testing.assert_array_equal(times_secs, [0.0, 0.04])
    np.testing.assert_array_equal(values, [[1.5, 2], [np.nan, 3]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("frameTime;F0\n0;1\n0;2\n", "line 3: time 0 is repeated"),
        ("frameTime;F0\n0;1\nnan;2\n", "line 3: the time is not a finite number"),
        ("F0;loud\n0;1\n", "expected frameTime and then values, got F0, loud"),
        ("name;F0\n'a';1\n", "expected frameTime and then values, got F0"),
        ("name\n'a'\n", "only one column"),
        ("name;name\n'a';'b'\n", "expected frameTime and then values, got "),
    ],
)
def test_feature_tables_without_increasing_times_are_refused(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"t\.csv.*{message}"):
        read_feature_table(path)
