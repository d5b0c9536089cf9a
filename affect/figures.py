"""The figures of TensorBoard, the report and the analysis, with matplotlib."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

INK, _GRID_COLOUR = "#24292e", "#c8cdd2"
_GOLD_COLOUR, PREDICTED_COLOUR, _RAW_COLOUR = "#8c9299", "#c0392b", "#7aa6c9"
# In a page, text takes the colour of its surroundings; curves take colours of the page's style sheet, if it has any.
_PAGE_COLOURS = {
    INK: "currentColor",
    _GRID_COLOUR: f"var(--figure-grid, {_GRID_COLOUR})",
    _GOLD_COLOUR: f"var(--figure-gold, {_GOLD_COLOUR})",
    PREDICTED_COLOUR: f"var(--figure-predicted, {PREDICTED_COLOUR})",
    _RAW_COLOUR: f"var(--figure-raw, {_RAW_COLOUR})",
}
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _GRID_COLOUR),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    # Names of recordings may hold a dollar sign, which would start a formula.
    "text.parse_math": False,
    "font.size": 9.0,
}


@matplotlib.rc_context(STYLE)
def prediction_over_gold(
    predicted: np.ndarray,
    gold: np.ndarray | None,
    frame_rate_hz: float,
    dimensions: Sequence[str],
    title: str = "",
    raw: np.ndarray | None = None,
) -> Figure:
    """Draws a prediction over the gold standard, one row per dimension.

    Args:
      predicted: [frames, dimensions].
      gold: the same shape, or None if it is not known.
      frame_rate_hz: frame rate of both.
      dimensions: names of the dimensions.
      title: shown above the figure.
      raw: the same shape; the prediction before post-processing, drawn behind the other curve. None draws none.
    """
    figure = Figure(figsize=(9, 1.6 * len(dimensions) + 0.5), layout="constrained")
    axes = figure.subplots(len(dimensions), 1, sharex=True, squeeze=False)[:, 0]
    seconds = (np.arange(len(predicted)) + 1) / frame_rate_hz
    label = "prediction" if raw is None else "post-processed"
    for axis, (plot, name) in enumerate(zip(axes, dimensions, strict=True)):
        if gold is not None:
            plot.plot(seconds, gold[:, axis], color=_GOLD_COLOUR, linewidth=2.5, label="gold standard")
        if raw is not None:
            plot.plot(seconds, raw[:, axis], color=_RAW_COLOUR, linewidth=0.8, label="raw")
        plot.plot(seconds, predicted[:, axis], color=PREDICTED_COLOUR, linewidth=1.3, label=label)
        plot.set_ylabel(name)
        plot.set_ylim(-1.0, 1.0)
        plot.margins(x=0.01)
        plot.grid(alpha=0.5)
    axes[0].set_title(title, fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", fontsize=8, ncols=3)
    axes[-1].set_xlabel("seconds")
    return figure


@matplotlib.rc_context(STYLE)
def training_curves(log: Mapping[str, Sequence[float]]) -> Figure:
    """Draws loss and CCCs over the epochs; train is dashed, dev is solid.

    Args:
      log: columns of a run's training.csv: `loss`, `ccc_arousal`, `ccc_valence`, and the same with `val_` for dev.
    """
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    plots = figure.subplots(1, 3)
    for plot, name in zip(plots, ("loss", "ccc_arousal", "ccc_valence"), strict=True):
        epochs = np.arange(len(log[name])) + 1
        mark = "o" if len(epochs) == 1 else ""  # a single epoch would draw no line
        plot.plot(epochs, log[name], "--", marker=mark, markersize=4, color=_GOLD_COLOUR, label="train")
        plot.plot(epochs, log[f"val_{name}"], marker=mark, markersize=4, color=PREDICTED_COLOUR, label="dev")
        plot.set_title({"loss": "loss"}.get(name, name.replace("ccc_", "CCC, ")), fontsize=9)
        plot.set_xlabel("epoch")
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.grid(alpha=0.5)
    plots[0].legend(fontsize=8)
    return figure


@matplotlib.rc_context(STYLE)
def differences(
    names: Sequence[str], values: Sequence[float], intervals: Sequence[tuple[float, float] | None]
) -> Figure:
    """Draws differences with their intervals around 0, one row each, the first one on top.

    Args:
      names: one per difference.
      values: the differences.
      intervals: their lower and upper ends; None where there is none.
    """
    figure = Figure(figsize=(6.2, 0.28 * len(names) + 0.8), layout="constrained")
    plot = figure.subplots()
    plot.axvline(0.0, color=INK, linewidth=0.8)
    for row, (value, interval) in enumerate(zip(values, intervals, strict=True)):
        if interval is not None:
            plot.plot(interval, (row, row), color=PREDICTED_COLOUR, linewidth=2.0, solid_capstyle="butt")
        plot.plot(value, row, "o", color=PREDICTED_COLOUR, markersize=6)
    plot.set_yticks(range(len(names)), names)
    plot.set_ylim(len(names) - 0.5, -0.5)
    plot.tick_params(axis="y", length=0)
    plot.grid(axis="x", alpha=0.5)
    plot.set_xlabel("CCC, end-to-end minus handcrafted")
    return figure


@matplotlib.rc_context(STYLE)
def predicted_against_gold(predicted: np.ndarray, gold: np.ndarray, dimensions: Sequence[str]) -> Figure:
    """Draws a two-dimensional histogram of predictions and gold standard in hexagons, one plot per dimension.

    Args:
      predicted: [frames, dimensions].
      gold: the same shape.
      dimensions: names of the dimensions.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    # One colour from pale to full, so that it can follow the page's theme.
    shades = LinearSegmentedColormap.from_list("", [to_rgba(PREDICTED_COLOUR, alpha) for alpha in (0.08, 1.0)])
    for axis, (plot, name) in enumerate(
        zip(figure.subplots(1, len(dimensions), squeeze=False)[0], dimensions, strict=True)
    ):
        plot.plot((-1, 1), (-1, 1), color=_GOLD_COLOUR, linewidth=1.0)
        # A prediction outside [-1, 1] is counted at the edge.
        plot.hexbin(
            gold[:, axis], np.clip(predicted[:, axis], -1.0, 1.0), gridsize=32, extent=(-1, 1, -1, 1), bins="log",
            mincnt=1, cmap=shades, linewidths=0.0,
        )  # fmt: skip
        plot.set_title(name, fontsize=10)
        plot.set_xlabel("gold standard")
        plot.set_ylabel("predicted")
        plot.set_aspect("equal")
        plot.set_xlim(-1.05, 1.05)
        plot.set_ylim(-1.05, 1.05)
        for ticks in (plot.xaxis, plot.yaxis):
            ticks.set_major_locator(MultipleLocator(0.5))
        plot.grid(alpha=0.5)
    return figure


def centre_frequencies(kernel: np.ndarray, sample_rate_hz: float) -> np.ndarray:
    """Returns the centre frequency of each filter in Hz, [filters]: the centroid of its power response.

    Args:
      kernel: [taps, filters].
      sample_rate_hz: sampling rate of the convolution's input.
    """
    power = np.abs(np.fft.rfft(kernel, max(512, len(kernel)), axis=0)) ** 2  # (frequencies, filters)
    frequencies = np.linspace(0.0, sample_rate_hz / 2, len(power))
    return frequencies @ power / np.maximum(power.sum(axis=0), 1e-24)


def filter_responses(kernel: np.ndarray, sample_rate_hz: float) -> Figure:
    """Draws the filters of an audio convolution and their frequency responses, sorted by centre frequency.

    Args:
      kernel: [taps, filters].
      sample_rate_hz: sampling rate of the convolution's input.
    """
    taps, filters = kernel.shape
    padded = max(512, taps)  # zero-padding a short filter makes its response smooth
    gains = np.abs(np.fft.rfft(kernel, padded, axis=0))  # (frequencies, filters)
    order = np.argsort(centre_frequencies(kernel, sample_rate_hz), kind="stable")
    decibels = 20.0 * np.log10(np.maximum(gains / max(gains.max(), 1e-12), 1e-3))

    figure = Figure(figsize=(9, 0.22 * filters + 1.2), layout="constrained")
    shapes, responses = figure.subplots(1, 2)
    milliseconds = np.arange(taps) / sample_rate_hz * 1000.0
    height = max(np.abs(kernel).max(), 1e-12)
    for row, index in enumerate(order):
        shapes.plot(milliseconds, row + 0.5 * kernel[:, index] / height, color=PREDICTED_COLOUR, linewidth=0.8)
    shapes.set_title("filters", fontsize=9)
    shapes.set_xlabel("milliseconds")
    shapes.set_yticks([])
    shapes.set_ylim(-0.5, filters - 0.5)
    image = responses.imshow(
        decibels[:, order].T,
        aspect="auto",
        origin="lower",
        extent=(0.0, sample_rate_hz / 2000.0, -0.5, filters - 0.5),
        cmap="magma",
    )
    responses.set_title("frequency responses", fontsize=9)
    responses.set_xlabel("kHz")
    responses.set_yticks([])
    figure.colorbar(image, ax=responses, label="dB")
    return figure


def to_png(figure: Figure) -> bytes:
    """Returns the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def to_svg(figure: Figure, title: str, name: str) -> str:
    """Returns the figure as an SVG element for an HTML page: transparent, with text as text, in the page's colours.

    Args:
      figure: the figure.
      title: the text alternative, which describes the figure to readers who cannot see it; may be any text.
      name: unique in the page: letters, digits and hyphens. All ids in the element begin with it.
    """
    buffer = io.StringIO()
    # The salt gives equal figures equal ids; the threshold drops points of curves that make no visible difference.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify_threshold": 0.5}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = buffer.getvalue()
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    # Digits below hundredths of a point are invisible, but would make up a third of the page.
    text = re.sub(
        r"^(?:M|L|C) [-\d. ]+", lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), text, flags=re.MULTILINE
    )
    text = re.sub("|".join(_PAGE_COLOURS), lambda match: _PAGE_COLOURS[match[0]], text)
    label = f"{name}-title"
    text = text.replace("<svg ", f'<svg role="img" aria-labelledby="{label}" ', 1)
    return text.replace(">", f'><title id="{label}">{html.escape(title)}</title>', 1)
