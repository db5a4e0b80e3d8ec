"""Intervals of the FMR where few are enrolled, few ask, or a gallery is compared with itself."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
from scipy import stats

from gallery.calibration import Scores, chosen_threshold, false_matches, threshold_for_fmr
from gallery.errors import NotEnoughDataError

INF = np.inf


def scores_of(distances, owners) -> Scores:
    distances = np.asarray(distances, "f4")
    none = np.full(len(distances), np.nan, "f4")
    owners = np.asarray(owners, np.int64)
    return Scores(distances, none, none, none, owners, owners, owners, distances.shape[1])


def strangers(asking: int, enrolled: int, lambs: float, chance: np.random.Generator) -> Scores:
    """Some of the enrolled are near to everybody: each moves all of its own distances by the same amount."""
    moved = chance.normal(0, lambs, enrolled)
    return scores_of(moved + chance.normal(0, 1, (asking, enrolled)), np.arange(enrolled, enrolled + asking))


def itself(people: int, shots: int, noise: float, chance: np.random.Generator, dim: int = 64) -> Scores:
    """Cosine distances of every shot to everybody else's nearest."""
    owner = np.repeat(np.arange(people), shots)
    rows = chance.normal(0, 1, (people, dim))[owner] + noise * chance.normal(0, 1, (len(owner), dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    fused = (1 - rows @ rows.T).reshape(len(owner), people, shots).min(axis=2)
    fused[np.arange(len(owner)), owner] = INF
    return scores_of(fused, owner)


def widest_variance(scores: Scores, errors, tried, value) -> float:
    """By the definitions, in loops. off: of each pair of subjects how far off it is, and its comparisons."""
    off: dict[frozenset[int], list[float]] = {}
    rows: dict[int, list[float]] = {}
    columns: dict[int, list[float]] = {}
    for probe, column in np.argwhere(tried):
        row, column, wrong = (
            int(scores.probe_subject[probe]),
            int(column),
            float(errors[probe, column]) - value,
        )
        for kind, key in ((off, frozenset((row, column))), (rows, row), (columns, column)):
            held = kind.setdefault(key, [0.0, 0.0])
            held[0] += wrong
            held[1] += 1
    near = [(one, other) for one, other in itertools.product(off, repeat=2) if one & other]
    two_way = sum(off[one][0] * off[other][0] for one, other in near)
    # What it is of unrelated pairs of variance 1 less their mean, and what it should be.
    total, squares = sum(one[1] for one in off.values()), sum(one[1] ** 2 for one in off.values())
    seen = sum(
        off[one][1]
        * off[other][1]
        * ((one == other) - off[one][1] / total - off[other][1] / total + squares / total**2)
        for one, other in near
    )
    worth = [
        sum(count for _, count in kind.values()) ** 2 / sum(count**2 for _, count in kind.values())
        for kind in (rows, columns, off)
    ]
    each = [
        (sum(wrong**2 for wrong, _ in kind.values()) * many / (many - 1), many)
        for kind, many in zip((rows, columns, off), worth, strict=True)
    ]
    each.append((two_way * squares / seen, min(worth[:2])))
    return max(variance * (stats.t.ppf(0.975, count - 1) / 1.96) ** 2 for variance, count in each)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("owners", [(0, 0, 1, 2, 2, 3, 7, 7, 9), (0, 1, 2, 3, 4, 5), (9, 6, 6, 8, 7, 6)])
def test_the_variance_is_the_widest_of_those_by_each_clustering(owners, seed):
    owners = np.array(owners)
    distances = np.random.default_rng(seed).normal(5, 1, (len(owners), 6)).astype("f4")
    own = np.flatnonzero(owners < 6)
    distances[own, owners[own]] = INF
    distances[0, 4] = INF
    scores = scores_of(distances, owners)
    tried = np.isfinite(distances)
    errors = tried & (distances <= np.float32(4.6))
    found = false_matches(scores, 4.6)
    total, pairs = tried.sum(), {frozenset((int(owners[p]), int(s))) for p, s in np.argwhere(tried)}
    variance = widest_variance(scores, errors, tried, found.value)
    expected = min(len(pairs), total * min(1.0, total * found.value * (1 - found.value) / variance))
    assert found.independent in (int(expected - 1e-3), int(expected + 1e-3))


def test_the_two_way_variance_of_balanced_comparisons_is_unbiased():
    """As the module says, however much of it is of subjects and how much of chance."""
    from gallery.crossed import _shares, _squares, _too_small_by

    full, itself = np.ones((7, 4), "f4"), np.triu(np.ones((8, 8), "f4"), 1)
    apart, same = np.arange(4, 11), np.arange(8)
    assert _too_small_by(full, apart) == pytest.approx(7 / 6 * 4 / 3)
    assert _too_small_by(itself, same) == pytest.approx(8 * 7 / (6 * 5))
    assert _too_small_by(np.triu(np.ones((3, 3), "f4"), 1), np.arange(3)) == INF
    chance = np.random.default_rng(0)
    for lambs in (0.0, 1.0):
        seen = []
        for _ in range(3000):
            moved = lambs * chance.normal(0, 1, 8)
            off = np.triu(moved[:, None] + moved[None, :] + chance.normal(0, 1, (8, 8)), 1)
            off = np.triu(off - off.sum() / 28, 1).astype("f4")
            seen.append(np.square(_shares(off, same)).sum() - _squares(off, same).sum() / 2)
        true = 7**2 * 8 * lambs**2 + 28
        assert np.mean(seen) * _too_small_by(itself, same) == pytest.approx(true, rel=0.07)


@pytest.mark.parametrize("enrolled", [3, 5, 10, 20])
def test_intervals_know_how_few_are_enrolled(enrolled):
    """Three hundred who ask say little of three who are enrolled."""
    limit, rounds = stats.norm.ppf(0.05) * np.sqrt(1 + 0.6**2), 400
    found = [
        false_matches(strangers(300, enrolled, 0.6, np.random.default_rng(seed)), limit)
        for seed in range(rounds)
    ]
    assert 0.9 <= sum(one.low <= 0.05 <= one.high for one in found) / rounds <= 0.99


@pytest.mark.parametrize("target", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("people", [8, 12, 20])
def test_intervals_of_a_small_gallery_against_itself_cover_the_truth(people, target):
    everybody = itself(800, 2, 0.2, np.random.default_rng(99))
    limit, rounds = threshold_for_fmr(everybody, target), 400
    truth = false_matches(everybody, limit).value
    found = [
        false_matches(itself(people, 2, 0.2, np.random.default_rng(seed)), limit) for seed in range(rounds)
    ]
    covered = sum(one.low <= truth <= one.high for one in found) / rounds
    # Of 28 pairs a rate of 0.05 is one error or two, and the exact binomial interval alone covers 98.8 %.
    assert 0.92 <= covered <= (0.99 if people > 8 else 1.0)
    pairs = people * (people - 1) // 2
    assert max(one.independent for one in found) <= pairs


@pytest.mark.parametrize(("shots", "enrolled"), [([1] * 30 + [100] * 2, 30), ([1] * 50 + [60] * 3, None)])
def test_a_few_with_most_of_the_shots_decide(shots, enrolled):
    """Two of thirty-two ask six times in seven. enrolled None: they are compared with themselves."""
    rounds, many = 150, len(shots)
    own = np.repeat(np.arange(many), shots)
    covered = 0
    for seed in range(rounds):
        chance = np.random.default_rng(seed)
        asking, other = chance.normal(0, 0.3, many), chance.normal(0, 0.3, enrolled or many)
        pair = chance.normal(0, 0.3, (many, enrolled or many))
        if enrolled is None:
            other, pair = asking, np.triu(pair, 1) + np.triu(pair, 1).T
        distances = (asking[:, None] + other + pair)[own] + chance.normal(0, 1, (len(own), len(other)))
        if enrolled is None:
            distances[np.arange(len(own)), own] = INF
        scores = scores_of(distances, own if enrolled is None else own + enrolled)
        found = false_matches(scores, stats.norm.ppf(0.05) * np.sqrt(1 + 3 * 0.3**2))
        covered += found.low <= 0.05 <= found.high
    assert covered / rounds >= 0.92


def test_many_nearly_equal_shots_of_a_pair_are_one_comparison():
    """Twenty people, 190 pairs, 7,600 comparisons: 0.1 can be shown, 0.02 not surely, 0.01 not at all."""
    for seed in range(4):
        scores = itself(20, 20, 0.02, np.random.default_rng(seed))
        found = false_matches(scores, threshold_for_fmr(scores, 0.1))
        assert (found.trials, found.value) == (7600, pytest.approx(0.1, abs=2e-4))
        assert 100 < found.independent <= 190
        assert found.low < 0.07 and found.high > 0.145
        with contextlib.suppress(NotEnoughDataError):
            assert not chosen_threshold(scores, "fmr", 0.02).sure
        with pytest.raises(NotEnoughDataError):
            chosen_threshold(scores, "fmr", 0.01)


def test_one_who_is_enrolled_is_one_and_three_against_themselves_cannot_be_told():
    chance = np.random.default_rng(0)
    one = false_matches(strangers(300, 1, 0.6, chance), -1.0)
    assert 0 < one.value < 0.5 and one.independent == 1 and one.high > 0.95
    none = false_matches(strangers(300, 4, 0.6, chance), -9.0)
    assert (none.value, none.independent) == (0, 4)  # who ask are many, the enrolled are four
    three = np.array([[INF, 1, 9], [1, INF, 9], [9, 9, INF]])
    found = false_matches(scores_of(three, [0, 1, 2]), 1.0)
    assert (found.low, found.high, found.independent) == (0, 1, 0)
    two = false_matches(scores_of(three[:2, :2], [0, 1]), 0.5)
    assert (two.value, two.trials, two.independent) == (0, 2, 1)  # one pair, both ways round
    assert two.high == pytest.approx(0.975)
