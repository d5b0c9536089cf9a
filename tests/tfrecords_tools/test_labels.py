"""Files of ratings to labels: one label at the end of every frame, and anything irregular is named by file and line."""

import numpy as np
import pytest

from affect.errors import UserError
from tests.helpers import trees
from tfrecords_tools.corpora.avec2016 import read_frame_times
from tfrecords_tools.corpora.labels import from_gold_csv, from_individual_ratings, from_regular_csv


@pytest.mark.parametrize("period", [0.01, 0.04, 0.5, 1.0])
def test_labels_at_any_regular_rate_are_interpolated_at_the_ends_of_the_frames(tmp_path, period):
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
        (["0,0,0", "1,0,0", "2,0,0", "4,0,0"], "line 5: this label is 2 s after the previous one; labels must come"),
        (["5,0,0", "6,0,0"], "labels start at 5 s"),
        (["0,0,0"], "a single label"),
        (["0,0,0", "1,nan,0"], "line 3: arousal is nan"),
        (["0,0,0", "1,0,7"], r"line 3: valence is 7; ratings lie in \[-1, 1\]"),
        ([f"{10 * k},0,0" for k in range(2162)], "labels end at 21610 s; recordings may last up to 6 hours"),
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
        (["0,0", "0.08,0", "0.04,0"], r"line 3: time 0\.04 follows 0\.08"),
    ],
)
def test_ratings_that_are_not_every_40_ms_are_refused(tmp_path, rows, message):
    path = tmp_path / "P16.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(UserError, match=message):
        from_gold_csv(path, path)


def test_dimensions_with_different_numbers_of_ratings_are_refused(tmp_path):
    for name, count in (("arousal", 3), ("valence", 2)):
        (tmp_path / name).write_text("".join(f"{0.04 * k:.2f},0\n" for k in range(count)))
    with pytest.raises(UserError, match="arousal has 3 ratings but .*valence has 2; was one of them truncated"):
        from_gold_csv(tmp_path / "arousal", tmp_path / "valence")


def test_ratings_after_300_seconds_are_dropped(tmp_path):
    path = tmp_path / "P16.csv"
    ratings = np.tile(trees.rating_curve(0, 7601)[:, None], 6)
    trees.write_ratings(path, ratings)
    assert from_individual_ratings(path, path, "mean").shape == (7500, 2)


def test_frame_times_are_the_second_column(tmp_path):
    path = tmp_path / "train_1.csv"
    path.write_text("frame;time\n0;0.01\n1;0.05\n")
    np.testing.assert_array_equal(read_frame_times(path), [0.01, 0.05])
    path.write_text("frame;time\n0;1\n1;1\n")
    with pytest.raises(UserError, match=r"train_1\.csv, line 3: time 1 is repeated"):
        read_frame_times(path)
