"""The captions of every picture of a curve, and the plot of `affect.serving.predict`."""

from matplotlib.figure import Figure

from affect.serving.curve_figure import prediction_and_path
from affect.serving.prediction import Curve
from affect.serving.wording import MEANING, SYNTHETIC

RAW = "The curves are raw: they are not post-processed."


def plot_curve(curve: Curve) -> Figure:
    """Draws a curve over time and in the arousal-valence plane, with the remarks on its recording."""
    warning, notes = captions(curve)
    remarks = [f"Remark: {remark}" for remark in curve.remarks if remark != SYNTHETIC]
    return prediction_and_path(
        curve.times_secs, curve.predicted, curve.found, curve.source, [*notes, *remarks], warning
    )


def captions(curve: Curve) -> tuple[str, list[str]]:
    """Returns the warning for a model of synthetic data ("" for others), and notes on what the numbers mean."""
    return SYNTHETIC if curve.contract.synthetic else "", [MEANING] if curve.postprocessed else [MEANING, RAW]
