"""Shards and windows: what was written is read back, no frame is lost, and nothing crosses two recordings."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from affect.config import AugmentConfig, override
from affect.data.augment import augment_window
from affect.data.dataset import (
    dev_dataset,
    evaluation_dataset,
    labelled_recordings,
    open_data,
    recordings_in_step,
    training_dataset,
)
from affect.data.manifest import RecordingEntry, read_manifest
from affect.data.records import parse, serialize
from affect.data.windows import (
    WHOLE_DATASET,
    Share,
    evaluation_windows,
    steps_per_epoch,
    training_windows,
    with_delayed_labels,
)
from affect.errors import UserError
from affect.presets import get_preset


def entry(name, frames):
    return RecordingEntry(name, "train", name, frames, True, True, True, 0.0, 1.0, frames, (), "", "", (), ())


def experiment_on(data_dir, modality="audio", *settings):
    return override(get_preset("demo", modality), [f"data.data_dir={data_dir}", *settings])


def frames_in(batches):
    """Counted frames of a dataset as (audio [frames, samples], labels [frames, 2])."""
    audio, labels = [], []
    for inputs, label, mask in batches:
        audio.append(inputs["audio"].numpy()[mask.numpy()])
        labels.append(label.numpy()[mask.numpy()])
    return np.concatenate(audio), np.concatenate(labels)


def test_a_record_comes_back_sample_for_sample():
    rng = np.random.default_rng(0)
    pcm = rng.integers(-32_768, 32_767, size=(3, 640)).astype(np.int16)
    labels = rng.uniform(-1, 1, size=(3, 2)).astype(np.float32)
    found = np.array([True, False, True])
    squares = np.float32([[1, 2, 30], [-4, 5, 31], [0.5, 0, 32]])
    crops = [tf.io.encode_jpeg(rng.integers(0, 255, (96, 96, 3)).astype(np.uint8)).numpy() for _ in range(3)]
    fields = parse(serialize("dev_2", 50, crops, squares, found, pcm, labels), 640)
    assert fields["recording"].numpy() == b"dev_2"
    assert int(fields["start_frame"]) == 50
    assert list(fields["jpeg"].numpy()) == crops
    np.testing.assert_array_equal(fields["pcm"], pcm)
    np.testing.assert_array_equal(fields["labels"], labels)
    np.testing.assert_array_equal(fields["face_found"], found)
    np.testing.assert_array_equal(fields["square"], squares)


def test_training_windows_equal_a_plain_python_reference():
    entries = [entry("a", 350), entry("b", 100), entry("c", 40)]
    seen = set()
    for epoch in range(30):
        a, b, c = training_windows(entries, 100, seed=1, epoch=epoch)
        offset = a[0].start
        assert [w.start for w in a] == [s for s in range(offset, 350) if (s - offset) % 100 == 0 and s + 100 <= 350]
        assert [(w.start, w.frames) for w in b] == [(0, 100)]
        assert [(w.start, w.frames) for w in c] == [(0, 40)]
        seen.add(offset)
        assert len(a) + len(b) + len(c) >= steps_per_epoch(entries, 100, 1)
    assert len(seen) > 10
    assert training_windows(entries, 100, 1, 5) == training_windows(entries, 100, 1, 5)


def test_evaluation_windows_cover_every_frame_once_and_in_order():
    windows = evaluation_windows([entry("a", 250), entry("b", 30)], 100)
    assert [(w.recording, w.start, w.frames) for w in windows] == [
        ("a", 0, 100), ("a", 100, 100), ("a", 200, 50), ("b", 0, 30),
    ]  # fmt: skip


@pytest.mark.parametrize("window", [37, 100, 500])
def test_evaluation_loses_no_frame_and_keeps_the_order(data_dir, window):
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
    # Labels are distinctive enough to tell where a frame came from.
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


def test_order_is_a_function_of_seed_and_epoch_and_continues_at_any_step(data_dir):
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
def test_sound_kept_in_memory_gives_the_same_batches_as_sound_from_shards(data_dir, settings):
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
    with pytest.raises(UserError, match="200 frames; a label delay of 200 frames"):
        with_delayed_labels([entry], 200)


def test_workers_share_recordings_and_take_equally_many_steps(data_dir):
    experiment = experiment_on(data_dir, "audio", "data.window_frames=30", "train.batch_size=4")
    manifest = open_data(experiment)
    entries = manifest.partition("train")
    shares = [Share(worker, workers=2, replicas=2) for worker in range(2)]
    seen = []
    for share in shares:
        batch = next(iter(training_dataset(experiment, manifest, entries, 0, share=share)))
        assert batch[2].shape == (1, 30)  # four windows over two workers with two devices each
        seen.append([item.name for item in share.recordings(entries)])
    assert sorted(seen[0] + seen[1]) == [item.name for item in entries] and not set(seen[0]) & set(seen[1])
    # Whatever the offsets, a has 6 windows, b 4, c 1: worker 0 has 7, worker 1 has 4 and takes two per step.
    assert steps_per_epoch([entry("a", 350), entry("b", 250), entry("c", 100)], 50, 4, workers=2) == 2


def test_dev_batches_are_equally_many_for_every_worker_and_lose_nothing(data_dir):
    experiment = experiment_on(data_dir, "audio", "data.eval_window_frames=70")
    manifest = open_data(experiment)
    dev = manifest.partition("dev")
    counted, steps = 0, set()
    for worker in range(3):  # one of them has no recording
        batches = list(dev_dataset(experiment, manifest, dev, 2, Share(worker, workers=3)))
        assert all(mask.shape == (2, 70) for _, _, mask in batches)
        steps.add(len(batches))
        counted += sum(int(mask.numpy().sum()) for _, _, mask in batches)
    assert steps == {2} and counted == 400


def test_recordings_of_a_step_are_those_of_its_batch(data_dir):
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


def test_standardised_recordings_have_mean_zero_and_deviation_one(data_dir):
    experiment = experiment_on(data_dir)
    manifest = open_data(experiment)
    audio, _ = frames_in(evaluation_dataset(experiment, manifest, manifest.partition("dev")[:1], 1))
    assert abs(audio.mean()) < 1e-3
    assert audio.std() == pytest.approx(1.0, abs=1e-3)


def test_a_short_recording_is_padded_and_masked(data_dir):
    experiment = experiment_on(data_dir, "audiovisual", "data.window_frames=300", "train.batch_size=1")
    manifest = open_data(experiment)
    inputs, labels, mask = next(iter(training_dataset(experiment, manifest, manifest.partition("train"), 0)))
    assert inputs["video"].shape == (1, 300, 96, 96, 3)
    assert mask.numpy().sum() == 200
    assert np.all(labels.numpy()[0, 200:] == 0) and np.all(inputs["audio"].numpy()[0, 200:] == 0)


def test_faceless_frames_leave_the_loss_only_where_asked_and_only_in_training(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "records")
    for path in (tmp_path / "records").glob("*/*.tfrecord"):
        records = [parse(record, 640) for record in tf.data.TFRecordDataset(str(path))]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for fields in records:
                values = {name: value.numpy() for name, value in fields.items()}
                found = np.arange(len(values["jpeg"])) % 5 != 0  # one frame in five has no face
                start, jpeg, pcm, labels = (values[name] for name in ("start_frame", "jpeg", "pcm", "labels"))
                writer.write(serialize("r", int(start), list(jpeg), values["square"], found, pcm, labels))

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


def test_shards_for_another_frame_size_are_refused(data_dir):
    with pytest.raises(UserError, match="shards hold frame_samples 640, but the run's model.frame_samples is 320"):
        open_data(experiment_on(data_dir, "audio", "model.frame_samples=320"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=99), "schema version 99, written by affect"),
        (lambda m: m.pop("crop_size"), "damaged manifest"),
        (lambda m: m.update(surprise=1), "damaged manifest"),
        (lambda m: m["recordings"][0].update(shards=["../../etc/passwd"]), "outside the data folder"),
        (lambda m: m["recordings"][0].update(shards=["/etc/passwd"]), "outside the data folder"),
        (lambda m: m["recordings"][0].update(features="../secret.h5"), "outside the data folder"),
        (lambda m: m["recordings"][0].update(name="../../escaped"), "is not the name of a recording"),
        (lambda m: m["recordings"][0].update(name=5), "damaged manifest"),
        (lambda m: m["recordings"][0].update(shards=[5]), "damaged manifest"),
        (lambda m: m["recordings"][0].update(sha256=[]), "damaged manifest"),
        (lambda m: m["recordings"][0].update(partition="foo"), "damaged manifest"),
        (lambda m: m.update(frame_rate_hz=0), "a rate of 0"),
        (lambda m: m.update(frame_samples="many"), "frame_samples is 'many'"),
        (lambda m: m.update(left_out=[1]), "damaged manifest"),
        (lambda m: m.update(recordings=[]), "no recordings"),
        (lambda m: m["recordings"].append(m["recordings"][0]), "one of them twice"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(data_dir, tmp_path, change, message):
    manifest = json.loads((data_dir / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, "7" * 5_000, "{", "5"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest"):
        read_manifest(tmp_path)


def test_recordings_without_video_are_refused_by_networks_that_see(data_dir, tmp_path):
    manifest = json.loads((data_dir / "manifest.json").read_text())
    manifest["recordings"][1]["has_video"] = False
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"1 recording\(s\) have no video \(train_2\); train the other modality"):
        open_data(experiment_on(tmp_path, "audiovisual"), ("train", "dev"))
    for modality, partitions in (("audio", ("train",)), ("audiovisual", ("dev", "test"))):
        assert len(open_data(experiment_on(tmp_path, modality), partitions).recordings) == 6


def test_missing_data_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        read_manifest(tmp_path)


def test_a_partition_without_labels_is_refused(data_dir):
    manifest = read_manifest(data_dir)
    unlabelled = tuple(dataclasses.replace(item, has_labels=False) for item in manifest.recordings)
    with pytest.raises(UserError, match="the dev partition has no labelled recordings"):
        labelled_recordings(dataclasses.replace(manifest, recordings=unlabelled), "dev", "data")


def test_fingerprint_changes_with_the_data(data_dir, tmp_path):
    shutil.copy(data_dir / "manifest.json", tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest.fingerprint() == read_manifest(data_dir).fingerprint()
    changed = dataclasses.replace(manifest.recordings[0], sha256=("0" * 64,))
    other = dataclasses.replace(manifest, recordings=(changed, *manifest.recordings[1:]))
    assert other.fingerprint() != manifest.fingerprint()


STILL = AugmentConfig(scope="window", resize=96, saturation=0.0, brightness=0.0)


def picture(time=3):
    rng = np.random.default_rng(4)
    return tf.constant(rng.integers(40, 200, size=(time, 96, 96, 3)).astype(np.uint8))


def test_augmentation_that_is_switched_off_changes_nothing():
    np.testing.assert_array_equal(augment_window(picture(), STILL, tf.constant([1, 2])), picture())


@pytest.mark.parametrize("scope", ["frame", "window"])
def test_crop_is_a_shifted_part_of_the_enlarged_picture(scope):
    config = dataclasses.replace(STILL, scope=scope, resize=110)
    crops = picture(1)
    result = augment_window(crops, config, tf.constant([5, 6])).numpy()[0].astype(int)
    enlarged = tf.image.resize(crops, [110, 110]).numpy()[0]
    differences = [
        np.abs(result - enlarged[top : top + 96, left : left + 96])[2:-2, 2:-2].mean()
        for top in range(15)
        for left in range(15)
    ]
    assert min(differences) < 0.6  # rounding to uint8
    assert np.sort(differences)[1] > 5.0  # and only at one place


def test_scope_decides_whether_frames_differ():
    crops = tf.repeat(picture(1), 4, axis=0)
    config = dataclasses.replace(STILL, brightness=0.1, saturation=0.5, resize=110)
    per_window = augment_window(crops, config, tf.constant([1, 2])).numpy()
    assert all(np.array_equal(per_window[0], frame) for frame in per_window)
    per_frame = augment_window(crops, dataclasses.replace(config, scope="frame"), tf.constant([1, 2])).numpy()
    assert not np.array_equal(per_frame[0], per_frame[1])


def test_brightness_moves_all_pixels_by_one_amount_within_its_range():
    config = dataclasses.replace(STILL, brightness=32 / 255)
    shifts = set()
    for seed in range(20):
        change = augment_window(picture(), config, tf.constant([seed, 0])).numpy().astype(int) - picture().numpy()
        assert change.min() == change.max()
        shifts.add(int(change[0, 0, 0, 0]))
    assert max(map(abs, shifts)) <= 32
    assert len(shifts) > 10


def test_saturation_keeps_grey_grey():
    grey = tf.fill([2, 96, 96, 3], tf.constant(120, tf.uint8))
    config = dataclasses.replace(STILL, saturation=0.5)
    np.testing.assert_array_equal(augment_window(grey, config, tf.constant([3, 3])), grey)


def test_flip_mirrors_about_half_of_the_windows_whole():
    config = dataclasses.replace(STILL, flip=True)
    results = [augment_window(picture(), config, tf.constant([seed, 1])).numpy() for seed in range(40)]
    mirrored = [np.array_equal(result, picture().numpy()[:, :, ::-1]) for result in results]
    kept = [np.array_equal(result, picture().numpy()) for result in results]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30
