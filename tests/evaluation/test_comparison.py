"""End-to-end against handcrafted: who meets whom, what is refused, and the sentence that the numbers give."""

import shutil

import numpy as np
import pytest
from msgspec.structs import replace

from affect.config import DIMENSIONS
from affect.errors import UserError
from affect.evaluation.reporting.answer import SYNTHETIC_CAVEAT, Contest, _listed, answer
from affect.evaluation.reporting.comparison import compare
from affect.evaluation.scores import Metrics
from affect.metrics import concordance_cc
from affect.storage import read_json, write_json
from tests.helpers.systems import Corpus, write_baseline, write_run

# Noise in arousal and valence: the audio run beats the handcrafted system in arousal, not in valence.
GOOD_AROUSAL, GOOD_VALENCE = (0.2, 3.0), (3.0, 0.2)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """An audio run that wins in arousal and loses in valence, and a video run that is as good as its opponent."""
    folder, corpus = tmp_path_factory.mktemp("planted"), Corpus()
    write_run(folder / "runs/audio", "audio", corpus, GOOD_AROUSAL, seed=1)
    write_run(folder / "runs/video", "video", corpus, (0.8, 0.8), seed=2)
    write_baseline(folder / "baseline", corpus, {"audio": GOOD_VALENCE, "video": (0.8, 0.8)}, seed=2)
    return folder


def compared(folder, *names):
    return compare([folder / "runs" / name for name in names], folder / "baseline")


def contests(comparison):
    return {(one.modality, one.dimension): one for one in answer(comparison).contests}


def test_the_difference_is_end_to_end_minus_handcrafted_on_test(planted):
    comparison = compared(planted, "audio", "video")
    run, handcrafted = comparison.best("end-to-end", "audio"), comparison.best("handcrafted", "audio")
    for axis, dimension in enumerate(DIMENSIONS):
        cccs = []
        for system in (run, handcrafted):
            curve = system.curves["test"].curves["postprocessed"]
            gold, predicted = (np.concatenate([getattr(one, name) for one in curve]) for name in ("gold", "predicted"))
            cccs.append(concordance_cc(gold[:, axis], predicted[:, axis]))
        found = contests(comparison)["audio", dimension]
        assert found.comparison.pooled.difference == pytest.approx(cccs[0] - cccs[1], abs=1e-6)
        # The scores beside it are those of metrics.json, which are not rounded to 32 bits.
        assert (found.end_to_end.ccc_pooled, found.handcrafted.ccc_pooled) == pytest.approx(tuple(cccs), abs=1e-5)
    assert answer(comparison).partition == "test"


def test_the_sentence_says_what_is_higher_lower_and_unclear(planted):
    assert answer(compared(planted, "audio", "video")).sentence == (
        "On the 6 recordings of test, end-to-end learning scores higher for audio arousal, and lower for audio valence "
        f"than the handcrafted system (95 % intervals exclude 0; 2 of 4 include it); {SYNTHETIC_CAVEAT}."
    )


def test_the_sentence_says_if_nothing_is_clear(planted):
    sentence = answer(compared(planted, "video")).sentence
    assert "no difference between end-to-end learning and the handcrafted systems is clear" in sentence
    assert "all 2 include 0" in sentence


def test_equal_systems_do_not_differ(planted):
    found = contests(compared(planted, "video"))["video", "arousal"]
    assert found.comparison.pooled.difference == 0.0
    assert found.comparison.pooled.p_value == 1.0
    assert found.sign == 0


def test_without_a_baseline_nothing_is_compared(planted):
    found = answer(compare([planted / "runs/audio"]))
    assert "there is no handcrafted system to compare with (--baseline)" in found.sentence
    assert [one.comparison for one in found.contests] == [None, None]


def test_too_few_recordings_give_no_interval_and_no_claim(tmp_path):
    corpus = Corpus(recordings=3)
    write_run(tmp_path / "runs/audio", "audio", corpus, GOOD_AROUSAL)
    write_baseline(tmp_path / "baseline", corpus, {"audio": GOOD_VALENCE})
    found = answer(compared(tmp_path, "audio"))
    assert "no interval can be given, because there are too few recordings" in found.sentence
    assert found.contests[0].comparison.pooled.difference > 0.3
    assert found.smallest_p == 0.25  # of 8 ways to flip three signs, two at least are as extreme


def test_systems_of_different_data_are_not_compared(planted, tmp_path):
    shutil.copytree(planted / "runs", tmp_path / "runs")
    write_baseline(tmp_path / "baseline", Corpus(data="b"), {"audio": GOOD_VALENCE})
    found = answer(compared(tmp_path, "audio"))
    assert found.refusals == [
        "audio and handcrafted audio are not compared: they were scored on different data; evaluate both on the same "
        "shards"
    ]
    assert found.contests[0].comparison is None
    assert "could not be compared" in found.sentence


def test_systems_of_different_recordings_are_not_compared(planted, tmp_path):
    shutil.copytree(planted / "runs", tmp_path / "runs")
    write_baseline(tmp_path / "baseline", Corpus(recordings=5), {"audio": GOOD_VALENCE})
    assert "scored on different recordings" in answer(compared(tmp_path, "audio")).refusals[0]


def test_of_two_runs_of_a_modality_the_better_one_on_dev_is_compared(tmp_path):
    for name, noise in (("worse", (1.5, 1.5)), ("better", (0.5, 0.5))):
        write_run(tmp_path / "runs" / name, "audio", Corpus(), noise)
    test_scores = tmp_path / "runs/better/eval/test/metrics.json"
    metrics = read_json(test_scores, Metrics)
    lowered = {name: replace(scores, ccc_pooled=-1.0) for name, scores in metrics.postprocessed.items()}
    write_json(test_scores, replace(metrics, postprocessed=lowered))
    comparison = compare([tmp_path / "runs/worse", tmp_path / "runs/better"])
    assert comparison.best("end-to-end", "audio").name == "better"
    assert answer(comparison).contests[0].end_to_end.ccc_pooled == -1.0


def test_a_run_without_scores_of_the_partition_gives_way_to_one_that_has_them(tmp_path):
    write_run(tmp_path / "runs/unscored", "audio", Corpus(), (0.1, 0.1), partitions=("dev",))
    write_run(tmp_path / "runs/scored", "audio", Corpus(), (1.5, 1.5))
    write_baseline(tmp_path / "baseline", Corpus(), {"audio": (0.5, 0.5)})
    comparison = compare([tmp_path / "runs/unscored", tmp_path / "runs/scored"], tmp_path / "baseline")
    assert comparison.best("end-to-end", "audio").name == "unscored"
    found = answer(comparison)
    assert found.systems["audio"][0].name == "scored"
    assert found.contests[0].comparison is not None
    assert found.refusals == [
        "unscored is the best audio run on dev, but has no scores on test; run eval.py --partitions=dev,test on it"
    ]


@pytest.mark.parametrize(
    ("facts", "partitions", "expected"),
    [
        ({"synthetic": False, "layout": "avec2016"}, ("dev", "test"), "~.715"),
        ({"synthetic": False, "layout": "tzirakis"}, ("dev",), "~.786"),  # dev beside dev
        ({"synthetic": False, "layout": "generic"}, ("dev", "test"), None),
        ({"synthetic": True, "layout": "avec2016"}, ("dev", "test"), None),
    ],
)
def test_reported_numbers_stand_beside_recola_only(tmp_path, facts, partitions, expected):
    corpus = Corpus(recordings=4, facts=facts)
    write_run(tmp_path / "runs/audio", "audio", corpus, (0.5, 0.5), partitions=partitions)
    reported = contests(compare([tmp_path / "runs/audio"]))["audio", "arousal"].reported
    assert (reported and reported.paper) == expected


def test_a_folder_without_systems_is_no_baseline(planted, tmp_path):
    with pytest.raises(UserError, match="has no baseline.json"):
        compare([planted / "runs/audio"], tmp_path)


def test_an_evaluation_without_stored_curves_has_scores_and_a_remark_and_is_not_compared(planted, tmp_path):
    shutil.copytree(planted, tmp_path / "copy")
    (tmp_path / "copy/runs/audio/eval/test/predictions.h5").unlink()
    comparison = compared(tmp_path / "copy", "audio")
    assert comparison.remarks == [
        "audio: no predictions.h5 in test (evaluated by an earlier version), so there are no intervals, curves and "
        "comparisons; run eval.py again to get them"
    ]
    assert "predictions.h5 is missing" in answer(comparison).refusals[0]
    assert answer(comparison).contests[0].end_to_end.ccc_pooled > 0.5


@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        ([("audio", "arousal")], "audio arousal"),
        ([("audio", "arousal"), ("audio", "valence")], "audio arousal and valence"),
        (
            [("audio", "arousal"), ("video", "arousal"), ("video", "valence"), ("audiovisual", "valence")],
            "audio arousal, video arousal and valence, and audiovisual valence",
        ),
    ],
)
def test_modalities_and_dimensions_are_listed_as_a_reader_would(decided, expected):
    assert _listed([Contest(*names, None, None, None, None) for names in decided]) == expected
