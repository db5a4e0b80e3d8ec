"""Charts: marks at round numbers, nothing on top of anything else."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from encoders import charts
from encoders.charts import Axis
from encoders.evaluation_page import plots
from encoders.verification import Comparisons

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("low", "high", "scale", "marks"),
    [
        (0.0, 11.2, "linear", "0 2 4 6 8 10"),
        (0.5093, 1.0, "linear", "0.6 0.7 0.8 0.9 1"),
        (0.01754, 0.3361, "linear", "0.05 0.1 0.15 0.2 0.25 0.3"),
        (0.0, 0.08765, "linear", "0 0.02 0.04 0.06 0.08"),
        (0.0, 3e-7, "linear", "0 5e-08 1e-07 1.5e-07 2e-07 2.5e-07 3e-07"),
        (0.0, 20_000.0, "whole", "0 5,000 10,000 15,000 20,000"),
        (1.0, 50.0, "whole", "1 10 20 30 40 50"),
        (1.0, 2.0, "whole", "1 2"),
        (0.0, 3.0, "whole", "0 1 2 3"),
        (1e-5, 1.0, "log", "1e-05 0.0001 0.001 0.01 0.1 1"),
        (5.0, 5.0, "linear", "5"),
    ],
)
def test_marks_are_round(low: float, high: float, scale: str, marks: str) -> None:
    assert " ".join(map(charts.said, Axis("", low, high, scale).marks())) == marks


@pytest.mark.parametrize(
    ("value", "low"), [(1.0, 0.9), (0.99, 0.9), (0.9, 0.88), (0.8621, 0.86), (0.5, 0.4), (0.724, 0.7)]
)
def test_the_least_value_stands_above_the_axis(value: float, low: float) -> None:
    assert charts.below(value, 1.0) == low


def test_whoever_is_always_identified_is_at_the_top() -> None:
    """It lay on the bottom axis, where every mark said 1."""
    curve = Comparisons([0.1, 0.2], [0.8, 0.9]).curve()
    drawn = ElementTree.fromstring(plots(curve, [1.0, 1.0, 1.0])["cmc"])
    points = drawn.find(f"{SVG}polyline").get("points", "").split()  # type: ignore[union-attr]
    assert {float(point.split(",")[1]) for point in points} == {charts.TOP}
    marks = [text.text for text in drawn.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert marks[:6] == ["0.9", "0.92", "0.94", "0.96", "0.98", "1"]


@pytest.mark.parametrize("top", [1.0, 11.2, 0.08765, 123_456.0, 1.2e-6, 9_876_543.0])
def test_no_mark_reaches_the_words_of_its_axis_or_the_edge(top: float) -> None:
    line = {"x": [(0.0, 0.0), (top, top)]}
    drawn = ElementTree.fromstring(charts.chart("t", line, Axis("a", 0.0, top), Axis("loss", 0.0, top)))
    frame = next(drawn.iter(f"{SVG}path")).get("d", "")
    left = float(re.findall(r"M([\d.]+)", frame)[0])
    for text in drawn.iter(f"{SVG}text"):
        x, wide = float(text.get("x", "0")), charts.LETTER * len(text.text or "")
        if text.get("text-anchor") == "end" and x < left:
            assert x - wide >= 20  # the words, turned, are 12 high and stand around 12
        if text.get("text-anchor") == "middle" and text.get("transform") is None:
            assert x + wide / 2 <= charts.WIDTH
