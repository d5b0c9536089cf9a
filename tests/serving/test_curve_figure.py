"""The picture of a prediction: curves, path, faceless stretches, long recordings."""

import numpy as np
import pytest

from affect.figures import to_png
from affect.serving.curve_figure import DIMENSION_COLOURS, plot_limit, prediction_and_path


def times_of(frames):
    """Returns the ends of frames of 40 ms."""
    return (np.arange(frames) + 1) / 25


def walk(frames, seed=0):
    """Returns a smooth random curve, [frames, 2], arousal mostly positive and valence negative."""
    steps = np.random.default_rng(seed).normal(size=(frames, 2))
    return np.tanh(np.cumsum(steps, axis=0) / np.sqrt(frames)) * 0.2 + [0.2, -0.15]


def tick_labels(axis):
    """Returns the labels of the ticks within the limits of an axis."""
    low, high = sorted(axis.get_view_interval())
    values = [value for value in axis.get_majorticklocs() if low <= value <= high]
    return axis.get_major_formatter().format_ticks(values)


def test_curves_and_path_hold_the_prediction_with_valence_to_the_right():
    times, predicted = times_of(500), walk(500)
    curves, plane, bar = prediction_and_path(times, predicted, None, "talk.mp4").axes
    for axis, name in enumerate(("arousal", "valence")):
        line = next(line for line in curves.lines if line.get_label() == name)
        assert line.get_color() == DIMENSION_COLOURS[name]
        assert np.array_equal(line.get_xydata(), np.column_stack([times, predicted[:, axis]]))
    segments = np.array(plane.collections[0].get_segments())
    assert np.array_equal(segments[:, 0], predicted[:-1, ::-1]) and np.array_equal(segments[:, 1], predicted[1:, ::-1])
    assert "valence" in plane.get_xlabel() and "arousal" in plane.get_ylabel()
    assert np.array_equal(plane.collections[0].get_array(), (times[1:] + times[:-1]) / 2)
    ends = {line.get_label(): line.get_xydata()[0] for line in plane.lines}
    assert np.array_equal(ends["start"], predicted[0, ::-1]) and np.array_equal(ends["end"], predicted[-1, ::-1])
    assert bar.get_ylim() == (0.0, 20.0) and curves.get_xlim() == (0.0, 20.0)
    for limits in (curves.get_ylim(), plane.get_xlim(), plane.get_ylim()):
        assert limits == (-0.5, 0.5)


def test_stretches_without_a_face_are_shaded_and_named():
    found = np.ones(500, bool)
    found[:25] = found[100:150] = found[499:] = False
    curves = prediction_and_path(times_of(500), walk(500), found, "").axes[0]
    spans = [path.get_extents() for path in curves.collections[0].get_paths()]
    assert [(span.x0, span.x1) for span in spans] == [
        pytest.approx(span) for span in ((0.0, 1.0), (4.0, 6.0), (19.96, 20.0))
    ]
    names = [text.get_text() for text in curves.get_legend().get_texts()]
    assert names == ["arousal", "valence", "no face found"]
    always = prediction_and_path(times_of(500), walk(500), np.ones(500, bool), "").axes[0]
    assert not always.collections and len(always.get_legend().get_texts()) == 2


def test_missing_time_interrupts_curves_and_path():
    times, predicted = times_of(500), walk(500)
    times[200:] += 3.0
    curves, plane, _ = prediction_and_path(times, predicted, None, "").axes
    drawn = curves.lines[1].get_xydata()
    assert np.isnan(drawn[200, 1]) and np.isfinite(np.delete(drawn, 200, axis=0)).all() and len(drawn) == 501
    segments = np.array(plane.collections[0].get_segments())
    assert len(segments) == 498 and not (segments[:, 0] == predicted[199, ::-1]).all(axis=1).any()


def test_two_hours_are_drawn_small_with_the_means_of_their_path():
    frames = 180_000
    times, predicted = times_of(frames), walk(frames) + 0.02 * np.random.default_rng(1).normal(size=(frames, 2))
    found = np.repeat(np.random.default_rng(2).random(frames // 100) < 0.9, 100)
    figure = prediction_and_path(times, predicted, found, "long.mp4", ["note"])
    curves, plane, _ = figure.axes
    assert np.array_equal(curves.lines[1].get_ydata(), predicted[:, 0])
    means = predicted.reshape(1500, 120, 2).mean(axis=1)
    segments = np.array(plane.collections[0].get_segments())
    assert segments[:, 0] == pytest.approx(means[:-1, ::-1]) and segments[:, 1] == pytest.approx(means[1:, ::-1])
    by_name = {line.get_label(): line for line in curves.lines}
    assert by_name["valence"].get_ydata() == pytest.approx(means[:, 1])
    assert by_name["valence"].get_xdata() == pytest.approx(times.reshape(1500, 120).mean(axis=1))
    assert "means of 4.8 s" in figure.texts[-1].get_text()
    assert len(to_png(figure)) < 200_000
    assert tick_labels(curves.xaxis)[:3] == ["0:00", "0:15", "0:30"] and curves.get_xlabel() == "time (h:min)"


@pytest.mark.parametrize(
    ("frames", "labels", "name"),
    [
        (1, ["0", "0.01", "0.02", "0.03", "0.04"], "seconds"),
        (500, ["0", "5", "10", "15", "20"], "seconds"),
        (2_250, ["0:00", "0:15", "0:30", "0:45", "1:00", "1:15", "1:30"], "time (min:s)"),
        (7_500, ["0:00", "1:00", "2:00", "3:00", "4:00", "5:00"], "time (min:s)"),
    ],
)
def test_time_axis_reads_in_the_unit_of_the_length(frames, labels, name):
    constant = np.zeros((frames, 2))
    figure = prediction_and_path(times_of(frames), constant, np.zeros(frames, bool), "constant")
    curves, _, bar = figure.axes
    assert tick_labels(curves.xaxis) == labels and curves.get_xlabel() == name
    assert tick_labels(bar.yaxis) == labels
    assert curves.get_ylim() == (-0.1, 0.1)
    assert curves.lines[1].get_marker() == ("o" if frames == 1 else "")
    assert to_png(figure).startswith(b"\x89PNG")


def test_limit_fits_small_and_large_values():
    values = [0.0, 0.1, 0.11, 0.35, 0.51, 1.0, 1.01, -1.6]
    assert [plot_limit(np.array([[0.0, value]])) for value in values] == [0.1, 0.1, 0.2, 0.5, 1.0, 1.0, 1.5, 2.0]


@pytest.mark.filterwarnings("error")
def test_title_of_any_letters_is_one_short_line_and_no_formula():
    name = "a $\\frac{ _^ \n \u65e5 \udcff " + "b" * 200 + ".mp4"
    figure = prediction_and_path(times_of(5), walk(5), None, name, ["costs $5 and $6"], "warned $")
    title, warning, note = figure.texts
    assert title.get_text().startswith("a $\\frac{ _^ \ufffd \ufffd \ufffd b") and title.get_text().endswith("b.mp4")
    assert len(title.get_text()) == 64 and not any(text.get_parse_math() for text in figure.texts)
    assert (warning.get_text(), warning.get_fontweight()) == (
        "warned $",
        "bold",
    ) and note.get_text() == "costs $5 and $6"
    to_png(figure)
    width = title.get_window_extent().x1
    assert width < figure.bbox.width
