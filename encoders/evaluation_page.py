"""The plots of an evaluation as SVG, and one HTML page with all of them. PURE."""

from __future__ import annotations

import html
from collections.abc import Sequence

from encoders.charts import Axis, below, chart
from encoders.verification import Curve

STYLE = (
    "body{font:14px sans-serif;max-width:700px;margin:2em auto;color:#222}svg{display:block;margin:1.5em 0}"
)


def plots(curve: Curve, cmc: Sequence[float]) -> dict[str, str]:
    """{"roc": svg, "det": svg} and, where there is one, "cmc"."""
    low = max(1e-6, min((float(f) for f in curve.fmr if f > 0), default=1e-3))
    points = [(max(float(f), low), 1 - float(n)) for f, n in zip(curve.fmr, curve.fnmr, strict=True)]
    least = max(1e-4, min(low, 0.01))
    errors = [
        (min(max(float(f), least), 0.8), min(max(float(n), least), 0.8))
        for f, n in zip(curve.fmr, curve.fnmr, strict=True)
    ]
    across = Axis("false match rate", 10.0 ** _floor(low), 1.0, "log")
    found = {
        "roc": chart("ROC", {"true match rate": points}, across, Axis("true match rate", 0.0, 1.0)),
        "det": chart(
            "DET",
            {"errors": errors},
            Axis("false match rate", least, 0.8, "probit"),
            Axis("false non-match rate", least, 0.8, "probit"),
        ),
    }
    if len(cmc):
        line = {"identified": [(k + 1.0, float(rate)) for k, rate in enumerate(cmc)]}
        ranks = Axis("rank", 1.0, max(2.0, float(len(cmc))), "whole")
        found["cmc"] = chart(
            "CMC", line, ranks, Axis("identification rate", max(0.0, below(min(cmc), 1.0)), 1.0)
        )
    return found


def page(words: str, curve: Curve, cmc: Sequence[float]) -> str:
    """The HTML page, as text; it refers to nothing outside itself."""
    told = html.escape(words).replace("\n", "<br>")
    drawn = "".join(plots(curve, cmc).values())
    return (
        f"<!doctype html><meta charset='utf-8'><title>Evaluation</title><style>{STYLE}</style>"
        f"<h1>Evaluation</h1><p>{told}</p>{drawn}\n"
    )


def _floor(low: float) -> int:
    exponent = 0
    while 10.0**exponent > low * 1.0000001 and exponent > -6:
        exponent -= 1
    return exponent
