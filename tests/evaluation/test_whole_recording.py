"""`context="recording"`: a recording in chunks gives what the network gives for the whole recording in one piece."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from msgspec.structs import replace

from affect.config import Experiment, ModelConfig, override
from affect.data.audio_cache import read_audio
from affect.data.dataset import open_data
from affect.errors import UserError
from affect.evaluation import whole_recording
from affect.evaluation.predictions import predict
from affect.models.network import build_network
from affect.models.stepping import delay_frames
from affect.presets import get_preset
from tests.helpers.commands import read_recording, run_command
from tests.helpers.long_shards import PCM_FULL_SCALE, write_long_shards

CHUNK = 20
# Conv 2 needs 200 steps ahead and conv 1 another step, at 80 steps a frame: 3 frames of delay.
DELAYED = ModelConfig(
    audio_filters=(3, 4), audio_taps=(9, 400), audio_pool=8, audio_channel_pool=2, video_net="narrow", video_width=2,
    video_blocks=(1, 1, 1, 1), video_stem_stride=4, video_scaling="unit", lstm_units=(5, 6),
)  # fmt: skip
FRAMED = replace(DELAYED, audio_taps=(9, 16), audio_framed=True)
# Shorter than the delay; shorter than a chunk; just with room for the delay, and without; whole chunks; and others.
LENGTHS = {f"dev_{frames}": frames for frames in (41, 1, 2, 13, 17, 18, 20, 40, 80)}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_long_shards(tmp_path_factory.mktemp("lengths") / "records", LENGTHS, unlabelled=("dev_18",))


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(whole_recording, "CHUNK_FRAMES", CHUNK)


def network_of(config, modality):
    keras.utils.set_random_seed(1)
    network = build_network(config, modality)
    # Biases other than zero, so that the response of conv 1 to silence would be heard; and outputs that vary.
    rng = np.random.default_rng(2)
    network.set_weights([weight + 0.1 * rng.normal(size=weight.shape) ** 2 for weight in network.get_weights()])
    return network


def experiment_of(config, modality, data_dir, *settings):
    return override(Experiment(modality=modality, model=config), [f"data.data_dir={data_dir}", *settings])


def predicted(network, experiment, context):
    manifest = open_data(experiment, ["dev"])
    return {one.recording: one for one in predict(network, experiment, manifest, manifest.partition("dev"), context)}


def in_one_piece(network, experiment, name):
    """Returns the network's output for the whole recording, fed as one window; the inputs are made here."""
    fields = read_recording(experiment.data.data_dir, name)
    entry = next(entry for entry in open_data(experiment).recordings if entry.name == name)
    crops = np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in fields["jpeg"]])
    if experiment.data.faceless_frames == "mask":
        crops[~fields["face_found"]] = 0
    audio = (fields["pcm"].astype(np.float32) / PCM_FULL_SCALE - entry.audio_mean) / entry.audio_std
    inputs = {"audio": audio[None].astype(np.float32), "video": crops[None]}
    return np.array(network({name: inputs[name] for name in experiment.modalities}, training=False))[0]


@pytest.mark.parametrize(
    ("config", "modality", "settings"),
    [
        (DELAYED, "audio", []),
        (FRAMED, "audio", []),
        (DELAYED, "video", ["data.faceless_frames=mask"]),
        (DELAYED, "audiovisual", ["data.faceless_frames=mask"]),
    ],
    ids=["audio that looks ahead", "framed audio", "video", "audiovisual"],
)
def test_every_recording_equals_the_recording_fed_in_one_piece(shards, config, modality, settings):
    network, experiment = network_of(config, modality), experiment_of(config, modality, shards, *settings)
    assert delay_frames(config, modality) == (3 if modality != "video" and config is DELAYED else 0)
    curves = predicted(network, experiment, "recording")
    assert list(curves) == list(LENGTHS)
    for name, curve in curves.items():
        expected = in_one_piece(network, experiment, name)
        np.testing.assert_allclose(curve.predicted, expected, atol=1e-4, err_msg=name)
        assert curve.predicted.dtype == np.float32
        if curve.gold is not None:
            np.testing.assert_array_equal(curve.gold, read_recording(shards, name)["labels"])
    assert [name for name, curve in curves.items() if curve.gold is None] == ["dev_18"]
    assert curves["dev_80"].predicted.std(axis=0).min() > 1e-3  # the outputs vary, so the comparison can fail


def test_windows_differ_from_the_whole_recording_after_the_first_of_them(shards):
    network = network_of(FRAMED, "audio")
    experiment = experiment_of(FRAMED, "audio", shards, f"data.eval_window_frames={CHUNK}")
    whole, windows = (predicted(network, experiment, context)["dev_80"] for context in ("recording", "window"))
    np.testing.assert_allclose(windows.predicted[:CHUNK], whole.predicted[:CHUNK], atol=1e-5)
    assert np.abs(windows.predicted - whole.predicted)[CHUNK:].max() > 1e-3


def test_predictions_of_a_network_trained_on_delayed_labels_are_delayed_by_as_much(shards):
    network = network_of(DELAYED, "audio")
    # 0.2 s are 5 frames: more than dev_1 and dev_2 have.
    experiment = experiment_of(DELAYED, "audio", shards, "data.label_delay_secs=0.2")
    for name, curve in predicted(network, experiment, "recording").items():
        whole = in_one_piece(network, experiment, name)
        expected = whole[np.maximum(np.arange(len(whole)) - 5, 0)]
        np.testing.assert_allclose(curve.predicted, expected, atol=1e-4, err_msg=name)


def test_the_audio_cache_changes_nothing_and_stays_empty(shards):
    network = network_of(DELAYED, "audio")
    read_audio.cache_clear()
    cached, streamed = (
        predicted(network, experiment_of(DELAYED, "audio", shards, f"data.audio_cache_mib={size}"), "recording")
        for size in (1024, 0)
    )
    for name in LENGTHS:
        np.testing.assert_array_equal(cached[name].predicted, streamed[name].predicted)
    assert read_audio.cache_info().currsize == 0


def test_the_network_is_traced_once_for_all_lengths_and_partitions(shards, monkeypatch):
    traced = []

    def recording_step(network, frames, state, real=whole_recording.step):
        traced.append(network)
        return real(network, frames, state)

    monkeypatch.setattr(whole_recording, "step", recording_step)
    predicted(network_of(FRAMED, "audio"), experiment_of(FRAMED, "audio", shards), "recording")
    assert len({id(network) for network in traced}) == 1 and len(traced) > 5
    assert traced[0].experimental_get_tracing_count() == 1


def test_the_papers_audio_network_predicts_a_recording_with_its_look_ahead_of_seven_frames(shards):
    experiment = override(get_preset("paper", "audio"), [f"data.data_dir={shards}"])
    network = network_of(experiment.model, "audio")
    manifest = open_data(experiment, ["dev"])
    entries = [entry for entry in manifest.partition("dev") if entry.name in ("dev_2", "dev_41")]
    for curve in predict(network, experiment, manifest, entries, context="recording"):
        expected = in_one_piece(network, experiment, curve.recording)
        np.testing.assert_allclose(curve.predicted, expected, atol=1e-4)


def test_a_cut_shard_is_an_error_that_names_it(tmp_path):
    folder = write_long_shards(tmp_path / "records", {"dev_1": 120})
    experiment = experiment_of(FRAMED, "audio", folder)
    manifest = open_data(experiment, ["dev"])
    path = folder / manifest.recordings[0].shards[0]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="dev_1-00000-of-00001.tfrecord"):
        predict(network_of(FRAMED, "audio"), experiment, manifest, list(manifest.recordings), "recording")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_recording():
    done = run_command("-m", "benchmarks.bench_whole_recording", "--modalities=audio", "--minutes=5,60")
    assert done.returncode == 0, done.stdout + done.stderr
