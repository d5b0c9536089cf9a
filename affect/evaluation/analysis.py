r"""Shows which gates and cells of a network's LSTMs follow prosody, and what its first audio filters have learnt.

    runs/audio/analysis/
      analysis.h5       <recording>/<layer>/{input,forget,candidate,output,cell}, float32 [frames, units], and
                        <recording>/prosody/{rms_energy,rms_range,loudness,f0}, float32 [frames], and
                        correlations/{activations,rms_energy,...}, of every activation with every feature
      analysis.json     the best activations per feature, their correlations per recording, and two controls
      activations.png   the best activation of each feature over the same seconds of the first recording
      filters.png       the filters of the first audio convolution, sorted by centre frequency
      analysis.html     the table and both pictures in one file

Correlations with prosody need librosa (pip install "affect[baseline]") and the sound of the recordings, even if the
network takes only video. The paper reports such correlations in its section on gate activations.

Activations are computed and written in constant memory. The sound of one recording at a time is in memory, which takes
about 12 MiB per minute of sound.

Example:
  python -m affect.evaluation.analysis --run_dir=runs/audio --output_dir=runs/audio/analysis
"""

from pathlib import Path

import h5py
import keras
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from affect import cli, figures
from affect.config import PARTITIONS, Experiment
from affect.data.dataset import open_data
from affect.data.manifest import Manifest, RecordingEntry
from affect.data.shard_check import shard_errors
from affect.errors import UserError
from affect.evaluation.descriptors.acoustic import acoustic_source
from affect.evaluation.introspection.activations import activation_recorder, written
from affect.evaluation.introspection.correlations import (
    Correlations,
    FeatureCorrelations,
    best_per_feature,
    correlations,
)
from affect.evaluation.introspection.figures import Row, activations_over_prosody
from affect.evaluation.introspection.prosody import FEATURES, read_prosody
from affect.evaluation.introspection.results import Analysis, as_html, as_text
from affect.models.network import build_network
from affect.models.trained import TrainedNetwork
from affect.runs import RunFolder
from affect.storage import atomic_write, check_replaceable, encode_json, local_folder

_JSON_NAME = "analysis.json"
_SHOWN_SECS = 20.0


def analyse(
    run_dir: Path,
    output_dir: Path,
    partition: str = "dev",
    data_dir: str | None = None,
    max_recordings: int | None = None,
    untrained: bool = True,
) -> Analysis:
    """Analyses a trained run and writes the folder described above.

    Args:
      run_dir: the run folder.
      output_dir: folder to write; an earlier analysis is replaced.
      partition: whose recordings to analyse; they need no labels.
      data_dir: folder of the shards; None takes that of the training.
      max_recordings: analyses only this many recordings, the first ones of the partition; None analyses all.
      untrained: whether to compute the control with random weights, which doubles the time.

    Raises:
      UserError: the run or its data does not exist, the partition is empty, librosa is missing, or the output folder
        holds other files.
    """
    prosody_by = acoustic_source()
    weights = RunFolder(run_dir).best_weights_digest()
    trained = TrainedNetwork.load(run_dir)
    experiment = trained.run.read_config(data_dir)
    manifest = open_data(experiment, [partition])
    entries = manifest.partition(partition)[:max_recordings]
    if not entries:
        raise UserError(f"{experiment.data.data_dir} has no recordings in partition {partition}")
    keep = {"the run folder": run_dir, "the data folder": experiment.data.data_dir}
    target = check_replaceable(output_dir, _JSON_NAME, Analysis, keep)

    with atomic_write(target) as folder, shard_errors(experiment.data.data_dir, manifest, {partition}):
        folder.mkdir()
        sound = [entry for entry in entries if entry.has_audio]
        prosody = [read_prosody(experiment.data.data_dir, manifest, entry) for entry in sound]
        with h5py.File(folder / "analysis.h5", "w") as file:
            _write_prosody(file, manifest, sound, prosody)
            found = _correlate(trained.network, experiment, manifest, entries, prosody, file)
            if found is not None:
                _write_correlations(file, found)
            control = None
            if untrained and found is not None:
                keras.utils.set_random_seed(experiment.train.seed)
                random = build_network(experiment.model, experiment.modality)
                control = _correlate(random, experiment, manifest, sound, prosody)
            names = [entry.name for entry in sound]
            best = best_per_feature(found, control, names, FEATURES) if found is not None else {}
            pictures = _pictures(file, best, trained.network, manifest, names)
        analysis = Analysis(
            weights=weights,
            data=manifest.fingerprint(),
            synthetic=manifest.synthetic or trained.run.uses_synthetic_data(),
            partition=partition,
            recordings=names,
            activations=len(found.units) if found is not None else 0,
            pairings=found.r.shape[1] - 1 if found is not None else 0,
            prosody_by=prosody_by,
            features=best,
            filter_centres_hz=_filter_centres(trained.network, manifest),
            remarks=_remarks(entries, sound),
        )
        (folder / _JSON_NAME).write_text(encode_json(analysis), encoding="utf-8")
        for name, figure in pictures.items():
            (folder / f"{name}.png").write_bytes(figures.to_png(figure))
        page = as_html(analysis, run_dir.resolve().name, pictures)
        (folder / "analysis.html").write_text(page, encoding="utf-8")
    return analysis


def _correlate(
    network: keras.Model,
    experiment: Experiment,
    manifest: Manifest,
    entries: list[RecordingEntry],
    prosody: list[np.ndarray],
    file: h5py.File | None = None,
) -> Correlations | None:
    """Returns the correlations of the recordings that have sound; None if none of them has.

    Args:
      network: the network.
      experiment: its experiment.
      manifest: manifest of the data folder.
      entries: the recordings.
      prosody: one array for each recording that has sound.
      file: where to write the activations of all recordings; None does not write them.
    """
    record = activation_recorder(network, experiment, manifest)

    def chunks(entry: RecordingEntry):
        return record(entry) if file is None else written(record(entry), file.require_group(entry.name), entry.frames)

    for entry in entries:
        if not entry.has_audio:
            for _ in chunks(entry):
                pass
    sound = [entry for entry in entries if entry.has_audio]
    return correlations(((entry.frames, chunks(entry)) for entry in sound), prosody) if sound else None


def _write_correlations(file: h5py.File, found: Correlations) -> None:
    """Writes the correlation of every activation with every feature, not only of the best ones."""
    group = file.create_group("correlations")
    units = np.array(["/".join(map(str, unit)).encode() for unit in found.units])
    group.create_dataset("activations", data=units, track_times=False)
    for name, r in zip(FEATURES, found.pooled()[0], strict=True):
        group.create_dataset(name, data=r.astype(np.float32), track_times=False)


def _write_prosody(
    file: h5py.File, manifest: Manifest, entries: list[RecordingEntry], prosody: list[np.ndarray]
) -> None:  # fmt: skip
    file.attrs["frame_rate_hz"] = manifest.frame_rate_hz
    for entry, values in zip(entries, prosody, strict=True):
        for name, column in zip(FEATURES, values.T, strict=True):
            file.create_dataset(f"{entry.name}/prosody/{name}", data=column.astype(np.float32), track_times=False)


def _pictures(
    file: h5py.File,
    best: dict[str, FeatureCorrelations],
    network: keras.Model,
    manifest: Manifest,
    names: list[str],
) -> dict[str, Figure]:
    """Returns the figures by the names of their files; activations are drawn for the first recording only."""
    pictures, rows = {}, []
    for feature, found in best.items():
        if found.best and names[0] in found.best[0].per_recording:
            unit = found.best[0]
            activation = file[f"{names[0]}/{unit.layer}/{unit.gate}"][:, unit.unit]
            values = file[f"{names[0]}/prosody/{feature}"][:]
            rows.append(Row(feature, unit.name, unit.per_recording[names[0]], values, activation))
    if rows:
        pictures["activations"] = activations_over_prosody(rows, manifest.frame_rate_hz, _SHOWN_SECS, names[0])
    kernel = _first_kernel(network)
    if kernel is not None:
        pictures["filters"] = figures.filter_responses(kernel, manifest.sample_rate_hz)
    return pictures


def _first_kernel(network: keras.Model) -> np.ndarray | None:
    """Returns the filters of the first audio convolution, [taps, filters]; None for networks without audio."""
    if "audio" not in network.input:
        return None
    return keras.ops.convert_to_numpy(network.get_layer("audio_net").get_layer("conv1").kernel)[:, 0]


def _filter_centres(network: keras.Model, manifest: Manifest) -> list[float]:
    kernel = _first_kernel(network)
    return [] if kernel is None else figures.centre_frequencies(kernel, manifest.sample_rate_hz).tolist()


def _remarks(entries: list[RecordingEntry], sound: list[RecordingEntry]) -> list[str]:
    remarks = []
    without = [entry.name for entry in entries if not entry.has_audio]
    if without:
        remarks.append(f"no sound, so left out of the correlations: {', '.join(without)}")
    if len(sound) == 1:
        remarks.append("a single recording has sound: there is no control with other recordings")
    return remarks


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_string("run_dir", None, "Folder of a trained run.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder to write; an earlier analysis in it is replaced.", required=True)
    flags.DEFINE_enum("partition", "dev", PARTITIONS, "Partition to analyse; it needs no labels.")
    flags.DEFINE_string(
        "data_dir", None,
        "Folder of the shards; the default is that of the training. May be s3://, http:// or gs://.",
    )  # fmt: skip
    flags.DEFINE_integer(
        "max_recordings", None, "Number of recordings to analyse, from the first on; the default is all.", lower_bound=1
    )
    flags.DEFINE_bool("untrained", True, "Also analyse the network with random weights, as a control.")


def main() -> None:
    """Analyses the run that the flags name, and prints the table."""
    args = flags.FLAGS
    analysis = analyse(
        local_folder(args.run_dir, "run_dir"),
        local_folder(args.output_dir, "output_dir"),
        args.partition,
        args.data_dir,
        args.max_recordings,
        args.untrained,
    )
    print(as_text(analysis))
    print(f"analysis: {args.output_dir}/analysis.html")


def command() -> None:
    """Runs the command line."""
    cli.run(main, define_flags)


if __name__ == "__main__":
    command()
