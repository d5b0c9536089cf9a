"""Initial weights: trained nets, ImageNet, a local file; and one line if they cannot be loaded."""

from pathlib import Path

import h5py
import keras
import msgspec
import numpy as np
import pytest

from affect.config import DataConfig, Experiment, ModelConfig, TrainConfig, override
from affect.errors import UserError
from affect.learning.initial_weights import load_initial_weights
from affect.learning.options import RunOptions
from affect.learning.strategy import make_strategy
from affect.learning.training import train
from affect.models.network import build_network
from affect.models.trained import TrainedNetwork
from affect.presets import get_preset
from affect.runs import RunFolder

FRAMED = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(5, 4), audio_channel_pool=2, audio_framed=True, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="unit", lstm_units=(5, 6), dropout=0.0,
)  # fmt: skip
# A small audio net beside a ResNet-50 of the real size.
RESNET = ModelConfig(frame_samples=16, audio_filters=(2, 2), audio_taps=(3, 3), audio_channel_pool=2, crop_size=32)


def experiment_of(modality, config=FRAMED, video_weights="none", standardise="recording"):
    return Experiment(
        modality, config, DataConfig(standardise=standardise), train=TrainConfig(video_weights=video_weights)
    )


def trained(modality, config=FRAMED, **settings):
    experiment = experiment_of(modality, config, **settings)
    return TrainedNetwork(RunFolder(Path(f"runs/{modality}")), experiment, build_network(config, modality))


def assert_same_weights(a, b):
    assert all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def test_fusion_keeps_the_nets_and_starts_new_lstms():
    unimodal = {modality: trained(modality) for modality in ("audio", "video")}
    network = build_network(FRAMED, "audiovisual")
    lstm_before = network.get_layer("lstm1").get_weights()
    report = load_initial_weights(network, experiment_of("audiovisual"), unimodal)
    for modality, source in unimodal.items():
        name = f"{modality}_net"
        assert_same_weights(network.get_layer(name), source.network.get_layer(name))
    for before, after in zip(lstm_before, network.get_layer("lstm1").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    origins = {line.split(":")[0]: line.split(" weights ")[1] for line in report}
    assert origins == {
        "audio_net": "from runs/audio", "video_net": "from runs/video", "lstm1": "new", "lstm2": "new",
        "predictions": "new",
    }  # fmt: skip


def test_nets_of_other_sizes_or_another_modality_are_refused():
    network = build_network(FRAMED, "audiovisual")
    experiment = experiment_of("audiovisual")
    # audio_framed and standardise do not change the shapes of the weights, but what they mean.
    for other, message in (
        (
            trained("audio", msgspec.structs.replace(FRAMED, audio_taps=(7, 4))),
            r"runs/audio has model.audio_taps \(7, 4\)",
        ),
        (
            trained("audio", msgspec.structs.replace(FRAMED, audio_framed=False)),
            "runs/audio has model.audio_framed False",
        ),
        (trained("audio", standardise="none"), "runs/audio has data.standardise none, but this run has recording"),
        (trained("video"), "--init_audio=runs/video is a run of --modality=video, which has no audio net"),
    ):
        with pytest.raises(UserError, match=message):
            load_initial_weights(network, experiment, {"audio": other})


def write_as_keras_applications_does(model, path):
    """The layout of the files that Keras distributes: a group per layer, a dataset per weight."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0".encode() for weight in layer.weights]
            group.attrs["weight_names"] = names
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name.decode(), data=weight.numpy())


@pytest.mark.parametrize("kind", ["distributed", "weights"])
def test_resnet50_starts_from_a_local_keras_file(tmp_path, kind):
    source = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    path = tmp_path / ("resnet50_notop.h5" if kind == "distributed" else "resnet50.weights.h5")
    if kind == "distributed":
        write_as_keras_applications_does(source, path)
    else:
        source.save_weights(path)
    network = build_network(RESNET, "video")
    report = load_initial_weights(network, experiment_of("video", RESNET, str(path)), {})
    assert_same_weights(network.get_layer("video_net").get_layer("resnet50"), source)
    assert report[0] == f"video_net: 23,587,712 weights from {path}"


def test_a_missing_or_broken_weight_file_gives_one_line_with_the_way_out(tmp_path):
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    network = build_network(RESNET, "video")
    for path in (tmp_path / "missing.h5", tmp_path / "broken.h5"):
        with pytest.raises(UserError, match=f"{path.name}.*--set=train.video_weights=FILE") as caught:
            load_initial_weights(network, experiment_of("video", RESNET, str(path)), {})
        assert "\n" not in str(caught.value)


def test_imagenet_weights_that_cannot_be_downloaded_leave_no_run_folder(data_dir, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org/resnet50.h5: None --\n no route")

    monkeypatch.setattr("keras.src.applications.resnet.file_utils.get_file", no_network)
    experiment = override(get_preset("paper", "video"), [f"data.data_dir={data_dir}"])
    assert experiment.train.video_weights == "imagenet"
    with pytest.raises(UserError, match="ImageNet weights cannot be downloaded .*no route.*=none") as caught:
        train(experiment, tmp_path / "run", {}, make_strategy("one_device"), RunOptions())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_trained_video_nets_take_precedence_over_imagenet(monkeypatch):
    source = trained("video", RESNET)
    network = build_network(RESNET, "audiovisual")
    monkeypatch.setattr("keras.applications.ResNet50", None)  # must not be called
    report = load_initial_weights(network, experiment_of("audiovisual", RESNET, "imagenet"), {"video": source})
    assert "video_net: 23,587,712 weights from runs/video" in report
