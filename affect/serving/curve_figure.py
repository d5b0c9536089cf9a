"""The picture of a prediction: both curves over time, and their path in the arousal-valence plane."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FixedLocator, MultipleLocator

from affect.config import DIMENSIONS
from affect.figures import INK, PREDICTED_COLOUR, STYLE
from affect.timebase import FRAME_RATE_HZ

# Red and blue stay apart for colour-blind readers.
DIMENSION_COLOURS = {"arousal": PREDICTED_COLOUR, "valence": "#1f6fa8"}
_FACELESS_COLOUR, _WARNING_COLOUR = "#e3e6ea", "#9c2a00"
# Ends before viridis becomes too pale for a white background.
_TIME_COLOURS = LinearSegmentedColormap.from_list("time", matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 256)))
_MAX_PATH_POINTS = 1500
_TICK_STEPS_SECS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_MAX_TITLE_LETTERS = 64
_LEGEND: dict[str, Any] = {
    "loc": "lower left", "borderaxespad": 0.1, "borderpad": 0.2, "handlelength": 1.4, "fontsize": 8.5,
}  # fmt: skip


@matplotlib.rc_context(STYLE)
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
      found: bool [frames], whether a face was found; stretches without one are shaded. None for a model without video.
      title: such as the name of the file; any text, shown as it is. Letters that the font lacks become U+FFFD.
      notes: sentences below the plots.
      warning: an important sentence, in bold above the notes.
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
    plot.axhline(0.0, color=INK, linewidth=0.8)
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
    plot.axhline(0.0, color=INK, linewidth=0.8)
    plot.axvline(0.0, color=INK, linewidth=0.8)
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
    """Returns the title on one line, shortened if it is long; letters that the font lacks become U+FFFD."""
    if len(title) > _MAX_TITLE_LETTERS:
        title = f"{title[: _MAX_TITLE_LETTERS - 21]}\u2026{title[-20:]}"
    known = get_font(findfont("DejaVu Sans:bold")).get_charmap()
    return "".join(letter if ord(letter) in known else "\ufffd" for letter in title)
