"""Streams through an exported model: equal to the training network on the whole window, and never mixed up."""

import dataclasses

import msgspec
import numpy as np
import pytest
import tensorflow as tf

from affect.data.dataset import evaluation_dataset, open_data
from affect.models.trained import TrainedNetwork
from affect.presets import get_preset
from affect.serving.contract import Spread
from affect.serving.model import ServedModel
from affect.serving.streaming import LiveStream, SoundConstants, Stream
from tests.helpers.commands import read_recording
from tests.helpers.served import TINY, contract_of, export_network, in_chunks, network_of, recording_of, sizes_of

FRAMES = 60
MODALITIES = ("audio", "video", "audiovisual")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny network and the loaded export of each modality."""
    made = {}

    def make(modality):
        if modality not in made:
            folder = tmp_path_factory.mktemp(modality)
            network = network_of(TINY, modality)
            export_network(network, TINY, contract_of(TINY, modality), folder)
            made[modality] = network, ServedModel.load(folder)
        return made[modality]

    return make


def constants_of(inputs):
    """Mean and population deviation of all samples, full scale = 1, by NumPy."""
    if "audio" not in inputs:
        return None
    samples = inputs["audio"].astype(np.float64) / 32_768
    return SoundConstants(samples.mean(), samples.std())


def offline(network, inputs, sound):
    """The curve of the training network on the whole recording as one window, [frames, 2]."""
    batch = {name: values[None] for name, values in inputs.items()}
    if "audio" in batch:
        batch["audio"] = ((batch["audio"] / 32_768 - sound.mean) / sound.deviation).astype(np.float32)
    return np.array(tf.function(network)(batch, training=False))[0]


@pytest.mark.parametrize("kind", [1, 3, 25, FRAMES, "random"])
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_stream_equals_the_training_network_on_the_whole_window_whatever_the_chunks(tiny, modality, kind):
    network, model = tiny(modality)
    inputs = recording_of(TINY, modality, FRAMES)
    sound = constants_of(inputs)
    curve = in_chunks(Stream(model, sound), inputs, sizes_of(kind, FRAMES))
    expected = offline(network, inputs, sound)
    np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-5)
    # Up to its end the curve varies far more than the tolerance.
    assert (expected[FRAMES // 2 :].std(axis=0) > 5e-4).all() and curve.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_a_minute_of_every_preset_equals_the_training_network(preset, modality, tmp_path):
    config = get_preset(preset, modality).model
    network = network_of(config, modality)
    export_network(network, config, contract_of(config, modality), tmp_path)
    model = ServedModel.load(tmp_path)
    inputs = recording_of(config, modality, 1500)
    sound = constants_of(inputs)
    expected = offline(network, inputs, sound)
    assert (expected[750:].std(axis=0) > 2e-3).all(), expected[750:].std(axis=0)
    for kind in (25, "random", 1, 3):
        frames = 1500 if kind in (25, "random") or preset == "demo" else 100
        # A shorter recording ends differently, so its curve is compared where the end is out of sight.
        part = {name: values[:frames] for name, values in inputs.items()}
        curve = in_chunks(Stream(model, sound), part, sizes_of(kind, frames))
        seen = slice(None) if frames == 1500 else slice(frames - model.contract.delay_frames)
        error = np.abs(curve[seen] - expected[:frames][seen]).max()
        print(f"{preset} {modality}, chunks {kind}: {error:.2g}, deviation of the curve {expected[750:].std(axis=0)}")
        assert error < 1e-4


@pytest.mark.parametrize("modality", MODALITIES)
def test_two_interleaved_streams_do_not_mix(tiny, modality):
    _, model = tiny(modality)
    # The recordings differ in the first half only, which the states must remember, each its own.
    first, second = recording_of(TINY, modality, FRAMES, seed=1), recording_of(TINY, modality, FRAMES, seed=2)
    for name in first:
        second[name][FRAMES // 2 :] = first[name][FRAMES // 2 :]
    sound = SoundConstants(0.0, 0.05)
    alone = [in_chunks(Stream(model, sound), inputs, sizes_of(5, FRAMES)) for inputs in (first, second)]
    streams, curves = [Stream(model, sound), Stream(model, sound)], [[], []]
    for start in range(0, FRAMES, 5):
        for stream, inputs, curve in zip(streams, (first, second), curves, strict=True):
            curve.append(stream.push(**{name: values[start : start + 5] for name, values in inputs.items()}))
    for stream, curve, expected in zip(streams, curves, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate([*curve, stream.finish()]), expected)
    # What differs in the first half shows in the second one.
    assert np.abs(alone[0] - alone[1])[FRAMES // 2 + 3 :].max() > 1e-4


@dataclasses.dataclass(frozen=True)
class Recorder(ServedModel):
    """A model that keeps what it is given."""

    given: list = dataclasses.field(default_factory=list)

    def step(self, frames, state):  # noqa: D102
        self.given.append(frames)
        return super().step(frames, state)


def recorder(model):
    """A model like this one that keeps what it is given."""
    return Recorder(model.contract, model.saved_model)


def test_sound_is_standardised_bit_for_bit_as_the_training_reader_does_it(audio_run, data_dir, tmp_path):
    trained = TrainedNetwork.load(audio_run)
    experiment = trained.run.read_config()
    manifest = open_data(experiment)
    [entry] = manifest.partition("test")[:1]
    config = experiment.model
    export_network(trained.network, config, contract_of(config, "audio"), tmp_path)
    model = recorder(ServedModel.load(tmp_path))
    pcm = read_recording(data_dir, entry.name)["pcm"]
    Stream(model, SoundConstants(entry.audio_mean, entry.audio_std)).push(pcm)
    reader, _, _ = next(iter(evaluation_dataset(experiment, manifest, [entry], 1)))
    found = np.concatenate([frames["audio"] for frames in model.given])
    np.testing.assert_array_equal(found, reader["audio"][0, : entry.frames])
    assert found.dtype == np.float32 and 0.9 < found.std() < 1.1


def test_digital_silence_stays_zero(tiny):
    model = recorder(tiny("audio")[1])
    Stream(model, SoundConstants(0.0, 0.0)).push(np.zeros((2, 16), np.int16))
    np.testing.assert_array_equal(model.given[0]["audio"], np.zeros((2, 16)))


def test_float_samples_equal_integers_over_full_scale_and_are_clipped_as_in_training(tiny):
    model = recorder(tiny("audio")[1])
    stream = Stream(model, SoundConstants(0.25, 0.5))
    stream.push(np.full((1, 16), -32_768, np.int16))
    stream.push(np.full((1, 16), -1.0, np.float32))
    stream.push(np.full((1, 16), 1.3, np.float32))
    low, equal, high = (frames["audio"][0, 0] for frames in model.given)
    assert low == equal == -2.5 and high == np.float32(32_767 / 32_768 - 0.25) / np.float32(0.5)


def test_a_model_that_does_not_standardise_needs_no_constants_and_gets_the_samples(tiny):
    model = recorder(tiny("audio")[1])
    model = dataclasses.replace(model, contract=msgspec.structs.replace(model.contract, standardise="none"))
    for stream in (Stream(model), Stream(model, SoundConstants(0.3, 0.1)), LiveStream(model, 10.0)):
        stream.push(np.full((1, 16), 8_192, np.int16))
    assert [frames["audio"][0, 0] for frames in model.given] == [0.25] * 3


def test_a_long_push_is_cut_into_slices(tiny):
    model = recorder(tiny("audio")[1])
    Stream(model, SoundConstants(0.0, 1.0)).push(np.zeros((1_000, 16), np.int16))
    assert max(len(frames["audio"]) for frames in model.given) <= 150
    assert sum(len(frames["audio"]) for frames in model.given) == 1_000


AUDIO, VIDEO = np.zeros((2, 16), np.int16), np.zeros((2, 32, 32, 3), np.uint8)
NOT_FINITE, LOUD = np.full((2, 16), np.nan, np.float32), np.full((2, 16), -900, np.float32)


@pytest.mark.parametrize(
    ("modality", "inputs", "message"),
    [
        ("audio", {}, "audio is missing; expected int16 or float32 [frames, 16]"),
        ("audio", {"audio": AUDIO / 2}, "audio is float64 [2, 16]; expected int16 or float32 [frames, 16]"),
        ("audio", {"audio": AUDIO[0]}, "audio is int16 [16]; expected int16 or float32 [frames, 16]"),
        ("audio", {"audio": AUDIO[:, :15]}, "audio is int16 [2, 15]; expected int16 or float32 [frames, 16]"),
        ("audio", {"audio": AUDIO.tolist()}, "audio is list; expected int16 or float32 [frames, 16]"),
        ("audio", {"audio": NOT_FINITE}, "audio reaches nan; float samples must be finite and lie in [-1, 1)"),
        ("audio", {"audio": LOUD}, "audio reaches 900; float samples must be finite and lie in [-1, 1)"),
        ("audio", {"audio": AUDIO, "video": VIDEO}, "video is given, but the model takes no video"),
        ("video", {"video": VIDEO[..., :2]}, "video is uint8 [2, 32, 32, 2]; expected uint8 [frames, 32, 32, 3]"),
        ("video", {"video": VIDEO / 255}, "video is float64 [2, 32, 32, 3]; expected uint8 [frames, 32, 32, 3]"),
        ("audiovisual", {"audio": AUDIO}, "video is missing; expected uint8 [frames, 32, 32, 3]"),
        (
            "audiovisual", {"audio": AUDIO, "video": VIDEO[:1]},
            "the numbers of frames differ (2 of audio, 1 of video); give both for the same frames",
        ),
    ],
)  # fmt: skip
def test_frames_that_do_not_fit_are_refused_and_leave_the_stream_as_it_was(tiny, modality, inputs, message):
    _, model = tiny(modality)
    good = recording_of(TINY, modality, 8)
    expected = in_chunks(Stream(model, SoundConstants(0.0, 0.1)), good, [4, 4])
    for make in (Stream, lambda model, sound: LiveStream(model, 10.0, sound), lambda model, sound: LiveStream(model)):
        stream = make(model, SoundConstants(0.0, 0.1))
        curve = [stream.push(**{name: values[:4] for name, values in good.items()})]
        with pytest.raises(ValueError) as refused:
            stream.push(**inputs)
        assert str(refused.value) == message
        curve += [stream.push(**{name: values[4:] for name, values in good.items()}), stream.finish()]
        if isinstance(stream, Stream):
            np.testing.assert_array_equal(np.concatenate(curve), expected)
        assert len(np.concatenate(curve)) == 8


def test_a_finished_stream_takes_nothing_more_and_one_without_frames_has_no_values(tiny):
    _, model = tiny("audio")
    for stream in (Stream(model, SoundConstants(0.0, 0.1)), LiveStream(model)):
        assert stream.push(AUDIO[:0]).shape == stream.finish().shape == (0, 2)
        for again in (stream.finish, lambda stream=stream: stream.push(AUDIO)):
            with pytest.raises(ValueError, match="the stream is finished; begin a new one"):
                again()


def test_constants_are_required_and_must_be_numbers(tiny):
    with pytest.raises(ValueError, match="give the SoundConstants, or use a LiveStream"):
        Stream(tiny("audiovisual")[1])
    for mean, deviation in ((np.nan, 1.0), (0.0, np.inf), (0.0, -0.1)):
        with pytest.raises(ValueError, match="both must be finite, and the deviation at least 0"):
            SoundConstants(mean, deviation)
    with pytest.raises(ValueError, match="calibration_secs is 0; it must be positive"):
        LiveStream(tiny("audio")[1], 0)


@pytest.mark.parametrize("kind", [1, 3, 25, FRAMES, "random"])
@pytest.mark.parametrize("modality", ["audio", "audiovisual"])
def test_a_live_stream_is_standardised_by_exactly_its_first_seconds_whatever_the_chunks(tiny, modality, kind):
    _, model = tiny(modality)
    inputs = recording_of(TINY, modality, FRAMES)
    sound = constants_of({"audio": inputs["audio"][:20]})
    live = LiveStream(model, 0.8)
    assert live.calibrating and live.sound is None
    curve = in_chunks(live, inputs, sizes_of(kind, FRAMES))
    expected = in_chunks(Stream(model, sound), inputs, [FRAMES])
    np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-6)
    assert live.sound is not None and not live.calibrating
    np.testing.assert_allclose([live.sound.mean, live.sound.deviation], [sound.mean, sound.deviation], rtol=1e-12)
    assert live.remarks == [
        f"the sound is standardised by its first 0.8 s; a whole file would use all of it ({live.sound})"
    ]
    # Other constants would show.
    other = in_chunks(Stream(model, constants_of(inputs)), inputs, [FRAMES])
    assert np.abs(other - expected).max() > 1e-4


def test_a_live_stream_holds_frames_back_only_until_it_is_calibrated(tiny):
    _, model = tiny("audiovisual")
    inputs = recording_of(TINY, "audiovisual", 40)
    live, counts = LiveStream(model, 0.8), []
    buffer = {name: values[:1].copy() for name, values in inputs.items()}
    curve = []
    for frame in range(40):
        for name, values in inputs.items():
            buffer[name][:] = values[frame]  # a source that uses its buffer again
        curve.append(live.push(**buffer))
        counts.append(len(curve[-1]))
    # The network's predictions come two frames late.
    assert counts == [0] * 19 + [18] + [1] * 20
    expected = in_chunks(Stream(model, constants_of({"audio": inputs["audio"][:20]})), inputs, [40])
    np.testing.assert_allclose(np.concatenate([*curve, live.finish()]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("samples", "frames"), [(72, 4), (88, 6), (87, 5), (89, 6), (8, 0), (9, 1), (80, 5)])
def test_a_live_stream_that_ends_early_is_standardised_and_counted_as_a_file(tiny, samples, frames):
    _, model = tiny("audio")
    pcm = recording_of(TINY, "audio", 10)["audio"].ravel()[:samples]
    whole = samples // 16
    live = LiveStream(model, 10.0)
    curve = [live.push(pcm[: whole * 16].reshape(-1, 16)), live.finish(pcm[whole * 16 :])]
    padded = np.pad(pcm, (0, 16))[: frames * 16].reshape(-1, 16)
    # All samples count for the constants, also those of an incomplete frame, but not the padding.
    expected = in_chunks(Stream(model, constants_of({"audio": pcm})), {"audio": padded}, [max(1, frames)])
    np.testing.assert_allclose(np.concatenate(curve), expected, rtol=0, atol=1e-6)
    assert len(expected) == frames
    secs = f"{samples / 400:.1f}"
    assert live.remarks == [f"the sound is standardised by all of its {secs} s, as that of a file is ({live.sound})"]


def test_the_rest_after_the_last_frame_is_checked(tiny):
    for modality, rest, message in (
        ("audio", np.zeros(16, np.int16), r"rest is int16 \[16\]; expected int16 \[samples\], at most 15 samples"),
        ("audio", np.zeros(3), r"rest is float64 \[3\]; expected int16"),
        ("audiovisual", np.zeros(1, np.int16), r"rest is int16 \[1\]; .* at most 0 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            LiveStream(tiny(modality)[1]).finish(rest)


def test_known_constants_replace_the_calibration(tiny):
    _, model = tiny("audio")
    inputs = recording_of(TINY, "audio", 8)
    live = LiveStream(model, 10.0, SoundConstants(0.001, 0.04))
    assert not live.calibrating
    assert live.remarks == ["the sound is standardised by given constants (mean 0.001, deviation 0.04)"]
    np.testing.assert_array_equal(
        in_chunks(live, inputs, [3, 5]), in_chunks(Stream(model, SoundConstants(0.001, 0.04)), inputs, [3, 5])
    )


def test_a_calibration_stretch_that_is_silent_or_of_an_unusual_level_is_remarked(tiny):
    _, model = tiny("audio")
    levels = msgspec.structs.replace(model.contract.training_data, sound_level_dbfs=Spread(-30.0, -25.0, -20.0))
    model = dataclasses.replace(model, contract=msgspec.structs.replace(model.contract, training_data=levels))

    def remarks(amplitude, frames):
        signs = np.tile(np.array([1, -1], np.int16), (frames, 8))
        live = LiveStream(model, 0.2)
        in_chunks(live, {"audio": signs * np.int16(amplitude)}, [frames])
        return live.remarks[1:]

    silent = (
        "these 0.2 s are silent, so sound that follows is standardised wrongly; begin when there is sound, or give the "
        "constants"
    )
    assert remarks(0, 10) == remarks(3, 10) == [silent]
    assert remarks(0, 4) == ["the sound is digital silence, from which the network can tell nothing"]
    assert remarks(2_000, 10) == []
    [far] = remarks(20, 10)
    assert far.startswith("the sound's level of -64.3 dBFS is far from that of the training recordings")


def test_a_video_model_needs_no_calibration(tiny):
    live = LiveStream(tiny("video")[1])
    assert not live.calibrating and live.push(video=VIDEO).shape == (2, 2) and live.remarks == []
