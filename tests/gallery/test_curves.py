"""Curves of error rates, against plain loops and other people's code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from gallery.curves import curve, equal_error_rate, fnmr_at_fmr

Values = st.lists(st.integers(0, 12), min_size=1, max_size=30)


def drawn(seed, mated, other, step=0.0):
    chance = np.random.default_rng(seed)
    parts = chance.normal(0.4, 0.15, mated), chance.normal(0.9, 0.15, other)
    if step:
        parts = tuple(np.round(part / step) * step for part in parts)
    return tuple(part.astype("f4") for part in parts)


@given(Values, Values)
def test_rates_are_those_of_plain_loops(mated, other):
    found = curve(np.array(mated, "f4"), np.array(other, "f4"))
    assert found.thresholds.tolist() == [-np.inf, *sorted({*mated, *other})]
    for at, fmr, fnmr in zip(found.thresholds, found.fmr, found.fnmr, strict=True):
        assert fmr == pytest.approx(sum(one <= at for one in other) / len(other), abs=1e-12)
        assert fnmr == pytest.approx(sum(one > at for one in mated) / len(mated), abs=1e-12)


@given(Values, Values, st.floats(0, 1))
def test_the_fnmr_at_an_fmr_is_the_smallest_of_all_that_keep_to_it(mated, other, fmr):
    found = curve(np.array(mated, "f4"), np.array(other, "f4"))
    assert fnmr_at_fmr(found, fmr) == found.fnmr[found.fmr <= fmr].min()


@pytest.mark.parametrize(
    ("mated", "other", "eer", "at"),
    [
        ([1, 2, 3], [4, 5, 6], 0.0, 3),
        ([1, 2, 3, 8], [4, 5, 6, 7], 0.25, 4),
        ([5], [1], 1.0, 1),  # at 1 the wrong one is accepted and the right one is not
    ],
)
def test_equal_error_rates_that_can_be_counted_by_hand(mated, other, eer, at):
    value, threshold = equal_error_rate(curve(np.array(mated, "f4"), np.array(other, "f4")))
    assert (value, threshold) == (pytest.approx(eer), at)


@pytest.mark.parametrize("step", [0.0, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_rates_and_eer_agree_with_scikit_learn(seed, step):
    mated, other = drawn(seed, 300, 4000, step)
    far, hit, limits = roc_curve(
        np.r_[np.ones(len(mated)), np.zeros(len(other))],
        -np.r_[mated, other].astype(np.float64),
        drop_intermediate=False,
    )
    found = curve(mated, other)
    np.testing.assert_allclose(found.thresholds, -limits, atol=0)
    np.testing.assert_allclose(found.fmr, far, atol=1e-9)
    np.testing.assert_allclose(found.fnmr, 1 - hit, atol=1e-9)
    # Of the two sides of the crossing the one with fewer errors.
    after = next(at for at in range(len(far)) if far[at] >= 1 - hit[at])
    sides = [after] if far[after] == 1 - hit[after] else [after - 1, after]
    expected = min((far[at] + 1 - hit[at]) / 2 for at in sides)
    assert equal_error_rate(found)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("step", [0.0, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_rates_and_eer_agree_with_pyeer(seed, step):
    eer_stats = pytest.importorskip("pyeer.eer_stats", reason="pyeer is not installed")
    mated, other = drawn(seed, 300, 4000, step)
    limits, fmr, fnmr = eer_stats.calculate_roc(
        mated.astype(np.float64), other.astype(np.float64), ds_scores=True
    )
    found = curve(mated, other)
    # Its thresholds descend and do without the one that accepts nothing.
    np.testing.assert_allclose(found.thresholds[1:], limits[::-1], atol=1e-9)
    np.testing.assert_allclose(found.fmr[1:], fmr[::-1], atol=1e-9)
    np.testing.assert_allclose(found.fnmr[1:], fnmr[::-1], atol=1e-9)
    assert equal_error_rate(found)[0] == pytest.approx(eer_stats.get_eer_values(fmr, fnmr)[-1], abs=1e-9)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="not 0 and 3"):
        curve(np.empty(0, "f4"), np.ones(3, "f4"))
