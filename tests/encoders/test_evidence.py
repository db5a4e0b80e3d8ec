"""How many comparisons a rate needs: the rule of three, and the words for it."""

from __future__ import annotations

import math

import pytest

from encoders import evidence


@pytest.mark.parametrize(
    ("rate", "words"), [(0.00005, "0.005%"), (0.001, "0.1%"), (0.01, "1%"), (0.1234, "12.3%"), (0.0, "0%")]
)
def test_percent_keeps_three_digits(rate: float, words: str) -> None:
    assert evidence.percent(rate) == words


def test_comparisons_that_a_rate_needs() -> None:
    assert [evidence.needed(f) for f in (0.01, 0.001, 0.00005, 0.007)] == [300, 3000, 60_000, 429]
    assert evidence.no_threshold(0.01, 756_400) == ""  # glyph
    assert evidence.no_threshold(0.00005, 203_841) == ""  # photo
    assert evidence.no_threshold(0.001, 3000) == "" != evidence.no_threshold(0.001, 2999)


def test_why_there_is_no_threshold() -> None:
    assert evidence.no_threshold(0.001, 600) == (
        "no threshold recommended: FMR 0.1% needs at least 3,000 non-mated comparisons of held-out subjects, "
        "there are 600; hold out more subjects or pass --fmr 0.005"
    )
    assert evidence.no_threshold(0.001, 16).endswith("there are 16; hold out more subjects")


def test_the_rate_advised_is_supported_and_nearly_the_least() -> None:
    for count in range(30, 5000, 7):
        rate = evidence.reachable(count)
        assert rate is not None and evidence.needed(rate) <= count and rate <= 1.1 * 3 / count


def test_what_too_few_comparisons_say() -> None:
    words = "too few non-mated comparisons for FMR 0.1%, which needs at least 3,000: there are 2,400"
    assert evidence.too_few(0.001, 2400) == words
    assert evidence.too_few(0.001, 1).endswith("there is 1")
    assert evidence.too_few(0.1, 30) == ""
    # The exact limit for no error in n trials is 1 - 0.05 ** (1 / n), a little below 3/n.
    assert 1 - math.pow(0.05, 1 / 112) == pytest.approx(3 / 112, rel=0.02)
