"""Records: what was serialized is parsed again."""

import numpy as np
import tensorflow as tf

from affect.data.records import decode_jpeg, encode_jpeg, parse, serialize


def test_a_parsed_record_equals_what_was_serialized():
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


def test_a_decoded_jpeg_has_the_colours_that_were_encoded():
    rgb = np.zeros((96, 64, 3), np.uint8)
    rgb[:48], rgb[48:] = (200, 40, 10), (10, 90, 220)
    decoded = decode_jpeg(encode_jpeg(rgb)).numpy()
    assert decoded.shape == (96, 64, 3) and decoded.dtype == np.uint8
    for half in (slice(0, 40), slice(56, 96)):  # JPEG blurs the colours at the border between them
        np.testing.assert_allclose(decoded[half], rgb[half], atol=4)
