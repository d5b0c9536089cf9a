"""The presets, as plain data."""

from affect.config import override
from affect.presets import get_preset


def test_presets_never_clip_and_keep_their_rate():
    for preset in ("paper", "adieu2016"):
        train = get_preset(preset, "audio").train
        assert (train.clip_norm, train.plateau_epochs, train.early_stop_epochs, train.precision) == (0, 0, 0, "float32")
    assert override(get_preset("paper"), ["train.precision=mixed_bfloat16"]).train.precision == "mixed_bfloat16"
