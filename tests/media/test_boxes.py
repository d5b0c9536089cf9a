"""The boxes of mp4 files: a cut file is recognised, and no header leads beyond the file or keeps the reader busy."""

import struct

import pytest

from affect.media import boxes
from affect.media.boxes import cut_remark, outermost_boxes


def box(kind, content=b""):
    """One box with a 32-bit length."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def written(tmp_path, content):
    """A file with this content."""
    path = tmp_path / "file.mp4"
    path.write_bytes(content)
    return path


def test_boxes_end_where_their_headers_say(tmp_path):
    large = struct.pack(">I4sQ", 1, b"mdat", 20) + b"data"
    path = written(tmp_path, box(b"ftyp", b"isom") + large + struct.pack(">I4s", 0, b"free") + b"to the end")
    assert list(outermost_boxes(path)) == [(b"ftyp", 12), (b"mdat", 32), (b"free", 50)]


def test_only_a_file_that_ends_within_its_media_is_cut(tmp_path):
    whole = box(b"ftyp") + box(b"moov", bytes(9)) + box(b"mdat", bytes(100))
    assert cut_remark(written(tmp_path, whole), "mov,mp4") == []
    assert cut_remark(written(tmp_path, whole[:-30]), "mov,mp4") == [
        "the last 30 bytes of the file are missing; it is cut"
    ]
    assert cut_remark(written(tmp_path, whole[:-30]), "matroska") == []
    assert cut_remark(written(tmp_path, whole + b"hello, this is more text.."), "mov,mp4") == []


@pytest.mark.parametrize("length", [2**63 - 1, 2**64 - 1])
def test_a_box_that_claims_to_be_larger_than_any_file_is_the_last_one(tmp_path, length):
    path = written(tmp_path, box(b"moov") + struct.pack(">I4sQ", 1, b"free", length))
    assert [kind for kind, _ in outermost_boxes(path)] == [b"moov", b"free"]
    assert cut_remark(path, "mov,mp4") == []


def test_a_file_of_nothing_but_empty_boxes_is_read_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(boxes, "_MAX_BOXES", 1000)
    path = written(tmp_path, box(b"free") * 5000)
    assert sum(1 for _ in outermost_boxes(path)) == 1000
