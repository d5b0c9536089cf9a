"""The paper's question for one partition: is end-to-end learning better than handcrafted features?

Evaluated systems flow in (`affect.evaluation.reporting.comparison`). The best run of each modality, chosen on dev, is
compared with the handcrafted system of the same modality on the same recordings. What flows out: their CCCs, the
difference with its interval over recordings and the p-value of the sign-flip test, and one sentence that says what
these numbers show and what they cannot show.
"""

from dataclasses import dataclass
from typing import NamedTuple

from affect.config import DIMENSIONS, MODALITIES
from affect.errors import UserError
from affect.evaluation.intervals import PairedComparison, PairedDifference, compare_predictions
from affect.evaluation.reporting.comparison import Comparison, Synthetic, System, is_recola, which_are_synthetic
from affect.evaluation.scores import DimensionScores

SYNTHETIC_CAVEAT = "this corpus proves that the machinery works and not the paper's claim"
REAL_CAVEAT = "other corpora, other handcrafted features and other seeds of the training remain open"


class Reported(NamedTuple):
    """CCCs that others reported for RECOLA, as text; they are quoted and not computed here.

    Attributes:
      paper: Tzirakis et al. 2017, quoted from memory and not verified.
      avec: the AVEC 2016 baseline, Valstar et al. 2016, table 6. Video: appearance / geometric, which it does not fuse;
        audiovisual: its fusion of eight modalities, ECG and EDA among them.
    """

    paper: str
    avec: str


# As reported; the keys are partition, modality and dimension.
REPORTED = {
    ("test", "audio", "arousal"): Reported("~.715", ".648"),
    ("test", "audio", "valence"): Reported("~.369", ".375"),
    ("test", "video", "arousal"): Reported("~.435", ".343 / .272"),
    ("test", "video", "valence"): Reported("~.620", ".486 / .507"),
    ("test", "audiovisual", "arousal"): Reported("~.714", ".683"),
    ("test", "audiovisual", "valence"): Reported("~.612", ".639"),
    ("dev", "audio", "arousal"): Reported("~.786", ".796"),
    ("dev", "audio", "valence"): Reported("~.428", ".455"),
    ("dev", "video", "arousal"): Reported("~.371", ".483 / .379"),
    ("dev", "video", "valence"): Reported("~.637", ".474 / .612"),
    ("dev", "audiovisual", "arousal"): Reported("~.731", ".821"),
    ("dev", "audiovisual", "valence"): Reported("~.502", ".683"),
}


@dataclass(frozen=True)
class Contest:
    """One modality and one dimension.

    Attributes:
      modality, dimension: what is predicted from what.
      end_to_end, handcrafted: the scores after the chosen post-processing; None if no such system was evaluated.
      comparison: end-to-end minus handcrafted; None where the two may not be compared.
      reported: what others reported; None if the corpus is not RECOLA.
    """

    modality: str
    dimension: str
    end_to_end: DimensionScores | None
    handcrafted: DimensionScores | None
    comparison: PairedComparison | None
    reported: Reported | None

    @property
    def sign(self) -> int | None:
        """1 or -1 if the pooled difference's interval is above or below 0, 0 if it includes 0, None without one."""
        interval = None if self.comparison is None else self.comparison.pooled.ci95
        if interval is None:
            return None
        return 1 if interval[0] > 0.0 else -1 if interval[1] < 0.0 else 0


@dataclass(frozen=True)
class Answer:
    """The answer for one partition.

    Attributes:
      partition: its name.
      recordings: number of its labelled recordings; a system may have predicted fewer.
      synthetic: whether its scores come from synthetic data.
      systems: the systems to compare, by modality; end-to-end first.
      contests: modality by modality; those in which a system has a score.
      refusals: why systems are not compared.
      sentence: what the numbers show and what they cannot show.
    """

    partition: str
    recordings: int
    synthetic: Synthetic
    systems: dict[str, tuple[System | None, System | None]]
    contests: list[Contest]
    refusals: list[str]
    sentence: str

    @property
    def differences(self) -> list[tuple[Contest, PairedDifference]]:
        """The contests in which two systems were compared, with the difference of their pooled CCCs."""
        return [(contest, contest.comparison.pooled) for contest in self.contests if contest.comparison]

    @property
    def exact(self) -> bool:
        """Whether all p-values are exact; with many recordings only a random sample of the flips is counted."""
        return all(difference.exact for _, difference in self.differences)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that the sign-flip test can give, in the comparison with the fewest recordings."""
        recordings = min((difference.recordings for _, difference in self.differences), default=self.recordings)
        return 2.0 / 2.0 ** min(recordings, 1000)


def answer(comparison: Comparison) -> Answer:
    """Answers the question on the last partition with scores; there must be one."""
    partition = comparison.partition
    table = comparison.tables[partition]
    systems, contests, refusals = {}, [], []
    for modality in MODALITIES:
        first, second = (comparison.best(kind, modality, partition) for kind in ("end-to-end", "handcrafted"))
        if first is None and second is None:
            continue
        better = comparison.best("end-to-end", modality)
        if better is not None and better is not first:
            refusals.append(
                f"{better.name} is the best {modality} run on dev, but has no scores on {partition}; run "
                f"eval.py --partitions=dev,{partition} on it"
            )
        systems[modality] = (first, second)
        differences, refusal = _differences(first, second, partition)
        refusals += [refusal] if refusal else []
        for dimension in DIMENSIONS:
            scores = [system and system.scores[partition].headline()[dimension] for system in (first, second)]
            recola = all(is_recola(system.scores[partition]) for system in (first, second) if system)
            reported = REPORTED.get((partition, modality, dimension)) if recola else None
            contests.append(Contest(modality, dimension, scores[0], scores[1], differences.get(dimension), reported))
    synthetic = which_are_synthetic(list(table.values()))
    recordings = max(metrics.recordings for metrics in table.values())
    has_baseline = any(handcrafted for _, handcrafted in systems.values())
    sentence = _sentence(partition, recordings, synthetic, contests, has_baseline)
    return Answer(partition, recordings, synthetic, systems, contests, refusals, sentence)


def _differences(
    end_to_end: System | None, handcrafted: System | None, partition: str
) -> tuple[dict[str, PairedComparison], str]:
    """Returns the comparison of two systems by dimension, or the reason why they are not compared."""
    if end_to_end is None or handcrafted is None:
        return {}, ""
    names = f"{end_to_end.name} and {handcrafted.name} are not compared"
    digests, others = (system.scores[partition].digests for system in (end_to_end, handcrafted))
    if digests and others and digests.data != others.data:
        return {}, f"{names}: they were scored on different data; evaluate both on the same shards"
    first, second = end_to_end.headline(partition), handcrafted.headline(partition)
    if not first or not second:
        return {}, f"{names}: predictions.h5 is missing; evaluate both with this version"
    if {one.recording for one in first} != {one.recording for one in second}:
        return {}, f"{names}: they were scored on different recordings"
    try:
        return compare_predictions(first, second), ""
    except UserError as error:
        return {}, f"{names}: {error}"


def _sentence(
    partition: str, recordings: int, synthetic: Synthetic, contests: list[Contest], has_baseline: bool
) -> str:
    """Returns the sentence of the answer, which follows from the numbers alone."""
    where = (
        f"On the {recordings} recordings of {partition}" if recordings != 1 else f"On the only recording of {partition}"
    )
    limits = REAL_CAVEAT if synthetic == "none" else SYNTHETIC_CAVEAT
    compared = [contest for contest in contests if contest.comparison is not None]
    if not compared:
        why = "end-to-end and handcrafted systems could not be compared" if has_baseline else (
            "there is no handcrafted system to compare with (--baseline)"
        )  # fmt: skip
        return f"{where}, {why}; {limits}."
    decided = [contest for contest in compared if contest.sign is not None]
    if not decided:
        return f"{where}, no interval can be given, because there are too few recordings; {limits}."
    higher, lower, open_ = ([contest for contest in decided if contest.sign == sign] for sign in (1, -1, 0))
    findings = [
        f"{word} for {_listed(contests)}" for word, contests in (("higher", higher), ("lower", lower)) if contests
    ]
    if not findings:
        return (
            f"{where}, no difference between end-to-end learning and the handcrafted systems is clear "
            f"(the 95 % intervals of all {len(open_)} include 0); {limits}."
        )
    unclear = f"; {len(open_)} of {len(decided)} include{'s' if len(open_) == 1 else ''} it" if open_ else ""
    return (
        f"{where}, end-to-end learning scores {', and '.join(findings)} than the handcrafted system "
        f"(95 % intervals exclude 0{unclear}); {limits}."
    )


def _listed(contests: list[Contest]) -> str:
    """Returns contests as text, for instance "video valence, and audiovisual arousal and valence"."""
    by_modality: dict[str, list[str]] = {}
    for contest in contests:
        by_modality.setdefault(contest.modality, []).append(contest.dimension)
    names = [f"{modality} {' and '.join(dimensions)}" for modality, dimensions in by_modality.items()]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"
