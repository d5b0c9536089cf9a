"""Damaged and malicious shards: training, evaluation and inspection say what is wrong in one line."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from affect.config import override
from affect.data.dataset import evaluation_dataset, labelled_recordings, open_data, training_dataset
from affect.data.manifest import read_manifest
from affect.data.records import encode_jpeg, shard_errors
from affect.errors import UserError
from affect.evaluation import eval_command
from affect.learning import train_command
from affect.presets import get_preset
from tests.helpers.commands import train_flags
from tests.helpers.in_process import call_main
from tfrecords_tools.inspection import inspect


def bomb(example):
    """Puts a crop into a record that takes 48 MB when it is decoded."""
    jpeg = encode_jpeg(np.zeros((4000, 4000, 3), np.uint8))
    example.features.feature["video/jpeg"].bytes_list.value[3] = jpeg


def without_sound(example):
    example.features.feature["audio/pcm"].bytes_list.value[0] = b""


@pytest.fixture
def damaged(data_dir, tmp_path):
    """Returns a function that changes the fourth record of the first shards of a partition, in a copy of the data."""

    def spoil(partition, change):
        copy = tmp_path / "records"
        shutil.copytree(data_dir, copy)
        for entry in read_manifest(copy).partition(partition):
            shard = str(copy / entry.shards[0])
            examples = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(shard)]
            change(examples[3])
            with tf.io.TFRecordWriter(shard) as writer:
                for example in examples:
                    writer.write(example.SerializeToString())
        return copy

    return spoil


def batches_of(data_dir, partition):
    experiment = override(
        get_preset("demo", "video"),
        [f"data.data_dir={data_dir}", "data.window_frames=50", "data.eval_window_frames=50", "train.batch_size=1"],
    )
    manifest = open_data(experiment)
    entries = labelled_recordings(manifest, partition, str(data_dir))
    if partition == "train":
        return training_dataset(experiment, manifest, entries, epoch=0).take(8)
    return evaluation_dataset(experiment, manifest, entries, batch_size=1)


@pytest.mark.parametrize("partition", ["train", "dev"])
def test_a_crop_that_is_too_large_is_refused_with_the_name_of_its_recording(damaged, partition):
    copy = damaged(partition, bomb)
    refusal = (
        rf"^the shards cannot be read: {partition}_[12] has a crop that is not an RGB picture of 96 x 96 pixels; its "
        r"shape is 4000 4000 3; inspect_tfrecords names the shard and the frame$"
    )
    with pytest.raises(UserError, match=refusal), shard_errors():
        list(batches_of(copy, partition))


def test_inspection_names_shard_and_frame_of_a_crop_that_is_too_large(damaged):
    copy = damaged("dev", bomb)
    with pytest.raises(UserError) as refused:
        inspect(copy)
    assert str(refused.value) == (
        f"{copy}/dev/dev_1-00000-of-00001.tfrecord: damaged at frame 75 (dev_1 has a crop that is not an RGB picture "
        "of 96 x 96 pixels; its shape is 4000 4000 3)"
    )


NO_SOUND = (
    r"^the shards cannot be read: {}_[12] has a record whose fields cover different numbers of frames, from frame 75 "
    r"on: labels, jpeg, square, face_found, pcm = 25 25 25 25 0; inspect_tfrecords names the shard and the frame$"
)


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_training_ends_with_one_line_for_a_record_without_its_sound(damaged, tmp_path, cache_mib):
    copy = damaged("train", without_sound)
    flags = train_flags(copy, tmp_path / "run", f"--set=data.audio_cache_mib={cache_mib}")
    with pytest.raises(UserError, match=NO_SOUND.format("train")):
        call_main(train_command, *flags)


def test_evaluation_ends_with_one_line_for_a_record_without_its_sound(damaged, audio_run, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(audio_run, run_dir)
    copy = damaged("dev", without_sound)
    with pytest.raises(UserError, match=NO_SOUND.format("dev")):
        call_main(eval_command, f"--run_dir={run_dir}", f"--data_dir={copy}", "--partitions=dev")


def test_a_cut_shard_is_said_to_be_damaged(damaged):
    copy = damaged("dev", lambda example: None)
    shard = copy / read_manifest(copy).partition("dev")[0].shards[0]
    shard.write_bytes(shard.read_bytes()[:-500])
    with (
        pytest.raises(UserError, match=r"^the shards cannot be read: (truncated|corrupted) record at "),
        shard_errors(),
    ):
        list(batches_of(copy, "dev"))


def test_an_error_of_the_network_is_not_taken_for_one_of_the_shards():
    with pytest.raises(tf.errors.InvalidArgumentError), shard_errors():
        tf.linalg.inv(tf.zeros([2, 2]))
