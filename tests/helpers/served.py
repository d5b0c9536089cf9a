"""Exported models of tiny networks, and streams through them."""

import keras
import msgspec
import numpy as np

from affect.config import ModelConfig, modalities_of
from affect.models.network import build_network
from affect.models.stepping import delay_frames
from affect.serving.contract import CONTRACT_NAME, LABEL_TIME, Contract, FaceCrops, TrainingData
from affect.serving.signatures import write_saved_model
from affect.storage import write_json

# Odd and even taps whose reach ends within a frame; the predictions come two frames late.
TINY = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(9, 24), audio_pool=2, audio_channel_pool=2, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="unit", lstm_units=(5, 6), dropout=0.0,
)  # fmt: skip


def contract_of(config: ModelConfig, modality: str, **changes) -> Contract:
    """A contract for a network; `changes` replace fields."""
    contract = Contract(
        written_by="affect test", versions={}, modality=modality, outputs=("arousal", "valence"), frame_rate_hz=25,
        sample_rate_hz=25 * config.frame_samples, frame_samples=config.frame_samples, label_time=LABEL_TIME,
        standardise="recording", delay_frames=delay_frames(config, modality), label_delay_secs=0.0,
        faces=FaceCrops(
            detector="mtcnn", detector_height=360, detect_every=3, margin=0.1, smoothing_secs=0.24,
            size=config.crop_size, jpeg_quality=95, faceless_frames="keep",
        ) if "video" in modalities_of(modality) else None,
        postprocessing=None,
        training_data=TrainingData(
            synthetic=False, layout="avec2016", recordings=1, subjects=1, frames=1, sound_level_dbfs=None,
            face_share=None,
        ),
    )  # fmt: skip
    return msgspec.structs.replace(contract, **changes)


def network_of(config: ModelConfig, modality: str) -> keras.Model:
    """A training network with random kernels, whose biases and batch-norm statistics are not the initial ones."""
    keras.utils.set_random_seed(1)
    network = build_network(config, modality)
    rng = np.random.default_rng(2)
    for weight in network.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign_add(0.1 * rng.normal(size=weight.shape))
    return network


def export_network(network: keras.Model, config: ModelConfig, contract: Contract, folder) -> None:
    """Writes what `affect.serving.export` writes and a stream needs."""
    write_saved_model(network, config, contract.modality, folder, contract.standardise)
    write_json(folder / CONTRACT_NAME, contract)


def recording_of(config: ModelConfig, modality: str, frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random frames: "audio" int16 [frames, frame_samples] and/or "video" uint8 [frames, size, size, 3]."""
    rng, inputs = np.random.default_rng(seed), {}
    if "audio" in modalities_of(modality):
        loudness = rng.uniform(200, 3_000, size=(frames, 1))
        inputs["audio"] = (rng.normal(size=(frames, config.frame_samples)) * loudness + 50).astype(np.int16)
    if "video" in modalities_of(modality):
        tint = rng.random((frames, 1, 1, 3))
        inputs["video"] = (rng.uniform(0, 256, (frames, config.crop_size, config.crop_size, 3)) * tint).astype(np.uint8)
    return inputs


def in_chunks(stream, inputs: dict[str, np.ndarray], sizes) -> np.ndarray:
    """Pushes all frames in chunks of the given sizes and finishes; returns the curve, [frames, 2]."""
    curve, start, frames = [], 0, len(next(iter(inputs.values())))
    for size in sizes:
        curve.append(stream.push(**{name: values[start : start + size] for name, values in inputs.items()}))
        start += size
    assert start >= frames
    return np.concatenate([*curve, stream.finish()])


def sizes_of(kind: int | str, frames: int) -> list[int]:
    """Sizes of chunks that cover the frames: all of one size, or random ones from 1 to 40."""
    if isinstance(kind, int):
        return [kind] * -(-frames // kind)
    sizes = np.random.default_rng(7).integers(1, 41, size=frames)
    return sizes[: np.searchsorted(np.cumsum(sizes), frames) + 1].tolist()
