"""Which files --input stands for."""

import pytest

from affect.errors import UserError
from affect.serving.inputs import find_inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with media, other files, a subfolder and links."""
    for name in ("a, b.mp4", "c.WAV", "d.mkv", "notes.txt", ".hidden.mp4", "sub/e.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "x.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "same.mp4").symlink_to("d.mkv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(inputs):
    return [str(path) for path in inputs.files]


def test_a_file_is_taken_whatever_its_name_is(folder):
    inputs = find_inputs(["notes.txt"])
    assert (names(inputs), inputs.many, inputs.remarks) == (["notes.txt"], False, [])


def test_a_name_with_a_comma_is_a_file_if_there_is_one(folder):
    inputs = find_inputs(["a, b.mp4"])
    assert (names(inputs), inputs.many) == (["a, b.mp4"], False)


def test_lists_and_repeated_flags_name_each_file_once(folder):
    inputs = find_inputs(["d.mkv,c.WAV", "same.mp4", "sub/e.mp4"])
    assert (names(inputs), inputs.many) == (["d.mkv", "c.WAV", "sub/e.mp4"], True)


def test_a_folder_stands_for_its_media_and_other_files_are_named(folder):
    inputs = find_inputs(["."])
    # A link in a circle cannot be read; it must be named as a failure rather than left out in silence.
    assert names(inputs) == ["a, b.mp4", "c.WAV", "d.mkv", "loop.mp4"]
    assert inputs.many and inputs.remarks == [".: left out, neither sound nor video: notes.txt"]


def test_many_other_files_are_counted(folder):
    for k in range(8):
        (folder / f"sub/{k}.txt").write_text("")
    remark = "sub: left out, neither sound nor video: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more"
    assert find_inputs(["sub"]).remarks == [remark]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "^--input is empty"),
        ("gone.mp4", r"^--input=gone\.mp4 does not exist"),
        ("d.mkv,gone.mp4", r"^--input=d\.mkv,gone\.mp4: gone\.mp4 does not exist"),
        ("d.mkv,", "^--input=d.mkv,: an empty name does not exist"),
        ("loop.mp4", r"^--input=loop\.mp4 is a link that leads nowhere"),
        ("x.mp4", r"^--input=x\.mp4: the folder holds no sound or video file"),
        ("s3://bucket/a.mp4", "must be a local path; copy the file to this machine first"),
        ("a" * 300, "^--input=a* cannot be read .File name too long"),
    ],
)
def test_what_cannot_be_read_is_named(folder, given, message):
    with pytest.raises(UserError, match=message):
        find_inputs([given])
