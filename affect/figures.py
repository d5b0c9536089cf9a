"""The figures of TensorBoard, the report and the analysis, with matplotlib."""

import html
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FixedLocator, MaxNLocator, MultipleLocator

from affect.config import DIMENSIONS
from affect.timebase import FRAME_RATE_HZ

_INK, _GRID_COLOUR = "#24292e", "#c8cdd2"
_GOLD_COLOUR, _PREDICTED_COLOUR, _RAW_COLOUR = "#8c9299", "#c0392b", "#7aa6c9"
# Red and blue stay apart for colour-blind readers.
DIMENSION_COLOURS = {"arousal": _PREDICTED_COLOUR, "valence": "#1f6fa8"}
_FACELESS_COLOUR, _WARNING_COLOUR = "#e3e6ea", "#9c2a00"
# Ends before viridis becomes too pale for a white ground.
_TIME_COLOURS = LinearSegmentedColormap.from_list("time", matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 256)))
_MAX_PATH_POINTS = 1500
_TICK_STEPS_SECS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_MAX_TITLE_LETTERS = 64
_LEGEND: dict[str, Any] = {
    "loc": "lower left", "borderaxespad": 0.1, "borderpad": 0.2, "handlelength": 1.4, "fontsize": 8.5,
}  # fmt: skip
# In a page, text takes the colour of its surroundings; curves take colours of the page's style sheet, if it has any.
_PAGE_COLOURS = {
    _INK: "currentColor",
    _GRID_COLOUR: f"var(--figure-grid, {_GRID_COLOUR})",
    _GOLD_COLOUR: f"var(--figure-gold, {_GOLD_COLOUR})",
    _PREDICTED_COLOUR: f"var(--figure-predicted, {_PREDICTED_COLOUR})",
    _RAW_COLOUR: f"var(--figure-raw, {_RAW_COLOUR})",
}
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _GRID_COLOUR),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    # Names of recordings may hold a dollar sign, which would start a formula.
    "text.parse_math": False,
    "font.size": 9.0,
}


@matplotlib.rc_context(_STYLE)
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
        plot.plot(seconds, predicted[:, axis], color=_PREDICTED_COLOUR, linewidth=1.3, label=label)
        plot.set_ylabel(name)
        plot.set_ylim(-1.0, 1.0)
        plot.margins(x=0.01)
        plot.grid(alpha=0.5)
    axes[0].set_title(title, fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", fontsize=8, ncols=3)
    axes[-1].set_xlabel("seconds")
    return figure


@matplotlib.rc_context(_STYLE)
def prediction_and_path(
    times_secs: np.ndarray,
    predicted: np.ndarray,
    found: np.ndarray | None,
    title: str,
    notes: Sequence[str] = (),
    warning: str = "",
) -> Figure:
    """Draws the prediction for one recording: both curves over time, and their path in the arousal-valence plane.

    The plane is Russell's (A circumplex model of affect, 1980): valence to the right, arousal upwards. Neither plot
    connects frames between which time is missing.

    Args:
      times_secs: [frames], end of each frame, ascending.
      predicted: [frames, 2], arousal and valence.
      found: bool [frames], whether a face was found; stretches without one are shaded. None if no face was looked for.
      title: such as the name of the file; any text, shown as it is. Letters that the font lacks become U+FFFD.
      notes: sentences below the plots.
      warning: a sentence that must not be overlooked, in bold above the notes.
    """
    curve = _Curve(times_secs, predicted)
    if curve.group > 1:
        notes = [*notes, f"The path and the darker curves are means of {curve.group * curve.frame_secs:.3g} s."]
    lines = [line for note in notes for line in textwrap.wrap(note, 152)]
    warnings = textwrap.wrap(warning, 110)
    edge, below = 2.5, 0.18 * (len(lines) + len(warnings)) + 0.64  # inches, like all lengths here
    width, height = 9.0, edge + below + 0.66
    figure = Figure(figsize=(width, height))

    def add_axes(left: float, wide: float) -> Axes:
        return figure.add_axes((left / width, below / height, wide / width, edge / height))

    _draw_curves(add_axes(0.74, 4.4), curve, found)
    path = _draw_path(add_axes(5.88, edge), curve)
    bar = add_axes(5.88 + edge + 0.08, 0.1)
    figure.colorbar(path, cax=bar)
    bar.set_title("time", fontsize=8.5, pad=5)
    bar.tick_params(labelsize=8, length=2)
    _mark_time(bar.yaxis, curve)
    figure.text(0.1 / width, 1.0 - 0.1 / height, _printable(title), fontsize=11, fontweight="bold", va="top")
    for row, line in enumerate([*warnings, *lines]):
        style: dict[str, Any] = {"fontsize": 8}
        if row < len(warnings):
            style = {"fontsize": 9, "fontweight": "bold", "color": _WARNING_COLOUR}
        figure.text(0.1 / width, (below - 0.56 - 0.18 * row) / height, line, va="top", **style)
    return figure


class _Curve:
    """A prediction prepared for drawing.

    Attributes:
      times, values: the input, float64 [frames] and [frames, 2].
      frame_secs: how long a frame lasts.
      start_secs, end_secs: start of the first and end of the last frame.
      limit: see `plot_limit`.
      gaps: indices of the frames before which time is missing.
      group: how many frames make one point of the path.
      point_times, point_values, point_runs: means of the points, and how many gaps lie before each.
    """

    def __init__(self, times_secs: np.ndarray, predicted: np.ndarray) -> None:
        self.times, self.values = np.asarray(times_secs, np.float64), np.asarray(predicted, np.float64)
        frames = len(self.times)
        steps = np.diff(self.times)
        self.frame_secs = float(np.median(steps)) if frames > 1 else 1.0 / FRAME_RATE_HZ
        # Rounded, because a start of 1e-17 would lose its tick.
        self.start_secs, self.end_secs = round(self.times[0] - self.frame_secs, 6), self.times[-1]
        self.limit = plot_limit(self.values)
        self.gaps = np.flatnonzero(steps > 1.5 * self.frame_secs) + 1
        self.group = math.ceil(frames / _MAX_PATH_POINTS)
        run = np.cumsum(np.isin(np.arange(frames), self.gaps))
        starts = np.flatnonzero((np.arange(frames) - np.searchsorted(run, run)) % self.group == 0)
        sizes = np.diff(starts, append=frames)
        self.point_times = np.add.reduceat(self.times, starts) / sizes
        self.point_values = np.add.reduceat(self.values, starts, axis=0) / sizes[:, np.newaxis]
        self.point_runs = run[starts]


def _draw_curves(plot: Axes, curve: _Curve, found: np.ndarray | None) -> None:
    """Draws arousal and valence over time, and where there is no face; see `prediction_and_path`."""
    plot.axhline(0.0, color=_INK, linewidth=0.8)
    is_long = curve.group > 1
    mark = "o" if len(curve.times) == 1 else ""  # a single frame would draw no line
    for axis, name in enumerate(DIMENSIONS):
        # NaN interrupts a line.
        times, values = (np.insert(array, curve.gaps, np.nan) for array in (curve.times, curve.values[:, axis]))
        plot.plot(
            times, values, color=DIMENSION_COLOURS[name], linewidth=0.6 if is_long else 1.4,
            alpha=0.3 if is_long else 1.0, marker=mark, markersize=4, clip_on=not mark,
            label=None if is_long else name,
        )  # fmt: skip
    for axis, name in enumerate(DIMENSIONS if is_long else ()):
        gaps = np.flatnonzero(np.diff(curve.point_runs)) + 1
        times, values = (np.insert(part, gaps, np.nan) for part in (curve.point_times, curve.point_values[:, axis]))
        plot.plot(times, values, color=DIMENSION_COLOURS[name], linewidth=1.2, label=name)
    if found is not None and not found.all():
        edges = np.flatnonzero(np.diff(found, prepend=True, append=True)).reshape(-1, 2)
        starts = curve.times - curve.frame_secs
        stretches = [(float(starts[first]), float(curve.times[after - 1] - starts[first])) for first, after in edges]
        plot.broken_barh(
            stretches, (0, 1), transform=plot.get_xaxis_transform(), color=_FACELESS_COLOUR, linewidth=0, zorder=0,
            label="no face found",
        )  # fmt: skip
    plot.set_xlim(curve.start_secs, curve.end_secs)
    plot.set_xlabel(_mark_time(plot.xaxis, curve))
    plot.set_ylabel("rating (full range \u22121 to 1)")
    _mark_ratings(plot.yaxis, curve.limit)
    plot.grid(alpha=0.5)
    plot.legend(bbox_to_anchor=(0.0, 1.0), ncols=3, **_LEGEND)


def _draw_path(plot: Axes, curve: _Curve) -> LineCollection:
    """Draws the path in the plane and returns it; see `prediction_and_path`."""
    plot.axhline(0.0, color=_INK, linewidth=0.8)
    plot.axvline(0.0, color=_INK, linewidth=0.8)
    points, times = curve.point_values[:, ::-1], curve.point_times  # valence is horizontal
    drawn = np.diff(curve.point_runs) == 0
    segments = np.stack([points[:-1], points[1:]], axis=1)[drawn]
    path = LineCollection(list(segments), cmap=_TIME_COLOURS, linewidth=1.4, capstyle="round")
    path.set_array((times[:-1] + times[1:])[drawn] / 2)
    path.set_clim(curve.start_secs, curve.end_secs)
    plot.add_collection(path)
    for index, name, mark, edge in ((0, "start", "o", 9), (-1, "end", "s", 6)):
        plot.plot(
            *points[index], mark, color=_TIME_COLOURS(1.0 if index else 0.0), markersize=edge, markeredgewidth=0.8,
            markeredgecolor="white", label=name, zorder=3,
        )  # fmt: skip
    _mark_ratings(plot.xaxis, curve.limit)
    _mark_ratings(plot.yaxis, curve.limit)
    plot.set_xlabel("valence (negative to positive)")
    plot.set_ylabel("arousal (calm to active)", labelpad=0)
    plot.grid(alpha=0.5)
    plot.legend(bbox_to_anchor=(0.0, 1.0), ncols=2, **_LEGEND)
    return path


def plot_limit(predicted: np.ndarray) -> float:
    """Returns the end of an axis around 0 that shows all values: 0.1, 0.2, 0.5 or 1; a multiple of 0.5 beyond 1."""
    largest = float(np.abs(predicted).max())
    return next((limit for limit in (0.1, 0.2, 0.5, 1.0) if largest <= limit), math.ceil(2.0 * largest) / 2.0)


def _mark_ratings(axis: Axis, limit: float) -> None:
    """Gives an axis its range and five ticks."""
    axis.set_view_interval(-limit, limit, ignore=True)
    axis.set_major_locator(FixedLocator([-limit, -limit / 2, 0.0, limit / 2, limit]))
    axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\u2212"))


def _mark_time(axis: Axis, curve: _Curve) -> str:
    """Puts ticks at round times, and returns the label of the axis."""
    duration_secs = curve.end_secs - curve.start_secs
    steps = (step for step in _TICK_STEPS_SECS if duration_secs / step <= 8)
    axis.set_major_locator(MultipleLocator(next(steps, 3600 * math.ceil(duration_secs / 3600 / 8))))
    if curve.end_secs < 60.0:
        axis.set_major_formatter(lambda secs, _: f"{secs:g}")
        return "seconds"
    if curve.end_secs < 3600.0:
        axis.set_major_formatter(lambda secs, _: f"{secs // 60:.0f}:{secs % 60:02.0f}")
        return "time (min:s)"
    axis.set_major_formatter(lambda secs, _: f"{secs // 3600:.0f}:{secs // 60 % 60:02.0f}")
    return "time (h:min)"


def _printable(title: str) -> str:
    """Returns a title in one line, not too long, without letters that the font cannot show."""
    if len(title) > _MAX_TITLE_LETTERS:
        title = f"{title[: _MAX_TITLE_LETTERS - 21]}\u2026{title[-20:]}"
    known = get_font(findfont("DejaVu Sans:bold")).get_charmap()
    return "".join(letter if ord(letter) in known else "\ufffd" for letter in title)


@matplotlib.rc_context(_STYLE)
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
        plot.plot(epochs, log[f"val_{name}"], marker=mark, markersize=4, color=_PREDICTED_COLOUR, label="dev")
        plot.set_title({"loss": "loss"}.get(name, name.replace("ccc_", "CCC, ")), fontsize=9)
        plot.set_xlabel("epoch")
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.grid(alpha=0.5)
    plots[0].legend(fontsize=8)
    return figure


@matplotlib.rc_context(_STYLE)
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
    plot.axvline(0.0, color=_INK, linewidth=0.8)
    for row, (value, interval) in enumerate(zip(values, intervals, strict=True)):
        if interval is not None:
            plot.plot(interval, (row, row), color=_PREDICTED_COLOUR, linewidth=2.0, solid_capstyle="butt")
        plot.plot(value, row, "o", color=_PREDICTED_COLOUR, markersize=6)
    plot.set_yticks(range(len(names)), names)
    plot.set_ylim(len(names) - 0.5, -0.5)
    plot.tick_params(axis="y", length=0)
    plot.grid(axis="x", alpha=0.5)
    plot.set_xlabel("CCC, end-to-end minus handcrafted")
    return figure


@matplotlib.rc_context(_STYLE)
def predicted_against_gold(predicted: np.ndarray, gold: np.ndarray, dimensions: Sequence[str]) -> Figure:
    """Draws a two-dimensional histogram of predictions and gold standard in hexagons, one plot per dimension.

    Args:
      predicted: [frames, dimensions].
      gold: the same shape.
      dimensions: names of the dimensions.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    # One colour from pale to full, so that it can follow the page's theme.
    shades = LinearSegmentedColormap.from_list("", [to_rgba(_PREDICTED_COLOUR, alpha) for alpha in (0.08, 1.0)])
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
        shapes.plot(milliseconds, row + 0.5 * kernel[:, index] / height, color=_PREDICTED_COLOUR, linewidth=0.8)
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
