"""The page of a training run: two SVG charts, drawn by hand, and a table of its settings."""

from __future__ import annotations

import html
import json
from typing import Any

Point = tuple[float, float]
WIDTH, HEIGHT, EDGE = 640, 210, 46
TOP, BOTTOM, RIGHT = 28, HEIGHT - 24, WIDTH - 20
COLOURS = ("#1f6fb4", "#c4501b")
STYLE = (
    "body{font:14px sans-serif;max-width:700px;margin:2em auto;color:#222}svg{display:block;margin:1em 0}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:2px 18px 2px 0;font-weight:normal;"
    "border-bottom:1px solid #ddd}th{color:#666}"
)


def page(
    words: str, losses: list[dict[str, Any]], validations: list[dict[str, Any]], settings: dict[str, Any]
) -> str:
    """The HTML page, as text, of the parts of a `History`; it refers to nothing outside itself."""
    loss = {"loss": [(r["step"], r["loss"]) for r in losses]}
    rates = {
        "EER": [(r["step"], 100 * r["eer"]) for r in validations],
        "one-shot error": [(r["step"], 100 * r["one_shot_error"]) for r in validations],
    }
    told = html.escape(words).replace("\n", "<br>")
    charts = chart("training", loss) + chart("validation, %", rates)
    return (
        f"<!doctype html><meta charset='utf-8'><title>Training history</title><style>{STYLE}</style>"
        f"<h1>Training history</h1><p>{told}</p>{charts}{table(settings)}\n"
    )


def table(settings: dict[str, Any]) -> str:
    """The settings, one a row."""
    rows = (
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(_plain(v))}</td></tr>" for k, v in settings.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def chart(title: str, series: dict[str, list[Point]]) -> str:
    """One SVG chart of lines with their points; an empty series is left out."""
    series = {name: points for name, points in series.items() if points}
    everything = [p for points in series.values() for p in points]
    if not everything:
        return f"<p>{html.escape(title)}: nothing recorded</p>"
    right, top = max(p[0] for p in everything) or 1.0, max(p[1] for p in everything) or 1.0
    lines = [_line(points, right, top, COLOURS[k % 2]) for k, points in enumerate(series.values())]
    inside = _axes(right, top) + _text(EDGE, 14, title, "start") + _legend(list(series)) + "".join(lines)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{inside}</svg>'


def _axes(right: float, top: float) -> str:
    """The two axes with a mark at their start, middle and end."""
    frame = f'<path d="M{EDGE} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#888"/>'
    for share in (0.0, 0.5, 1.0):
        x, y = EDGE + share * (RIGHT - EDGE), BOTTOM - share * (BOTTOM - TOP)
        frame += f'<path d="M{EDGE - 4} {y:.1f}h4M{x:.1f} {BOTTOM}v4" stroke="#888"/>'
        step = f"{share * right:,.6g}" if share < 1.0 else f"step {right:,.0f}"
        frame += _text(EDGE - 7, y + 4, f"{share * top:.3g}", "end")
        frame += _text(x, HEIGHT - 6, step, "end" if share == 1.0 else "middle")
    return frame


def _legend(names: list[str]) -> str:
    """The names above the chart, at the right, each in the colour of its line."""
    spans = (f'<tspan dx="12" fill="{COLOURS[k % 2]}">{html.escape(n)}</tspan>' for k, n in enumerate(names))
    return f'<text x="{RIGHT}" y="14" font-size="11" text-anchor="end">{"".join(spans)}</text>'


def _line(points: list[Point], right: float, top: float, colour: str) -> str:
    wide, tall = RIGHT - EDGE, BOTTOM - TOP
    places = [(EDGE + wide * x / right, BOTTOM - tall * y / top) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    # So many points that their dots would touch are a line already.
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in places if len(places) <= 60)
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'{line}<g fill="{colour}">{dots}</g>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" fill="#333"'
    return f"<text {place}>{html.escape(words)}</text>"
