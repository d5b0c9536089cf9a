"""The figure of the analysis: LSTM activations drawn over the prosody that they follow."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

_FEATURE_COLOUR, _ACTIVATION_COLOUR = "#9a9a9a", "#c0392b"


@dataclass(frozen=True)
class Row:
    """What one row of the figure shows.

    Attributes:
      feature: name of the feature.
      activation: name of the activation.
      pearson: their correlation in this recording; a negative one is drawn with the sign of the activation reversed.
      feature_values: [frames], of the whole recording; NaN where there is no value.
      activation_values: [frames].
    """

    feature: str
    activation: str
    pearson: float
    feature_values: np.ndarray
    activation_values: np.ndarray


def activations_over_prosody(rows: list[Row], frame_rate_hz: float, seconds: float, title: str) -> Figure:
    """Draws features and activations over the same seconds, each with mean 0 and deviation 1 in the whole recording.

    Args:
      rows: one per feature, of the same recording.
      frame_rate_hz: frame rate of all of them.
      seconds: how much of the recording to show, from its beginning.
      title: shown above the figure.
    """
    figure = Figure(figsize=(9, 1.6 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for plot, row in zip(axes, rows, strict=True):
        sign = -1.0 if row.pearson < 0.0 else 1.0
        shown = slice(0, round(seconds * frame_rate_hz))
        time = (np.arange(len(row.feature_values)) + 1)[shown] / frame_rate_hz
        plot.plot(time, _standard(row.feature_values)[shown], color=_FEATURE_COLOUR, linewidth=2.5, label=row.feature)
        label = f"{row.activation}{', sign reversed' if sign < 0 else ''} (r {row.pearson:+.2f})"
        activation = sign * _standard(row.activation_values)[shown]
        plot.plot(time, activation, color=_ACTIVATION_COLOUR, linewidth=1.2, label=label)
        plot.set_yticks([])
        plot.grid(alpha=0.3)
        plot.legend(loc="upper right", fontsize=8, ncols=2)
    axes[0].set_title(title, fontsize=10)
    axes[-1].set_xlabel("seconds")
    return figure


def _standard(values: np.ndarray) -> np.ndarray:
    std = np.nanstd(values)
    return (values - np.nanmean(values)) / (std if std > 0.0 else 1.0)
