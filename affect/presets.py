"""Named starting points of an experiment, as plain data; `--set` overrides any field of them."""

import dataclasses

from affect.config import MODALITIES, AugmentConfig, DataConfig, Experiment, ModelConfig, TrainConfig
from affect.errors import UserError


def get_preset(name: str, modality: str = "audiovisual") -> Experiment:
    """A named starting point.

    "paper" is the network of the paper's text, "adieu2016" the authors' first audio network (Trigeorgis et al., "Adieu
    features?", ICASSP 2016) in its place, "demo" learns on two CPU cores in minutes.

    Raises:
      UserError: no such preset or modality.
    """
    if modality not in MODALITIES:
        raise UserError(f"unknown modality {modality!r}; there are {', '.join(MODALITIES)}")
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[name](modality), modality=modality)


def _paper(modality: str) -> Experiment:
    if modality == "audio":
        return Experiment(train=TrainConfig(batch_size=25))
    # GPU memory of the time set the small batch wherever pictures are involved.
    return Experiment(train=TrainConfig(batch_size=2, video_weights="imagenet"))


def _adieu2016(modality: str) -> Experiment:
    model = ModelConfig(audio_filters=(40, 40), audio_taps=(80, 4000), audio_channel_pool=20)
    return dataclasses.replace(_paper(modality), model=model)


def _demo(modality: str) -> Experiment:
    """The paper's structure at a size that two CPU cores train in minutes."""
    return Experiment(
        model=ModelConfig(
            audio_filters=(12, 24),
            audio_taps=(80, 16),
            audio_pool=8,
            audio_channel_pool=4,
            audio_framed=True,
            video_net="narrow",
            video_width=12,
            video_stem_stride=4,
            video_blocks=(1, 1, 1, 1),
            video_scaling="unit",
            dropout=0.3,
            lstm_units=(64, 64),
            recurrent_initializer="orthogonal",
        ),
        # A step always has 800 frames. The face needs many short windows, since the CCC of a batch says little when it
        # holds few different moments; the voice needs longer ones, since syllables come and go.
        data=DataConfig(window_frames=50 if modality == "video" else 100, eval_window_frames=500),
        # Learning was slower with augmentation in every short trial, and a demo has few epochs.
        augment=AugmentConfig(enabled=False),
        train=TrainConfig(
            batch_size=16 if modality == "video" else 8,
            epochs={"audio": 4, "video": 9, "audiovisual": 4}[modality],
            # On the synthetic corpus fusion at 1e-3 gave test valence .584, at 5e-4 .715, each after four epochs.
            learning_rate=5e-4 if modality == "audiovisual" else 1e-3,
        ),
    )


PRESETS = {"paper": _paper, "adieu2016": _adieu2016, "demo": _demo}
