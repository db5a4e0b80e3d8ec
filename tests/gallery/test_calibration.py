"""Error rates, their intervals and thresholds, against plain loops, known truth and other people's code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_curve

from gallery.calibration import (
    Scores,
    check_supported,
    exact_interval,
    predicted_fpir,
    rates,
    threshold_for_fmr,
    threshold_for_fpir,
    worth,
)
from gallery.decisions import accepted
from gallery.engines.scoring import ranks
from gallery.errors import NotEnoughDataError
from gallery.extremes import fitted

INF = np.inf


def simulated(subjects: int, each: int, spread: float, chance: np.random.Generator) -> Scores:
    """Normal distances around 5 and 2.5; each subject moves all of its own by the same amount."""
    moved = chance.normal(0, spread, subjects)
    owner = np.repeat(np.arange(subjects), each)
    distances = 5 + moved[owner][:, None] + moved[None, :] + chance.normal(0, 1, (len(owner), subjects))
    distances[np.arange(len(owner)), owner] = np.inf
    mated = 2.5 + moved[owner] + chance.normal(0, 1, len(owner))
    return scores_of(distances, mated, owner)


def of_points(
    people: np.ndarray, noise: float, each: int, chance: np.random.Generator
) -> tuple[Scores, np.ndarray]:
    """Points around `people`, (s, d), each compared with all others: what A is to B, B is to A."""
    count, dim = people.shape
    owner = np.repeat(np.arange(count), each)
    points = people[owner] + noise * chance.normal(0, 1, (count * each, dim))
    squares = np.square(points).sum(axis=1)
    away = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0))
    np.fill_diagonal(away, INF)
    fused = away.reshape(len(owner), count, each).min(axis=2)
    mated = fused[np.arange(len(owner)), owner].copy()
    mated[np.isinf(mated)] = np.nan
    fused[np.arange(len(owner)), owner] = INF
    return scores_of(fused, mated, owner), points


@given(st.floats(0, width=64, allow_nan=False), st.floats(0, 2, width=32))
def test_what_is_accepted_is_compared_as_a_number(threshold, distance):
    both = np.array([distance, INF], np.float32)
    assert accepted(both, threshold).tolist() == [float(distance) <= threshold, False]
    if threshold < 3e38:
        edge = np.float32(threshold)
        some = np.array([np.nextafter(edge, np.float32(-1)), edge, np.nextafter(edge, np.float32(INF))])
        assert accepted(some, threshold).tolist() == [float(one) <= threshold for one in some]


def true_fmr(threshold: float, spread: float) -> float:
    return float(stats.norm.cdf((threshold - 5) / np.sqrt(1 + 2 * spread**2)))


def scores_of(distances, mated, owners) -> Scores:
    distances = np.asarray(distances, "f4")
    ranked = np.sort(np.pad(distances, ((0, 0), (0, 1)), constant_values=INF), axis=1)
    return Scores(
        distances,
        np.asarray(mated, "f4"),
        ranked[:, 0],
        ranked[:, 1],
        np.where(np.isfinite(ranked[:, 0]), distances.argmin(axis=1), -1),
        ranks(np.asarray(mated, "f4"), distances),
        np.asarray(owners, np.int64),
        distances.shape[1],
    )


SMALL = scores_of(
    [[INF, 4, 5, 6], [INF, 3, 9, 8], [4, INF, 7, 7], [5, 2, INF, 4], [1, 6, 6, 6]],
    [1, 5, 2, np.nan, np.nan],
    [0, 0, 1, 2, 4],
)
"""Three enrolled subjects have probes, a fourth has none, and number 4 is not enrolled."""


def test_rates_of_a_case_that_can_be_counted_by_hand():
    found = rates(SMALL, 4.0)
    assert (found["fmr"].value, found["fmr"].trials) == (6 / 16, 16)
    assert (found["fnmr"].value, found["fnmr"].trials) == (1 / 3, 3)
    assert (found["fpir"].value, found["fpir"].trials) == (1.0, 5)
    assert found["fnir"] == found["fnmr"]
    assert rates(SMALL, 3.0)["fpir"].value == 3 / 5
    assert rates(SMALL, 0.5)["fmr"].value == 0.0
    assert rates(SMALL, 0.5)["fnmr"].value == 1.0


def test_a_threshold_accepts_at_most_the_share_asked_for_and_no_larger_one_does():
    for target in (0.01, 0.1, 0.2, 0.3, 0.5, 0.8):
        each = np.sort(SMALL.distances[np.isfinite(SMALL.distances)])
        limit = threshold_for_fmr(SMALL, target)
        assert rates(SMALL, limit)["fmr"].value <= target
        larger = each[each > np.float32(limit)]
        assert not len(larger) or (each <= larger[0]).mean() > target
        limit = threshold_for_fpir(SMALL, target)
        assert rates(SMALL, limit)["fpir"].value <= target


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    st.floats(0.001, 0.999),
)
def test_ties_never_make_a_threshold_accept_too_many(values, target):
    rows = scores_of([[INF, *values]], [np.nan], [0])
    limit = np.float32(threshold_for_fmr(rows, target))
    each = np.array(values, "f4")
    if limit > 0:
        assert (each <= limit).mean() <= target
        above = each[each > limit]
        assert not len(above) or (each <= above.min()).mean() > target


def test_exact_intervals_are_scipys():
    for wrong, total in ((0, 10), (1, 10), (5, 10), (10, 10), (3, 1000), (0, 7)):
        theirs = stats.binomtest(wrong, total).proportion_ci(0.95, "exact")
        assert exact_interval(wrong, total) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_two_people_who_differ_in_everything_say_nothing():
    near = np.full((6, 6), 9.0)
    near[:3] = 1
    found = rates(scores_of(near, np.full(6, np.nan), [7, 7, 7, 8, 8, 8]), 1.0)["fpir"]
    assert (found.value, found.low, found.high, found.independent) == (0.5, 0.0, 1.0, 0)


def test_rates_agree_with_scikit_learn():
    scores = simulated(40, 3, 0.3, np.random.default_rng(0))
    other = scores.distances[np.isfinite(scores.distances)]
    far, hit, limits = roc_curve(
        np.r_[np.ones(len(scores.mated)), np.zeros(len(other))],
        -np.r_[scores.mated, other].astype(np.float64),
        drop_intermediate=False,
    )
    for at in np.linspace(1, len(limits) - 1, 60).astype(int):
        found = rates(scores, float(-limits[at]))
        assert found["fmr"].value == pytest.approx(far[at], abs=1e-9)
        assert found["fnmr"].value == pytest.approx(1 - hit[at], abs=1e-9)


def test_refusals_say_what_it_would_take():
    with pytest.raises(
        NotEnoughDataError, match=r"0\.0001 needs about 30,000 .* comparisons, there are 8,120"
    ):
        check_supported("FMR", 1e-4, 8120)
    check_supported("FMR", 1e-4, 30_000)
    with pytest.raises(NotEnoughDataError, match="independent searches, there are 50"):
        check_supported("FPIR", 0.01, 50)


def test_what_the_data_is_worth_shrinks_with_what_subjects_have_in_common():
    chance = np.random.default_rng(0)
    alone, alike = (simulated(100, 2, spread, chance) for spread in (0.0, 0.8))
    pairs = 100 * 99 / 2
    assert worth(alone, "fmr", 0.01) == pairs
    assert worth(alike, "fmr", 0.01) < 0.4 * pairs
    # Two probes a subject: 200 searches where they have nothing in common, 100 where they have everything.
    same = simulated(100, 2, 5.0, chance)
    assert worth(alone, "fpir", 0.1) > 150
    assert worth(same, "fpir", 0.1) < 115


def test_errors_that_come_in_twos_count_once():
    """1 and 2 find each other, and so do 3 and 4; 5 finds 1, who does not find 5."""
    near = np.full((10, 10), 9.0)
    np.fill_diagonal(near, INF)
    for one, other in ((1, 2), (2, 1), (3, 4), (4, 3), (5, 1)):
        near[one, other] = 1
    scores = scores_of(near, np.full(10, np.nan), np.arange(10))
    own = sum((error - 0.5) ** 2 for error in 5 * [1] + 5 * [0])
    inflated = (own + 4) * 10 / 9 * (stats.t.ppf(0.975, 9) / 1.96) ** 2
    assert rates(scores, 1.0)["fpir"].independent == int(10 * 2.5 / inflated)
    # Where another is found as well, the error does not depend on the one.
    near[1, 7] = near[3, 7] = 1
    scores = scores_of(near, np.full(10, np.nan), np.arange(10))
    inflated = own * 10 / 9 * (stats.t.ppf(0.975, 9) / 1.96) ** 2
    assert rates(scores, 1.0)["fpir"].independent == int(10 * 2.5 / inflated)


@pytest.mark.parametrize(("people", "each", "dim"), [(100, 1, 10), (150, 2, 6)])
def test_fpir_intervals_cover_what_strangers_find_in_this_gallery(people, each, dim):
    covered = alone = 0
    rounds = 150
    for seed in range(rounds):
        chance = np.random.default_rng(seed)
        scores, points = of_points(chance.normal(0, 1, (people, dim)), 0.5, each, chance)
        limit = threshold_for_fpir(scores, 0.1)
        found = rates(scores, limit)["fpir"]
        strangers = chance.normal(0, np.sqrt(1.25), (1500, dim))
        squares = np.square(strangers).sum(axis=1)[:, None] + np.square(points).sum(axis=1)[None, :]
        nearest = np.sqrt(np.maximum(squares - 2 * strangers @ points.T, 0).min(axis=1))
        truth = (nearest <= limit).mean()
        covered += found.low <= truth <= found.high
        low, high = exact_interval(found.value * found.trials, found.trials)
        alone += low <= truth <= high
    assert 0.9 <= covered / rounds <= 0.99
    assert alone / rounds < 0.9


@pytest.mark.parametrize(("subjects", "each", "spread"), [(80, 2, 0.3), (120, 1, 0.6)])
def test_intervals_cover_the_truth_and_those_over_pairs_do_not(subjects, each, spread):
    """The short form of `benchmarks.calibration`."""
    covered = naive = within = 0
    rounds = 120
    for seed in range(rounds):
        scores = simulated(subjects, each, spread, np.random.default_rng(seed))
        limit = threshold_for_fmr(scores, 0.01)
        found, truth = rates(scores, limit)["fmr"], true_fmr(limit, spread)
        covered += found.low <= truth <= found.high
        low, high = exact_interval(found.value * found.trials, found.trials)
        naive += low <= truth <= high
        within += 0.005 <= truth <= 0.02
    assert 0.88 <= covered / rounds <= 0.995
    assert naive / rounds < 0.8
    assert within / rounds >= 0.95


def test_the_fpir_of_other_sizes_is_predicted():
    chance = np.random.default_rng(3)
    scores = simulated(600, 1, 0.4, chance)
    limit = threshold_for_fpir(scores, 0.1)
    for size in (20, 100, 400):
        drawn = []
        for _ in range(40):
            some = chance.choice(600, size, replace=False)
            drawn.append((scores.distances[:, some].min(axis=1) <= np.float32(limit)).mean())
        assert predicted_fpir(scores, limit, size) == pytest.approx(np.mean(drawn), rel=0.1)
    assert predicted_fpir(scores, limit, 599) == pytest.approx(rates(scores, limit)["fpir"].value, abs=1e-3)
    # Larger ones: a quarter of a world is measured, and the rest of it is what comes.
    for spread in (0.0, 0.4, 0.8):
        world = simulated(1600, 1, spread, chance).distances
        part = scores_of(world[:400, :400], np.full(400, np.nan), np.arange(400))
        limit = threshold_for_fpir(part, 0.1)
        for size in (800, 1600):
            measured = (world[:, :size].min(axis=1) <= np.float32(limit)).mean()
            assert predicted_fpir(part, limit, size) == pytest.approx(measured, rel=0.35)


def test_a_fitted_tail_is_that_of_the_distribution():
    chance = np.random.default_rng(0)
    distances = chance.normal(5, 1, 200_000)
    tail = fitted(distances)
    for rate in (1e-2, 1e-3, 1e-4):
        assert tail.quantile(rate) == pytest.approx(stats.norm.ppf(rate, 5, 1), abs=0.06)
        assert tail.rate(tail.quantile(rate)) == pytest.approx(rate, rel=1e-9)
    # Ten times beyond the data.
    beyond = fitted(chance.normal(5, 1, 3000)).quantile(3e-5)
    assert 1e-5 < stats.norm.cdf(beyond, 5, 1) < 9e-5
    with pytest.raises(ValueError, match="100 distances"):
        fitted(np.arange(100.0))
    with pytest.raises(ValueError, match="alike"):
        fitted(np.full(5000, 2.0))
