"""Extraction: tables of all recordings, components from train only, missing streams and faces, reuse of the folder."""

import shutil

import numpy as np
import pytest
from msgspec.structs import replace

from affect.data.features import FeatureTable, read_features
from affect.data.manifest import read_manifest
from affect.data.records import encode_jpeg
from affect.errors import UserError
from affect.evaluation import handcrafted
from affect.evaluation.descriptors.appearance import VOLUME_CROPS, gabor_magnitudes, histograms
from affect.evaluation.handcrafted import FeatureExtractor, extract
from affect.storage import read_json
from tests.helpers.commands import read_recording
from tests.helpers.planted import rewrite_shards

FRAMES = 200
AUDIO, APPEARANCE, GEOMETRIC = (
    {f"handcrafted_{kind}.{dimension}" for dimension in ("arousal", "valence")}
    for kind in ("audio", "appearance", "geometric")
)


@pytest.fixture(scope="module")
def features(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("handcrafted") / "features"
    extract(data_dir, folder, "quick")
    return folder


def noise_crops(seed):
    noise = np.random.default_rng(seed).integers(0, 255, (FRAMES, 96, 96, 3)).astype(np.uint8)
    return np.array([encode_jpeg(crop) for crop in noise], object)


def extractor(data_dir):
    return FeatureExtractor(data_dir, read_manifest(data_dir), "quick")


def entry_of(data_dir, name):
    return next(entry for entry in read_manifest(data_dir).recordings if entry.name == name)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.h5")}


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_every_recording_has_finite_tables_with_one_row_per_frame_at_the_time_of_its_rating(data_dir, features):
    names = {entry.name for entry in read_manifest(data_dir).recordings}
    assert {path.stem for path in features.glob("*.h5")} == names
    for name in names:
        tables = read_features(features / f"{name}.h5")
        assert tables.keys() == AUDIO | APPEARANCE | GEOMETRIC
        for table in tables.values():
            np.testing.assert_allclose(table.times_secs, np.arange(1, FRAMES + 1) / 25)
            assert table.values.shape == (FRAMES, len(table.columns)) and np.isfinite(table.values).all()


@pytest.mark.parametrize(("dimension", "audio_secs", "geometric_secs"), [("arousal", 4, 4), ("valence", 6, 8)])
def test_windows_of_sound_and_geometry_are_those_of_avec(data_dir, features, dimension, audio_secs, geometric_secs):
    tables = read_features(features / "dev_1.h5")
    stored = read_recording(data_dir, "dev_1")
    power = np.square(stored["pcm"].reshape(-1, 160) / 32_768).mean(axis=1)  # of 10 ms
    audio, geometric = tables[f"handcrafted_audio.{dimension}"], tables[f"handcrafted_geometric.{dimension}"]
    edge = np.log(stored["square"][:, 2])
    edge -= np.median(edge[stored["face_found"]])
    for frame in (0, 90, 180):
        window = power[max(4 * frame + 2 - 50 * audio_secs, 0) : 4 * frame + 3 + 50 * audio_secs]
        level = audio.values[frame, audio.columns.index("equivalentSoundLevel_dBp")]
        assert abs(level - 10 * np.log10(window.mean())) < 1e-3
        if stored["face_found"].all():
            half = round(12.5 * geometric_secs)
            window = edge[max(frame - half, 0) : frame + half + 1]
            np.testing.assert_allclose(
                [geometric.values[frame, geometric.columns.index(f"log_edge_{what}")] for what in ("mean", "std")],
                [window.mean(), window.std()], atol=1e-5,
            )  # fmt: skip


def test_appearance_is_the_mean_and_deviation_of_components_over_6_and_4_seconds(data_dir, features, monkeypatch):
    tables = read_features(features / "dev_1.h5")
    monkeypatch.setattr(handcrafted, "APPEARANCE_WINDOW_SECS", {"arousal": 0.0})
    computed = extractor(data_dir)
    made = computed.video_tables(entry_of(data_dir, "dev_1"), computed.fit_components())
    made = made["handcrafted_appearance.arousal"]
    components = made.values[:, : len(made.columns) // 2]  # windows of one frame: the mean is the value
    for dimension, half in (("arousal", 75), ("valence", 50)):
        window = components[100 - half : 100 + half + 1]
        expected = np.concatenate([window.mean(axis=0), window.std(axis=0)])
        found = tables[f"handcrafted_appearance.{dimension}"].values[100]
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_components_do_not_depend_on_dev_and_test_but_on_train(data_dir, tmp_path):
    def poison(*partitions):
        def change(entry, fields):
            if entry.partition in partitions:
                fields["jpeg"] = noise_crops(1)

        return rewrite_shards(data_dir, tmp_path / "-".join(partitions), change)

    directions = extractor(data_dir).fit_components().directions
    np.testing.assert_array_equal(extractor(poison("dev", "test")).fit_components().directions, directions)
    of_noise = extractor(poison("train")).fit_components().directions
    assert of_noise.shape != directions.shape or not np.allclose(of_noise, directions)


def test_crops_without_a_face_change_nothing_and_a_recording_without_faces_is_constant(data_dir, tmp_path):
    def change(entry, fields):
        fields["face_found"][:] = entry.name != "dev_2"
        fields["face_found"][40:70] = False

    def poison(entry, fields):
        change(entry, fields)
        fields["jpeg"] = np.where(fields["face_found"], fields["jpeg"], noise_crops(2))
        fields["square"][~fields["face_found"]] = [1000.0, 1000.0, 400.0]

    made = []
    for how in (change, poison):
        shards = rewrite_shards(
            data_dir, tmp_path / how.__name__, how,
            lambda entry: replace(entry, faces_found=0 if entry.name == "dev_2" else FRAMES - 30),
        )  # fmt: skip
        computed = extractor(shards)
        components = computed.fit_components()
        made.append([computed.video_tables(entry_of(shards, name), components) for name in ("train_1", "dev_2")])
    for clean, poisoned in zip(*made, strict=True):
        assert clean.keys() == APPEARANCE | GEOMETRIC
        for name, table in clean.items():
            np.testing.assert_array_equal(poisoned[name].values, table.values)
    assert all(np.ptp(table.values, axis=0).max() == 0.0 for table in made[0][1].values())


def test_recordings_without_a_stream_have_the_tables_of_the_other_and_silence_is_finite(data_dir, tmp_path):
    def change(entry, fields):
        if entry.name == "dev_1":
            fields["pcm"] = np.empty((0, 640), np.int16)
        if entry.name == "dev_2":
            fields |= {"jpeg": np.empty(0, object), "square": np.empty((0, 3)), "face_found": np.empty(0, bool)}
        if entry.name == "test_1":
            fields["pcm"][:] = 0

    shards = rewrite_shards(
        data_dir, tmp_path / "data", change,
        lambda entry: replace(entry, has_audio=entry.name != "dev_1", has_video=entry.name != "dev_2"),
    )  # fmt: skip
    extract(shards, tmp_path / "features", "quick")
    assert read_features(tmp_path / "features/dev_1.h5").keys() == APPEARANCE | GEOMETRIC
    assert read_features(tmp_path / "features/dev_2.h5").keys() == AUDIO
    silent = read_features(tmp_path / "features/test_1.h5")
    assert all(np.isfinite(silent[name].values).all() for name in AUDIO)


def test_without_faces_in_train_there_is_no_appearance(data_dir, tmp_path):
    def change(entry, fields):
        fields["face_found"][:] = entry.partition != "train"

    shards = rewrite_shards(
        data_dir, tmp_path, change,
        lambda entry: replace(entry, faces_found=0 if entry.partition == "train" else FRAMES),
    )  # fmt: skip
    assert extractor(shards).fit_components() is None
    assert extractor(shards).video_tables(entry_of(shards, "dev_1"), None).keys() == GEOMETRIC


def test_finished_files_are_reused_and_a_missing_one_is_made_again_with_the_same_bytes(data_dir, features, tmp_path):
    copy = tmp_path / "features"
    shutil.copytree(features, copy)
    before, bytes_before = stamps(copy), content(copy)
    (copy / "dev_1.h5").unlink()
    (copy / ".123.dev_1.h5").write_bytes(b"left by a killed run")
    extract(data_dir, copy, "quick")
    changed = {name for name, stamp in stamps(copy).items() if before[name] != stamp}
    assert changed == {"dev_1.h5"} and stamps(copy).keys() == before.keys()
    assert content(copy) == bytes_before
    assert not list(tmp_path.glob(".*"))  # no lock is left


def test_another_protocol_replaces_the_files_and_looks_at_every_crop(data_dir, features, tmp_path, monkeypatch):
    copy, steps = tmp_path / "features", []
    shutil.copytree(features, copy)
    monkeypatch.setattr(FeatureExtractor, "write", lambda self, folder, entries: steps.append(self.crop_step))
    extract(data_dir, copy, "quick")
    assert content(copy) == content(features)
    extract(data_dir, copy, "avec")
    assert steps == [5, 1]
    assert [path.name for path in copy.iterdir()] == ["made_from.json"]
    assert read_json(copy / "made_from.json")["protocol"] == "avec"
    found = np.ones(12, bool)
    found[5] = False
    manifest = read_manifest(data_dir)
    assert FeatureExtractor(data_dir, manifest, "quick")._faces(found).tolist() == [0, 10]
    assert FeatureExtractor(data_dir, manifest, "avec")._faces(found).tolist() == [0, 1, 2, 3, 4, *range(6, 12)]


def test_a_run_that_fails_leaves_whole_files_only_and_the_next_one_continues(data_dir, tmp_path, monkeypatch):
    write, written = handcrafted.write_features, []
    table = FeatureTable(("a",), np.arange(3) / 25, np.ones((3, 1)))
    monkeypatch.setattr(FeatureExtractor, "fit_components", lambda self: None)
    monkeypatch.setattr(FeatureExtractor, "audio_tables", lambda self, entry: {"sound": table})
    monkeypatch.setattr(FeatureExtractor, "video_tables", lambda self, entry, components: {"pictures": table})

    def fail_at_the_third(path, tables):
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError("the disk is full")
        written.append(path)
        write(path, tables)

    monkeypatch.setattr(handcrafted, "write_features", fail_at_the_third)
    with pytest.raises(OSError, match="the disk is full"):
        extract(data_dir, tmp_path / "features", "quick")
    finished = stamps(tmp_path / "features")
    assert len(finished) == 3  # two recordings and made_from.json
    monkeypatch.setattr(handcrafted, "write_features", write)
    extract(data_dir, tmp_path / "features", "quick")
    now = stamps(tmp_path / "features")
    assert len(now) == 7 and finished.items() <= now.items()
    for path in (tmp_path / "features").glob("*.h5"):
        assert read_features(path).keys() == {"sound", "pictures"}


def test_folders_of_others_unknown_protocols_and_damaged_shards_are_refused(data_dir, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        extract(data_dir, tmp_path / "thesis", "quick")
    assert (tmp_path / "thesis/chapter.tex").read_text() == "years of work"
    with pytest.raises(UserError, match="'fast' is unknown; it must be one of avec, quick"):
        extract(data_dir, tmp_path / "features", "fast")
    shards = rewrite_shards(data_dir, tmp_path / "data")
    shard = shards / entry_of(shards, "train_1").shards[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100] + bytes(100))
    with pytest.raises(UserError, match="train_1-00000-of-00001.tfrecord: damaged"):
        extract(shards, tmp_path / "features", "quick")


def test_a_sampled_volume_is_the_mean_histogram_of_its_crops(data_dir):
    entry = entry_of(data_dir, "train_1")
    sampled = list(extractor(data_dir)._sampled_histograms(entry, most=3))
    assert len(sampled) == 3
    faces = np.flatnonzero(read_recording(data_dir, entry.name)["face_found"][::5]) * 5
    crops = extractor(data_dir)._crops(entry, faces)
    every = histograms(gabor_magnitudes(np.concatenate([crops[:1], crops, crops[-1:]])))
    last = (len(faces) // VOLUME_CROPS - 1) * VOLUME_CROPS
    np.testing.assert_allclose(sampled[0], every[:VOLUME_CROPS].mean(axis=0), atol=0.01)
    np.testing.assert_allclose(sampled[-1], every[last : last + VOLUME_CROPS].mean(axis=0), atol=0.01)
