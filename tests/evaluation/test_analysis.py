"""The analysis command: finds a planted relation, and what it writes."""

import re

import h5py
import numpy as np
import pytest
from msgspec.structs import replace

from affect.config import override
from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.evaluation import analysis
from affect.evaluation.introspection.activations import GATES
from affect.evaluation.introspection.prosody import FEATURES
from affect.evaluation.introspection.results import Analysis
from affect.learning import train_command
from affect.models.network import build_network
from affect.models.trained import TrainedNetwork
from affect.presets import get_preset
from affect.runs import RunFolder
from affect.storage import read_json
from tests.helpers.commands import read_recording
from tests.helpers.in_process import call_main
from tests.helpers.planted import rewrite_shards
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing
from tfrecords_tools.synthetic.corpus import SyntheticConfig, write_corpus


@pytest.fixture
def planted(run_dir):
    """A copy of the run, whose candidate 3 of the first LSTM follows the size of the samples; nothing else moves."""
    network = TrainedNetwork.load(run_dir).network
    network.set_weights([np.zeros_like(weight) for weight in network.get_weights()])
    net = network.get_layer("audio_net")
    for layer in (net.get_layer("conv1"), net.get_layer("conv2")):
        kernel, bias = (np.zeros_like(weight) for weight in layer.get_weights())
        kernel[(len(kernel) - 1) // 2, 0, 0] = 1.0  # hands its first channel on
        layer.set_weights([kernel, bias])
    lstm = network.get_layer("lstm1")
    units = lstm.units
    kernel, recurrent, bias = (np.zeros_like(weight) for weight in lstm.get_weights())
    kernel[::6, 2 * units + 3] = 0.01  # features are 80 steps of 6 channel groups
    bias[:units], bias[units : 2 * units] = 8.0, -8.0  # takes everything, forgets everything
    lstm.set_weights([kernel, recurrent, bias])
    network.save_weights(run_dir / "best.weights.h5")
    return run_dir


def analysed(run_dir, output_dir, *more):
    assert not call_main(analysis, f"--run_dir={run_dir}", f"--output_dir={output_dir}", *more)
    return read_json(output_dir / "analysis.json", Analysis)


def test_a_planted_cell_is_found_and_drawn(planted, data_dir, tmp_path, capsys):
    found = analysed(planted, tmp_path / "first")
    energy = found.features["rms_energy"]
    assert {(unit.layer, unit.gate, unit.unit) for unit in energy.best[:2]} == {
        ("lstm1", "candidate", 3), ("lstm1", "cell", 3),
    }  # fmt: skip
    assert energy.best[0].pearson > 0.85
    assert energy.best[2].pearson == 0.0  # nothing else moves
    assert energy.other_recordings < 0.4
    assert found.recordings == ["dev_1", "dev_2"]
    assert found.activations == 2 * 5 * 64
    assert found.synthetic

    printed = capsys.readouterr().out
    assert "SYNTHETIC corpus, dev, 2 recordings" in printed
    assert re.search(r"rms_energy +lstm1 (cell|candidate) 3 ", printed)
    page = (tmp_path / "first/analysis.html").read_text()
    assert "<strong>synthetic</strong>" in page
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"https?://", page)

    # The planted cell equals NumPy's, and everything is written.
    dev_2 = next(entry for entry in read_manifest(data_dir).recordings if entry.name == "dev_2")
    pcm = read_recording(data_dir, "dev_2")["pcm"]
    audio = ((pcm / 32_768 - dev_2.audio_mean) / dev_2.audio_std).astype(np.float32)
    peaks = np.maximum(audio, 0.0).reshape(len(audio), 80, 8).max(axis=2)
    with h5py.File(tmp_path / "first/analysis.h5") as file:
        np.testing.assert_allclose(file["dev_2/lstm1/candidate"][:, 3], np.tanh(0.01 * peaks.sum(axis=1)), atol=1e-5)
        assert {name: set(file[f"dev_1/{name}"]) for name in file["dev_1"]} == {
            "lstm1": set(GATES), "lstm2": set(GATES), "prosody": set(FEATURES),
        }  # fmt: skip
        assert file["dev_1/lstm2/cell"].shape == (200, 64)
        assert file["dev_1/lstm2/cell"].dtype == np.float32
        units = file["correlations/activations"][:].tolist()
        assert (len(units), units[0]) == (2 * 5 * 64, b"lstm1/input/0")
        written = file["correlations/rms_energy"][:]
        assert written[units.index(b"lstm1/cell/3")] == pytest.approx(energy.best[0].pearson, abs=0.02)
        assert np.count_nonzero(written) == 2  # nothing else moves

    again = analysed(planted, tmp_path / "again", "--nountrained")
    assert (tmp_path / "again/analysis.h5").read_bytes() == (tmp_path / "first/analysis.h5").read_bytes()
    assert again.features["rms_energy"].untrained is None
    assert again.features["rms_energy"].best == energy.best


def test_the_control_has_random_weights_and_needs_no_other_recording(run_dir, tmp_path):
    network = TrainedNetwork.load(run_dir).network
    network.set_weights([np.zeros_like(weight) for weight in network.get_weights()])
    network.save_weights(run_dir / "best.weights.h5")
    found = analysed(run_dir, tmp_path / "analysis", "--max_recordings=1")
    energy = found.features["rms_energy"]
    assert energy.best[0].pearson == 0.0
    assert energy.untrained > 0.7  # the energy of the sound is in whatever a network computes
    assert energy.other_recordings is None
    assert found.recordings == ["dev_1"]
    assert found.remarks == ["a single recording has sound: there is no control with other recordings"]


def test_video_networks_are_compared_with_the_sound_of_recordings_that_have_it(data_dir, run_dir, tmp_path, capsys):
    def mute(entry, fields):
        if entry.name == "dev_2":
            fields["pcm"] = fields["pcm"][:0]

    def say_so(entry):
        return replace(entry, has_audio=entry.name != "dev_2", has_labels=False)

    records = rewrite_shards(data_dir, tmp_path / "records", mute, say_so)
    experiment = override(
        get_preset("demo", "video"), [f"data.data_dir={records}", "model.video_width=2", "model.lstm_units=6"]
    )
    RunFolder(run_dir).config.write_text(experiment.to_json())
    build_network(experiment.model, "video").save_weights(run_dir / "best.weights.h5")
    found = analysed(run_dir, tmp_path / "analysis", "--nountrained")
    assert found.recordings == ["dev_1"]
    assert found.filter_centres_hz == []
    assert "no sound, so left out of the correlations: dev_2" in capsys.readouterr().out
    assert not (tmp_path / "analysis/filters.png").exists()
    with h5py.File(tmp_path / "analysis/analysis.h5") as file:
        assert set(file["dev_2"]) == {"lstm1"}
        assert file["dev_2/lstm1/cell"].shape == (200, 6)


def test_filters_are_listed_with_their_centre_frequencies(planted, tmp_path):
    network = TrainedNetwork.load(planted).network
    conv1 = network.get_layer("audio_net").get_layer("conv1")
    kernel, bias = conv1.get_weights()
    window = np.hanning(80)
    for index in range(12):
        kernel[:, 0, index] = window * np.sin(2 * np.pi * (6500 - 500 * index) / 16_000 * np.arange(80))
    conv1.set_weights([kernel, bias])
    network.save_weights(planted / "best.weights.h5")
    found = analysed(planted, tmp_path / "analysis", "--nountrained", "--max_recordings=1")
    np.testing.assert_allclose(found.filter_centres_hz, [6500 - 500 * index for index in range(12)], atol=20)


def test_runs_without_weights_and_foreign_folders_are_refused(run_dir, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(UserError, match=r"holds other files \(no analysis.json of ours\)"):
        call_main(analysis, f"--run_dir={run_dir}", f"--output_dir={tmp_path / 'mine'}")
    (run_dir / "best.weights.h5").unlink()
    with pytest.raises(UserError, match="has no best.weights.h5 yet"):
        call_main(analysis, f"--run_dir={run_dir}", f"--output_dir={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_trained_network_follows_energy_within_recordings_and_pitch_by_learning(tmp_path):
    write_corpus(SyntheticConfig(train=16, dev=6, test=1), tmp_path / "corpus")
    make_tfrecords(find_corpus(str(tmp_path / "corpus")), tmp_path / "records", Preprocessing(detect_every=50))
    assert not call_main(
        train_command, "--preset=demo", "--modality=audio", f"--data_dir={tmp_path / 'records'}",
        f"--run_dir={tmp_path / 'run'}", "--set=train.epochs=8",
    )  # fmt: skip
    found = analysed(tmp_path / "run", tmp_path / "analysis").features
    assert abs(found["rms_energy"].best[0].pearson) > 0.7
    assert found["rms_energy"].other_recordings < 0.4
    assert abs(found["f0"].best[0].pearson) > found["f0"].untrained + 0.1
