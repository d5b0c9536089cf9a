"""The handcrafted systems: one per feature set, and their late fusions.

A system predicts arousal and valence of the recordings of dev and test, as curves of two kinds:

    raw    the regression's output on the unshifted time axis; for a fusion, the weighted sum of its inputs
    avec   the same after AVEC's own chain (`chain`); delay and complexity were chosen by its CCC on dev

A fusion takes the "avec" curves of its feature sets, is fitted on dev, and gets a chain of its own. The systems are

    audio        the audio features                video        both sets from video, fused
    appearance   the appearance of the face        audiovisual  all three sets, fused
    geometric    the box of the face               trivial      loudness and brightness, see `trivial`
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from affect.config import DIMENSIONS, PARTITIONS
from affect.data.manifest import Manifest, RecordingEntry
from affect.errors import UserError
from affect.evaluation.avec2016.chain import AvecChain, fit_avec_chain
from affect.evaluation.avec2016.feature_sets import FeatureFiles, FeatureSet, RecordingFeatures, Source
from affect.evaluation.avec2016.fusion import LateFusion, fit_fusion, side_by_side
from affect.evaluation.avec2016.protocol import Choice, Grid, Standardisation, fit_regression, standardise
from affect.evaluation.chain import delay
from affect.evaluation.curves import Curves, Prediction

PREDICTED = ("dev", "test")
TRIVIAL = "trivial"
TITLES = {
    "audio": "handcrafted audio",
    "appearance": "handcrafted appearance",
    "geometric": "handcrafted geometry",
    "video": "handcrafted video",
    "audiovisual": "handcrafted audiovisual",
    TRIVIAL: "loudness and brightness",
}
FUSIONS = {"video": ("appearance", "geometric"), "audiovisual": ("audio", "appearance", "geometric")}


class DimensionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How one dimension of a system was made; which fields are set depends on the kind of system.

    Attributes:
      table: name of the feature table.
      columns: its number of columns.
      standardisation: whose mean and deviation standardise it.
      choice: delay, complexity and chain that dev chose.
      fusion: weights of a late fusion.
      chain: AVEC's chain after the fusion.
    """

    table: str | None = None
    columns: int | None = None
    standardisation: Standardisation | None = None
    choice: Choice | None = None
    fusion: LateFusion | None = None
    chain: AvecChain | None = None


class SystemSummary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a system's `system.json`.

    Attributes:
      name: name of its folder.
      title: its name in tables.
      feature_sets: the sets that it uses; empty for the trivial one.
      source: by feature set: "corpus" for AVEC's own tables in the shards, "ours" for those computed from the shards.
      sees: whether it uses the video.
      dimensions: see `DimensionSummary`.
    """

    name: str
    title: str
    feature_sets: tuple[str, ...]
    source: dict[str, Source]
    sees: bool
    dimensions: dict[str, DimensionSummary]


Signals = dict[str, np.ndarray]  # [frames] by recording


@dataclass(frozen=True)
class FittedDimension:
    """One dimension of a system: how it was made, and its curves for the recordings of dev and test that it predicts.

    Attributes:
      summary: see `DimensionSummary`.
      raw: see the module.
      avec: see the module; None for the trivial system.
      measured: bool [frames] by recording; False where the features of a set are interpolated. Empty for fusions.
    """

    summary: DimensionSummary
    raw: Signals
    avec: Signals | None
    measured: Signals


@dataclass(frozen=True)
class System:
    """A system and what it predicts; attributes as in `SystemSummary`."""

    name: str
    feature_sets: tuple[str, ...]
    source: dict[str, Source]
    sees: bool
    dimensions: dict[str, FittedDimension]

    def summary(self) -> SystemSummary:
        """Returns what `system.json` says."""
        return SystemSummary(
            name=self.name,
            title=TITLES[self.name],
            feature_sets=self.feature_sets,
            source=self.source,
            sees=self.sees,
            dimensions={dimension: fitted.summary for dimension, fitted in self.dimensions.items()},
        )

    def entries(self, entries: Sequence[RecordingEntry]) -> list[RecordingEntry]:
        """Returns those of the given recordings that the system predicts."""
        return [entry for entry in entries if entry.name in self.dimensions[DIMENSIONS[0]].raw]

    def curves(self, entries: Sequence[RecordingEntry], gold: Signals) -> Curves:
        """Returns the curves of some recordings by kind; `gold` is [frames, 2] by recording, where known."""
        kinds = {"raw": [self.dimensions[name].raw for name in DIMENSIONS]}
        avec = [fitted.avec for fitted in self.dimensions.values() if fitted.avec is not None]
        if avec:
            kinds["avec"] = avec
        return {
            kind: [
                Prediction(
                    entry.name, np.stack([signals[entry.name] for signals in columns], axis=1), gold.get(entry.name)
                )
                for entry in self.entries(entries)
            ]
            for kind, columns in kinds.items()
        }


def feature_set_system(
    feature_set: FeatureSet, source: Source, files: FeatureFiles, gold: Signals, grid: Grid, processes: int = 1
) -> System:
    """Trains the regressions of one feature set.

    Args:
      feature_set: a set whose modality occurs in labelled recordings of both train and dev.
      source: whether to take AVEC's tables or ours.
      files: where the tables are.
      gold: [frames, 2] by recording; recordings without labels are missing.
      grid: delays and complexities to try.
      processes: see `affect.evaluation.avec2016.protocol.fit_regression`.

    Raises:
      UserError: a table cannot be read, or its columns differ between recordings.
    """
    dimensions = {}
    for axis, dimension in enumerate(DIMENSIONS):
        tables = _read_tables(feature_set, source, files, dimension, gold)
        column = {name: both[:, axis] for name, both in gold.items()}
        dimensions[dimension] = _fit_feature_set(
            feature_set.table(source, dimension), tables, files.manifest, column,
            feature_set.standardisation(dimension), grid, processes,
        )  # fmt: skip
    sources: dict[str, Source] = {feature_set.name: source}
    return System(feature_set.name, (feature_set.name,), sources, feature_set.modality == "video", dimensions)


def fused_system(name: str, parts: Sequence[System], manifest: Manifest, gold: Signals) -> System:
    """Fuses the systems of single feature sets by a linear regression that is fitted on dev.

    Args:
      name: name of the fused system.
      parts: the systems to fuse.
      manifest: the data folder's.
      gold: [frames, 2] by recording; recordings without labels are missing.
    """
    dimensions = {}
    for axis, dimension in enumerate(DIMENSIONS):
        fitted = {part.name: part.dimensions[dimension] for part in parts}
        dimensions[dimension] = _fuse(fitted, manifest, {at: both[:, axis] for at, both in gold.items()})
    source: dict[str, Source] = {set_name: origin for part in parts for set_name, origin in part.source.items()}
    return System(name, tuple(source), source, any(part.sees for part in parts), dimensions)


def _read_tables(
    feature_set: FeatureSet, source: Source, files: FeatureFiles, dimension: str, gold: Signals
) -> dict[str, RecordingFeatures]:
    """Returns the tables of dev, test and those recordings of train that have labels, by recording."""
    entries = [
        entry
        for entry in feature_set.recordings(files.manifest.recordings)
        if entry.partition != "train" or entry.name in gold
    ]
    tables = {entry.name: files.read(feature_set, source, dimension, entry) for entry in entries}
    first = next(iter(tables))
    for name, table in tables.items():
        if table.columns != tables[first].columns:
            raise UserError(
                f"recording {name}: its table {feature_set.table(source, dimension)} has other columns than that of "
                f"{first}; make the features of all recordings with the same settings"
            )
    return tables


def _fit_feature_set(
    table: str,
    tables: dict[str, RecordingFeatures],
    manifest: Manifest,
    gold: Signals,
    standardisation: Standardisation,
    grid: Grid,
    processes: int,
) -> FittedDimension:
    """Trains the regression of one feature set and one dimension.

    Args:
      table: name of the tables.
      tables: by recording.
      manifest: the data folder's.
      gold: [frames] of the dimension by recording.
      standardisation: whose mean and deviation standardise the features.
      grid: delays and complexities to try.
      processes: see `affect.evaluation.avec2016.protocol.fit_regression`.
    """
    names = {
        partition: [entry.name for entry in manifest.partition(partition) if entry.name in tables]
        for partition in PARTITIONS
    }
    features = standardise({name: one.values for name, one in tables.items()}, names["train"], standardisation)
    labelled = {partition: [name for name in names[partition] if name in gold] for partition in ("train", "dev")}
    regression, choice = fit_regression(
        {partition: [features[name] for name in some] for partition, some in labelled.items()},
        {partition: [gold[name] for name in some] for partition, some in labelled.items()},
        grid,
        manifest.frame_rate_hz,
        processes,
    )
    early = {name: regression.predict(features[name]) for partition in PREDICTED for name in names[partition]}

    def forward(signals: Signals) -> Signals:
        return {name: delay(signal, choice.delay_frames) for name, signal in signals.items()}

    return FittedDimension(
        DimensionSummary(table=table, columns=len(regression.weights), standardisation=standardisation, choice=choice),
        raw=forward(early),
        avec=forward(_post_processed(choice.chain, early, manifest)),
        # What is predicted at a time comes from features of the delay before it.
        measured=forward({name: tables[name].measured for name in early}),
    )


def _fuse(parts: dict[str, FittedDimension], manifest: Manifest, gold: Signals) -> FittedDimension:
    """Fuses one dimension; `gold` is [frames] by recording."""
    names, pairs = tuple(parts), {}
    for entry in (entry for partition in PREDICTED for entry in manifest.partition(partition)):
        curves = {name: part.avec[entry.name] for name, part in parts.items() if part.avec and entry.name in part.avec}
        if curves:
            measured = {name: parts[name].measured[entry.name] for name in curves}
            pairs[entry.name] = side_by_side(curves, measured, names, entry.frames)
    dev = [entry.name for entry in manifest.partition("dev") if entry.name in pairs and entry.name in gold]
    predicted, present = (np.concatenate(both) for both in zip(*(pairs[name] for name in dev), strict=True))
    fusion = fit_fusion(names, predicted, present, np.concatenate([gold[name] for name in dev]))
    raw = {name: fusion.apply(*pair) for name, pair in pairs.items()}
    chain, _ = fit_avec_chain([gold[name] for name in dev], [raw[name] for name in dev], manifest.frame_rate_hz)
    return FittedDimension(DimensionSummary(fusion=fusion, chain=chain), raw, _post_processed(chain, raw, manifest), {})


def _post_processed(chain: AvecChain, signals: Signals, manifest: Manifest) -> Signals:
    """Applies AVEC's chain to each partition as a whole."""
    processed = {}
    for partition in PREDICTED:
        names = [entry.name for entry in manifest.partition(partition) if entry.name in signals]
        if names:
            processed |= zip(names, chain.apply([signals[name] for name in names]), strict=True)
    return processed
