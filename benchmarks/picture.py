"""Pictures of the benchmarks: lines over linear or logarithmic axes, as SVG files in `docs/`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from encoders.charts import Axis

Point = tuple[float, float]

DOCS = Path(__file__).resolve().parents[1] / "docs"
_WIDTH, _HEIGHT = 860, 420
_LEFT, _TOP, _RIGHT, _BOTTOM = 74, 40, 620, _HEIGHT - 52
_COLOURS = (
    *("#c4501b", "#1f6fb4", "#2a8f4c", "#7a4fb0", "#b08a00"),
    *("#d03a7a", "#2aa5a5", "#666666", "#8a5a2b", "#000000"),
)


def lines(title: str, series: Mapping[str, Sequence[Point]], across: Axis, up: Axis) -> str:
    """One SVG with a line and a legend for each series; names that begin with "ours" are drawn thick."""
    parts = [_text(_LEFT, 22, title, "start", 15), _frame(across, up)]
    for at, (name, points) in enumerate(series.items()):
        colour, thick = _COLOURS[at % len(_COLOURS)], 3 if name.startswith("ours") else 1.5
        places = [
            (_LEFT + across.place(x) * (_RIGHT - _LEFT), _BOTTOM - up.place(y) * (_BOTTOM - _TOP))
            for x, y in points
            if across.low <= x <= across.high and up.low <= y <= up.high
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{thick + 1.5}"/>' for x, y in places)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'
            f'<g fill="{colour}">{dots}</g>'
        )
        y = _TOP + 14 + 22 * at
        parts.append(f'<path d="M{_RIGHT + 16} {y - 4}h22" stroke="{colour}" stroke-width="{thick}"/>')
        parts.append(_text(_RIGHT + 44, y, name, "start", 12))
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    ground = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
    inside = ground + "".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif">{inside}</svg>\n'


def saved(name: str, drawn: str, folder: Path = DOCS) -> Path:
    """Writes a picture as `<folder>/<name>.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    path.write_text(drawn, encoding="utf-8")
    return path


def around(values: Sequence[float]) -> tuple[float, float]:
    """The powers of ten below and above some values."""
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))


def _frame(across: Axis, up: Axis) -> str:
    parts = []
    for value in across.marks():
        x = _LEFT + across.place(value) * (_RIGHT - _LEFT)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_BOTTOM + 4}" stroke="#ddd"/>')
        parts.append(_text(x, _BOTTOM + 18, f"{value:,.6g}", "middle"))
    for value in up.marks() if up.words else ():
        y = _BOTTOM - up.place(value) * (_BOTTOM - _TOP)
        parts.append(f'<path d="M{_LEFT - 4} {y:.1f}H{_RIGHT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:,.6g}", "end"))
    parts.append(f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="#888"/>')
    parts.append(_text((_LEFT + _RIGHT) / 2, _HEIGHT - 14, across.words, "middle"))
    middle = (_TOP + _BOTTOM) / 2
    parts.append(_text(14, middle, up.words, "middle", more=f' transform="rotate(-90 14 {middle})"'))
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str, size: int = 11, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#333"{more}'
    return f"<text {place}>{escape(words)}</text>"
