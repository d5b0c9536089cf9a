"""Batches: no stored frame is lost, no window crosses two recordings, and the order is reproducible."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from msgspec.structs import replace

from affect.config import override
from affect.data.dataset import (
    dev_dataset,
    evaluation_dataset,
    labelled_recordings,
    open_data,
    recordings_in_step,
    training_dataset,
)
from affect.data.manifest import read_manifest
from affect.data.records import parse, serialize
from affect.data.windows import WHOLE_DATASET, Share, steps_per_epoch, with_delayed_labels
from affect.errors import UserError
from affect.presets import get_preset
from tests.helpers.commands import REPOSITORY


def experiment_on(data_dir, modality="audio", *settings):
    return override(get_preset("demo", modality), [f"data.data_dir={data_dir}", *settings])


def frames_in(batches):
    """Returns the frames that the mask counts, as (audio [frames, samples], labels [frames, 2])."""
    audio, labels = [], []
    for inputs, label, mask in batches:
        audio.append(inputs["audio"].numpy()[mask.numpy()])
        labels.append(label.numpy()[mask.numpy()])
    return np.concatenate(audio), np.concatenate(labels)


def test_the_dataset_module_needs_none_of_the_decoders_of_media_files():
    # None in sys.modules makes an import fail. Checking sys.modules afterwards is not enough: TensorFlow imports Keras,
    # which imports cv2 if it is installed.
    code = "import sys; sys.modules |= dict.fromkeys(('av', 'soxr', 'cv2')); import affect.data.dataset"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("window", [37, 100, 500])
def test_evaluation_returns_every_stored_frame_in_order(data_dir, window):
    experiment = experiment_on(data_dir, "audio", f"data.eval_window_frames={window}", "data.standardise=none")
    manifest = open_data(experiment)
    entries = manifest.partition("dev")
    audio, labels = frames_in(evaluation_dataset(experiment, manifest, entries, 3))
    stored_audio, stored_labels = [], []
    for item in entries:
        for serialized in tf.data.TFRecordDataset([str(data_dir / shard) for shard in item.shards]):
            fields = parse(serialized, 640)
            stored_audio.append(fields["pcm"].numpy() / 32_768)
            stored_labels.append(fields["labels"].numpy())
    np.testing.assert_array_equal(labels, np.concatenate(stored_labels))
    np.testing.assert_allclose(audio, np.concatenate(stored_audio), atol=1e-7)
    assert len(labels) == sum(item.frames for item in entries) == 400


def test_training_batches_hold_consecutive_frames_of_one_recording(data_dir):
    experiment = experiment_on(data_dir, "audio", "data.window_frames=30", "train.batch_size=3")
    manifest = open_data(experiment)
    entries = manifest.partition("train")
    # Labels are distinctive enough to identify the recording of a window.
    whole = {item.name: frames_in(evaluation_dataset(experiment, manifest, [item], 1))[1].tobytes() for item in entries}
    steps = steps_per_epoch(entries, 30, 3)
    windows = [
        window
        for _, labels, mask in training_dataset(experiment, manifest, entries, epoch=0).take(steps)
        for window in labels.numpy()
        if mask.numpy().all()
    ]
    assert len(windows) == 3 * steps
    owners = [[name for name, content in whole.items() if window.tobytes() in content] for window in windows]
    assert all(len(owner) == 1 for owner in owners)
    assert {owner[0] for owner in owners} == set(whole)


def test_order_depends_on_seed_and_epoch_only_and_continues_at_any_step(data_dir):
    experiment = experiment_on(data_dir, "video", "data.window_frames=20", "train.batch_size=2")
    manifest = open_data(experiment)
    entries = manifest.partition("train")

    def batches(epoch, first_step=0, count=4):
        return list(training_dataset(experiment, manifest, entries, epoch, first_step).take(count))

    once, again, other, rest = batches(3), batches(3), batches(4), batches(3, first_step=2, count=2)
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a[0]["video"], b[0]["video"])
    for a, b in zip(once[2:], rest, strict=True):
        np.testing.assert_array_equal(a[0]["video"], b[0]["video"])
        np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(once[0][1], other[0][1])


@pytest.mark.parametrize("settings", [(), ("data.label_delay_secs=0.2",)])
def test_cached_audio_gives_the_same_batches_as_audio_from_shards(data_dir, settings):
    def batches(limit):
        experiment = experiment_on(
            data_dir, "audio", "data.window_frames=30", "train.batch_size=3", f"data.audio_cache_mib={limit}", *settings
        )
        manifest = open_data(experiment)
        entries = with_delayed_labels(manifest.partition("train"), 5 if settings else 0)
        trained = list(training_dataset(experiment, manifest, entries, 2).take(5))
        return trained + list(dev_dataset(experiment, manifest, entries, 2, WHOLE_DATASET))

    for kept, streamed in zip(batches(1024), batches(0), strict=True):
        np.testing.assert_array_equal(kept[0]["audio"], streamed[0]["audio"])
        np.testing.assert_array_equal(kept[1], streamed[1])
        np.testing.assert_array_equal(kept[2], streamed[2])


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_delayed_labels_are_those_of_later_frames(data_dir, modality):
    experiment = experiment_on(data_dir, modality, "data.label_delay_secs=0.4", "data.eval_window_frames=70")
    manifest = open_data(experiment)
    (entry,) = manifest.partition("dev")[:1]

    def labels(batches):
        return np.concatenate([label.numpy()[mask.numpy()] for _, label, mask in batches])

    own = labels(evaluation_dataset(experiment, manifest, [entry], 1))
    delayed = labels(dev_dataset(experiment, manifest, with_delayed_labels([entry], 10), 1, WHOLE_DATASET))
    np.testing.assert_array_equal(delayed, own[10:])


def test_each_recording_belongs_to_exactly_one_worker(data_dir):
    experiment = experiment_on(data_dir, "audio", "data.window_frames=30", "train.batch_size=4")
    manifest = open_data(experiment)
    entries = manifest.partition("train")
    shares = [Share(worker, workers=2, replicas=2) for worker in range(2)]
    seen = []
    for share in shares:
        batch = next(iter(training_dataset(experiment, manifest, entries, 0, share=share)))
        assert batch[2].shape == (1, 30)  # four windows, two workers with two devices each
        seen.append([item.name for item in share.recordings(entries)])
    assert sorted(seen[0] + seen[1]) == [item.name for item in entries] and not set(seen[0]) & set(seen[1])


def test_dev_batches_have_one_static_shape_as_accelerators_need(data_dir):
    experiment = experiment_on(data_dir, "audio", "data.eval_window_frames=30")
    manifest = open_data(experiment)
    spec = dev_dataset(experiment, manifest, manifest.partition("dev"), 2, WHOLE_DATASET).element_spec
    assert [tensor.shape.as_list() for tensor in tf.nest.flatten(spec)] == [[2, 30, 640], [2, 30, 2], [2, 30]]


def test_every_worker_gets_equally_many_dev_batches_and_no_frame_is_lost(data_dir):
    experiment = experiment_on(data_dir, "audio", "data.eval_window_frames=70")
    manifest = open_data(experiment)
    dev = manifest.partition("dev")
    counted, steps = 0, set()
    for worker in range(3):  # there are two recordings, so one worker has none
        batches = list(dev_dataset(experiment, manifest, dev, 2, Share(worker, workers=3)))
        assert all(mask.shape == (2, 70) for _, _, mask in batches)
        steps.add(len(batches))
        counted += sum(int(mask.numpy().sum()) for _, _, mask in batches)
    assert steps == {2} and counted == 400


def test_recordings_in_step_names_the_windows_of_the_batch(data_dir):
    experiment = experiment_on(data_dir, "audio", "data.window_frames=30", "train.batch_size=4")
    manifest = open_data(experiment)
    entries = manifest.partition("train")
    whole = {item.name: frames_in(evaluation_dataset(experiment, manifest, [item], 1))[1] for item in entries}
    shares = [Share(worker, workers=2) for worker in range(2)]
    for step in range(2):
        named = recordings_in_step(experiment, entries, 1, step, shares)
        labels = [
            window
            for share in shares
            for window in next(iter(training_dataset(experiment, manifest, entries, 1, step, share)))[1].numpy()
        ]
        assert len(named) == len(labels) == 4
        for (name, start), window in zip(named, labels, strict=True):
            np.testing.assert_array_equal(window, whole[name][start : start + 30])


def test_a_short_recording_is_padded_and_masked(data_dir):
    experiment = experiment_on(data_dir, "audiovisual", "data.window_frames=300", "train.batch_size=1")
    manifest = open_data(experiment)
    inputs, labels, mask = next(iter(training_dataset(experiment, manifest, manifest.partition("train"), 0)))
    assert inputs["video"].shape == (1, 300, 96, 96, 3)
    assert mask.numpy().sum() == 200
    assert np.all(labels.numpy()[0, 200:] == 0) and np.all(inputs["audio"].numpy()[0, 200:] == 0)


def test_faceless_frames_are_masked_only_in_training_and_only_if_configured(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "records")
    for path in (tmp_path / "records").glob("*/*.tfrecord"):
        records = [parse(record, 640) for record in tf.data.TFRecordDataset(str(path))]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for fields in records:
                values = {name: value.numpy() for name, value in fields.items()}
                found = np.arange(len(values["jpeg"])) % 5 != 0  # one frame in five has no face
                name = values["recording"].decode()
                start, jpeg, pcm, labels = (values[field] for field in ("start_frame", "jpeg", "pcm", "labels"))
                writer.write(serialize(name, int(start), list(jpeg), values["square"], found, pcm, labels))

    def counted(modality, choice, training):
        settings = f"data.faceless_frames={choice}", "data.window_frames=50", "train.batch_size=2"
        experiment = experiment_on(tmp_path / "records", modality, *settings)
        manifest = open_data(experiment)
        entries = manifest.partition("train")
        batches = (
            training_dataset(experiment, manifest, entries, 0).take(2)
            if training
            else evaluation_dataset(experiment, manifest, entries, 1)
        )
        return np.mean([mask.numpy() for _, _, mask in batches]) / (1.0 if training else 0.4)  # 200 of 500 frames

    assert counted("video", "mask", training=True) == pytest.approx(0.8)
    assert counted("video", "keep", training=True) == 1.0
    assert counted("audio", "mask", training=True) == 1.0
    assert counted("video", "mask", training=False) == pytest.approx(1.0)


def test_shards_with_another_frame_size_are_refused(data_dir):
    with pytest.raises(UserError, match="shards hold frame_samples 640, but the run's model.frame_samples is 320"):
        open_data(experiment_on(data_dir, "audio", "model.frame_samples=320"))


def test_recordings_without_video_are_refused_only_by_networks_that_take_video(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    manifest = json.loads((data_dir / "manifest.json").read_text())
    manifest["recordings"][1]["has_video"] = False
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        UserError, match=r"have no video \(train_2\); train on another modality, as with --modality=audio, or"
    ):
        open_data(experiment_on(tmp_path, "audiovisual"), ("train", "dev"))
    for modality, partitions in (("audio", ("train",)), ("audiovisual", ("dev", "test"))):
        assert len(open_data(experiment_on(tmp_path, modality), partitions).recordings) == 6


def test_a_partition_without_labels_is_refused(data_dir):
    manifest = read_manifest(data_dir)
    unlabelled = tuple(replace(item, has_labels=False) for item in manifest.recordings)
    with pytest.raises(UserError, match="the dev partition has no labelled recordings"):
        labelled_recordings(replace(manifest, recordings=unlabelled), "dev", "data")
