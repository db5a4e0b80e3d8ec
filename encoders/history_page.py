"""The page of a training run: its curves, the pairs that it gets wrong, and its settings."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from encoders.charts import Axis, chart

STYLE = (
    "body{font:14px sans-serif;max-width:700px;margin:2em auto;color:#222}svg{display:block;margin:1em 0}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:2px 18px 2px 0;font-weight:normal;"
    "border-bottom:1px solid #ddd}th{color:#666}.pair{display:inline-block;margin:0 14px 14px 0;"
    "vertical-align:top;max-width:210px;font-size:11px;overflow-wrap:anywhere}"
    ".pair img{margin-right:4px;border:1px solid #ddd}.text{font-size:15px;display:block}"
)


def page(
    words: str,
    losses: list[dict[str, Any]],
    validations: list[dict[str, Any]],
    settings: dict[str, Any],
    mistakes: Sequence[dict[str, Any]] = (),
    pictures: Sequence[tuple[str, str]] = (),
) -> str:
    """The HTML page, as text, of the parts of a `History`; it refers to nothing outside itself."""
    loss = {"loss": [(r["step"], r["loss"]) for r in losses]}
    rates = {"EER": [(r["step"], 100 * r["eer"]) for r in validations]}
    if measured := [r for r in validations if r["one_shot_error"] is not None]:
        rates["one-shot error"] = [(r["step"], 100 * r["one_shot_error"]) for r in measured]
    told = html.escape(words).replace("\n", "<br>")
    charts = over_steps("training", "loss", loss) + over_steps("validation", "%", rates)
    return (
        f"<!doctype html><meta charset='utf-8'><title>Training history</title><style>{STYLE}</style>"
        f"<h1>Training history</h1><p>{told}</p>{charts}{wrong(mistakes, pictures)}"
        f"<h2>Settings</h2>{table(settings)}\n"
    )


def over_steps(title: str, unit: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """A chart of what was recorded over the steps."""
    points = [point for line in series.values() for point in line]
    right, top = (max((p[k] for p in points), default=1.0) or 1.0 for k in (0, 1))
    return chart(title, series, Axis("step", 0.0, right, "whole"), Axis(unit, 0.0, top))


def wrong(mistakes: Sequence[dict[str, Any]], pictures: Sequence[tuple[str, str]]) -> str:
    """The pairs on the wrong side of the threshold, with what the encoder sees of both items."""
    if not mistakes:
        return ""
    parts = ["<h2>Pairs it gets wrong, of held-out subjects</h2>"]
    shown = list(pictures) or [("", "")] * len(mistakes)
    for mated, title in ((True, "one subject, too far apart"), (False, "two subjects, too close")):
        pairs = [_pair(one, seen) for one, seen in zip(mistakes, shown, strict=True) if one["mated"] == mated]
        parts.append(f"<h3>{title}</h3>{''.join(pairs) or '<p>none</p>'}")
    return "".join(parts)


def _pair(one: dict[str, Any], seen: tuple[str, str]) -> str:
    names = " / ".join(html.escape(one[side]["item"].rsplit("/", 1)[-1]) for side in ("left", "right"))
    subjects = " / ".join(dict.fromkeys(html.escape(one[side]["subject"]) for side in ("left", "right")))
    return f"<div class='pair'>{''.join(seen)}<br><b>{subjects}</b> at {one['distance']:.3f}<br>{names}</div>"


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
