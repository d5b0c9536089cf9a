"""The model card: what hubs read of it, its numbers, and text from strangers in it."""

import html
import importlib.util
import json
import re

import markdown
import pytest
from msgspec.structs import replace

from affect.config import Experiment, ModelConfig, TrainConfig
from affect.errors import UserError
from affect.evaluation.chain import PostProcessing
from affect.evaluation.scores import DimensionScores, Metrics
from affect.serving.model_card import check_license, model_card
from affect.serving.wording import MEANING, PROHIBITED, SYNTHETIC
from tests.helpers.contracts import CONTRACT, TRAINING_DATA

EXPERIMENT = Experiment("audiovisual")
AROUSAL = DimensionScores(0.7126, 0.6, 0.8, 0.1, (0.6014, 0.8009))
VALENCE = DimensionScores(-0.0504, 0.0, 0.1, 0.2, None)
RAW = {"arousal": DimensionScores(0.5, 0.4, 0.6, 0.1, (0.4, 0.6)), "valence": VALENCE}
SCORES = Metrics(
    raw=RAW, postprocessed={"arousal": AROUSAL, "valence": VALENCE}, recordings=9, frames=900, context="recording",
    same_data_as_training=True,
)  # fmt: skip
HOSTILE = '"\n---\nlicense: mit\n# <script>alert(1)</script> | [a](http://b) `c` *d* _e_ &amp; \\ ~~f~~ $g$\ud800'


def with_data(**changes):
    """Returns the contract with other facts about its training data."""
    return replace(CONTRACT, training_data=replace(TRAINING_DATA, **changes))


def front_matter(card):
    """Returns the YAML of a card, in which every value is a JSON string or a list of them."""
    lines = card.split("\n")
    end = lines.index("---", 1)
    assert lines[0] == "---"
    content, key = {}, ""
    for line in lines[1:end]:
        matched = re.fullmatch(r'(?:(?P<key>[a-z_]+):(?: (?P<value>"[^"\\]*"|\[\]))?|- (?P<item>"[^"\\]*"))', line)
        assert matched, line
        if matched["item"]:
            content[key].append(json.loads(matched["item"]))
        else:
            key = matched["key"]
            content[key] = json.loads(matched["value"] or "[]")
    if importlib.util.find_spec("yaml"):
        import yaml

        assert yaml.safe_load("\n".join(lines[1:end])) == content
    return content


def rendered(card):
    """Returns the card as HTML."""
    return markdown.markdown(card.split("\n---\n", 1)[1], extensions=["tables", "fenced_code"])


def section(card, heading):
    """Returns the text below a heading."""
    return re.search(rf"^## {heading}\n\n(.*?)(?=^## |\Z)", card, re.M | re.S)[1]


def cells(text):
    """Returns the cells of all table rows."""
    rows = [line for line in text.split("\n") if line.startswith("|") and not set(line) <= set("|-")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_front_matter_of_a_network_on_synthetic_data():
    assert front_matter(model_card(with_data(synthetic=True, layout="avec2016"), EXPERIMENT, 1, {})) == {
        "library_name": "tensorflow",
        "pipeline_tag": "video-classification",
        "license": "apache-2.0",
        "datasets": ["affect-synthetic"],
        "tags": ["emotion-recognition", "affective-computing", "arousal", "valence", "synthetic"],
    }


@pytest.mark.parametrize(("layout", "datasets"), [("recola", ["recola"]), ("avec2016", ["recola"]), ("table", [])])
def test_front_matter_of_a_network_on_a_real_corpus(layout, datasets):
    contract = replace(with_data(layout=layout), modality="audio", faces=None)
    assert front_matter(model_card(contract, Experiment("audio"), 1, {})) == {
        "library_name": "tensorflow",
        "pipeline_tag": "audio-classification",
        "license": "other",
        "license_name": "terms-of-the-training-corpus",
        "license_link": "LICENSE",
        "datasets": datasets,
        "tags": ["emotion-recognition", "affective-computing", "arousal", "valence"],
    }


def test_a_licence_that_is_given_replaces_the_default():
    card = model_card(CONTRACT, EXPERIMENT, 1, {}, "cc-by-nc-4.0")
    assert front_matter(card)["license"] == "cc-by-nc-4.0" and "license_name" not in front_matter(card)
    assert "cc-by-nc-4.0" in section(card, "Licence") and "terms" not in section(card, "Licence")
    assert "terms of the training corpus decide" in section(model_card(CONTRACT, EXPERIMENT, 1, {}), "Licence")


@pytest.mark.parametrize("wrong", ["Apache 2.0", 'mit"\nx: "y', "-", "MIT", "a" * 51])
def test_a_licence_that_is_no_identifier_is_refused(wrong):
    check_license("")
    check_license("cc-by-nc-4.0")
    with pytest.raises(UserError, match="must be an identifier"):
        check_license(wrong)


def test_text_from_a_manifest_stays_text():
    benign, hostile = (model_card(with_data(layout=layout), EXPERIMENT, 1, {}) for layout in ("abc", HOSTILE))
    hostile.encode()
    assert front_matter(hostile) == front_matter(benign)
    shown = "".join(letter if letter.isprintable() else " " for letter in HOSTILE)
    assert shown in html.unescape(rendered(hostile))
    assert re.findall(r"<[^>]*>", rendered(hostile)) == re.findall(r"<[^>]*>", rendered(benign))


def test_scores_are_those_of_the_evaluation_with_partition_context_chain_and_interval():
    other = replace(SCORES, chosen="none", context="window", recordings=4, same_data_as_training=False)
    card = model_card(CONTRACT, EXPERIMENT, 1, {"dev": SCORES, "test": other})
    assert cells(section(card, "Scores"))[1:] == [
        ["dev", "9", "arousal", "0.713 [0.601, 0.801]", "0.500 [0.400, 0.600]", "paper", "recording"],
        ["dev", "9", "valence", "-0.050", "-0.050", "paper", "recording"],
        ["test", "4", "arousal", "0.500 [0.400, 0.600]", "0.500 [0.400, 0.600]", "none", "window"],
        ["test", "4", "valence", "-0.050", "-0.050", "none", "window"],
    ]
    assert "scores of test are from other data" in section(card, "Scores")
    assert "SYNTHETIC" not in card


def test_without_an_evaluation_the_card_says_that_no_scores_are_known():
    card = model_card(replace(CONTRACT, postprocessing=None), EXPERIMENT, 1, {})
    assert section(card, "Scores") == "No scores are known: these weights were not evaluated.\n\n"
    assert ["post-processing", "none: these weights were not evaluated"] in cells(card)


def test_synthetic_data_are_called_so_at_the_top_at_the_data_and_at_the_scores():
    card = model_card(with_data(synthetic=True), EXPERIMENT, 1, {"dev": SCORES})
    assert card.index(SYNTHETIC) < card.index("## What it is")
    assert "SYNTHETIC" in section(card, "Training data") and "SYNTHETIC" in section(card, "Scores")


def test_meaning_law_consent_and_bias_are_said():
    limits = section(model_card(CONTRACT, EXPERIMENT, 1, {}), "Limits")
    assert MEANING in limits and PROHIBITED in limits and "Consent" in limits
    assert "learnt from 2 people" in limits
    assert "learnt from" not in model_card(with_data(synthetic=True), EXPERIMENT, 1, {})


def test_training_data_in_numbers():
    rows = cells(section(model_card(CONTRACT, EXPERIMENT, 1, {}), "Training data"))
    assert rows[1:] == [
        ["recordings", "3"],
        ["people", "2"],
        ["length", "0.6 minutes"],  # 900 frames of 40 ms
        ["level of the sound", "-33.0 to -20.0 dBFS, median -25.0"],
        ["share of frames with a face", "0.750 to 1.000, median 0.900"],
    ]


def test_unknown_training_data_are_called_unknown():
    nothing = model_card(replace(CONTRACT, training_data=None), EXPERIMENT, 1, {})
    assert section(nothing, "Training data") == "Nothing is known about the training data.\n\n"
    unknown = dict.fromkeys(("layout", "recordings", "subjects", "frames", "sound_level_dbfs", "face_share"))
    synthetic = model_card(with_data(synthetic=True, **unknown), EXPERIMENT, 1, {})
    assert "SYNTHETIC corpus" in section(synthetic, "Training data")
    assert front_matter(synthetic)["license"] == "apache-2.0"
    real = model_card(with_data(**unknown), EXPERIMENT, 1, {})
    assert "not at hand" in section(real, "Training data") and front_matter(real)["datasets"] == []


def test_the_network_is_described():
    imagenet = Experiment("audiovisual", model=ModelConfig(), train=TrainConfig(video_weights="imagenet"))
    text = section(model_card(CONTRACT, imagenet, 1_234_567, {}), "What it is")
    assert "20 filters of 80 taps and 40 of 4000 taps, across frames" in text and "ResNet-50" in text
    assert "256 and 256 units" in text and "1,234,567 parameters" in text and "ImageNet" in text
    assert "ImageNet" not in model_card(CONTRACT, EXPERIMENT, 1, {})
    audio = model_card(replace(CONTRACT, modality="audio", faces=None), Experiment("audio"), 1, {})
    assert "Face:" not in audio and "face detector" not in audio and "talk.wav" in audio


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (PostProcessing(25.0), "changes nothing"),
        (
            PostProcessing(25.0, 5, -0.25, 1.5, 0.125, 3),
            "median over 5 frames, then -0.25, then scaled by 1.5 around 0.125, then delayed by 3 frames",
        ),
        (
            PostProcessing(25.0, recording_mean=0.5, recording_deviation=0.25),
            "every recording's mean becomes 0.5, then every recording's standard deviation becomes 0.25",
        ),
    ],
)
def test_chains_are_described_step_by_step(chain, words):
    contract = replace(CONTRACT, postprocessing={"arousal": chain, "valence": PostProcessing(25.0)})
    assert ["post-processing of arousal", words] in cells(model_card(contract, EXPERIMENT, 1, {}))
