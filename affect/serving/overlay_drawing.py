"""Draws the pictures of an overlay: the video's picture with the face box, and the curves in a strip below it.

    +---------------------------+
    | picture, face box         |    green: found; grey and dashed: no face found, the last position is held
    +------------------+--------+
    | last 10 s of     | plane  |    dot: the current frame; its trail: the last 2 s
    | both curves      |        |
    +------------------+--------+
    | what the numbers mean     |
    +---------------------------+

The strip's text and axes are drawn once, by matplotlib; what moves is drawn by OpenCV, about 1 ms per picture.
"""

import math
import textwrap

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from affect.config import DIMENSIONS
from affect.serving.curve_figure import plot_limit
from affect.serving.pictures import captions
from affect.serving.prediction import Curve
from affect.timebase import FRAME_RATE_HZ

MAX_EDGE, MIN_WIDTH = 1280, 320
WINDOW_SECS, TRAIL_SECS = 10, 2

# Brighter than in the figures, because the background is dark; red and blue stay apart for colour-blind viewers.
CURVE_COLOURS = {"arousal": (255, 112, 96), "valence": (88, 176, 255)}
FOUND_COLOUR, HELD_COLOUR, DOT_COLOUR = (40, 230, 100), (190, 196, 204), (255, 255, 255)
_GROUND, _PANEL, _FACELESS = (18, 22, 27), (32, 38, 45), (66, 73, 82)
_GRID, _ZERO, _TEXT, _WARNING = (52, 60, 69), (110, 120, 132), (205, 212, 220), (255, 180, 84)
_SHIFT = 4  # OpenCV draws at 1/16 of a pixel
_TRAIL_PARTS = 5
_LETTER_EM, _BOLD_EM = 0.56, 0.61  # mean width of the font's letters


class Painter:
    """Draws the pictures of one overlay.

    Attributes:
      width, height: of the pictures that `draw` returns, in pixels; both are even.
      picture: left, top, width and height of the part that shows the video.
      curves, plane: the same of the two panels; the outermost pixels stand for the ends of the axes.
      limit: the axes of both panels go from minus this to this.
    """

    def __init__(self, curve: Curve, width: int, height: int):
        """Takes the curve, and the size of the video's first picture in pixels."""
        self._curve = curve
        self._first_size = width, height
        self.limit = plot_limit(curve.predicted)
        # Small pictures are enlarged so that the text fits; narrow ones are centred.
        scale = min(MAX_EDGE / width, MAX_EDGE / height, max(1.0, MIN_WIDTH / width))
        picture_width, picture_height = _even(width * scale), _even(height * scale)
        self.width = max(MIN_WIDTH, picture_width)
        self.picture = ((self.width - picture_width) // 2, 0, picture_width, picture_height)

        text = min(max(10, self.width // 52), 18)  # height of the letters' em, as all margins in pixels
        edge = min(max(96, round(0.2 * self.width)), 230)
        top, margin = picture_height + 2 * text, text // 2
        self.plane = (self.width - edge - margin, top, edge, edge)
        left = 3 * text
        self.curves = (left, top, self.plane[0] - text - left, edge)
        warning, notes = captions(curve)
        ems = self.width / text - 1.0
        lines = [(line, True) for line in textwrap.wrap(warning, int(ems / _BOLD_EM))]
        lines += [(line, False) for note in notes for line in textwrap.wrap(note, int(ems / _LETTER_EM))]
        self.height = _even(top + edge + 1.4 * text * len(lines) + 2 * margin)
        self._line = max(1, text // 8)
        self._strip = self._draw_strip(text, lines)

    def draw(self, k: int, pixels: np.ndarray) -> np.ndarray:
        """Returns the picture of frame k, uint8 RGB [height, width, 3].

        Args:
          k: number of the frame, from 0.
          pixels: uint8 RGB [any height, any width, 3], the picture of the video.
        """
        canvas = np.empty((self.height, self.width, 3), np.uint8)
        left, top, width, height = self.picture
        canvas[: top + height] = 0
        self._draw_picture(canvas[top : top + height, left : left + width], k, pixels)
        canvas[top + height :] = self._strip
        self._draw_curves(canvas, k)
        self._draw_dot(canvas, k)
        return canvas

    def _draw_picture(self, part: np.ndarray, k: int, pixels: np.ndarray) -> None:
        """Draws the video's picture and the face box into their part of the canvas."""
        own_height, own_width = pixels.shape[:2]
        scale = min(part.shape[1] / own_width, part.shape[0] / own_height)
        width, height = max(1, round(own_width * scale)), max(1, round(own_height * scale))
        if (width, height) != (own_width, own_height):
            # Bilinear is ten times faster, and good enough down to half the size.
            way = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
            pixels = cv2.resize(pixels, (width, height), interpolation=way)
        left, top = (part.shape[1] - width) // 2, (part.shape[0] - height) // 2
        part[top : top + height, left : left + width] = pixels
        if self._curve.squares is None or self._curve.found is None:
            return
        # Squares are in pixels of the first picture; others may have another size.
        x_scale, y_scale = width / self._first_size[0], height / self._first_size[1]
        x, y, edge = self._curve.squares[k]
        centre_x, centre_y = (x + edge / 2) * x_scale + left, (y + edge / 2) * y_scale + top
        half = edge / 2 * math.sqrt(x_scale * y_scale)
        _draw_box(part, (centre_x, centre_y), half, bool(self._curve.found[k]), max(2, round(self.width / 400)))

    def _draw_curves(self, canvas: np.ndarray, k: int) -> None:
        """Draws the last `WINDOW_SECS` of both curves; the current frame is at the right end."""
        left, top, width, height = self.curves
        frames = WINDOW_SECS * FRAME_RATE_HZ
        shown = np.arange(max(0, k - frames + 1), k + 1)
        x = left + (width - 1) * (1.0 - (k - shown) / (frames - 1))
        if self._curve.found is not None:
            of_column = k - np.rint((width - 1 - np.arange(width)) / (width - 1) * (frames - 1)).astype(np.int64)
            faceless = (of_column >= 0) & ~self._curve.found[np.maximum(of_column, 0)]
            panel = canvas[top : top + height, left : left + width]
            panel[:, faceless] = _FACELESS
            self._draw_grid(canvas, self.curves, vertical=False)
        for axis, name in enumerate(DIMENSIONS):
            y = self._y(self._curve.predicted[shown, axis], self.curves)
            _draw_line(canvas, x, y, CURVE_COLOURS[name], self._line)
            _draw_disc(canvas, x[-1], y[-1], 1.5 * self._line + 1.0, CURVE_COLOURS[name])

    def _draw_dot(self, canvas: np.ndarray, k: int) -> None:
        """Draws the current frame and its trail into the plane: valence to the right, arousal upwards."""
        left, _, width, _ = self.plane
        shown = slice(max(0, k - TRAIL_SECS * FRAME_RATE_HZ), k + 1)
        x = left + (self._curve.predicted[shown, 1] / self.limit + 1.0) / 2.0 * (width - 1)
        y = self._y(self._curve.predicted[shown, 0], self.plane)
        length = TRAIL_SECS * FRAME_RATE_HZ // _TRAIL_PARTS
        for part in range(_TRAIL_PARTS, 0, -1):  # from the oldest part, the darkest
            brightness = 1.0 - part / (_TRAIL_PARTS + 1)
            colour = tuple(round(dark + (light - dark) * brightness) for dark, light in zip(_PANEL, _TEXT, strict=True))
            ends = slice(max(0, len(x) - 1 - part * length), max(0, len(x) - (part - 1) * length))
            if ends.stop - ends.start > 1:
                _draw_line(canvas, x[ends], y[ends], colour, self._line + 1)
        radius = max(3.5, width / 30)
        _draw_disc(canvas, x[-1], y[-1], radius + 1.5, _GROUND)
        _draw_disc(canvas, x[-1], y[-1], radius, DOT_COLOUR)

    def _y(self, values: np.ndarray, panel: tuple[int, int, int, int]) -> np.ndarray:
        _, top, _, height = panel
        return top + (1.0 - values / self.limit) / 2.0 * (height - 1)

    def _draw_grid(self, canvas: np.ndarray, panel: tuple[int, int, int, int], vertical: bool, below: int = 0) -> None:
        """Draws lines at the middle and the quarters of a panel; `below` is the row at which the canvas begins."""
        left, top, width, height = panel
        for part, colour in ((0.25, _GRID), (0.75, _GRID), (0.5, _ZERO)):
            canvas[round(top - below + part * (height - 1)), left : left + width] = colour
            if vertical:
                canvas[top - below : top - below + height, round(left + part * (width - 1))] = colour

    def _draw_strip(self, text: int, lines: list[tuple[str, bool]]) -> np.ndarray:
        """Returns the static part of the strip, uint8 RGB: panels, grids and all text."""
        begin = self.picture[3]
        height = self.height - begin
        figure = Figure(figsize=(self.width / 100, height / 100), dpi=100, facecolor=_of_figure(_GROUND))

        def write(x: float, y: float, words: str, colour=_TEXT, **style) -> None:
            figure.text(
                x / self.width, 1 - (y - begin) / height, words, fontsize=0.72 * text, color=_of_figure(colour), **style
            )

        left, top, width, edge = self.curves
        middle = top - text
        for row, (words, is_warning) in enumerate(lines):
            colour, weight = (_WARNING, "bold") if is_warning else (_TEXT, "normal")
            y = top + edge + 0.5 * text + 1.4 * text * (row + 0.5)
            write(text / 2, y, words, colour, va="center", fontweight=weight)
        for column, name in enumerate(DIMENSIONS):
            write(left + 5.5 * text * column, middle, name, CURVE_COLOURS[name], va="center", fontweight="bold")
        write(left + width, middle, f"last {WINDOW_SECS} s", va="center", ha="right")
        if self._curve.found is not None and not self._curve.found.all() and width > 24 * text:
            shade = {"facecolor": _of_figure(_FACELESS), "edgecolor": "none", "pad": text / 8}
            write(left + 12 * text, middle, "no face found", va="center", bbox=shade)
        for value, y, align in (
            (self.limit, top, "top"),
            (0.0, top + edge / 2, "center_baseline"),
            (-self.limit, top + edge, "bottom"),
        ):
            write(left - text / 3, y, f"{value:g}".replace("-", "\u2212"), va=align, ha="right")
        x = self.plane[0]
        write(x + edge / 2, middle, "arousal \u2191 valence \u2192", va="center", ha="center")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        strip = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
        for panel in (self.curves, self.plane):
            strip[top - begin : top - begin + edge, panel[0] : panel[0] + panel[2]] = _PANEL
            self._draw_grid(strip, panel, panel is self.plane, begin)
        return strip


def _draw_box(part: np.ndarray, centre: tuple[float, float], half: float, is_found: bool, line: int) -> None:
    """Draws the square of a face, as far as it lies in the picture, with a dark rim."""
    height, width = part.shape[:2]
    ends = [(0, width - 1), (0, height - 1)]
    (left, right), (top, bottom) = (
        [min(max(round(middle + side * half), low), high) for side in (-1, 1)]
        for middle, (low, high) in zip(centre, ends, strict=True)
    )
    cv2.rectangle(part, (left, top), (right, bottom), _GROUND, line + 2)
    if is_found:
        cv2.rectangle(part, (left, top), (right, bottom), FOUND_COLOUR, line)
        return
    dash = 4 * line
    for x in range(left, right, 2 * dash):
        for y in (top, bottom):
            cv2.line(part, (x, y), (min(x + dash, right), y), HELD_COLOUR, line)
    for y in range(top, bottom, 2 * dash):
        for x in (left, right):
            cv2.line(part, (x, y), (x, min(y + dash, bottom)), HELD_COLOUR, line)


def _draw_line(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, colour: tuple[int, ...], line: int) -> None:
    points = np.rint(np.column_stack([x, y]) * 2**_SHIFT).astype(np.int32)
    cv2.polylines(canvas, [points], False, colour, line, cv2.LINE_AA, _SHIFT)


def _draw_disc(canvas: np.ndarray, x: float, y: float, radius: float, colour: tuple[int, ...]) -> None:
    centre = (round(float(x) * 2**_SHIFT), round(float(y) * 2**_SHIFT))
    cv2.circle(canvas, centre, round(radius * 2**_SHIFT), colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _even(size: float) -> int:
    return max(2, 2 * round(size / 2))


def _of_figure(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255
