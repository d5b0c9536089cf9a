"""Shards with planted content, and a network that is one matrix: predictions that NumPy can compute."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from msgspec.structs import replace

from affect.config import Experiment
from affect.data.manifest import RecordingEntry, read_manifest
from affect.data.records import serialize
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder
from affect.storage import read_json, write_json
from tests.helpers.commands import read_recording

PCM_FULL_SCALE = 32_768


def rewrite_shards(
    data_dir: Path, output_dir: Path, change: Callable[[RecordingEntry, dict[str, np.ndarray]], None] | None = None,
    change_entry: Callable[[RecordingEntry], RecordingEntry] = lambda entry: entry, **facts,
) -> Path:  # fmt: skip
    """Writes changed shards and their manifest to a new folder, and returns it.

    Args:
      data_dir: folder of the shards to start from.
      output_dir: the new folder.
      change: changes the fields of a recording in place, see `read_recording`.
      change_entry: returns the changed manifest entry of a recording.
      facts: changed fields of the manifest.
    """
    manifest = read_manifest(data_dir)
    entries = []
    for entry in manifest.recordings:
        fields = read_recording(data_dir, entry.name)
        if change is not None:
            change(entry, fields)
        path = output_dir / entry.shards[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for start in range(0, entry.frames, manifest.frames_per_record):
                part = {name: values[start : start + manifest.frames_per_record] for name, values in fields.items()}
                writer.write(
                    serialize(entry.name, start, list(part["jpeg"]), part["square"], part["face_found"], part["pcm"],
                              part["labels"])
                )  # fmt: skip
        content = path.read_bytes()
        shards = {
            "shards": entry.shards[:1], "sha256": (sha256(content).hexdigest(),), "shard_bytes": (len(content),),
        }  # fmt: skip
        entries.append(change_entry(replace(entry, features="", features_sha256="", **shards)))
    (output_dir / "manifest.json").write_text(replace(manifest, recordings=tuple(entries), **facts).to_json())
    return output_dir


def plant_in_sound(fields: dict[str, np.ndarray], values: np.ndarray) -> None:
    """Makes the first two samples of every frame hold the two values [frames, 2], in [-1, 1]."""
    fields["pcm"][:, :2] = np.round(values * (PCM_FULL_SCALE - 1))


def linear_network(modality: str, size: tuple[int, ...], dtype: str, weights: np.ndarray) -> keras.Model:
    """Returns a network whose output in every frame is the flattened input of that frame times `weights`."""
    frames = keras.Input((None, *size), name=modality, dtype=dtype)
    flat = layers.Reshape((-1, len(weights)))(layers.Rescaling(1.0)(frames))
    model = keras.Model({modality: frames}, layers.Dense(2, use_bias=False, name="matrix")(flat))
    model.get_layer("matrix").set_weights([weights])
    for layer in (model, *model.layers):
        layer.supports_masking = True  # evaluation passes the mask of the padding
    return model


def sound_reader() -> keras.Model:
    """Returns the network that predicts what `plant_in_sound` planted."""
    return linear_network("audio", (640,), "float32", np.eye(640, 2, dtype=np.float32))


def use_network(monkeypatch, run_dir: Path, experiment: Experiment, network: keras.Model) -> None:
    """Puts a network and its experiment into an existing run folder, as if trained on the experiment's data."""
    (run_dir / "config.json").write_text(experiment.to_json())
    manifest = read_manifest(experiment.data.data_dir)
    facts = {"data_fingerprint": manifest.fingerprint(), "synthetic_data": manifest.synthetic}
    write_json(run_dir / "environment.json", read_json(run_dir / "environment.json") | facts)
    trained = TrainedNetwork(RunFolder(run_dir), experiment, network)
    monkeypatch.setattr(TrainedNetwork, "load", lambda path: trained)


def with_faces(data_dir: Path, output_dir: Path, faces: dict[str, int], **changes: dict[str, object]) -> Path:
    """Copies shards and changes what their manifest says; returns the copy.

    Args:
      data_dir: folder of the shards.
      output_dir: the new folder.
      faces: number of frames with a face by recording; of all others, every frame has one.
      changes: other changed fields by recording.
    """
    shutil.copytree(data_dir, output_dir)
    manifest = read_json(output_dir / "manifest.json")
    for entry in manifest["recordings"]:
        entry |= {"faces_found": faces.get(entry["name"], entry["frames"])} | changes.get(entry["name"], {})
    write_json(output_dir / "manifest.json", manifest)
    return output_dir
