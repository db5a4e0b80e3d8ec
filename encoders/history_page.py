"""The page of a training run: its curves, the pairs that it gets wrong, and its settings."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from encoders.charts import Axis, chart
from encoders.page_frame import figure, framed, note, table


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
    told = "On the subjects of the validation: the EER is where false matches and non-matches are as frequent"
    if measured := [r for r in validations if r["one_shot_error"] is not None]:
        rates["one-shot error"] = [(r["step"], 100 * r["one_shot_error"]) for r in measured]
        told += ", the one-shot error how often the nearest of up to 20 subjects, one item each, is wrong"
    charts = figure(
        over_steps("training", "loss", loss),
        "Of the batches, a mean since the point before; lower is better.",
    ) + figure(over_steps("validation", "%", rates), f"{told}.")
    return framed(
        "Training history",
        f'{note(words)}<div class="charts">{charts}</div>'
        f"{wrong(mistakes, pictures, 'Pairs it gets wrong, of the validation')}"
        f"<h2>Settings</h2>{settings_table(settings)}",
    )


def over_steps(title: str, unit: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """A chart of what was recorded over the steps."""
    points = [point for line in series.values() for point in line]
    right, top = (max((p[k] for p in points), default=1.0) or 1.0 for k in (0, 1))
    return chart(title, series, Axis("step", 0.0, right, "whole"), Axis(unit, 0.0, top))


def wrong(
    mistakes: Sequence[dict[str, Any]], pictures: Sequence[tuple[str, str]], title: str, told: str = ""
) -> str:
    """The pairs on the wrong side of the threshold, with what the encoder sees of both items."""
    if not mistakes:
        return ""
    parts = [f"<h2>{html.escape(title)}</h2>{told}"]
    shown = list(pictures) or [("", "")] * len(mistakes)
    for mated, kind in ((True, "one subject, too far apart"), (False, "two subjects, too close")):
        pairs = [_pair(one, seen) for one, seen in zip(mistakes, shown, strict=True) if one["mated"] == mated]
        parts.append(f"<h3>{kind}</h3><div class='row'>{''.join(pairs) or '<p>none</p>'}</div>")
    return "".join(parts)


def _pair(one: dict[str, Any], seen: tuple[str, str]) -> str:
    names = " / ".join(html.escape(one[side]["item"].rsplit("/", 1)[-1]) for side in ("left", "right"))
    subjects = " / ".join(dict.fromkeys(html.escape(one[side]["subject"]) for side in ("left", "right")))
    see = f"{''.join(seen)}<br>" if any(seen) else ""
    told = f"<b>{subjects}</b> at {one['distance']:.3f}<div class='path'>{names}</div>"
    return f"<div class='pair'>{see}{told}</div>"


def settings_table(settings: dict[str, Any]) -> str:
    """The settings, one a row."""
    return table((), [(name, _plain(value)) for name, value in settings.items()], "settings")


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
