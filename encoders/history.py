"""What a training run did: a record that is written as JSON and drawn as an SVG page, by hand."""

from __future__ import annotations

import html
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Point = tuple[float, float]
WIDTH, HEIGHT, EDGE = 640, 200, 46


@dataclass(slots=True)
class History:
    """The settings of a run and what was measured on the way.

    `losses` has {"step", "loss", "seconds"}, the loss a mean since the one before; `validations` has {"step",
    "eer", "one_shot_error"}, rates in [0, 1]. `threshold` was set for `threshold_fmr` on the validation
    non-mated comparisons, `evidence` says how many of them and of how many subjects.
    """

    settings: dict[str, Any]
    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    threshold: float | None = None
    threshold_fmr: float | None = None
    evidence: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self)

    def save_plot(self, path: str | os.PathLike[str]) -> Path:
        """Writes one self-contained HTML page with the loss and the validation error rates over steps."""
        place = Path(path)
        place.write_text(page(self), encoding="utf-8")
        return place


def load(path: str | os.PathLike[str]) -> History:
    """The record that `to_json` gave, from a file (a checkpoint's `history.json`)."""
    return History(**json.loads(Path(path).read_text(encoding="utf-8")))


def page(history: History) -> str:
    """The HTML page of `save_plot`, as text."""
    loss = chart("training loss", {"loss": [(r["step"], r["loss"]) for r in history.losses]})
    rates = {
        name: [(r["step"], 100 * r[name]) for r in history.validations] for name in ("eer", "one_shot_error")
    }
    facts = html.escape(json.dumps(history.settings, indent=2, ensure_ascii=False))
    charts = loss + chart("validation error, %", rates)
    return (
        "<!doctype html><meta charset='utf-8'><title>Training history</title>"
        "<style>body{font:14px sans-serif;max-width:700px;margin:2em auto}"
        "svg{display:block;margin:1em 0}</style>"
        f"<h1>Training history</h1>{charts}<pre>{facts}</pre>\n"
    )


def chart(title: str, series: dict[str, list[Point]]) -> str:
    """One SVG line chart; an empty series is left out."""
    series = {name: points for name, points in series.items() if points}
    everything = [p for points in series.values() for p in points]
    if not everything:
        return f"<p>{html.escape(title)}: nothing recorded</p>"
    right, top = max(p[0] for p in everything) or 1.0, max(p[1] for p in everything) or 1.0
    lines = [_line(n, p, right, top, k) for k, (n, p) in enumerate(series.items())]
    frame = f'<path d="M{EDGE} 20V{HEIGHT - 24}H{WIDTH - 8}" fill="none" stroke="#888"/>'
    marks = _text(EDGE - 4, 26, f"{top:.3g}", "end") + _text(EDGE - 4, HEIGHT - 22, "0", "end")
    marks += _text(WIDTH - 8, HEIGHT - 8, f"step {right:,.0f}", "end") + _text(EDGE, 12, title, "start")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{frame}{marks}{"".join(lines)}</svg>'


def _line(name: str, points: list[Point], right: float, top: float, number: int) -> str:
    colour = ("#1f6fb4", "#c4501b", "#2a8a4a")[number % 3]
    wide, tall = WIDTH - 8 - EDGE, HEIGHT - 44
    path = " ".join(f"{EDGE + wide * x / right:.1f},{HEIGHT - 24 - tall * y / top:.1f}" for x, y in points)
    label = _text(WIDTH - 12, 32 + 16 * number, name.replace("_", " "), "end", colour)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>{label}'


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#333") -> str:
    place = f'x="{x}" y="{y}" font-size="11" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{html.escape(words)}</text>"
