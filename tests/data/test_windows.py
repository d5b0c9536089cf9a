"""Windows: which frames they cover, against plain Python and cases worked out by hand."""

import pytest

from affect.data.manifest import RecordingEntry
from affect.data.windows import evaluation_windows, steps_per_epoch, training_windows, with_delayed_labels
from affect.errors import UserError


def entry(name, frames):
    return RecordingEntry(
        name=name, partition="train", subject=name, frames=frames, has_labels=True, has_audio=True, has_video=True,
        audio_mean=0.0, audio_std=1.0, faces_found=frames, remarks=(), features="", features_sha256="", shards=(),
        sha256=(),
    )  # fmt: skip


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


def test_every_offset_up_to_a_whole_window_occurs():
    entries = [entry("a", 12), entry("b", 5)]
    first = {name: set() for name in "ab"}
    for epoch in range(60):
        for windows in training_windows(entries, 4, seed=0, epoch=epoch):
            first[windows[0].recording].add(windows[0].start)
    # An offset of 4 would drop a whole window of "a", an offset of 2 the only one of "b".
    assert first == {"a": {0, 1, 2, 3}, "b": {0, 1}}


def test_evaluation_windows_cover_every_frame_once_and_in_order():
    windows = evaluation_windows([entry("a", 250), entry("b", 30)], 100)
    assert [(w.recording, w.start, w.frames) for w in windows] == [
        ("a", 0, 100), ("a", 100, 100), ("a", 200, 50), ("b", 0, 30),
    ]  # fmt: skip


def test_steps_per_epoch_are_those_of_the_worker_with_the_fewest_windows():
    # Whatever the offsets, a has 6 windows, b 4, c 1. Worker 0 has 7, worker 1 has 4 and takes two per step.
    entries = [entry("a", 350), entry("b", 250), entry("c", 100)]
    assert steps_per_epoch(entries, 50, 4, workers=2) == 2


def test_a_label_delay_shortens_recordings_and_must_leave_a_frame():
    assert [item.frames for item in with_delayed_labels([entry("a", 350), entry("b", 201)], 200)] == [150, 1]
    with pytest.raises(UserError, match="200 frames; a label delay of 200 frames"):
        with_delayed_labels([entry("a", 350), entry("b", 200)], 200)
