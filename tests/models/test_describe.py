"""The table of layers: every parameter is counted once, and multiply-adds equal those worked out by hand."""

import pytest

from affect.models.describe import rows, table
from affect.models.network import build_network
from affect.presets import get_preset


@pytest.mark.parametrize(("preset", "modality"), [("paper", "audiovisual"), ("demo", "video"), ("adieu2016", "audio")])
def test_every_parameter_is_described_once(preset, modality):
    config = get_preset(preset, modality).model
    assert sum(row.parameters for row in rows(config, modality)) == build_network(config, modality).count_params()


def test_multiply_adds_and_memory_equal_those_worked_out_by_hand():
    described = {row.name: row for row in rows(get_preset("paper").model, "audiovisual")}
    assert described["audio_net/conv2"].multiply_adds == 8000 * 4000 * 20 * 40
    assert described["audio_net/conv2"].output_bytes == 8000 * 40 * 4
    assert described["audio_net/conv2"].shape == (8000, 40)
    assert described["video_net/conv1"].multiply_adds == 25 * 48 * 48 * 7 * 7 * 3 * 64
    assert described["lstm1"].multiply_adds == 25 * 4 * 256 * (3328 + 256)
    assert described["predictions"].multiply_adds == 25 * 256 * 2


def test_the_table_ends_with_the_totals():
    described = rows(get_preset("demo", "audio").model, "audio")
    last = table(described).splitlines()[-1].split()
    assert last[0] == "total"
    assert last[1] == f"{sum(row.parameters for row in described):,}"
