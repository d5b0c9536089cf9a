"""The signatures of an exported model: values, errors, what the graphs hold, and the check before an export is kept."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from msgspec.structs import replace
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from affect.config import Experiment, ModelConfig, TrainConfig, modalities_of
from affect.errors import UserError
from affect.media.audio import mean_and_std
from affect.models.network import build_network
from affect.models.trained import TrainedNetwork
from affect.presets import get_preset
from affect.serving import export
from affect.serving.reload_check import check_reload
from affect.serving.signatures import (
    SHORTEST_SLICE,
    SLICE_FRAMES,
    STREAM,
    WAVEFORM,
    WHOLE,
    _predict_in_slices,
    write_saved_model,
)
from affect.storage import write_json
from tests.helpers.in_process import call_main

# Frames of 16 samples. Conv 1 and conv 2 look 28 samples ahead, so the delay is two frames; framed, there is none.
DELAYED = ModelConfig(
    frame_samples=16, audio_filters=(3, 4), audio_taps=(9, 24), audio_pool=2, audio_channel_pool=2, crop_size=32,
    video_net="narrow", video_width=2, video_blocks=(1, 1, 1, 1), video_scaling="unit", lstm_units=(5, 6), dropout=0.5,
)  # fmt: skip
FRAMED = replace(DELAYED, audio_framed=True)
DELAY = 2
MODELS = {
    "delayed audio": (DELAYED, "audio"),
    "framed audio": (FRAMED, "audio"),
    "video": (DELAYED, "video"),
    "delayed audiovisual": (DELAYED, "audiovisual"),
    "framed audiovisual": (FRAMED, "audiovisual"),
}


def network_of(config, modality, seed=1):
    """A network whose biases and moments differ from their initial values."""
    keras.utils.set_random_seed(seed)
    network = build_network(config, modality)
    rng = np.random.default_rng(2)
    # Small changes: a saturated network would give the same predictions for all inputs.
    network.set_weights([weight + 0.02 * rng.normal(size=weight.shape) for weight in network.get_weights()])
    return network


def inputs_of(config, modality, batch, time, seed=0):
    rng, inputs = np.random.default_rng(seed), {}
    if "audio" in modalities_of(modality):
        inputs["audio"] = rng.normal(size=(batch, time, config.frame_samples)).astype(np.float32)
    if "video" in modalities_of(modality):
        shape = (batch, time, config.crop_size, config.crop_size, 3)
        inputs["video"] = rng.integers(0, 256, size=shape).astype(np.uint8)
    return inputs


def predictions_of(network, inputs):
    return network(inputs, training=False).numpy()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Returns the folder of a model, its network, config and modality; writes the model when it is first used."""
    written = {}

    def folder_of(name):
        if name not in written:
            config, modality = MODELS[name]
            folder, network = tmp_path_factory.mktemp("model") / "export", network_of(config, modality)
            write_saved_model(network, config, modality, folder)
            written[name] = folder, network, config, modality
        return written[name]

    return folder_of


@pytest.fixture(scope="module")
def models(folders):
    """Returns the signatures of a model, its network, config and modality."""
    loaded = {}

    def signatures_of(name):
        folder, *rest = folders(name)
        if name not in loaded:
            loaded[name] = tf.saved_model.load(str(folder))
        return loaded[name].signatures, *rest

    return signatures_of


SLICE_OF_THREE = max(SLICE_FRAMES // 3, SHORTEST_SLICE)


@pytest.mark.parametrize("name", MODELS)
def test_a_recording_in_slices_has_the_predictions_of_one_window(models, name):
    signatures, network, config, modality = models(name)
    assert list(network.input) == [key for key in signatures[WHOLE].structured_input_signature[1]]
    # The flush fits into the first slice, begins another, or follows a third one.
    times = {1: (1, SLICE_FRAMES - DELAY, SLICE_FRAMES - 1, 2 * SLICE_FRAMES + 3), 3: (1, SLICE_OF_THREE + 1)}
    for batch in times:
        for time in times[batch]:
            inputs = inputs_of(config, modality, batch, time)
            served = signatures[WHOLE](**inputs)["predictions"]
            assert served.dtype == tf.float32 and served.shape == (batch, time, 2)
            np.testing.assert_allclose(served, predictions_of(network, inputs), atol=1e-5)


@pytest.mark.parametrize(("batch", "frames"), [(1, SLICE_FRAMES), (3, SLICE_OF_THREE), (1000, SHORTEST_SLICE)])
def test_slices_of_many_recordings_are_shorter_so_that_memory_stays_the_same(batch, frames):
    sizes = []

    def step(inputs):
        sizes.append(inputs["present"].shape)
        return {"predictions": tf.cast(inputs["present"], tf.float32)[..., None] + inputs["audio"]}

    audio = tf.range(2 * frames + 1, dtype=tf.float32)[None, :, None] + tf.zeros((batch, 1, 2))
    curve = _predict_in_slices(step, {"audio": audio}, [], 5)
    assert sizes == [(batch, frames), (batch, frames), (batch, 6)]
    np.testing.assert_array_equal(curve[0, :, 0], [*range(6, 2 * frames + 2), 0, 0, 0, 0, 0])


@pytest.mark.parametrize("name", ["delayed audiovisual", "framed audio"])
def test_the_stream_gives_the_predictions_of_one_window_in_chunks_of_any_size(models, name):
    signatures, network, config, modality = models(name)
    inputs = inputs_of(config, modality, batch=3, time=31)
    stream, delay = signatures[STREAM], 0 if config.audio_framed else DELAY
    specs = stream.structured_input_signature[1]
    state = {key: np.zeros((3, *spec.shape[1:]), spec.dtype.name) for key, spec in specs.items() if "state_" in key}
    padded = {key: np.pad(x, [(0, 0), (0, delay)] + [(0, 0)] * (x.ndim - 2)) for key, x in inputs.items()}
    present, curve, valid = np.tile(np.arange(31 + delay) < 31, (3, 1)), [], []
    for part in (slice(0, 1), slice(1, 4), slice(4, 29), slice(29, None)):
        frames = {key: values[:, part] for key, values in padded.items()}
        outputs = stream(present=present[:, part], **frames, **state)
        state = {key: outputs[key] for key in state}
        curve.append(outputs["predictions"])
        valid.append(outputs["valid"])
    np.testing.assert_array_equal(np.concatenate(valid, axis=1), np.arange(31 + delay)[None].repeat(3, 0) >= delay)
    curve = np.concatenate(curve, axis=1)[:, delay:]
    np.testing.assert_allclose(curve, predictions_of(network, inputs), atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "time"), [(1, 1), (7, 1), (8, 1), (16, 1), (24, 2), (25, 2), (40, 2), (41, 3), (16 * 150 + 7, 150)]
)
def test_a_waveform_is_cut_into_frames_and_standardised_by_its_own_mean_and_deviation(models, samples, time):
    """Half a frame rounds to an even number of frames, as Python's `round` does; the last frame ends in silence."""
    signatures, network, config, _ = models("delayed audio")
    assert time == max(1, round(samples / 16))
    pcm = np.random.default_rng(samples).normal(3_000, [[500], [5_000]], size=(2, samples)).astype(np.int16)
    frames = []
    for row in pcm:
        mean, deviation = mean_and_std(row)
        signal = np.zeros(time * 16)
        signal[: min(samples, time * 16)] = row[: time * 16] / 32_768
        frames.append((signal - mean) / (deviation or 1.0))
    audio = np.reshape(frames, (2, time, 16)).astype(np.float32)
    served = signatures[WAVEFORM](waveform=(pcm / 32_768).astype(np.float32))["predictions"]
    np.testing.assert_allclose(served, predictions_of(network, {"audio": audio}), atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_constant_waveform_is_silence(models, level):
    """In float32 the mean of many equal values would not always be that value."""
    signatures, network, config, _ = models("delayed audio")
    served = signatures[WAVEFORM](waveform=np.full((1, 16 * 20 + 5), level, np.float32))["predictions"]
    silence = predictions_of(network, {"audio": np.zeros((1, 20, 16), np.float32)})
    np.testing.assert_allclose(served, silence, atol=1e-5)


@pytest.mark.parametrize("samples", [16 * 5, 16 * 9, 16 * 9 + 3, 16 * 14])
def test_the_sound_beside_a_video_is_cut_or_padded_to_its_frames(models, samples):
    signatures, network, config, _ = models("framed audiovisual")
    video = inputs_of(config, "video", batch=2, time=9)["video"]
    waveform = np.random.default_rng(3).normal(0.1, 0.2, size=(2, samples)).astype(np.float32)
    raw = np.pad(waveform, ((0, 0), (0, max(0, 9 * 16 - samples))))[:, : 9 * 16]
    audio = (raw - waveform.mean(1, keepdims=True)) / waveform.std(1, keepdims=True)  # constants of the whole sound
    served = signatures[WAVEFORM](waveform=waveform, video=video)["predictions"]
    expected = predictions_of(network, {"audio": audio.reshape(2, 9, 16), "video": video})
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_a_waveform_is_taken_as_it_is_by_a_model_that_does_not_standardise(tmp_path):
    network = network_of(FRAMED, "audio")
    write_saved_model(network, FRAMED, "audio", tmp_path / "export", standardise="none")
    model = tf.saved_model.load(str(tmp_path / "export"))
    waveform = np.random.default_rng(0).normal(0.3, 0.1, size=(2, 160)).astype(np.float32)
    served = model.signatures[WAVEFORM](waveform=waveform)["predictions"]
    np.testing.assert_allclose(served, predictions_of(network, {"audio": waveform.reshape(2, 10, 16)}), atol=1e-5)


def test_a_model_without_sound_takes_no_waveform(models):
    assert set(models("video")[0]) == {WHOLE, STREAM}
    assert set(models("framed audio")[0]) == {WHOLE, STREAM, WAVEFORM}


AUDIO, VIDEO = np.zeros((2, 3, 16), np.float32), np.zeros((2, 3, 32, 32, 3), np.uint8)
SOUND = np.zeros((2, 50), np.float32)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        (WHOLE, {"audio": AUDIO[0], "video": VIDEO}, r"audio must be float32 \[batch, time, 16\] .*is\] \[3 16\]"),
        (WHOLE, {"audio": AUDIO[..., None], "video": VIDEO}, r"audio must be .*is\] \[2 3 16 1\]"),
        (WHOLE, {"audio": AUDIO[..., :15], "video": VIDEO}, r"audio must be .*is\] \[2 3 15\]"),
        (WHOLE, {"audio": AUDIO[:, :0], "video": VIDEO[:, :0]}, r"audio must .* without an empty axis; .*\[2 0 16\]"),
        (WHOLE, {"audio": AUDIO[:0], "video": VIDEO[:0]}, r"audio must be .* without an empty axis; .*\[0 3 16\]"),
        (WHOLE, {"audio": AUDIO, "video": VIDEO[:, :2]},
         r"video must be uint8 \[batch, time, 32, 32, 3\] with the batch and time of audio; .*\[2 2 32 32 3\]"),
        (WHOLE, {"audio": AUDIO, "video": VIDEO[:1]}, r"video must be .*\[1 3 32 32 3\]"),
        (WHOLE, {"audio": AUDIO, "video": VIDEO[:, :, :31]}, r"video must be .*\[2 3 31 32 3\]"),
        (WHOLE, {"audio": AUDIO.astype(np.float64), "video": VIDEO}, "float tensor but is a double tensor"),
        (WHOLE, {"audio": AUDIO, "video": VIDEO.astype(np.float32)}, "uint8 tensor but is a float tensor"),
        (WHOLE, {"audio": AUDIO}, r"\(audio, video\) missing required arguments: video"),
        (WHOLE, {"audio": AUDIO, "video": VIDEO, "sound": AUDIO}, "unexpected keyword argument 'sound'"),
        (WAVEFORM, {"waveform": SOUND[0], "video": VIDEO}, r"waveform must be float32 \[batch, samples\] .*\[50\]"),
        (WAVEFORM, {"waveform": SOUND[:, :0], "video": VIDEO}, r"waveform must be .* empty axis; .*is\] \[2 0\]"),
        (WAVEFORM, {"waveform": SOUND[:1], "video": VIDEO}, r"video must be .* batch of waveform; .*\[2 3 32 32 3\]"),
        (WAVEFORM, {"waveform": SOUND, "video": VIDEO[:, :0]}, r"video must be .*\[2 0 32 32 3\]"),
        (WAVEFORM, {"waveform": SOUND.astype(np.int16), "video": VIDEO}, "float tensor but is a int16 tensor"),
        (STREAM, {"present": np.ones((2, 4), bool)}, r"present must be bool \[batch, time\] with the batch and time"),
        (STREAM, {"present": np.ones(2, bool)}, r"present must be .*is\] \[2\]"),
        (STREAM, {"state_lstm1_cell": np.zeros((1, 5), np.float32)},
         r"state_lstm1_cell must be float32 \[batch, 5\] with the batch of audio; its shape is\] \[1 5\]"),
        (STREAM, {"state_samples": np.zeros((2, 5, 1), np.float32)}, r"state_samples must be .*is\] \[2 5 1\]"),
    ],
)  # fmt: skip
def test_a_wrong_input_gets_an_error_that_names_the_signature_and_what_it_expects(models, signature, inputs, message):
    function = models("delayed audiovisual")[0][signature]
    if signature == STREAM:
        specs = function.structured_input_signature[1]
        zeros = {
            key: np.zeros([2 if n is None else n for n in spec.shape], spec.dtype.name) for key, spec in specs.items()
        }
        zeros = zeros | {"audio": AUDIO, "video": VIDEO, "present": np.ones((2, 3), bool)}
        zeros["state_video"] = np.zeros((2, *specs["state_video"].shape[1:]), np.float32)
        inputs = zeros | inputs
    # With tensors alone TensorFlow leaves shapes and dtypes to the graph; with arrays it may refuse them before.
    with pytest.raises(
        (TypeError, tf.errors.InvalidArgumentError), match=f"(?s){signature}.*{message}|{message}.*{signature}"
    ):
        function(**{name: tf.constant(values) for name, values in inputs.items()})


def nodes_of(folder):
    """All nodes of all functions of a SavedModel, except those that save and restore it."""
    functions = (
        SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def.library.function
    )
    own = [function for function in functions if "traced_save" not in function.signature.name]
    return [node for function in own if "traced_restore" not in function.signature.name for node in function.node_def]


def test_a_model_exported_beside_a_gpu_has_no_cudnn_kernel_and_no_device_and_is_not_compiled(tmp_path, monkeypatch):
    found = tf.config.list_logical_devices
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: found() if kind == "GPU" else found(kind))
    network = network_of(DELAYED, "audiovisual")
    specs = {name: tf.TensorSpec((1, 9, *tensor.shape[2:]), tensor.dtype) for name, tensor in network.input.items()}
    trained = tf.function(lambda inputs: network(inputs, training=False)).get_concrete_function(specs)
    functions = trained.graph.as_graph_def().library.function
    kernels = {node.op for function in functions for node in function.node_def}
    assert any("Cudnn" in op for op in kernels | {op.type for op in trained.graph.get_operations()})

    write_saved_model(network, DELAYED, "audiovisual", tmp_path / "export")
    nodes = nodes_of(tmp_path / "export")
    assert {"Conv2D", "MatMul", "While"} & {node.op for node in nodes}
    assert not [node.name for node in nodes if "Cudnn" in node.op]
    assert not [(node.name, node.device) for node in nodes if node.device]
    assert not [node.name for node in nodes if node.attr["_XlaMustCompile"].b]


def test_the_signatures_share_one_set_of_variables(folders):
    folder, network, _, _ = folders("delayed audiovisual")
    saved = dict(tf.train.list_variables(str(folder / "variables/variables")))
    del saved["_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert sum(int(np.prod(shape)) for shape in saved.values()) <= network.count_params()


def test_a_run_trained_in_mixed_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        trained = network_of(DELAYED, "audiovisual")
    finally:
        keras.config.set_dtype_policy("float32")
    experiment = Experiment("audiovisual", model=DELAYED, train=TrainConfig(precision="mixed_bfloat16"))
    write_json(tmp_path / "run/config.json", experiment)
    trained.save_weights(tmp_path / "run/best.weights.h5")
    network = TrainedNetwork.load(tmp_path / "run").network
    write_saved_model(network, DELAYED, "audiovisual", tmp_path / "export")
    assert tf.bfloat16.as_datatype_enum not in {node.attr["T"].type for node in nodes_of(tmp_path / "export")}

    full = build_network(DELAYED, "audiovisual")
    full.set_weights(trained.get_weights())
    inputs = inputs_of(DELAYED, "audiovisual", batch=1, time=20)
    served = tf.saved_model.load(str(tmp_path / "export")).signatures[WHOLE](**inputs)["predictions"]
    np.testing.assert_allclose(served, predictions_of(full, inputs), atol=1e-5)
    assert np.abs(served - predictions_of(trained, inputs)).max() > 1e-5


def test_a_good_model_passes_the_check_in_a_process_without_keras_and_this_package(folders, monkeypatch):
    folder, network, config, modality = folders("delayed audiovisual")
    done, run = [], subprocess.run

    def recorded(command, **options):
        done.append(run([command[0], "-X", "importtime", *command[1:]], **options))
        return done[-1]

    monkeypatch.setattr(subprocess, "run", recorded)
    check_reload(folder, network, config, modality)
    imported = {
        line.rsplit("|")[-1].strip().split(".")[0] for line in done[0].stderr.splitlines() if "import time" in line
    }
    assert "tensorflow" in imported and not imported & {"affect", "keras", "tests"}


def test_a_model_whose_predictions_differ_is_not_exported(audio_run, tmp_path, monkeypatch):
    def write(network, *settings):
        other = keras.models.clone_model(network)
        other.set_weights([weight * 1.01 for weight in network.get_weights()])
        write_saved_model(other, *settings)

    monkeypatch.setattr(export, "write_saved_model", write)
    with pytest.raises(
        UserError,
        match=r"^the SavedModel failed .* nothing was exported \(the predictions of \w+ differ .* by up to 0.0\d+\)$",
    ):
        call_main(export, f"--run_dir={audio_run}", f"--output_dir={tmp_path}/export")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_load_fails_the_check_with_the_reason(folders, tmp_path):
    _, network, config, modality = folders("framed audio")
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(
        UserError,
        match=r"^the SavedModel failed .* nothing was exported \(OSError: Cannot parse file .*saved_model.pb.*\)$",
    ):
        check_reload(tmp_path, network, config, modality)


def test_a_model_that_lacks_a_signature_fails_the_check(folders, tmp_path):
    _, network, config, modality = folders("framed audio")
    module = tf.Module()
    serve = tf.function(lambda audio: {"predictions": audio[..., :2]}, [tf.TensorSpec((None, None, 640), name="audio")])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": serve})
    with pytest.raises(
        UserError, match="signatures serving_default instead of serving_default, predict_waveform, stream"
    ):
        check_reload(tmp_path, network, config, modality)


def test_a_check_that_is_killed_says_so(folders, monkeypatch):
    folder, network, config, modality = folders("framed audio")
    killed = subprocess.CompletedProcess([], -9, stdout="", stderr="I0000 an unrelated remark")
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: killed)
    with pytest.raises(UserError, match=r"\(the process ended with status -9\)$"):
        check_reload(folder, network, config, modality)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "modality"), [(p, m) for p in ("paper", "demo") for m in ("audio", "audiovisual", "video")]
)
def test_presets_have_the_predictions_of_one_window(preset, modality, tmp_path):
    config = get_preset(preset, modality).model
    network = network_of(config, modality)
    write_saved_model(network, config, modality, tmp_path / "export")
    model = tf.saved_model.load(str(tmp_path / "export"))
    traced = tf.function(lambda inputs: network(inputs, training=False), reduce_retracing=True)
    for time in (1, 150, 7500 if modality == "audio" else 500):
        inputs = inputs_of(config, modality, batch=3, time=time)
        rows = [{name: tf.constant(values[i : i + 1]) for name, values in inputs.items()} for i in range(3)]
        # Row by row: the window of the paper's network takes 3 GiB for 7500 frames.
        expected = np.concatenate([traced(row) for row in rows])
        for given, count in ((rows[0], 1), (inputs, 3)):
            served = model.signatures[WHOLE](**given)["predictions"]
            np.testing.assert_allclose(served, expected[:count], atol=1e-5)


LONG = """
import resource, sys
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
rng = np.random.default_rng(0)
video = tf.constant(rng.integers(0, 256, size=(1, 7500, 96, 96, 3), dtype=np.uint8))
audio = tf.constant(rng.normal(size=(1, 7500, 640)).astype(np.float32))
curve = model.signatures["serving_default"](audio=audio, video=video)["predictions"].numpy()
assert np.isfinite(curve).all() and curve.shape == (1, 7500, 2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_five_minutes_of_the_paper_network_stay_under_4_gib(tmp_path):
    config = get_preset("paper", "audiovisual").model
    write_saved_model(network_of(config, "audiovisual"), config, "audiovisual", tmp_path / "export")
    command = [sys.executable, "-c", LONG, str(tmp_path / "export")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak < 4 * 2**30


@pytest.mark.slow
@pytest.mark.parametrize("signature", [WHOLE, WAVEFORM, STREAM])
def test_saved_model_cli_runs_every_signature_by_the_names_of_its_inputs(folders, tmp_path, signature):
    folder, network, config, modality = folders("framed audiovisual")
    inputs = inputs_of(config, modality, batch=2, time=5)
    expected = predictions_of(network, inputs)
    if signature == WAVEFORM:
        audio = inputs.pop("audio").reshape(2, -1)
        inputs["waveform"] = audio
        audio = (audio - audio.mean(1, keepdims=True)) / audio.std(1, keepdims=True)
        expected = predictions_of(network, {"audio": audio.reshape(2, 5, -1), "video": inputs["video"]})
    if signature == STREAM:
        units = {f"state_lstm{layer}_{part}": size for layer, size in ((1, 5), (2, 6)) for part in ("hidden", "cell")}
        inputs |= {name: np.zeros((2, size), np.float32) for name, size in units.items()}
        inputs["present"] = np.ones((2, 5), bool)
    for name, values in inputs.items():
        np.save(tmp_path / f"{name}.npy", values)
    subprocess.run(
        [Path(sys.executable).with_name("saved_model_cli"), "run", "--dir", folder, "--tag_set", "serve",
         "--signature_def", signature, "--outdir", tmp_path / "out",
         "--inputs", ";".join(f"{name}={tmp_path}/{name}.npy" for name in inputs)],
        check=True, capture_output=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    np.testing.assert_allclose(np.load(tmp_path / "out/predictions.npy"), expected, atol=1e-5)
