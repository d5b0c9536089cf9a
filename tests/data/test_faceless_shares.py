"""Shares of frames without a face: counted over all frames, and printed where they matter."""

from affect.data.faceless import FacelessShares
from affect.data.manifest import RecordingEntry


def entry(name, frames, faces):
    return RecordingEntry(
        name=name, partition="train", subject="s", frames=frames, has_labels=True, has_audio=True, has_video=True,
        audio_mean=0.0, audio_std=1.0, faces_found=faces, remarks=(), features="", features_sha256="", shards=(),
        sha256=(),
    )  # fmt: skip


def test_the_share_of_a_partition_counts_frames_and_not_recordings():
    shares = FacelessShares.of([entry("long", 900, 900), entry("short", 100, 20), entry("edge", 1000, 950)])
    assert shares.share == (0 + 80 + 50) / 2000
    assert shares.per_recording == {"long": 0.0, "short": 0.8, "edge": 0.05}
    assert shares.noteworthy() == {"short": 0.8}  # exactly 5 % is not noteworthy


def test_recordings_with_many_faceless_frames_have_a_line_each_and_the_others_none():
    shares = FacelessShares.of([entry("ben", 200, 200), entry("anna", 200, 188), entry("carla", 200, 0)])
    assert shares.lines("dev") == [
        "dev: no face in 35.3% of the frames", "  carla: no face in 100.0%", "  anna: no face in 6.0%",
    ]  # fmt: skip
    assert FacelessShares.of([entry("ben", 200, 200)]).lines("test") == ["test: no face in 0.0% of the frames"]


def test_a_large_corpus_without_faces_is_summarised():
    lines = FacelessShares.of([entry(f"r{i}", 100, i) for i in range(13)]).lines("train")
    assert lines[0] == "train: no face in 94.0% of the frames"
    assert lines[1:11] == [f"  r{i}: no face in {100 - i}.0%" for i in range(10)]
    assert lines[11:] == ["  and 3 more recordings: no face in over 5%"]
