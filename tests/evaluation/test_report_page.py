"""The page itself: what stands in it, that it needs nothing else, and that no text from a file is taken for HTML."""

import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from msgspec.structs import replace

from affect.errors import UserError
from affect.evaluation import report
from affect.evaluation.chain import read_fitted_chains
from affect.evaluation.reporting.answer import answer
from affect.evaluation.reporting.comparison import compare
from affect.evaluation.scores import Metrics
from affect.evaluation.seeds import PartitionSpread, SeedScores
from affect.metrics import concordance_cc
from affect.runs import RunFolder
from affect.storage import read_json, write_json
from tests.helpers.in_process import call_main
from tests.helpers.systems import Corpus, write_baseline, write_run

VOID = {"meta", "br", "img", "link", "input", "hr"}


class _Page(HTMLParser):
    """Collects what a browser would see: elements with attributes, texts, and whether all elements are closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.cells = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs and their handcrafted counterparts."""
    folder, corpus = tmp_path_factory.mktemp("page"), Corpus()
    faceless = {"faceless_share": 0.031, "faceless_share_per_recording": {"test_2": 0.14}}
    write_run(folder / "audio", "audio", corpus, (0.2, 2.0), seed=1)
    write_run(
        folder / "video", "video", corpus, (0.8, 0.4), seed=2,
        change=lambda metrics: replace(metrics, **faceless, context="recording", unlabelled_recordings=3),
    )  # fmt: skip
    write_baseline(folder / "baseline", corpus, {"audio": (2.0, 0.2), "video": (0.9, 0.5), "trivial": (3.0, 3.0)},
                   change=lambda metrics: replace(metrics, avec=metrics.raw))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def text(folder):
    comparison = compare([folder / "audio", folder / "video"], folder / "baseline")
    report.write_report(comparison, folder / "page.html", "Two runs")
    return (folder / "page.html").read_text()


@pytest.fixture(scope="module")
def page(text):
    return _Page(text)


def test_the_page_opens_from_a_mail(text, page):
    links = [value for _, attributes in page.elements for name, value in attributes.items()
             if name in ("src", "href", "xlink:href", "data", "action", "srcset")]  # fmt: skip
    assert links and all(link.startswith("#") for link in links)
    assert not {"script", "iframe", "img", "link", "object"} & {tag for tag, _ in page.elements}
    assert re.findall(r"url\((?!#)|@import|<!--|\bon\w+=", text) == []
    # Names of namespaces are not fetched.
    assert set(re.findall(r"https?://[^\"\s]+", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(text) < 1_000_000


def test_ids_are_unique_and_references_lead_to_them(text, page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)
    labels = [attributes["aria-labelledby"] for attributes in page.of("svg")]
    assert len(labels) == len(set(labels)) == 1 + 6 + 1 + 2  # differences, test recordings, scatter, training curves
    assert set(labels) <= set(ids)


def test_the_page_has_language_viewport_captions_and_scopes(page):
    assert page.of("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    assert len(page.of("caption")) == len(page.of("table")) > 5
    assert all("scope" in attributes for attributes in page.of("th"))
    # Every table lies in an element that scrolls by itself and can be reached by the keyboard.
    scrolled = [attributes for attributes in page.of("div") if attributes.get("class") == "scroll"]
    assert len(scrolled) == len(page.of("table"))
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in scrolled)


def test_the_answer_comes_first_with_differences_intervals_and_p(folder, text, page):
    found = answer(compare([folder / "audio", folder / "video"], folder / "baseline"))
    assert found.sentence.replace("'", "&#39;") in text
    assert (
        text.index("End-to-end against handcrafted") < text.index("All systems, test") < text.index("All systems, dev")
    )
    first = found.contests[0]
    pooled = first.comparison.pooled
    row = page.cells.index("arousal")
    shown = [cell.replace("−", "-") for cell in page.cells[row + 1 : row + 5]]
    assert shown == [
        "{:.3f} [{:.3f}, {:.3f}]".format(first.end_to_end.ccc_pooled, *first.end_to_end.ccc_pooled_ci95),
        "{:.3f} [{:.3f}, {:.3f}]".format(first.handcrafted.ccc_pooled, *first.handcrafted.ccc_pooled_ci95),
        "{:+.3f} [{:.3f}, {:.3f}]".format(pooled.difference, *pooled.ci95),
        f"{pooled.p_value:.3f}",
    ]
    assert pooled.p_value == 2 / 2**6  # all six recordings agree
    assert "cannot give less than 0.031 with 6 of them" in text
    assert "quick protocol" in text


def test_what_was_not_scored_and_not_seen_stands_beside_the_scores(text):
    assert text.count("3 more without labels, predicted but not scored") == 2  # dev and test
    assert text.count("no face in 3.1 %") == 2 * 2  # beside the system and below the table, dev and test
    assert "test_2 (14.0 %)" in text
    assert "context: recording" in text


def test_each_recording_has_its_own_ccc(folder, page):
    system = compare([folder / "audio"]).systems[0]
    one = system.headline("test")[3]
    expected = [f"{concordance_cc(one.gold[:, axis], one.predicted[:, axis]):.3f}" for axis in (0, 1)]
    rows = [index for index, cell in enumerate(page.cells) if cell == "test_4"]
    assert [page.cells[index + 1].replace("−", "-") for index in rows] == expected


def test_the_left_out_estimate_and_the_steps_are_shown(folder, text, page):
    fitted = read_fitted_chains(RunFolder(folder / "audio").chains)
    left_out = fitted.leave_one_out["valence"]
    cells = [cell.replace("−", "-") for cell in page.cells]
    expected = [f"{value:.3f}" for value in (left_out.raw, left_out.paper, left_out.cautious)]
    assert any(cells[index : index + 3] == expected for index in range(len(cells)))
    steps = read_json(folder / "audio/eval/test/metrics.json", Metrics).ccc_after_steps["valence"]
    expected = [f"{steps[name]:.3f}" for name in ("raw", "median", "centring", "scaling", "shift")]
    assert any(cells[index : index + 5] == expected for index in range(len(cells)))
    assert "AVEC 2016" in cells


def test_curves_show_raw_post_processed_and_gold_of_every_recording(page, text):
    summaries = re.findall(r'<details class="curve"( open)?><summary>(test_\d)', text)
    assert summaries == [(" open", "test_1"), (" open", "test_2"), *(("", f"test_{number}") for number in range(3, 7))]
    assert (
        text.count(">gold standard</text>") - 2
        == text.count(">raw</text>")
        == text.count(">post-processed</text>")
        == 6
    )


def test_names_from_files_are_text_and_never_html(folder, tmp_path):
    evil = "<img src=x onerror=alert(1)>\"'&$x^2$"
    shutil.copytree(folder / "audio", tmp_path / evil.replace("/", ""))
    environment = read_json(folder / "audio/environment.json")
    run = tmp_path / evil
    write_json(run / "environment.json", environment | {"machine": evil, "packages": {evil: evil}, "git_commit": evil})
    for partition in ("dev", "test"):
        path = run / f"eval/{partition}/metrics.json"
        shares = {"faceless_share": 0.5, "faceless_share_per_recording": {evil: 0.5}, "layout": evil}
        write_json(path, read_json(path) | shares)
    report.write_report(compare([run]), tmp_path / "page.html", evil)
    text = (tmp_path / "page.html").read_text()
    assert _Page(text).of("img") == []
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;$x^2$" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_seeds_are_shown_where_eval_has_scored_them(folder, tmp_path):
    for seed in (0, 1):
        shutil.copytree(folder / "audio", tmp_path / f"runs/seed{seed}")
    scores = [read_json(folder / f"{name}/eval/test/metrics.json", Metrics) for name in ("audio", "video")]
    spread = PartitionSpread.of(scores)
    write_json(RunFolder(tmp_path / "runs").seed_scores, SeedScores(["seed0", "seed1"], {"audio": {"test": spread}}))
    report.write_report(compare([tmp_path / "runs/seed0", tmp_path / "runs/seed1"]), tmp_path / "page.html")
    values = [one.postprocessed["arousal"].ccc_pooled for one in scores]
    cells = _Page((tmp_path / "page.html").read_text()).cells
    row = cells.index("runs, audio (synthetic)")
    assert cells[row + 1 : row + 4] == [
        "seed0, seed1", "test", f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}",
    ]  # fmt: skip


def test_what_a_folder_lacks_is_left_out(folder, tmp_path):
    shutil.copytree(folder / "audio", tmp_path / "run")
    for name in ("training.csv", "environment.json"):
        (tmp_path / "run" / name).unlink()
    report.write_report(compare([tmp_path / "run"]), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "loss and CCC of train" not in text and "Environment of run" in text


def test_a_damaged_training_log_is_named(folder, tmp_path):
    shutil.copytree(folder / "audio", tmp_path / "run")
    (tmp_path / "run/training.csv").write_text("epoch,loss\n0,abc\n")
    with pytest.raises(UserError, match="training.csv is not a training log"):
        report.write_report(compare([tmp_path / "run"]), tmp_path / "page.html")


def test_recola_in_full_length_stays_below_five_megabytes_and_shows_reported_numbers(tmp_path):
    recola = Corpus(recordings=9, frames=1500, facts={"synthetic": False, "layout": "avec2016"})
    write_run(tmp_path / "run", "audio", recola, (0.5, 0.5))
    report.write_report(compare([tmp_path / "run"]), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert len(text) < 5_000_000
    assert "RECOLA in the layout avec2016" in text and "as reported" in text and "~.715" in text
    assert "synthetic" not in text.lower().replace("synthetic)", "").split("<main>")[0].split("</style>")[1]


def test_the_command_prints_intervals_differences_and_the_sentence(folder, tmp_path, capsys):
    call_main(report, f"--run_dirs={folder}/audio,{folder}/video", f"--baseline={folder}/baseline",
              f"--output={tmp_path}/page.html")  # fmt: skip
    printed = capsys.readouterr().out
    scores = read_json(folder / "audio/eval/test/metrics.json", Metrics).postprocessed["arousal"]
    low, high = scores.ccc_pooled_ci95
    assert f"  audio                    {scores.ccc_pooled:.3f} [{low:.3f}, {high:.3f}] (" in printed
    assert (
        "SYNTHETIC corpus, test: pooled CCC, end-to-end minus handcrafted, 95 % interval, p by exact sign-flip"
        in printed
    )
    assert re.search(r"  audio         arousal   \+0\.\d{3} \[\+0\.\d{3}, \+\d\.\d{3}\]\s+p 0\.031", printed)
    assert "this corpus proves that the machinery works and not the paper's claim." in printed


def test_a_run_and_a_baseline_of_other_data_are_shown_and_not_compared(folder, tmp_path, capsys):
    write_baseline(tmp_path / "baseline", Corpus(data="b"), {"audio": (1.0, 1.0)})
    call_main(report, f"--run_dirs={folder}/audio", f"--baseline={tmp_path}/baseline", f"--output={tmp_path}/x.html")
    printed, page = capsys.readouterr().out, (tmp_path / "x.html").read_text()
    for text in (printed, page):
        assert "audio and handcrafted audio are not compared: they were scored on different data" in text
        assert "handcrafted audio: scored on other data than audio" in text


def test_a_file_is_no_baseline(folder, tmp_path):
    (tmp_path / "baseline.json").write_text("{}")
    with pytest.raises(UserError, match="baseline"):
        call_main(
            report, f"--run_dirs={folder}/audio", f"--baseline={tmp_path}/baseline.json", f"--output={tmp_path}/x"
        )
