"""Every layout from a generated corpus to shards: sound, crops and labels match the source, and losses are reported."""

import io

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from affect.data.manifest import read_manifest
from affect.errors import UserError
from affect.media.contact_sheet import sheet_frames
from affect.metrics import concordance_cc
from tests.helpers import trees
from tests.helpers.commands import read_recording
from tests.helpers.in_process import call_main
from tfrecords_tools import file_remarks, inspect_tfrecords, shards
from tfrecords_tools import make_tfrecords as make_tfrecords_command
from tfrecords_tools.corpora.layouts import find_corpus
from tfrecords_tools.pipeline import make_tfrecords
from tfrecords_tools.shards import Preprocessing, draw_contact_sheet


def make(corpus_dir, output_dir, settings=None, **options):
    """Writes the shards of a corpus, in this process, and returns their manifest."""
    find = {name: options.pop(name) for name in ("layout", "split", "gold_standard") if name in options}
    corpus = find_corpus(str(corpus_dir), **find)
    make_tfrecords(corpus, output_dir, settings or Preprocessing(), processes=1, **options)
    return read_manifest(output_dir)


def dot_positions(fields):
    """Returns the centre of the green dot in every crop, in pixels of the source picture."""
    positions = []
    for jpeg, (left, top, edge) in zip(fields["jpeg"], fields["square"], strict=True):
        bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).astype(float)
        green = np.clip(bgr[..., 1] - np.maximum(bgr[..., 0], bgr[..., 2]) - 60.0, 0.0, None)
        assert green.sum() > 0.0
        y, x = (np.sum(green * axis) / green.sum() for axis in np.mgrid[:96, :96])
        positions.append((left + (x + 0.5) * edge / 96 - 0.5, top + (y + 0.5) * edge / 96 - 0.5))
    return np.array(positions)


def gold_by_hand(ratings):
    """Computes AVEC's gold standard step by step, as its authors describe it."""
    raters = ratings.T
    weights = []
    for i, rater in enumerate(raters):
        others = [other for j, other in enumerate(raters) if j != i]
        weights.append(np.mean([concordance_cc(rater, other) for other in others]))  # negative ones included
    common_mean = sum(w * rater.mean() for w, rater in zip(weights, raters, strict=True)) / sum(weights)
    return np.mean([rater - rater.mean() + common_mean for rater in raters], axis=0)


def avec2016(root):
    return trees.avec2016_tree(root)["train_1"]


def recola(root):
    ratings = trees.recola_tree(root)["P16"]
    return np.stack([gold_by_hand(ratings[dimension]) for dimension in trees.DIMENSIONS], axis=1)


def tzirakis(root):
    return trees.tzirakis_tree(root)["P16"]


def table(root):
    labels = trees.table_tree(root)
    grid, times = np.arange(trees.FRAMES + 1) / 25, np.arange(len(labels)) / 10
    return np.stack([np.interp(grid, times, labels[:, axis]) for axis in range(2)], axis=1)


@pytest.mark.parametrize("write_tree", [avec2016, recola, tzirakis, table])
def test_sound_labels_and_crops_in_the_shards_match_the_source(tmp_path, write_tree):
    gold = write_tree(tmp_path / "corpus")
    manifest = make(tmp_path / "corpus", tmp_path / "records")
    (entry,) = manifest.recordings
    assert (manifest.layout, entry.partition, entry.frames) == (write_tree.__name__, "train", trees.FRAMES)
    assert entry.has_audio and entry.has_video and entry.has_labels and not entry.remarks
    fields = read_recording(tmp_path / "records", entry.name)

    sound = fields["pcm"].ravel() / 32_768
    assert trees.snr_db(trees.tones(16_000), sound) > 60.0
    assert entry.audio_std == pytest.approx(trees.tones(16_000).std(), rel=1e-3)

    np.testing.assert_array_equal(fields["labels"], gold[1:].astype(np.float32))

    # The crop shows the picture at the recorded square, and the square is centred on the face.
    centres = trees.face_centres()
    np.testing.assert_allclose(dot_positions(fields), centres, atol=1.5)
    crops = fields["square"][:, :2] + fields["square"][:, 2:] / 2
    assert np.percentile(np.linalg.norm(crops - centres, axis=1), 95) < 5.0
    assert fields["face_found"].all() and entry.faces_found == trees.FRAMES


def test_face_boxes_and_features_that_the_corpus_ships_are_used(tmp_path):
    from affect.data.features import read_features

    root = tmp_path / "corpus"
    trees.avec2016_tree(root, boxes=True)
    missed, beside = range(40, 50), trees.face_centres() - [20.0, 0.0]  # where a detector would find no face
    trees.write_boxes(root / "features_video_face_bounding_box/train_1.arff", "train_1", beside, missed)
    trees.write_lines(
        root / "features_audio/arousal/train_1.arff",
        ["@relation x", "@attribute name string", "@attribute frameTime numeric", "@attribute 'F0 mean' numeric",
         "@attribute loud numeric", "@data", "'train_1',0.00,1.5,-2e-3", "'train_1',0.04,?,3"],
    )  # fmt: skip
    manifest = make(root, tmp_path / "records")
    fields = read_recording(tmp_path / "records", "train_1")
    crops = fields["square"][:, :2] + fields["square"][:, 2:] / 2
    assert np.percentile(np.linalg.norm(crops - beside, axis=1)[:35], 95) < 5.0
    np.testing.assert_array_equal(np.flatnonzero(~fields["face_found"]), list(missed))

    tables = read_features(tmp_path / "records" / manifest.recordings[0].features)
    assert set(tables) == {"features_audio.arousal", "features_video_face_bounding_box"}
    audio = tables["features_audio.arousal"]
    assert audio.columns == ("F0 mean", "loud")
    np.testing.assert_array_equal(audio.times_secs, [0.0, 0.04])
    np.testing.assert_array_equal(audio.values, np.float32([[1.5, -2e-3], [np.nan, 3]]))


def test_gold_standard_is_computed_from_individual_ratings_on_request(tmp_path):
    root = tmp_path / "corpus"
    trees.avec2016_tree(root)
    ratings = trees.ratings_of(5)
    for dimension in trees.DIMENSIONS:
        trees.write_ratings(root / f"ratings_individual/{dimension}/train_1.csv", ratings)
    for method, expected in (("avec", gold_by_hand(ratings)), ("mean", ratings.mean(axis=1))):
        manifest = make(root, tmp_path / method, gold_standard=method)
        assert manifest.preprocessing["gold_standard"] == method
        labels = read_recording(tmp_path / method, "train_1")["labels"]
        np.testing.assert_allclose(labels, np.stack([expected[1:]] * 2, axis=1), atol=1e-6)


def test_a_rater_who_contradicts_the_others_is_weighed_as_in_avec_and_named(tmp_path, capsys):
    root = tmp_path / "corpus"
    ratings = trees.recola_tree(root)["P16"]["arousal"]
    ratings[:, 4] = np.round(0.3 - 0.5 * ratings[:, 0], 4)  # FF2
    trees.write_ratings(root / "RECOLA-Annotation/emotional_behaviour/arousal/P16.csv", ratings)
    agreement = np.mean([concordance_cc(ratings[:, 4], ratings[:, j]) for j in (0, 1, 2, 3, 5)])
    assert agreement < -0.1
    (entry,) = make(root, tmp_path / "records").recordings
    labels = read_recording(tmp_path / "records", "P16")["labels"]
    np.testing.assert_allclose(labels[:, 0], gold_by_hand(ratings)[1:], atol=1e-6)
    assert entry.remarks == (
        f"rater FF2's mean agreement on arousal with the others is {agreement:.2g}; check these ratings: the gold "
        "standard weighs them negatively, as AVEC does",
    )
    (mean,) = make(root, tmp_path / "mean", gold_standard="mean").recordings
    assert not mean.remarks  # the plain mean has no weights

    curve = ratings[:, :1] - ratings[:, :1].mean()
    split = np.tile(curve, 6) * [1, -1, 1, -1, 1, -0.8] + np.arange(6) / 10
    trees.write_ratings(root / "RECOLA-Annotation/emotional_behaviour/arousal/P16.csv", split)
    (entry,) = make(root, tmp_path / "equal").recordings
    assert entry.remarks[-1].startswith("the raters do not agree on arousal (weights of the gold standard sum to -")
    labels = read_recording(tmp_path / "equal", "P16")["labels"]
    np.testing.assert_allclose(labels[:, 0], np.round(split, 4)[1:].mean(axis=1), atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "shown"),
    [
        (lambda x: (x + 1) / 2, ["valence is never below 0 in the whole corpus"]),  # [0, 1]
        (lambda x: (x + 3) / 2, ["valence is never below 0 in the whole corpus"]),  # [1, 2]
        (lambda x: 0 * x, ["valence is 0 in every frame", "valence is 0 in all labels of the corpus"]),
        (lambda x: x, []),
    ],
)
def test_labels_on_another_scale_are_remarked_before_and_after_preprocessing(tmp_path, capsys, scale, shown):
    root = tmp_path / "corpus"
    labels = trees.table_tree(root, [f"{name},{part},sound/anna voice.wav,,labels/anna.csv" for name, part in
                                     (("anna", "train"), ("ben", "dev"))])  # fmt: skip
    labels[:, 1] = scale(labels[:, 1])
    rows = [f"{k / 10:.1f},{a:.4f},{v:.4f}" for k, (a, v) in enumerate(labels)]
    trees.write_lines(root / "labels/anna.csv", ["time,arousal,valence", *rows])
    flags = [f"--corpus_dir={root}", f"--output_dir={tmp_path / 'records'}", "--processes=1"]
    assert not call_main(make_tfrecords_command, *flags)
    made = capsys.readouterr().out
    assert not call_main(inspect_tfrecords, f"--data_dir={tmp_path / 'records'}")
    for printed in (made, capsys.readouterr().out):
        assert "gold standard" not in printed and "a face in" not in printed  # labels are the user's; there is no video
        assert all(remark in printed for remark in shown)
        assert printed.count("valence is") == (3 if len(shown) > 1 else len(shown))  # constant: once per recording too
        assert "arousal is" not in printed


def test_a_scale_is_remarked_only_if_no_recording_goes_below_zero(tmp_path, capsys):
    root = tmp_path / "corpus"
    trees.avec2016_tree(root, ("train_1", "train_2"))
    gold = root / "ratings_gold_standard/valence/train_1.arff"
    trees.write_gold_arff(gold, "train_1", np.linspace(0.1, 0.9, trees.FRAMES + 1))
    make(root, tmp_path / "records")
    assert "never below" not in capsys.readouterr().out


def test_tables_of_opensmile_are_read_and_named_in_remarks(tmp_path):
    from affect.data.features import read_features

    root = tmp_path / "corpus"
    trees.avec2016_tree(root, boxes=True)
    rows = [f"'{name}';{k};{k * 0.01:.6f};{k / 7:e};-1,5".replace(",", ".") for k, name in
            enumerate(["train_1", "train_1", "dev_7"])]  # fmt: skip
    trees.write_lines(root / "features_audio/train_1.csv", ["name;frameIndex;frameTime;loudness;F0", *rows])
    (entry,) = make(root, tmp_path / "records").recordings
    table = read_features(tmp_path / "records" / entry.features)["features_audio"]
    assert table.columns == ("loudness", "F0")
    np.testing.assert_array_equal(table.times_secs, [0.0, 0.01, 0.02])
    np.testing.assert_allclose(table.values, [[0, -1.5], [1 / 7, -1.5], [2 / 7, -1.5]], rtol=1e-6)
    assert entry.remarks == (
        "the rows of features_audio/train_1.csv are named 'dev_7'; check that they belong to this recording",
    )


def test_features_that_end_long_before_the_recording_are_remarked(tmp_path, monkeypatch):
    monkeypatch.setattr(file_remarks, "_MAX_WINDOW_SECS", 1.0)
    root = tmp_path / "corpus"
    trees.avec2016_tree(root, boxes=True)
    for folder, last in (("features_cut", 2.0), ("features_whole", 3.5)):
        trees.write_lines(root / folder / "train_1.csv", ["frameTime;F0", "0;1", f"{last};1"])
    (entry,) = make(root, tmp_path / "records").recordings
    assert entry.remarks == ("features_cut/train_1.csv ends at 2.00 s, but the recording at 4.00 s; was the file cut?",)


def test_recordings_without_sound_or_video_or_labels_are_kept(tmp_path):
    root = tmp_path / "corpus"
    trees.table_tree(
        root,
        ["anna,train,,anna.mp4,labels/anna.csv", "ben,dev,sound/anna voice.wav,,labels/anna.csv",
         "carla,test,sound/anna voice.wav,anna.mp4,"],
    )  # fmt: skip
    entries = {entry.name: entry for entry in make(root / "corpus.csv", tmp_path / "records").recordings}
    kinds = {name: (one.has_audio, one.has_video, one.has_labels) for name, one in entries.items()}
    assert kinds == {"anna": (False, True, True), "ben": (True, False, True), "carla": (True, True, False)}
    anna, ben = (read_recording(tmp_path / "records", name) for name in ("anna", "ben"))
    assert anna["pcm"].shape == (0, 640) and len(anna["jpeg"]) == trees.FRAMES
    assert len(ben["jpeg"]) == 0 and ben["pcm"].shape == (trees.FRAMES, 640)
    np.testing.assert_array_equal(anna["labels"], ben["labels"])

    from tfrecords_tools.inspection import inspect

    _, summaries = inspect(tmp_path / "records", tmp_path / "sheets")
    assert summaries["test"].label_range is None
    for name in ("anna", "carla"):  # drawn from the shards, they equal those of the preprocessing
        drawn = (tmp_path / "sheets" / f"{name}.png").read_bytes()
        assert drawn == (tmp_path / "records/contact_sheets" / f"{name}.png").read_bytes()


def test_missing_pieces_are_listed_before_anything_is_decoded(tmp_path):
    root = tmp_path / "corpus"
    trees.avec2016_tree(root, ("train_1", "train_2", "dev_1"), boxes=True)
    (root / "recordings_audio/dev_1.wav").unlink()
    (root / "ratings_gold_standard/valence/train_2.arff").unlink()
    (root / "features_video_face_bounding_box/train_2.arff").unlink()
    (root / "recordings_video/train_1.mp4").write_bytes(b"never opened")
    with pytest.raises(UserError) as refused:
        make(root, tmp_path / "records")
    for piece in (
        "2 recording(s) are incomplete", "train_2: missing: features_video_face_bounding_box/train_2.arff, "
        "ratings_gold_standard/valence/train_2.arff", "dev_1: missing: recordings_audio/dev_1.wav", "--allow_missing",
    ):  # fmt: skip
        assert piece in str(refused.value)
    assert not (tmp_path / "records").exists()

    trees.write_video(root / "recordings_video/train_1.mp4", trees.face_pictures())
    manifest = make(root, tmp_path / "records", allow_missing=True)
    assert [entry.name for entry in manifest.recordings] == ["train_1"]
    assert manifest.left_out["dev_1"] == "missing: recordings_audio/dev_1.wav" and "train_2" in manifest.left_out


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])  # converted by OpenCV, and by FFmpeg
def test_colours_in_the_shards_are_those_of_the_video(tmp_path, pix_fmt):
    """The face box shows a picture that is red on the left, blue on the right and green at the bottom."""
    red, green, blue = (200, 30, 20), (20, 180, 40), (30, 20, 210)
    picture = np.full((240, 320, 3), 128, np.uint8)
    picture[:, :160], picture[:, 160:], picture[150:] = red, blue, green
    root = tmp_path / "corpus"
    trees.avec2016_tree(root)
    trees.write_boxes(
        root / "features_video_face_bounding_box/train_1.arff", "train_1", [(160.0, 120.0)] * trees.FRAMES
    )
    with av.open(str(root / "recordings_video/train_1.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, pix_fmt
        for _ in range(trees.FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    make(root, tmp_path / "records")
    jpeg = read_recording(tmp_path / "records", "train_1")["jpeg"][50]
    crop = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))  # a decoder that the package does not use
    for corner, colour in (((20, 20), red), ((20, 76), blue), ((85, 48), green)):
        np.testing.assert_allclose(crop[corner[0] - 5 : corner[0] + 5, corner[1] - 5 : corner[1] + 5].mean((0, 1)),
                                   colour, atol=8)  # fmt: skip


def test_rows_that_are_named_after_another_recording_are_remarked(tmp_path, capsys):
    root = tmp_path / "corpus"
    trees.avec2016_tree(root, ("train_1", "train_2"))
    gold = root / "ratings_gold_standard/valence/train_1.arff"
    gold.write_text(gold.read_text().replace("'train_1'", "'dev_7'"))
    header = [
        "@relation x",
        "@attribute name string",
        "@attribute frameTime numeric",
        "@attribute loud numeric",
        "@data",
    ]
    trees.write_lines(root / "features_audio/train_1.arff", [*header, "'train_1.wav',0,1", "train_1,1,1"])
    trees.write_lines(root / "features_audio/train_2.arff", [*header, "'train_2',0,1", "'x',1,1", "'y',2,1"])
    remarks = {entry.name: entry.remarks for entry in make(root, tmp_path / "records").recordings}
    assert remarks == {
        "train_1": (
            "the rows of ratings_gold_standard/valence/train_1.arff are named 'dev_7'; check that they belong to this "
            "recording",
        ),
        "train_2": (
            "the rows of features_audio/train_2.arff are named 'x' and 1 more; check that they belong to this "
            "recording",
        ),
    }
    assert not call_main(inspect_tfrecords, f"--data_dir={tmp_path / 'records'}")
    assert (
        "train_1: the rows of ratings_gold_standard/valence/train_1.arff are named 'dev_7'" in capsys.readouterr().out
    )


def test_a_subject_in_two_partitions_is_remarked_before_and_after_preprocessing(tmp_path, capsys):
    root = tmp_path / "corpus"
    sound = "sound/anna voice.wav,,labels/anna.csv"
    rows = [f"a1,train,{sound},Anna", f"a2,train,{sound},anna", f"a3,test,{sound},anna", f"b1,train,{sound},Ben"]
    trees.table_tree(root, rows)
    trees.write_lines(root / "corpus.csv", ["recording,partition,audio,video,labels,subject", *rows])
    flags = [f"--corpus_dir={root}", f"--output_dir={tmp_path / 'records'}", "--processes=1"]
    assert not call_main(make_tfrecords_command, *flags)
    made = capsys.readouterr().out
    assert not call_main(inspect_tfrecords, f"--data_dir={tmp_path / 'records'}")
    for shown in (made, capsys.readouterr().out):
        subject = (
            "subject Anna is in train (a1, a2) and in test (a3): scores will say less about people who are not in train"
        )
        assert shown.count(subject) == 1 and "Ben" not in shown
        assert shown.count("no recording is in partition dev, which train.py and eval.py need") == 1
        assert "partition train:" not in shown


def test_a_corpus_without_train_is_remarked(tmp_path):
    trees.table_tree(tmp_path, ["anna,dev,sound/anna voice.wav,,labels/anna.csv"])
    assert find_corpus(str(tmp_path)).listing.remarks == [
        "no recording is in partition train: no network can be trained on these shards"
    ]


def test_the_contact_sheet_shows_the_crops_of_the_shards_at_their_times(tmp_path, monkeypatch):
    drawn = {}

    def draw(jpegs, found, size, recording):
        drawn[recording] = jpegs
        return draw_contact_sheet(jpegs, found, size, recording)

    monkeypatch.setattr(shards, "draw_contact_sheet", draw)
    trees.avec2016_tree(tmp_path / "corpus")
    make(tmp_path / "corpus", tmp_path / "records", Preprocessing(frames_per_record=20))
    fields = read_recording(tmp_path / "records", "train_1")
    assert list(drawn["train_1"]) == sheet_frames(fields["face_found"], 25)
    for frame, jpeg in drawn["train_1"].items():
        assert jpeg == fields["jpeg"][frame]
