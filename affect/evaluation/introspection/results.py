"""The results of an analysis: the content of `analysis.json`, and their form as text and as a page."""

import base64

import jinja2
import msgspec
from matplotlib.figure import Figure

from affect import figures
from affect.evaluation.introspection.correlations import FeatureCorrelations


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `analysis.json`.

    Attributes:
      weights: SHA-256 of the run's best weights.
      data: fingerprint of the data.
      synthetic: whether network or data come from the synthetic corpus.
      partition: the partition that was analysed.
      recordings: its recordings that have sound, in order; the correlations are computed from these.
      activations: number of activations from which the best were chosen.
      pairings: number of pairings with other recordings in the control.
      prosody_by: what computed loudness and F0, with its version.
      features: the correlations by feature.
      filter_centres_hz: centre frequencies of the first convolution's filters, in the order of the weights; empty for
        networks without audio.
      remarks: what a reader of the numbers should know.
    """

    weights: str | None
    data: str
    synthetic: bool
    partition: str
    recordings: list[str]
    activations: int
    pairings: int
    prosody_by: str
    features: dict[str, FeatureCorrelations]
    filter_centres_hz: list[float]
    remarks: list[str]


def as_text(analysis: Analysis) -> str:
    """Returns a plain-text table of the best activation per feature and of the controls."""
    corpus = "SYNTHETIC corpus, " if analysis.synthetic else ""
    lines = [
        f"{corpus}{analysis.partition}, {len(analysis.recordings)} recordings: Pearson correlation within a recording, "
        f"best of {analysis.activations} activations",
        f"  {'feature':<12}{'activation':<22}{'r':>7}  {'per recording':<16}{'other recordings':>17}{'untrained':>11}",
    ]
    for feature, found in analysis.features.items():
        if not found.best:
            lines.append(f"  {feature:<12}no recording has a value that varies")
            continue
        unit, (other, untrained) = found.best[0], map(_number, (found.other_recordings, found.untrained))
        low, high = min(unit.per_recording.values()), max(unit.per_recording.values())
        spread = f"{low:+.2f} to {high:+.2f}"
        lines.append(f"  {feature:<12}{unit.name:<22}{unit.pearson:>+7.3f}  {spread:<16}{other:>17}{untrained:>11}")
    return "\n".join([*lines, *analysis.remarks])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def as_html(analysis: Analysis, name: str, pictures: dict[str, Figure]) -> str:
    """Returns the table and the pictures as a page that loads no other files.

    Args:
      analysis: the numbers.
      name: name of the run.
      pictures: figures by name: "activations" and "filters", where they exist.
    """
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("affect.evaluation.introspection", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("analysis.html.j2")
    titles = {
        "activations": "The best activations over the prosody that they follow",
        "filters": "Filters of the first convolution, sorted by centre frequency",
    }
    shown = [
        {"title": titles[key], "png": base64.b64encode(figures.to_png(figure)).decode()}
        for key, figure in pictures.items()
    ]
    return template.render(analysis=analysis, name=name, pictures=shown)
