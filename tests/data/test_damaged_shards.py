"""Damaged and malicious shards: training, evaluation and inspection say what is wrong in one line."""

import gc
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from msgspec.structs import replace

from affect.config import override
from affect.data import shard_check
from affect.data.dataset import evaluation_dataset, labelled_recordings, open_data, training_dataset
from affect.data.manifest import read_manifest
from affect.data.records import encode_jpeg
from affect.data.shard_check import shard_errors
from affect.errors import UserError
from affect.evaluation import baseline, eval_command
from affect.learning import train_command
from affect.learning.strategy import make_strategy
from affect.presets import get_preset
from tests.helpers.commands import train_flags
from tests.helpers.in_process import call_main
from tfrecords_tools.inspection import inspect

WAY_OUT = "copy the folder of shards again, or make it again with make_tfrecords"


def bomb(example):
    """Puts a crop into a record that takes 48 MB when it is decoded."""
    jpeg = encode_jpeg(np.zeros((4000, 4000, 3), np.uint8))
    example.features.feature["video/jpeg"].bytes_list.value[3] = jpeg


def without_sound(example):
    example.features.feature["audio/pcm"].bytes_list.value[0] = b""


def change_manifest(records, change):
    """Changes every entry of a manifest by a function."""
    manifest = read_manifest(records)
    recordings = tuple(change(entry) for entry in manifest.recordings)
    (records / "manifest.json").write_text(replace(manifest, recordings=recordings).to_json())


def forget_sizes(records):
    """Makes the manifest one of version 0.1.0, which did not record the sizes of shards."""
    change_manifest(records, lambda entry: replace(entry, shard_bytes=()))


@pytest.fixture(autouse=True)
def no_old_iterators():
    """Deletes the iterators that an error has kept: TensorFlow takes the longer for it, the longer they have lived."""
    yield
    gc.collect()


@pytest.fixture
def records(data_dir, tmp_path):
    """A copy of the shards."""
    return Path(shutil.copytree(data_dir, tmp_path / "records"))


@pytest.fixture
def damaged(records):
    """Returns a function that changes the fourth record of the first shards of a partition, in a copy of the data."""

    def spoil(partition, change):
        forget_sizes(records)
        for entry in read_manifest(records).partition(partition):
            shard = str(records / entry.shards[0])
            examples = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(shard)]
            change(examples[3])
            with tf.io.TFRecordWriter(shard) as writer:
                for example in examples:
                    writer.write(example.SerializeToString())
        return records

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
def test_a_crop_that_is_too_large_is_refused_with_the_name_of_its_shard(damaged, partition):
    copy = damaged(partition, bomb)
    with pytest.raises(UserError) as refused, shard_errors(copy, read_manifest(copy), {partition}):
        list(batches_of(copy, partition))
    assert str(refused.value) == (
        f"{copy}/{partition}/{partition}_1-00000-of-00001.tfrecord: damaged at frame 75 ({partition}_1 has a crop that "
        "is not an RGB picture of 96 x 96 pixels; its shape is 4000 4000 3)"
    )


def test_inspection_names_shard_and_frame_of_a_crop_that_is_too_large(damaged):
    copy = damaged("dev", bomb)
    with pytest.raises(UserError) as refused:
        inspect(copy)
    assert str(refused.value) == (
        f"{copy}/dev/dev_1-00000-of-00001.tfrecord: damaged at frame 75 (dev_1 has a crop that is not an RGB picture "
        "of 96 x 96 pixels; its shape is 4000 4000 3)"
    )


NO_SOUND = (
    "/{}_1-00000-of-00001.tfrecord, frame 75: the fields have different numbers of frames: {{'labels': 25, 'pcm': 0, "
    "'jpeg': 25, 'square': 25, 'face_found': 25}}"
)


def of_run(audio_run, tmp_path):
    """Returns a copy of a run folder."""
    return shutil.copytree(audio_run, tmp_path / "run")


# What reads shards, as functions of their folder, a trained audio run, and a folder for new files.
COMMANDS = {
    "train audio": lambda records, _, path: call_main(train_command, *train_flags(records, path / "new")),
    "train audio from shards": lambda records, _, path: call_main(
        train_command, *train_flags(records, path / "new", "--set=data.audio_cache_mib=0")
    ),
    "train audio with delayed labels": lambda records, _, path: call_main(
        train_command, *train_flags(records, path / "new", "--set=data.label_delay_secs=0.4")
    ),
    "train video": lambda records, _, path: call_main(
        train_command, *train_flags(records, path / "new", "--modality=video")
    ),
    "evaluate": lambda records, audio_run, path: call_main(
        eval_command, f"--run_dir={of_run(audio_run, path)}", f"--data_dir={records}", "--partitions=train"
    ),
    "baseline": lambda records, _, path: call_main(
        baseline, f"--data_dir={records}", f"--output_dir={path / 'new'}", "--protocol=quick"
    ),
}  # fmt: skip
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@pytest.mark.parametrize("name", ["train audio", "train audio from shards", "evaluate"])
def test_a_record_without_its_sound_ends_in_one_line(damaged, audio_run, tmp_path, name):
    partition = "dev" if name == "evaluate" else "train"
    with pytest.raises(UserError) as refused:
        COMMANDS[name](damaged(partition, without_sound), audio_run, tmp_path)
    assert str(refused.value).endswith(NO_SOUND.format(partition))


def cut(shard, share=2 / 3):
    content = shard.read_bytes()
    shard.write_bytes(content[: int(len(content) * share)])


def empty(shard):
    shard.write_bytes(b"")


def in_the_wrong_folder(shard):
    shard.rename(shard.parents[1] / "dev" / shard.name)


def a_folder(shard):
    shard.unlink()
    shard.mkdir()


def a_link(shard, target):
    shard.unlink()
    shard.symlink_to(target)


def flip(shard):
    """Changes one bit in the middle of the sixth of eight records, which begins with frame 125."""
    content = bytearray(shard.read_bytes())
    places = list(np.cumsum([0, *(len(record.numpy()) + 16 for record in tf.data.TFRecordDataset(str(shard)))]))
    content[(places[5] + places[6]) // 2] ^= 1
    shard.write_bytes(content)


def cut_between_records(shard, records=6):
    """Leaves the first records, which no reader of TFRecords can tell from a complete shard."""
    whole = [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in whole[:records]:
            writer.write(record)


OTHER_SIZE = f"the shard has {{size}} bytes, but {{before}} in the manifest; {WAY_OUT}"
MISSING = f"the manifest names this shard, but it is missing; {WAY_OUT}"
UNREADABLE = "the manifest names this shard, but it cannot be opened ({})"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, OTHER_SIZE),
        (cut_between_records, OTHER_SIZE),
        (lambda shard: shard.write_bytes(shard.read_bytes() + b"\0"), OTHER_SIZE),
        (lambda shard: shutil.copy(shard.parents[1] / "dev/dev_1-00000-of-00001.tfrecord", shard), OTHER_SIZE),
        (empty, f"the shard is empty; {WAY_OUT}"),
        (Path.unlink, MISSING),
        (in_the_wrong_folder, MISSING),
        (partial(a_link, target="nowhere.tfrecord"), MISSING),
        (a_folder, UNREADABLE.format("Is a directory")),
        # Stands for a shard without read permission, which does not exist for the superuser.
        (partial(a_link, target="train_2-00000-of-00001.tfrecord"),
         UNREADABLE.format("Too many levels of symbolic links")),
    ],
    ids=["cut", "cut between records", "longer", "another recording", "empty", "missing", "wrong folder",
         "dangling link", "folder", "unreadable"],
)  # fmt: skip
def test_a_shard_that_the_manifest_does_not_describe_is_refused_when_the_data_is_opened(records, change, message):
    shard = records / "train/train_2-00000-of-00001.tfrecord"
    before = shard.stat().st_size
    change(shard)
    experiment = override(get_preset("demo", "video"), [f"data.data_dir={records}"])
    with pytest.raises(UserError) as refused:
        open_data(experiment, ["dev", "train"])
    size = shard.stat().st_size if "bytes" in message else None
    assert str(refused.value) == f"{shard}: {message.format(size=size, before=before)}"
    assert size != before
    open_data(experiment, ["dev", "test"])  # shards of partitions that are not used may be elsewhere


@every_command
def test_every_command_opens_the_shards_before_it_begins(records, audio_run, tmp_path, command):
    empty(records / "train/train_2-00000-of-00001.tfrecord")
    with pytest.raises(UserError, match="/train/train_2-00000-of-00001.tfrecord: the shard is empty"):
        command(records, audio_run, tmp_path)
    assert not (tmp_path / "new").exists()


@every_command
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip, "damaged at frame 125 (corrupted record at "),
        (cut_between_records, f"ends after frame 150 of 200 of recording train_2; {WAY_OUT}"),
        (lambda shard: shutil.copy(shard.with_name("train_1-00000-of-00001.tfrecord"), shard),
         "expected train_2 from frame 0, found train_1 from frame 0"),
    ],
    ids=["flipped", "cut between records", "another recording"],
)  # fmt: skip
def test_what_only_reading_finds_ends_in_one_line_that_names_the_shard(
    records, audio_run, tmp_path, command, change, message
):
    shard = records / "train/train_2-00000-of-00001.tfrecord"
    change(shard)
    if change is not flip:
        forget_sizes(records)
    with pytest.raises(UserError) as refused:
        command(records, audio_run, tmp_path)
    assert str(refused.value).startswith(f"{shard}: {message}")
    assert "\n" not in str(refused.value)


def test_a_recording_that_is_longer_than_in_the_manifest_is_not_read_in_part(records, tmp_path):
    forget_sizes(records)
    change_manifest(records, lambda entry: replace(entry, frames=entry.frames - 25, faces_found=100))
    with pytest.raises(UserError, match="train_1-00000-of-00001.tfrecord: ends after frame 200 of 175 of recording"):
        COMMANDS["train audio"](records, None, tmp_path)


def test_devices_of_one_machine_report_a_damaged_shard_in_one_line(records, tmp_path):
    flip(records / "train/train_2-00000-of-00001.tfrecord")
    strategy = make_strategy("mirrored")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    flags = train_flags(records, tmp_path / "run", "--modality=video", "--strategy=mirrored")
    with pytest.raises(UserError, match="/train_2-00000-of-00001.tfrecord: damaged at frame 125 "):
        call_main(train_command, *flags)


def test_the_first_of_two_shards_is_named_if_it_ends_between_two_records(records):
    first, second = (records / f"train/train_2-0000{i}-of-00002.tfrecord" for i in range(2))
    whole = [
        record.numpy() for record in tf.data.TFRecordDataset(str(records / "train/train_2-00000-of-00001.tfrecord"))
    ]
    for shard, part in ((first, whole[:3]), (second, whole[4:])):
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for record in part:
                writer.write(record)
    names = tuple(str(shard.relative_to(records)) for shard in (first, second))
    change_manifest(
        records,
        lambda entry: replace(entry, shards=names if entry.name == "train_2" else entry.shards,
                              sha256=names if entry.name == "train_2" else entry.sha256, shard_bytes=()),
    )  # fmt: skip
    manifest = read_manifest(records)
    with pytest.raises(UserError) as refused, shard_errors(records, manifest, {"train"}):
        list(batches_of(records, "train"))
    assert str(refused.value) == f"{first}: ends after frame 75, but the next shard begins with frame 100; {WAY_OUT}"


def test_shards_that_can_be_read_again_after_an_error_are_not_called_damaged(records, monkeypatch):
    flip(records / "dev/dev_1-00000-of-00001.tfrecord")
    monkeypatch.setattr(shard_check, "_check_recording", lambda *arguments: None)
    with pytest.raises(UserError) as refused, shard_errors(records, read_manifest(records), {"dev"}):
        list(batches_of(records, "dev"))
    assert str(refused.value).startswith(f"the shards in {records} could not be read: corrupted record at ")


def test_the_manifest_holds_the_sizes_of_the_shards_and_its_fingerprint_does_not_depend_on_them(data_dir):
    manifest = read_manifest(data_dir)
    for entry in manifest.recordings:
        assert entry.shard_bytes == tuple((data_dir / shard).stat().st_size for shard in entry.shards)
    without = replace(manifest, recordings=tuple(replace(entry, shard_bytes=()) for entry in manifest.recordings))
    assert without.fingerprint() == manifest.fingerprint()
    with pytest.raises(ValueError, match="recording train_1 has 1 shards and 2 sizes"):
        replace(manifest.partition("train")[0], shard_bytes=(1, 2))


def test_an_error_of_the_network_is_not_taken_for_one_of_the_shards():
    with pytest.raises(tf.errors.InvalidArgumentError), shard_errors("nowhere", None, ()):
        tf.linalg.inv(tf.zeros([2, 2]))
