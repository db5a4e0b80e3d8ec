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


def test_a_pair_of_subjects_is_one_comparison() -> None:
    """However many items they have: two speakers gave a threshold for FMR 0.1 % "from 10,000 comparisons"."""
    assert [evidence.pairs(n) for n in (0, 1, 2, 20, 78)] == [0, 0, 1, 190, 3003]
    for fmr in (0.1, 0.05, 0.01, 0.001, 0.00005):
        least = evidence.subjects_for(fmr)
        assert evidence.no_threshold(fmr, least) == "" != evidence.no_threshold(fmr, least - 1)
        assert evidence.pairs(least) >= evidence.needed(fmr) > evidence.pairs(least - 1)


def test_why_there_is_no_threshold() -> None:
    assert evidence.no_threshold(0.001, 20) == (
        "no threshold recommended: FMR 0.1% needs at least 3,000 pairs of held-out subjects, 20 subjects "
        "make 190; hold out 78 or pass --fmr 0.016, or measure one on items of your own: gallery calibrate"
    )
    assert "2 subjects make 1; hold out 78, or measure one" in evidence.no_threshold(0.001, 2)


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
