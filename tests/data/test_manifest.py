"""The manifest: damaged or malicious ones are refused; its fingerprint is that of the content alone."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
from msgspec.structs import replace

from affect import __version__
from affect.data.manifest import Manifest, RecordingEntry, is_recording_name, read_manifest
from affect.errors import UserError

WRITTEN_BY_0_1_0 = Path(__file__).parents[1] / "compatibility/v0.1.0/records/manifest.json"


def entry(**changes):
    fields = {
        "name": "anna", "partition": "train", "subject": "Zoë", "frames": 7, "has_labels": True, "has_audio": True,
        "has_video": True, "audio_mean": -1e-05, "audio_std": 0.125, "faces_found": 6, "remarks": ("Lücke",),
        "features": "features/anna.h5", "features_sha256": "1" * 64, "shards": ("train/anna-0.tfrecord",),
        "sha256": ("2" * 64,),
    }  # fmt: skip
    return RecordingEntry(**fields | changes)


def manifest_of(*entries):
    return Manifest(
        layout="table", synthetic=False, frame_rate_hz=25, sample_rate_hz=16_000, frame_samples=640, crop_size=96,
        frames_per_record=25, preprocessing={"face_margin": 0.5, "detector": "mtcnn", "split": None},
        left_out={"börje": "no audio"}, recordings=entries,
    )  # fmt: skip


# As `json.dumps(..., indent=2)` of version 0.1.0 wrote it.
ENTRY_AS_JSON = {
    "name": "anna", "partition": "train", "subject": "Zoë", "frames": 7, "has_labels": True, "has_audio": True,
    "has_video": True, "audio_mean": -1e-05, "audio_deviation": 0.125, "faces_found": 6, "remarks": ["Lücke"],
    "features": "features/anna.h5", "features_sha256": "1" * 64, "shards": ["train/anna-0.tfrecord"],
    "sha256": ["2" * 64],
}  # fmt: skip


def test_json_has_the_keys_and_the_form_that_version_0_1_0_wrote():
    content = {
        "schema_version": 2, "written_by": f"affect {__version__} make_tfrecords", "layout": "table",
        "synthetic": False, "frame_rate_hz": 25, "sample_rate_hz": 16_000, "frame_samples": 640, "crop_size": 96,
        "frames_per_record": 25, "preprocessing": {"face_margin": 0.5, "detector": "mtcnn", "split": None},
        "left_out": {"börje": "no audio"}, "recordings": [ENTRY_AS_JSON],
    }  # fmt: skip
    text = manifest_of(entry()).to_json()
    assert text == json.dumps(content, indent=2) + "\n"
    assert r"Zo\u00eb" in text and '"audio_mean": -1e-05' in text


@pytest.mark.parametrize("version", ["0.1.0", "7.0.0"])
def test_a_manifest_written_by_another_version_keeps_its_bytes(tmp_path, version):
    content = WRITTEN_BY_0_1_0.read_bytes().replace(b"affect 0.1.0 ", f"affect {version} ".encode())
    (tmp_path / "manifest.json").write_bytes(content)
    manifest = read_manifest(tmp_path)
    assert manifest.written_by == f"affect {version} make_tfrecords"
    assert manifest.to_json().encode() == content
    assert manifest.fingerprint() == read_manifest(WRITTEN_BY_0_1_0.parent).fingerprint()
    # Version 0.1.0 recorded this one.
    assert manifest.has_fingerprint(hashlib.sha256(content).hexdigest())
    assert not manifest.has_fingerprint(hashlib.sha256(content + b"\n").hexdigest())


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    manifest = replace(manifest_of(entry(), entry(name="ben", partition="dev")), written_by="affect 9 make_tfrecords")
    (tmp_path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    assert read_manifest(tmp_path) == manifest
    assert [item.name for item in manifest.partition("dev")] == ["ben"]
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_a_file_name_that_is_not_utf_8_can_be_recorded(tmp_path):
    manifest = replace(manifest_of(entry()), left_out={"ben": "missing b\udce9n.wav"})
    (tmp_path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=99),
         r"manifest\.json has schema version 99, written by affect .* make_tfrecords; .*Run make_tfrecords again"),
        (lambda m: m.pop("schema_version"), r"not a manifest: .*missing required field `schema_version`"),
        (lambda m: m.pop("crop_size"), "damaged manifest: .*missing required field `crop_size`"),
        (lambda m: m.update(surprise=1), "damaged manifest: .*unknown field `surprise`"),
        (lambda m: m["recordings"][1].update(surprise=1), r"unknown field `surprise` - at `\$\.recordings\[1\]`"),
        (lambda m: m["recordings"][1].pop("subject"), r"missing required field `subject` - at `\$\.recordings\[1\]`"),
        (lambda m: m["recordings"][0].update(shards=["../../etc/passwd"]), "outside the data folder"),
        (lambda m: m["recordings"][0].update(shards=["/etc/passwd"]), "outside the data folder"),
        (lambda m: m["recordings"][0].update(features="../secret.h5"), "outside the data folder"),
        (lambda m: m["recordings"][0].update(features="a\0b"), "outside the data folder"),
        (lambda m: m["recordings"][0].update(name="../../escaped"),
         r"'\.\./\.\./escaped' is not a valid name of a recording - at `\$\.recordings\[0\]`"),
        (lambda m: m["recordings"][0].update(name=5), r"damaged manifest: .*at `\$\.recordings\[0\]\.name`"),
        (lambda m: m["recordings"][0].update(shards=[5]), r"damaged manifest: .*at `\$\.recordings\[0\]\.shards\[0\]`"),
        (lambda m: m["recordings"][0].update(sha256=[]), "damaged manifest: .*has 1 shards and 0 checksums"),
        (lambda m: m["recordings"][0].update(partition="foo"),
         r"damaged manifest: .*'foo' - at `\$\.recordings\[0\]\.partition`"),
        (lambda m: m["recordings"][0].update(frames=0), r"`int` >= 1 - at `\$\.recordings\[0\]\.frames`"),
        (lambda m: m["recordings"][0].update(frames=True), r"got `bool` - at `\$\.recordings\[0\]\.frames`"),
        (lambda m: m["recordings"][0].update(faces_found=-1), r"`int` >= 0 - at `\$\.recordings\[0\]\.faces_found`"),
        (lambda m: m["recordings"][1].update(faces_found=8), "damaged manifest: recording ben has 8 faces in 7 frames"),
        (lambda m: m["recordings"][0].update(audio_deviation="loud"), r"at `\$\.recordings\[0\]\.audio_deviation`"),
        (lambda m: m["recordings"][0].update(has_video=1), r"at `\$\.recordings\[0\]\.has_video`"),
        (lambda m: m.update(frame_rate_hz=0), r"Expected `int` >= 1 - at `\$\.frame_rate_hz`"),
        (lambda m: m.update(frame_samples="many"), r"Expected `int`, got `str` - at `\$\.frame_samples`"),
        (lambda m: m.update(left_out=[1]), r"damaged manifest: .*at `\$\.left_out`"),
        (lambda m: m.update(left_out={"ben": 1}), r"damaged manifest: .*at `\$\.left_out"),
        (lambda m: m.update(recordings=[]), r"length >= 1 - at `\$\.recordings`"),
        (lambda m: m["recordings"].append(m["recordings"][0]), "damaged manifest: 2 recordings are called anna"),
        (lambda m: m["recordings"].append(m["recordings"][0] | {"name": "ANNA"}), "2 recordings are called anna"),
    ],
)  # fmt: skip
def test_a_manifest_with_wrong_content_is_refused_with_file_and_field(tmp_path, change, message):
    manifest = json.loads(manifest_of(entry(), entry(name="ben")).to_json())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message) as refusal:
        read_manifest(tmp_path)
    assert str(refusal.value).startswith(str(tmp_path / "manifest.json"))


def test_a_shard_behind_a_link_that_leaves_the_folder_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data/train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/manifest.json").write_text(manifest_of(entry()).to_json())
    with pytest.raises(UserError, match="outside the data folder"):
        read_manifest(tmp_path / "data")


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, "7" * 5_000, "{", "5", "\xff"])
def test_a_file_that_is_not_a_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest"):
        read_manifest(tmp_path)


def test_a_missing_folder_or_manifest_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist; run make_tfrecords to create it"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        read_manifest(tmp_path)


def test_entries_are_checked_when_they_are_made():
    with pytest.raises(ValueError, match="is not a valid name of a recording"):
        entry(name=".hidden")
    with pytest.raises(ValueError, match="recording anna has 1 shards and 2 checksums"):
        entry(sha256=("1", "2"))
    with pytest.raises(ValueError, match="2 recordings are called anna"):
        manifest_of(entry(), entry())


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("train_1", True), ("P16-b.2", True), ("Zoë", True), ("-", True), ("a" * 100, True), ("a" * 101, False),
        ("ë" * 51, False), ("", False), (".a", False), ("a b", False), ("a/b", False), ("a\n", False),
        ("a\udce9", False),
    ],
)  # fmt: skip
def test_recording_names_can_be_used_in_file_names_on_every_system(name, valid):
    assert is_recording_name(name) == valid


def test_the_fingerprint_is_the_sha_256_of_the_content():
    """A run is refused when this changes: what is hashed must stay as it is, to the byte."""
    content = (
        '{"rates_and_shapes":[25,16000,640,96,25],"recordings":[["anna","train",7,true,true,true,-1e-05,0.125,6,'
        f'"{"1" * 64}",["{"2" * 64}"]]]}}'
    )
    assert manifest_of(entry()).fingerprint() == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        lambda m: replace(m, written_by="affect 9 make_tfrecords"),
        lambda m: replace(m, schema_version=99),
        lambda m: replace(m, preprocessing={}),
        lambda m: replace(m, left_out={}, layout="avec2016"),
        lambda m: replace(m, recordings=(entry(remarks=(), subject="anna"),)),
        lambda m: replace(m, recordings=(entry(shards=("moved/anna.tfrecord",), features="moved/anna.h5"),)),
    ],
)
def test_the_fingerprint_depends_on_nothing_but_the_content(same):
    manifest = manifest_of(entry())
    assert same(manifest).fingerprint() == manifest.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "ben"}, {"partition": "dev"}, {"frames": 8}, {"has_labels": False}, {"has_audio": False},
        {"has_video": False}, {"audio_mean": 0.0}, {"audio_std": 0.25}, {"faces_found": 7},
        {"features_sha256": "3" * 64}, {"sha256": ("3" * 64,)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_fingerprint_changes_with_every_recording(change):
    assert manifest_of(entry(**change)).fingerprint() != manifest_of(entry()).fingerprint()


@pytest.mark.parametrize("name", ["frame_rate_hz", "sample_rate_hz", "frame_samples", "crop_size", "frames_per_record"])
def test_the_fingerprint_changes_with_rates_shapes_and_the_order_of_recordings(name):
    manifest = manifest_of(entry(), entry(name="ben"))
    assert replace(manifest, **{name: 7}).fingerprint() != manifest.fingerprint()
    assert replace(manifest, recordings=manifest.recordings[::-1]).fingerprint() != manifest.fingerprint()
