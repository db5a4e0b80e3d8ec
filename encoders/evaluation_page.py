"""The plots of an evaluation as SVG, and one HTML page with all of it, explained. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from encoders.charts import Axis, below, chart
from encoders.evaluation import Rate, share
from encoders.page_frame import cards, figure, framed, note, table
from encoders.verification import Curve

CAPTIONS = {
    "roc": "How many mated pairs are accepted where so many non-mated ones are; nearer to the upper left is "
    "better.",
    "det": "Every threshold is a point: false matches to the right, false non-matches upwards; nearer to the "
    "lower left is better.",
    "cmc": "How often the right subject is among the nearest so many.",
}
INTERVALS = (
    "Brackets are 95 % intervals that resample subjects, since the items of one subject are not independent: "
    "they narrow with more subjects, not with more items of the same."
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table: what it is called, a sentence on what it means, and the rate."""

    name: str
    words: str
    rate: Rate


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
        up = Axis("identification rate", max(0.0, below(min(cmc), 1.0)), 1.0)
        found["cmc"] = chart("CMC", line, ranks, up)
    return found


def page(
    title: str,
    top: Sequence[tuple[str, str]],
    words: str,
    tables: Mapping[str, Sequence[Figure]],
    curve: Curve,
    cmc: Sequence[float],
    mistakes: str,
) -> str:
    """The HTML page, as text; it refers to nothing outside itself.

    `top` are the few figures of its head, `tables` the others under their headings, `mistakes` is HTML.
    """
    drawn = "".join(figure(svg, CAPTIONS[name]) for name, svg in plots(curve, cmc).items())
    told = "".join(f"<h2>{heading}</h2>{_table(figures)}" for heading, figures in tables.items() if figures)
    curves = f'<h2>Curves</h2><div class="charts">{drawn}</div>'
    return framed(title, f"{cards(top)}{note(words)}{told}{curves}{mistakes}")


def _table(figures: Sequence[Figure]) -> str:
    rows = [
        (one.name, one.words, share(one.rate.value), one.rate.between, f"{one.rate.count:,}")
        for one in figures
    ]
    return table(("", "", "measured", "95 % interval", "of"), rows, "rates")


def _floor(low: float) -> int:
    exponent = 0
    while 10.0**exponent > low * 1.0000001 and exponent > -6:
        exponent -= 1
    return exponent
