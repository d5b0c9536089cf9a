"""The modules that are mutated, and the tests that should notice, the quickest and closest ones first."""

from typing import NamedTuple


class Target(NamedTuple):
    """One module.

    Attributes:
      path: path of the module in the repository.
      tests: test files in the order in which they run.
      makes: folders of the session fixtures in tests/conftest.py that this module makes. They are made again for every
        mutant; all others are made once.
      functions: the functions that are mutated; empty for the whole module.
    """

    path: str
    tests: tuple[str, ...]
    makes: tuple[str, ...] = ("audio_run",)
    functions: tuple[str, ...] = ()


_WINDOW_TESTS = (
    "tests/data/test_window_reader.py",
    "tests/data/test_faceless_frames.py",
    "tests/data/test_dataset.py",
)
_DATASET_TESTS = (
    *_WINDOW_TESTS,
    "tests/data/test_damaged_shards.py",
    "tests/evaluation/test_planted_predictions.py",
    "tests/learning/test_tensorboard.py",
)
_WRITER_TESTS = (
    "tests/data/test_records.py",
    "tests/tfrecords_tools/test_corpus_to_shards.py",
    "tests/tfrecords_tools/test_synchrony.py",
    "tests/tfrecords_tools/test_make_tfrecords.py",
    "tests/data/test_dataset.py",
)
_CHAIN_TESTS = (
    "tests/evaluation/test_chain.py",
    "tests/evaluation/test_moments.py",
    "tests/evaluation/test_postprocess.py",
    "tests/evaluation/test_cautious.py",
    "tests/evaluation/test_planted_predictions.py",
    "tests/evaluation/test_evaluate.py",
)

TARGETS = (
    Target(
        "affect/learning/loop.py",
        (
            "tests/learning/test_callbacks.py",
            "tests/learning/test_loop.py",
            "tests/learning/test_training.py",
            "tests/learning/test_strategies.py",
        ),
    ),
    Target(
        "affect/learning/ccc.py",
        (
            "tests/learning/test_ccc.py",
            "tests/learning/test_objective.py",
            "tests/learning/test_loop.py",
            "tests/learning/test_strategies.py",
        ),
    ),
    Target("affect/data/dataset.py", _DATASET_TESTS),
    Target("affect/data/window_reader.py", _DATASET_TESTS),
    Target("affect/data/windows.py", ("tests/data/test_windows.py", *_WINDOW_TESTS)),
    *(
        Target(f"affect/evaluation/{name}.py", _CHAIN_TESTS, makes=())
        for name in ("chain", "moments", "postprocess", "cautious")
    ),
    Target(
        "affect/media/tracking.py",
        (
            "tests/media/test_faces.py",
            "tests/media/test_recording.py",
            "tests/tfrecords_tools/test_corpus_to_shards.py",
        ),
        makes=("records", "audio_run"),
    ),
    Target(
        "tfrecords_tools/gold_standard.py",
        ("tests/tfrecords_tools/test_gold_standard.py", "tests/tfrecords_tools/test_corpus_to_shards.py"),
        makes=("synthetic", "records", "audio_run"),
    ),
    Target("tfrecords_tools/shards.py", _WRITER_TESTS, makes=("records", "audio_run")),
    Target(
        "affect/data/records.py",
        _WRITER_TESTS,
        makes=("records", "audio_run"),
        functions=("shard_name", "encode_jpeg", "serialize", "_floats", "_bytes", "_int64"),
    ),
)
