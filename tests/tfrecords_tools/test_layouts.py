"""What `find_corpus` lists: layouts are recognised, splits applied, and options that a layout lacks refused."""

import types

import pytest

from affect import local_files
from affect.errors import UserError
from tests.helpers import trees
from tests.helpers.commands import run_command
from tfrecords_tools.corpora.labels import from_gold_csv
from tfrecords_tools.corpora.layouts import LAYOUTS, find_corpus
from tfrecords_tools.corpora.recording import CorpusListing, Recording, Source
from tfrecords_tools.corpora.split import read_split


def write_empty(root, *names):
    """Writes files that can be listed but not decoded."""
    for name in names:
        trees.write_lines(root / name, ["x"])


@pytest.mark.parametrize(
    ("files", "layout", "split", "gold_standard"),
    [
        (["recordings_audio/dev_1.wav"], "avec2016", "", "shipped"),
        (["RECOLA-Audio-recordings/P16.wav"], "recola", "avec2016", "avec"),
        (["Video_recordings_MP4/P16.mp4"], "tzirakis", "authors", "shipped"),
        (["Ratings_affective_behaviour_CCC_centred/valence/P16.csv"], "tzirakis", "authors", "shipped"),
    ],
)
def test_a_folder_is_recognised_and_has_its_layouts_defaults(tmp_path, files, layout, split, gold_standard):
    write_empty(tmp_path, *files)
    corpus = find_corpus(str(tmp_path))
    assert (corpus.layout, corpus.split, corpus.gold_standard) == (layout, split, gold_standard)
    assert not corpus.synthetic
    write_empty(tmp_path, "synthetic.json")
    assert find_corpus(str(tmp_path)).synthetic


def test_a_table_counts_only_if_no_other_layout_fits_or_it_is_given(tmp_path):
    write_empty(tmp_path, "a.wav", "notes.csv")
    trees.write_lines(tmp_path / "study.csv", ["recording,partition,audio,video,labels", "anna,dev,a.wav,,"])
    (recording,) = find_corpus(str(tmp_path)).listing.recordings
    assert (recording.name, recording.partition, recording.audio) == ("anna", "dev", "a.wav")
    write_empty(tmp_path, "recordings_audio/train_1.wav", "recordings_video/train_1.mp4")
    assert find_corpus(str(tmp_path)).layout == "avec2016"
    assert find_corpus(str(tmp_path / "study.csv")).listing.recordings == [recording]
    assert find_corpus(str(tmp_path), layout="table").listing.recordings == [recording]
    with pytest.raises(UserError, match=r"study\.csv: layout avec2016 needs a folder; a \.csv is for --layout=table"):
        find_corpus(str(tmp_path / "study.csv"), layout="avec2016")
    trees.write_lines(tmp_path / "more.csv", ["recording,partition,audio,video,labels", "ben,dev,a.wav,,"])
    with pytest.raises(UserError, match=r"more\.csv, study\.csv are tables of recordings; give the one to use"):
        find_corpus(str(tmp_path), layout="table")


def test_a_new_layout_is_one_module_and_one_line(tmp_path, monkeypatch):
    """The module is made up here; the line is the one that adds it to LAYOUTS."""

    def find_recordings(folder, options):
        names = sorted(folder.stems("clips"))
        return CorpusListing(
            [
                Recording(
                    name=name,
                    partition=options.split.partitions["P16"],
                    subject="P16",
                    audio=None,
                    video=f"clips/{name}.mkv",
                    labels=Source(from_gold_csv, (f"scores/{name}.csv",)),
                )
                for name in names
            ],
            remarks=[f"labels: {options.gold_standard}"],
        )

    clips = types.ModuleType("clips")
    clips.DEFAULT_SPLIT = "avec2016"
    clips.GOLD_STANDARDS = ("mean", "avec")
    clips.LISTED_IN_TABLE = False
    clips.recognises = lambda folder: bool(folder.stems("clips"))
    clips.find_recordings = find_recordings
    monkeypatch.setitem(LAYOUTS, "clips", clips)

    write_empty(tmp_path, "clips/b.mkv", "clips/a.mkv")
    corpus = find_corpus(str(tmp_path))
    assert (corpus.layout, corpus.split, corpus.gold_standard) == ("clips", "avec2016", "mean")
    assert [(one.name, one.partition, one.video) for one in corpus.listing.recordings] == [
        ("a", "train", "clips/a.mkv"),
        ("b", "train", "clips/b.mkv"),
    ]
    assert corpus.listing.remarks[0] == "labels: mean"
    assert find_corpus(str(tmp_path), layout="clips", gold_standard="avec").gold_standard == "avec"
    with pytest.raises(UserError, match="--gold_standard=shipped: layout clips needs one of mean, avec"):
        find_corpus(str(tmp_path), gold_standard="shipped")


def test_finding_a_corpus_imports_no_heavy_library(tmp_path):
    write_empty(tmp_path, "recordings_audio/train_1.wav")
    heavy = ("tensorflow", "keras", "cv2", "av", "soxr", "soundfile", "pandas", "skimage", "scipy", "h5py", "tqdm")
    code = (
        "import sys; from tfrecords_tools.corpora.layouts import find_corpus; "
        f"print(find_corpus({str(tmp_path)!r}).layout, [name for name in {heavy} if name in sys.modules])"
    )
    assert run_command("-c", code).stdout == "avec2016 []\n"


def test_a_misspelt_folder_is_pointed_out(tmp_path):
    write_empty(tmp_path, "recordings_audio/dev_1.wav", "recording_video/dev_1.mp4")
    listing = find_corpus(str(tmp_path)).listing
    assert "recordings_video/dev_1.mp4" in listing.missing["dev_1"] and not listing.recordings
    assert "folder recordings_video does not exist; is recording_video a misspelling of it?" in listing.remarks


def test_the_split_determines_the_partition_of_each_subject(tmp_path):
    """P17 is in the authors' split only, P16 is train and P19 dev in both; P13 has no annotation."""
    root = tmp_path / "corpus"
    for subject in ("P16", "P17", "P19", "P13"):
        for folder, suffix in (("Audio", "wav"), ("Video", "mp4")):
            write_empty(root, f"RECOLA-{folder}-recordings/{subject}.{suffix}")
        for dimension in trees.DIMENSIONS if subject != "P13" else ():
            write_empty(root, f"RECOLA-Annotation/emotional_behaviour/{dimension}/{subject}.csv")
    listing = find_corpus(str(root)).listing
    partitions = [(one.name, one.partition) for one in listing.recordings]
    assert partitions == [("P13", "test"), ("P16", "train"), ("P19", "dev")]
    assert listing.recordings[0].labels is None
    assert "left out, not in split avec2016: P17" in listing.remarks
    assert "P13 has no ratings and is kept without labels" in listing.remarks
    assert "P17" in [one.name for one in find_corpus(str(root), split="authors").listing.recordings]

    trees.write_lines(tmp_path / "mine.csv", ["subject,partition", "17,dev", "P19,test"])
    own = find_corpus(str(root), split=str(tmp_path / "mine.csv"))
    assert [(one.name, one.partition) for one in own.listing.recordings] == [("P17", "dev"), ("P19", "test")]
    assert own.split.startswith("csv ")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["subject,part", "16,dev"], "expected the header subject,partition, got subject,part"),
        (["subject,partition", "", "anna,dev"], r"line 3: expected a subject \(P16\) and one of train, dev, test"),
        (["subject,partition", "P16,training"], "line 2: .*got 'P16,training'"),
        (["subject,partition", 'P16,"train', "P17,dev"], "line 2: expected a subject"),
        (["subject,partition", "P16,dev", "16,test"], "line 3: subject P16 is listed twice"),
        (["subject,partition"], "lists no subjects"),
    ],
)
def test_a_damaged_split_names_file_and_line(tmp_path, lines, message):
    trees.write_lines(tmp_path / "mine.csv", lines)
    with pytest.raises(UserError, match=rf"mine\.csv.*{message}"):
        read_split(str(tmp_path / "mine.csv"))


def test_named_splits_have_the_sizes_and_subjects_of_the_papers():
    sizes = {
        name: [list(read_split(name).partitions.values()).count(part) for part in ("train", "dev", "test")]
        for name in ("avec2016", "authors")
    }
    assert sizes == {"avec2016": [9, 9, 9], "authors": [16, 15, 15]}
    assert read_split("authors").partitions["P48"] == "test" and read_split("avec2016").partitions["P64"] == "dev"


def test_a_folder_without_or_with_two_layouts_is_refused_with_its_contents_and_a_hint(tmp_path):
    trees.avec2016_tree(tmp_path / "downloads/avec")
    with pytest.raises(UserError, match=r"none of the layouts .*: avec/\); did you mean .*downloads/avec\?"):
        find_corpus(str(tmp_path / "downloads"))
    for folder in ("RECOLA-Video-recordings", "Video_recordings_MP4"):
        write_empty(tmp_path, f"both/{folder}/P16.mp4")
    with pytest.raises(UserError, match="matches the layouts recola and tzirakis; choose one with --layout"):
        find_corpus(str(tmp_path / "both"))
    assert find_corpus(str(tmp_path / "both"), layout="tzirakis").layout == "tzirakis"


def test_links_in_circles_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files, "_MAX_FOLDERS", 500)  # the real limit takes seconds to reach
    for a in range(8):
        (tmp_path / str(a)).mkdir()
        for b in range(8):
            (tmp_path / str(a) / f"to{b}").symlink_to(tmp_path / str(b))
            write_empty(tmp_path, f"{a}/file")
    with pytest.raises(UserError, match="links that lead in circles"):
        find_corpus(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "authors"}, "--split=authors: layout avec2016 defines its own partitions"),
        ({"layout": "recola"}, "no RECOLA-Video-recordings/PN.mp4; is this the right --layout"),
        (
            {"layout": "tzirakis", "gold_standard": "mean"},
            "tzirakis has a gold standard and no individual ratings",
        ),
        ({"layout": "table"}, "no .csv in it is a table of recordings"),
    ],
)
def test_options_that_the_layout_does_not_have_are_refused(tmp_path, options, message):
    write_empty(tmp_path, "recordings_audio/train_1.wav", "recordings_video/train_1.mp4")
    with pytest.raises(UserError, match=message):
        find_corpus(str(tmp_path), **options)
