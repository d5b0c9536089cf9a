"""`model.onnx`: ONNX Runtime gives the predictions of the training network, however a recording is cut."""

import shutil
import sys

import numpy as np
import pytest
from msgspec.structs import replace

from affect.config import ModelConfig
from affect.errors import UserError
from affect.models.network import build_network
from affect.models.stepping import delay_frames
from affect.presets import get_preset
from affect.serving import export
from affect.serving.contract import LABEL_TIME, Contract, TrainingData
from affect.serving.onnx import ONNX_NAME, largest_difference, run, write_onnx
from affect.serving.signatures import write_saved_model
from tests.helpers.in_process import call_main

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

FRAMES = 31
# The SavedModel computes the 400 taps of conv 2 by FFT. The delay is 26 frames of 16 samples.
LONG = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(9, 400), audio_pool=2, audio_channel_pool=2, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="imagenet", lstm_units=(5, 6),
    dropout=0.0,
)  # fmt: skip
SHORT = replace(LONG, audio_taps=(9, 24))  # delay 2
FRAMED = replace(SHORT, audio_framed=True)
NETWORKS = {
    "long": (LONG, "audio"),
    "framed": (FRAMED, "audio"),
    "video": (SHORT, "video"),
    "both": (SHORT, "audiovisual"),
}


def planted_network(config, modality, seed=2):
    """A network whose weights, biases and batch-norm moments all differ from their initial values."""
    network = build_network(config, modality)
    rng = np.random.default_rng(seed)
    network.set_weights([weight + 0.1 * rng.normal(size=weight.shape) ** 2 for weight in network.get_weights()])
    return network


def contract_of(config, modality):
    return Contract(
        written_by="affect test", versions={}, modality=modality, outputs=("arousal", "valence"), frame_rate_hz=25,
        sample_rate_hz=16_000, frame_samples=config.frame_samples, label_time=LABEL_TIME, standardise="recording",
        delay_frames=delay_frames(config, modality), label_delay_secs=2.5, faces=None, postprocessing=None,
        training_data=TrainingData(
            synthetic=True, layout="synthetic", recordings=1, subjects=1, frames=1, sound_level_dbfs=None,
            face_share=None,
        ),
    )  # fmt: skip


def write(folder, config, modality, network):
    write_saved_model(network, config, modality, folder)
    write_onnx(network, config, modality, contract_of(config, modality), folder)
    return folder / ONNX_NAME


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory):
    """Config, modality, training network and `model.onnx` of each kind of network."""
    config, modality = NETWORKS[request.param]
    network = planted_network(config, modality)
    return config, modality, network, write(tmp_path_factory.mktemp(request.param), config, modality, network)


def frames_of(network, batch, frames=FRAMES):
    rng = np.random.default_rng(0)
    inputs = {}
    for name, tensor in network.input.items():
        shape = (batch, frames, *tensor.shape[2:])
        video = name == "video"
        inputs[name] = rng.integers(0, 256, shape, np.uint8) if video else rng.standard_normal(shape, np.float32)
    return inputs


def stepped(path, chunks, batch):
    """Runs `model.onnx` on chunks, all state carried; returns the valid predictions of each stream, and the outputs."""
    session = onnxruntime.InferenceSession(path)
    kinds = {"tensor(bool)": bool, "tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    states = {
        item.name: np.zeros((batch, *item.shape[1:]), kinds[item.type])
        for item in session.get_inputs()
        if item.name.startswith("state_")
    }
    outputs = []
    for chunk in chunks:
        outputs.append(run(session, chunk | states))
        states = {name: outputs[-1][f"next_{name}"] for name in states}
    predictions, valid = (np.concatenate([o[name] for o in outputs], axis=1) for name in ("predictions", "valid"))
    return [p[v] for p, v in zip(predictions, valid, strict=True)], outputs


def cut(inputs, sizes, delay):
    """Cuts recordings into chunks of the given sizes, followed by `delay` absent frames."""
    edges = np.cumsum([0, *sizes])
    batch = len(next(iter(inputs.values())))
    for start, stop in zip(edges, edges[1:], strict=False):
        piece = {name: values[:, start:stop] for name, values in inputs.items()}
        yield piece | {"present": np.ones((batch, stop - start), bool)}
    if delay:
        absent = {name: np.zeros_like(values[:, :1]).repeat(delay, axis=1) for name, values in inputs.items()}
        yield absent | {"present": np.zeros((batch, delay), bool)}


@pytest.mark.parametrize(("batch", "sizes"), [(3, [FRAMES]), (1, [1, 2, 25, 3]), (2, [1] * 3)])
def test_onnx_runtime_gives_the_training_networks_predictions_in_any_chunks(exported, batch, sizes):
    config, modality, network, path = exported
    inputs = frames_of(network, batch, sum(sizes))
    streams, _ = stepped(path, cut(inputs, sizes, delay_frames(config, modality)), batch)
    expected = np.array(network(inputs))
    for stream, wanted in zip(streams, expected, strict=True):
        np.testing.assert_allclose(stream, wanted, atol=1e-5)
    assert expected.std() > 1e-3  # the outputs vary, so the comparison can fail


def test_streams_of_a_batch_may_end_at_different_frames_and_hold_anything_after_their_end(exported):
    config, modality, network, path = exported
    delay = delay_frames(config, modality)
    inputs, lengths = frames_of(network, 2), [FRAMES - 4, FRAMES]
    if "audio" in inputs:
        inputs["audio"][0, lengths[0] :] = np.nan
    chunks = list(cut(inputs, [FRAMES - 6, 6], delay))
    chunks[1]["present"][0, 2:] = False
    streams, _ = stepped(path, chunks, 2)
    for row, length in enumerate(lengths):
        alone = {name: values[row : row + 1, :length] for name, values in inputs.items()}
        np.testing.assert_allclose(streams[row], np.array(network(alone))[0], atol=1e-5)


def test_lstms_are_onnx_operators_whose_state_stays_zero_before_the_first_prediction(exported):
    config, modality, network, path = exported
    model = onnx.load(path)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("LSTM") == 2 and not {"Loop", "Scan", "If", "DFT", "BatchNormalization"} & set(kinds)
    delay = delay_frames(config, modality)
    if delay:
        _, [outputs] = stepped(path, list(cut(frames_of(network, 1, delay), [delay], 0)), 1)
        assert not outputs["valid"].any()
        for name in ("lstm1_hidden", "lstm1_cell", "lstm2_hidden", "lstm2_cell"):
            assert not outputs[f"next_state_{name}"].any()


@pytest.mark.parametrize("exported", ["long", "framed"], indirect=True)
def test_the_same_network_gives_the_same_bytes(exported):
    config, modality, network, path = exported
    first = path.read_bytes()
    write_onnx(network, config, modality, contract_of(config, modality), path.parent)
    assert path.read_bytes() == first


@pytest.mark.parametrize("exported", ["both"], indirect=True)
def test_the_graph_says_what_it_is(exported):
    session = onnxruntime.InferenceSession(exported[-1])
    shapes = {item.name: (item.type, item.shape) for item in session.get_inputs()}
    assert shapes["audio"] == ("tensor(float)", ["batch", "time", 16])
    assert shapes["video"] == ("tensor(uint8)", ["batch", "time", 32, 32, 3])
    assert shapes["present"] == ("tensor(bool)", ["batch", "time"])
    assert shapes["state_lstm2_cell"] == ("tensor(float)", ["batch", 6])
    results = {item.name: item.shape for item in session.get_outputs()}
    assert results["predictions"] == ["batch", "time", 2] and results["valid"] == ["batch", "time"]
    states = {name for name in shapes if name.startswith("state_")}
    assert {f"next_{name}" for name in states} | {"predictions", "valid"} == set(results)
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["synthetic"] == "true" and "SYNTHETIC" in properties["training_data"]
    assert (properties["delay_frames"], properties["label_delay_secs"]) == ("2", "2.5")
    assert properties["modality"] == "audiovisual" and "predict.json" in properties["contract"]


@pytest.mark.parametrize("exported", ["framed"], indirect=True)
def test_a_graph_of_other_weights_is_noticed(exported, tmp_path):
    config, modality, network, path = exported
    folder = shutil.copytree(path.parent, tmp_path / "export")
    other = build_network(config, modality)
    *weights, bias = network.get_weights()
    other.set_weights([*weights, bias + np.array([0.0, 0.003], np.float32)])  # of the output valence
    with pytest.raises(UserError, match=r"^model\.onnx predicts other values than the SavedModel.*up to 0\.003 "):
        write_onnx(other, config, modality, contract_of(config, modality), folder)


def test_export_writes_the_graph_beside_the_saved_model(audio_run, tmp_path):
    folder = tmp_path / "export"
    call_main(export, f"--run_dir={audio_run}", f"--output_dir={folder}", "--format=onnx")
    assert {ONNX_NAME, "saved_model.pb", "predict.json"} <= {path.name for path in folder.iterdir()}
    assert largest_difference(folder / ONNX_NAME, folder) < 1e-5


def test_an_export_whose_graph_differs_leaves_nothing(audio_run, tmp_path, monkeypatch):
    for left_out in ("write_saved_model", "check_reload"):  # to save time
        monkeypatch.setattr(export, left_out, lambda *arguments: None)
    monkeypatch.setattr("affect.serving.onnx.largest_difference", lambda path, saved_model: float("nan"))
    with pytest.raises(UserError, match="differ by up to nan"):
        call_main(export, f"--run_dir={audio_run}", f"--output_dir={tmp_path}/export", "--format=onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "tf2onnx"])
def test_a_missing_package_is_one_line_before_any_work(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError) as refused:
        call_main(export, "--run_dir=no_such_run", f"--output_dir={tmp_path}/export", "--format=onnx")
    assert str(refused.value) == f'--format=onnx lacks the packages {missing}; run pip install "affect[onnx]"'


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_a_preset_in_onnx_runtime_equals_the_training_network(tmp_path, preset, modality):
    config = get_preset(preset, modality).model
    network = build_network(config, modality)
    rng = np.random.default_rng(1)
    # Small changes: with 50 layers, larger ones let the features grow beyond what float32 can compare.
    network.set_weights([w + np.float32(0.002) * rng.normal(size=w.shape) ** 2 for w in network.get_weights()])
    path = write(tmp_path, config, modality, network)
    for batch, sizes in ((1, [1]), (1, [150]), (3, [7, 1, 12])):
        inputs = frames_of(network, batch, sum(sizes))
        streams, _ = stepped(path, cut(inputs, sizes, delay_frames(config, modality)), batch)
        np.testing.assert_allclose(np.stack(streams), np.array(network(inputs)), atol=1e-4)
