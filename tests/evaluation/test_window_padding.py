"""The last window of a recording is padded; its predictions are those of its frames alone."""

import keras
import numpy as np

from affect.config import ModelConfig, override
from affect.data.dataset import evaluation_dataset, open_data
from affect.evaluation.predictions import predict
from affect.models.network import build_network
from affect.presets import get_preset


def test_predictions_do_not_depend_on_the_padding_of_a_window(data_dir):
    keras.utils.set_random_seed(2)
    config = ModelConfig(audio_filters=(4, 8), audio_taps=(80, 2000), audio_channel_pool=4, lstm_units=(8,))
    network = build_network(config, "audio")
    network.get_layer("audio_net").get_layer("conv1").bias.assign([0.5] * 4)  # what conv 1 makes of silence
    experiment = override(get_preset("paper", "audio"), [f"data.data_dir={data_dir}"])

    def curve(window_frames):
        windows = override(experiment, [f"data.eval_window_frames={window_frames}"])
        manifest = open_data(windows)
        entries = [entry for entry in manifest.recordings if entry.name == "dev_1"]
        return predict(network, windows, manifest, entries)[0].predicted

    whole, padded = curve(200), curve(230)  # the recording has 200 frames
    np.testing.assert_allclose(padded, whole, atol=1e-6)
    # Without the mask, the padding would be heard.
    padded_experiment = override(experiment, ["data.eval_window_frames=230"])
    manifest = open_data(padded_experiment)
    entries = [entry for entry in manifest.recordings if entry.name == "dev_1"]
    ((inputs, _, _),) = evaluation_dataset(padded_experiment, manifest, entries, 1)
    assert np.abs(network.predict_on_batch(inputs)[0, :200] - whole).max() > 1e-4
