"""Curves as CSV."""

import numpy as np
import pandas as pd

from affect.evaluation.curves import Prediction
from affect.evaluation.prediction_files import write_csv


def test_the_times_of_a_recording_of_three_hours_are_all_different(tmp_path):
    frames = 25 * 3 * 3600
    predicted = np.full((frames, 2), [0.123456789, -1.0 / 3.0])
    write_csv(Prediction("long", predicted, None), 25, tmp_path / "long.csv")
    table = pd.read_csv(tmp_path / "long.csv", dtype=str)
    assert table["time"].is_unique
    np.testing.assert_allclose(table["time"].astype(float), np.arange(1, frames + 1) * 0.04, atol=1e-6)
    assert list(table.iloc[-1]) == ["10800.000", "0.123457", "-0.333333"]
    assert list(table["time"][:2]) == ["0.040", "0.080"]
