"""Windows as the network gets them: standardised by their own recording, augmented by draws of their own."""

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from affect.config import override
from affect.data import window_reader
from affect.data.dataset import dev_dataset, evaluation_dataset, open_data, training_dataset
from affect.data.windows import WHOLE_DATASET
from affect.presets import get_preset
from tests.helpers import trees
from tests.helpers.commands import read_recording
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing

FRAMES = {"loud": 100, "middle": 60, "quiet": 140}
GAINS = {"loud": (0.2, 0.1), "middle": (0.05, 0.0), "quiet": (0.01, -0.02)}  # standard deviation and mean
FIRST_LABELS = {"loud": -0.9, "middle": 0.0, "quiet": 0.5}


@pytest.fixture(scope="module")
def gains(tmp_path_factory):
    """Shards of recordings that differ in gain and length, and their sound files; labels rise by 0.001 per frame."""
    root = tmp_path_factory.mktemp("gains")
    rng = np.random.default_rng(5)
    rows = ["recording,partition,audio,video,labels"]
    for name, (deviation, mean) in GAINS.items():
        trees.write_wav(root / f"corpus/{name}.wav", rng.normal(mean, deviation, FRAMES[name] * 640), 16_000)
        labels = [f"{k / 25},{FIRST_LABELS[name] + 0.001 * (k - 1):.4f},0" for k in range(FRAMES[name] + 1)]
        trees.write_lines(root / f"corpus/{name}.csv", ["time,arousal,valence", *labels])
        rows.append(f"{name},train,{name}.wav,,{name}.csv")
    trees.write_lines(root / "corpus/corpus.csv", rows)
    make_tfrecords(find_corpus(str(root / "corpus")), root / "records", Preprocessing(), processes=1)
    return root


def standardised_by_numpy(wav):
    """Returns the frames of a sound file, float64 [frames, 640], with its own mean and standard deviation removed."""
    pcm = soundfile.read(wav, dtype="int16")[0].astype(np.float64)
    return ((pcm - pcm.mean()) / pcm.std()).reshape(-1, 640)


@pytest.mark.parametrize("audio_cache_mib", [1024, 0], ids=["cached", "streamed"])
@pytest.mark.parametrize("use", ["training", "evaluation", "dev"])
def test_every_window_is_standardised_by_the_samples_of_its_own_recording(gains, use, audio_cache_mib):
    settings = [
        f"data.data_dir={gains}/records", f"data.audio_cache_mib={audio_cache_mib}", "data.window_frames=15",
        "data.eval_window_frames=40", "train.batch_size=6",
    ]  # fmt: skip
    experiment = override(get_preset("demo", "audio"), settings)
    manifest = open_data(experiment)
    entries = manifest.partition("train")
    if use == "training":  # the recordings come in another order in every epoch
        epochs = [training_dataset(experiment, manifest, entries, epoch).take(3) for epoch in range(4)]
    elif use == "evaluation":
        epochs = [evaluation_dataset(experiment, manifest, entries, 4)]
    else:
        epochs = [dev_dataset(experiment, manifest, entries, 2, WHOLE_DATASET)]
    expected = {name: standardised_by_numpy(gains / f"corpus/{name}.wav") for name in GAINS}
    seen = {name: set() for name in GAINS}
    for inputs, labels, mask in (batch for epoch in epochs for batch in epoch):
        for audio, label, counts in zip(inputs["audio"].numpy(), labels.numpy(), mask.numpy(), strict=True):
            if not counts.any():
                continue  # fills the last batch
            assert use != "training" or counts.all()
            arousal = label[counts, 0]
            name = max(GAINS, key=lambda name: (FIRST_LABELS[name] <= arousal[0] + 1e-6, FIRST_LABELS[name]))
            frames = np.rint((arousal - FIRST_LABELS[name]) * 1000).astype(int)
            np.testing.assert_allclose(audio[counts], expected[name][frames], atol=2e-3, err_msg=name)
            seen[name].update(frames)
    for name, frames in seen.items():
        assert len(frames) == FRAMES[name] if use != "training" else len(frames) > FRAMES[name] // 2, name


def brightness_draws(data_dir, epoch, first_step=0, steps=4, *settings):
    """Returns by how much each window of some training steps was brightened, as [(recording, first frame, shifts)].

    Brightness is the only change, so that the shift of every frame can be read from its pixels.
    """
    changes = ["enabled=true", "scope=window", "resize=96", "saturation=0", "brightness=0.1", "flip=false"]
    experiment = override(
        get_preset("demo", "video"),
        [
            f"data.data_dir={data_dir}", "data.window_frames=20", "train.batch_size=2",
            *(f"augment.{change}" for change in changes), *settings,
        ],
    )  # fmt: skip
    manifest = open_data(experiment)
    entries = manifest.partition("train")
    stored = {entry.name: read_recording(data_dir, entry.name) for entry in entries}
    draws = []
    for inputs, labels, _ in training_dataset(experiment, manifest, entries, epoch, first_step).take(steps):
        for crops, label in zip(inputs["video"].numpy(), labels.numpy(), strict=True):
            (place,) = [
                (name, start)
                for name, fields in stored.items()
                for start in range(len(fields["labels"]) - len(label) + 1)
                if np.array_equal(fields["labels"][start : start + len(label)], label)
            ]
            jpegs = stored[place[0]]["jpeg"][place[1] : place[1] + len(crops)]
            shifts = []
            for crop, jpeg in zip(crops.astype(int), jpegs, strict=True):
                original = tf.io.decode_jpeg(jpeg).numpy().astype(int)
                change = (crop - original)[(original > 30) & (original < 225)]  # not clipped
                assert change.min() == change.max()
                shifts.append(int(change[0]))
            draws.append((*place, shifts))
    return draws


def shifts_of(draws):
    return [shifts for _, _, shifts in draws]


def test_every_window_of_an_epoch_has_its_own_augmentation(data_dir):
    draws = brightness_draws(data_dir, epoch=2, steps=8)
    assert len({(name, start) for name, start, _ in draws}) == 16
    assert all(len(set(shifts)) == 1 for shifts in shifts_of(draws))  # one draw for all frames of a window
    assert len({shifts[0] for shifts in shifts_of(draws)}) > 8  # of 51 possible values


def test_the_frames_of_a_window_are_augmented_differently_if_the_scope_is_frame(data_dir):
    draws = brightness_draws(data_dir, 2, 0, 2, "augment.scope=frame")
    assert all(len(set(shifts)) > 8 for shifts in shifts_of(draws))
    assert len(set(map(tuple, shifts_of(draws)))) == len(draws)


def test_the_same_window_is_augmented_differently_in_every_epoch_and_with_every_seed(data_dir):
    whole = "data.window_frames=200"  # one window per recording, which starts at 0 in every epoch
    draws = [draw for epoch in range(3) for draw in brightness_draws(data_dir, epoch, 0, 1, whole)]
    draws += brightness_draws(data_dir, 0, 0, 1, whole, "train.seed=7")
    for name in ("train_1", "train_2"):
        own = [shifts[0] for recording, start, shifts in draws if (recording, start) == (name, 0)]
        assert len(own) == len(set(own)) == 4, own


def test_an_epoch_continued_at_any_step_has_the_augmentation_of_an_epoch_without_interruption(data_dir):
    whole = brightness_draws(data_dir, epoch=3, steps=5)
    assert brightness_draws(data_dir, epoch=3, steps=5) == whole
    assert brightness_draws(data_dir, epoch=3, first_step=3, steps=2) == whole[6:]


@pytest.mark.parametrize(("bytes_needed", "from_memory"), [(3 * 2**20, True), (3 * 2**20 + 1, False)])
def test_sound_is_kept_in_memory_if_all_of_it_fits(gains, monkeypatch, bytes_needed, from_memory):
    read = []
    monkeypatch.setattr(window_reader, "audio_bytes", lambda entries, frame_samples: bytes_needed)
    in_memory = window_reader.read_audio
    monkeypatch.setattr(window_reader, "read_audio", lambda *at, **sizes: read.append(1) or in_memory(*at, **sizes))
    experiment = override(get_preset("demo", "audio"), [f"data.data_dir={gains}/records", "data.audio_cache_mib=3"])
    manifest = open_data(experiment)
    assert len(list(evaluation_dataset(experiment, manifest, manifest.partition("train"), 1))) == 3
    assert bool(read) == from_memory
