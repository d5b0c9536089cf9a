"""The figures of TensorBoard and the report: predictions, learned filters and training curves, with matplotlib."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

_GOLD_COLOUR, _PREDICTED_COLOUR = "#9a9a9a", "#c0392b"


def prediction_over_gold(
    predicted: np.ndarray, gold: np.ndarray | None, frame_rate_hz: float, dimensions: Sequence[str], title: str
) -> Figure:
    """Draws a prediction over the gold standard, one row per dimension.

    Args:
      predicted: [frames, dimensions].
      gold: the same shape, or None if it is not known.
      frame_rate_hz: frame rate of both.
      dimensions: names of the dimensions.
      title: shown above the figure.
    """
    figure = Figure(figsize=(9, 1.6 * len(dimensions) + 0.5), layout="constrained")
    axes = figure.subplots(len(dimensions), 1, sharex=True, squeeze=False)[:, 0]
    seconds = (np.arange(len(predicted)) + 1) / frame_rate_hz
    for axis, (plot, name) in enumerate(zip(axes, dimensions, strict=True)):
        if gold is not None:
            plot.plot(seconds, gold[:, axis], color=_GOLD_COLOUR, linewidth=2.5, label="gold standard")
        plot.plot(seconds, predicted[:, axis], color=_PREDICTED_COLOUR, linewidth=1.2, label="prediction")
        plot.set_ylabel(name)
        plot.set_ylim(-1.0, 1.0)
        plot.grid(alpha=0.3)
    axes[0].set_title(title, fontsize=10)
    axes[0].legend(loc="upper right", fontsize=8, ncols=2)
    axes[-1].set_xlabel("seconds")
    return figure


def training_curves(log: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Draws loss and CCCs over the epochs; train is dashed, dev is solid.

    Args:
      log: columns of a run's training.csv: `loss`, `ccc_arousal`, `ccc_valence`, and the same with `val_` for dev.
      title: shown above each plot, before the name of its column.
    """
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    plots = figure.subplots(1, 3)
    for plot, name in zip(plots, ("loss", "ccc_arousal", "ccc_valence"), strict=True):
        epochs = np.arange(len(log[name])) + 1
        plot.plot(epochs, log[name], "--", color=_GOLD_COLOUR, label="train")
        plot.plot(epochs, log[f"val_{name}"], color=_PREDICTED_COLOUR, label="dev")
        plot.set_title(f"{title}: {name.replace('_', ' ')}", fontsize=9)
        plot.set_xlabel("epoch")
        plot.grid(alpha=0.3)
    plots[0].legend(fontsize=8)
    return figure


def filter_responses(kernel: np.ndarray, sample_rate_hz: float) -> Figure:
    """Draws the filters of an audio convolution and their frequency responses, sorted by peak frequency.

    Args:
      kernel: [taps, filters].
      sample_rate_hz: sampling rate of the convolution's input.
    """
    taps, filters = kernel.shape
    padded = max(512, taps)  # zero-padding a short filter makes its response smooth
    gains = np.abs(np.fft.rfft(kernel, padded, axis=0))  # (frequencies, filters)
    order = np.argsort(gains.argmax(axis=0), kind="stable")
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


def to_svg(figure: Figure) -> str:
    """Returns the figure as an SVG element for an HTML page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
