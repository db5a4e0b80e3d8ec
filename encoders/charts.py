"""Charts of lines as SVG text, drawn by hand: linear, logarithmic or normal-deviate axes. PURE."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

Point = tuple[float, float]
WIDTH, HEIGHT, EDGE = 640, 300, 58
LETTER = 6.3  # pixels of a figure at the size of the marks, in the widest of the usual fonts
TOP, BOTTOM, RIGHT = 30, HEIGHT - 40, WIDTH - 16
COLOURS = ("#1f6fb4", "#c4501b", "#2a8f4c", "#7a4fb0", "#888888")
DEVIATES = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8)


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis says, from where to where, and how it is stretched: "linear", "log" or "probit".

    "whole" is linear, with whole numbers beside it.
    """

    words: str
    low: float
    high: float
    scale: str = "linear"

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one; what is outside lies at the end."""
        stretch = _SCALES[self.scale]
        low, high = stretch(self.low), stretch(self.high)
        inside = stretch(min(max(value, self.low), self.high))
        return (inside - low) / (high - low) if high > low else 0.0

    def marks(self) -> list[float]:
        """The values that are written beside the axis."""
        if self.scale == "log":
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**k for k in range(first, last + 1)]
        if self.scale == "probit":
            return [value for value in DEVIATES if self.low <= value <= self.high]
        step = round_step(self.high - self.low, 1.0 if self.scale == "whole" else 0.0)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        marks = [float(f"{k * step:.12g}") for k in range(first, last + 1)]
        # Ranks begin at 1, which is a multiple of no larger step.
        if self.scale == "whole" and (not marks or marks[0] - self.low >= step / 2):
            marks.insert(0, self.low)
        return marks


def round_step(span: float, least: float = 0.0) -> float:
    """1, 2 or 5 times a power of ten, of which 4 to 10 fit into `span`; at least `least`."""
    if span <= 0:
        return max(1.0, least)
    rough = span / 8
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(size * unit for size in (1, 2, 5, 10) if size * unit >= rough * (1 - 1e-9))
    return max(step, least)


def below(value: float, high: float) -> float:
    """Where an axis up to `high` begins that shows `value`: at a mark, a tenth of `high` down at least.

    What lies at the lower end of its axis looks like the worst there is, even if everything is at `high`.
    """
    step = round_step(max(high - value, 0.1 * abs(high)))
    return float(f"{min(math.ceil(value / step - 1e-9) - 1, math.floor(high / step + 1e-9) - 5) * step:.12g}")


_SCALES: dict[str, Callable[[float], float]] = {
    "linear": float,
    "whole": float,
    "log": math.log10,
    "probit": NormalDist().inv_cdf,
}


def chart(title: str, series: Mapping[str, Sequence[Point]], across: Axis, up: Axis) -> str:
    """One SVG chart of lines; an empty series is left out, and a sentence stands where all are."""
    drawn = {name: points for name, points in series.items() if len(points)}
    if not drawn:
        return f"<p>{html.escape(title)}: nothing recorded</p>"
    edge = _edge(up)
    lines = [_line(points, across, up, COLOURS[k % 5], edge) for k, points in enumerate(drawn.values())]
    inside = (
        _frame(across, up, edge) + _text(edge, 16, title, "start", 13) + _legend(list(drawn)) + "".join(lines)
    )
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif">{inside}</svg>'


def said(value: float) -> str:
    """A mark in figures."""
    return f"{value:,.6g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.3g}"


def _edge(up: Axis) -> float:
    """Where the frame begins: far enough to the right for the longest mark beside the words of the axis."""
    longest = max((len(said(value)) for value in up.marks()), default=0)
    return max(EDGE, 30 + LETTER * longest)


def _frame(across: Axis, up: Axis, edge: float) -> str:
    parts = [f'<path d="M{edge} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#888"/>']
    for value in across.marks():
        x = edge + across.place(value) * (RIGHT - edge)
        parts.append(f'<path d="M{x:.1f} {TOP}V{BOTTOM + 4}" stroke="#ddd"/>')
        # The last one, if long, stays within the picture.
        middle = min(x, WIDTH - 2 - LETTER * len(said(value)) / 2)
        parts.append(_text(middle, BOTTOM + 16, said(value), "middle"))
    for value in up.marks():
        y = BOTTOM - up.place(value) * (BOTTOM - TOP)
        parts.append(f'<path d="M{edge - 4} {y:.1f}H{RIGHT}" stroke="#ddd"/>')
        parts.append(_text(edge - 7, y + 4, said(value), "end"))
    parts.append(_text((edge + RIGHT) / 2, HEIGHT - 8, across.words, "middle"))
    turned = f'transform="rotate(-90 12 {(TOP + BOTTOM) / 2})"'
    parts.append(_text(12, (TOP + BOTTOM) / 2, up.words, "middle", more=turned))
    return "".join(parts)


def _legend(names: list[str]) -> str:
    """The names above the chart, at the right, each in the colour of its line."""
    spans = (f'<tspan dx="12" fill="{COLOURS[k % 5]}">{html.escape(n)}</tspan>' for k, n in enumerate(names))
    return f'<text x="{RIGHT}" y="16" font-size="11" text-anchor="end">{"".join(spans)}</text>'


def _line(points: Sequence[Point], across: Axis, up: Axis, colour: str, edge: float) -> str:
    wide, tall = RIGHT - edge, BOTTOM - TOP
    places = [(edge + wide * across.place(x), BOTTOM - tall * up.place(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    # So many points that their dots would touch are a line already.
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in places if len(places) <= 60)
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'{line}<g fill="{colour}">{dots}</g>'


def _text(x: float, y: float, words: str, anchor: str, size: int = 11, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#333" {more}'
    return f"<text {place.strip()}>{html.escape(words)}</text>"
