"""Charts of lines as SVG text, drawn by hand: linear, logarithmic or normal-deviate axes. PURE."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

Point = tuple[float, float]
WIDTH, HEIGHT, EDGE = 640, 300, 58
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
        if self.scale == "whole":
            step = max(1, math.ceil((self.high - self.low) / 5))
            return [float(value) for value in range(round(self.low), round(self.high) + 1, step)]
        return [self.low + (self.high - self.low) * k / 4 for k in range(5)]


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
    lines = [_line(points, across, up, COLOURS[k % 5]) for k, points in enumerate(drawn.values())]
    inside = _frame(across, up) + _text(EDGE, 16, title, "start", 13) + _legend(list(drawn)) + "".join(lines)
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif">{inside}</svg>'


def _frame(across: Axis, up: Axis) -> str:
    parts = [f'<path d="M{EDGE} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#888"/>']
    for value in across.marks():
        x = EDGE + across.place(value) * (RIGHT - EDGE)
        parts.append(f'<path d="M{x:.1f} {TOP}V{BOTTOM + 4}" stroke="#ddd"/>')
        parts.append(_text(x, BOTTOM + 16, f"{value:.4g}", "middle"))
    for value in up.marks():
        y = BOTTOM - up.place(value) * (BOTTOM - TOP)
        parts.append(f'<path d="M{EDGE - 4} {y:.1f}H{RIGHT}" stroke="#ddd"/>')
        parts.append(_text(EDGE - 7, y + 4, f"{value:.4g}", "end"))
    parts.append(_text((EDGE + RIGHT) / 2, HEIGHT - 8, across.words, "middle"))
    turned = f'transform="rotate(-90 12 {(TOP + BOTTOM) / 2})"'
    parts.append(_text(12, (TOP + BOTTOM) / 2, up.words, "middle", more=turned))
    return "".join(parts)


def _legend(names: list[str]) -> str:
    """The names above the chart, at the right, each in the colour of its line."""
    spans = (f'<tspan dx="12" fill="{COLOURS[k % 5]}">{html.escape(n)}</tspan>' for k, n in enumerate(names))
    return f'<text x="{RIGHT}" y="16" font-size="11" text-anchor="end">{"".join(spans)}</text>'


def _line(points: Sequence[Point], across: Axis, up: Axis, colour: str) -> str:
    wide, tall = RIGHT - EDGE, BOTTOM - TOP
    places = [(EDGE + wide * across.place(x), BOTTOM - tall * up.place(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    # So many points that their dots would touch are a line already.
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in places if len(places) <= 60)
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'{line}<g fill="{colour}">{dots}</g>'


def _text(x: float, y: float, words: str, anchor: str, size: int = 11, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#333" {more}'
    return f"<text {place.strip()}>{html.escape(words)}</text>"
