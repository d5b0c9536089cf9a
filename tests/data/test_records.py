"""Records: what was serialized is parsed again, and what does not fit the manifest is refused before it is decoded."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from affect.data.records import decode_jpeg, encode_jpeg, parse, serialize
from affect.data.shard_check import fault_in_shard


def picture(size=96, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3)).astype(np.uint8)


def one_record(**changes):
    """Serializes a record of three frames; `changes` replace fields of it."""
    fields = {
        "crops": [encode_jpeg(picture(seed=k)) for k in range(3)],
        "squares": np.float32([[1, 2, 30], [-4, 5, 31], [0.5, 0, 32]]),
        "found": np.array([True, False, True]),
        "pcm": np.random.default_rng(0).integers(-32_768, 32_767, size=(3, 640)).astype(np.int16),
        "labels": np.random.default_rng(1).uniform(-1, 1, size=(3, 2)).astype(np.float32),
    } | changes
    return fields, serialize("dev_2", 50, **fields)


def header_claims(jpeg, height, width):
    """Changes height and width in the header of a JPEG."""
    at = jpeg.index(b"\xff\xc0") + 5  # start of frame: marker, length, bits per sample
    return jpeg[:at] + height.to_bytes(2) + width.to_bytes(2) + jpeg[at + 4 :]


def as_format(name):
    content = io.BytesIO()
    Image.fromarray(picture()).save(content, name)
    return content.getvalue()


def test_a_parsed_record_equals_what_was_serialized():
    written, serialized = one_record()
    fields = parse(serialized, 640)
    assert fields["recording"].numpy() == b"dev_2"
    assert int(fields["start_frame"]) == 50
    assert list(fields["jpeg"].numpy()) == written["crops"]
    np.testing.assert_array_equal(fields["pcm"], written["pcm"])
    np.testing.assert_array_equal(fields["labels"], written["labels"])
    np.testing.assert_array_equal(fields["face_found"], written["found"])
    np.testing.assert_array_equal(fields["square"], written["squares"])


def test_a_decoded_jpeg_has_the_colours_that_were_encoded():
    rgb = np.zeros((96, 96, 3), np.uint8)
    rgb[:48], rgb[48:] = (200, 40, 10), (10, 90, 220)
    decoded = decode_jpeg(encode_jpeg(rgb), 96, "train_1").numpy()
    assert decoded.shape == (96, 96, 3) and decoded.dtype == np.uint8
    for half in (slice(0, 40), slice(56, 96)):  # JPEG blurs the colours at the border between them
        np.testing.assert_allclose(decoded[half], rgb[half], atol=4)


WRONG_SHAPE = "train_1 has a crop that is not an RGB picture of 96 x 96 pixels; its shape is "


@pytest.mark.parametrize(
    ("jpeg", "message"),
    [
        # The pixels are not there: only who reads the header first says that the size is wrong.
        (header_claims(encode_jpeg(picture()), 20_000, 30_000), WRONG_SHAPE + "20000 30000 3"),
        (encode_jpeg(picture(64)), WRONG_SHAPE + "64 64 3"),
        (tf.io.encode_jpeg(picture()[..., :1]).numpy(), WRONG_SHAPE + "96 96 1"),
        (as_format("PNG"), "train_1 has a crop that is not a JPEG"),
        (as_format("GIF"), "train_1 has a crop that is not a JPEG"),
        (as_format("BMP"), "train_1 has a crop that is not a JPEG"),
        (b"", "train_1 has a crop that is not a JPEG"),
        (encode_jpeg(picture())[:100], "Invalid JPEG data"),
    ],
    ids=["bomb", "64 x 64", "grey", "PNG", "GIF", "BMP", "empty", "cut"],
)  # fmt: skip
def test_what_is_not_a_jpeg_of_the_size_in_the_manifest_is_refused(jpeg, message):
    pictures = tf.data.Dataset.from_tensors(jpeg).map(lambda jpeg: decode_jpeg(jpeg, 96, tf.constant("train_1")))
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        list(pictures)
    assert fault_in_shard(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("changes", "needed", "counts"),
    [
        ({"crops": []}, ("jpeg",), "3 0 3 3 3"),
        ({"pcm": np.zeros((0, 640), np.int16)}, ("pcm",), "3 3 3 3 0"),
        ({"pcm": np.zeros((4, 640), np.int16)}, (), "3 3 3 3 4"),
        ({"labels": np.zeros((2, 2), np.float32)}, (), "2 3 3 3 3"),
        ({"found": np.ones(1, bool)}, (), "3 3 3 1 3"),
    ],
)
def test_a_record_whose_fields_cover_different_frames_is_refused(changes, needed, counts):
    _, serialized = one_record(**changes)
    # Only the labels are used: the check does not depend on what a network takes.
    labels = tf.data.Dataset.from_tensors(serialized).map(lambda record: parse(record, 640, needed)["labels"])
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        list(labels)
    assert fault_in_shard(refused.value) == (
        "dev_2 has a record whose fields cover different numbers of frames, from frame 50 on: labels, jpeg, square, "
        f"face_found, pcm = {counts}"
    )


def test_a_recording_without_video_or_sound_has_empty_fields():
    nothing = {"crops": [], "squares": np.empty((0, 3)), "found": np.empty(0, bool)}
    assert len(parse(one_record(**nothing)[1], 640, ("pcm",))["jpeg"]) == 0
    assert parse(one_record(pcm=np.empty((0, 640), np.int16))[1], 640, ("jpeg",))["pcm"].shape == (0, 640)
