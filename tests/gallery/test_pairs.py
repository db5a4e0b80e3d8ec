"""Every pair within a threshold, beside brute force: in blocks, by shadows of every width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gallery import pairs as pairing
from gallery import shadows
from gallery.errors import InvalidItemError
from gallery.pairs import Pairs, near_pairs
from gallery.vectors import distances, prepare


def brute(rows: Any, metric: str, threshold: float) -> list[tuple[int, int, float]]:
    found = []
    for left in range(len(rows)):
        away = distances(rows[left], rows[left + 1 :], metric)
        near = np.flatnonzero(away.astype(np.float64) <= threshold)
        found += [(left, left + 1 + int(at), float(away[at])) for at in near]
    return found


def listed(found: Pairs) -> list[tuple[int, int, float]]:
    return list(zip(found.left.tolist(), found.right.tolist(), found.distance.tolist(), strict=True))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_pairs_are_those_of_brute_force_over_many_blocks(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "ROWS", 37)
    monkeypatch.setattr(pairing, "COLUMNS", 53)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 8)).astype(np.float32)
    rows[200:] = rows[:100] + 0.05 * rng.normal(size=(100, 8)).astype(np.float32)
    rows = prepare(rows, metric)
    threshold = {"cosine": 0.1, "euclidean": 1.0}[metric]
    expected = brute(rows, metric, threshold)
    assert 100 < len(expected) < 2000
    assert listed(near_pairs(rows, metric, threshold)) == expected


def test_20_000_vectors_against_brute_force() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(20_000, 48)).astype(np.float32)
    copies = rng.choice(20_000, 1000, replace=False)
    rows[copies[:500]] = rows[copies[500:]] + 0.2 * rng.normal(size=(500, 48)).astype(np.float32)
    rows = prepare(rows, "cosine")
    found = listed(near_pairs(rows, "cosine", 0.1))
    assert {(a, b) for a, b, _ in found} == {
        (min(a, b), max(a, b)) for a, b in zip(copies[:500].tolist(), copies[500:].tolist(), strict=True)
    }
    for probe in rng.choice(20_000, 40, replace=False).tolist():
        away = distances(rows[probe], rows, "cosine")
        away[probe] = np.inf
        expected = [(int(at), float(away[at])) for at in np.flatnonzero(away <= np.float64(0.1))]
        assert [(a + b - probe, d) for a, b, d in found if probe in (a, b)] == expected


def test_the_threshold_is_inclusive_to_the_last_bit() -> None:
    rows = np.array([[0, 0], [3, 4], [30, 40]], np.float32)
    assert listed(near_pairs(rows, "euclidean", 5.0)) == [(0, 1, 5.0)]
    assert listed(near_pairs(rows, "euclidean", np.nextafter(5.0, 0))) == []
    turned = prepare(np.array([[1, 0], [0.8, 0.6]], np.float32), "cosine")
    (distance,) = distances(turned[0], turned[1:], "cosine").tolist()
    assert distance == pytest.approx(0.2)
    assert listed(near_pairs(turned, "cosine", distance)) == [(0, 1, distance)]
    assert listed(near_pairs(turned, "cosine", float(np.nextafter(distance, 0)))) == []


def test_equal_rows_far_from_the_origin_are_at_distance_0() -> None:
    rows = np.full((3, 16), 1e4, np.float32)
    rows[2, 0] += 1
    assert listed(near_pairs(rows, "euclidean", 0.0)) == [(0, 1, 0.0)]
    assert listed(near_pairs(rows, "euclidean", 1.0)) == [(0, 1, 0.0), (0, 2, 1.0), (1, 2, 1.0)]


def test_no_rows_and_one_row_have_no_pairs() -> None:
    assert len(near_pairs(np.empty((0, 4), np.float32), "cosine", 2.0)) == 0
    assert len(near_pairs(np.ones((1, 4), np.float32) / 2, "cosine", 2.0)) == 0


def test_a_threshold_that_pairs_everything_is_refused_with_the_numbers() -> None:
    rows = np.zeros((50, 3), np.float32)
    with pytest.raises(InvalidItemError, match=r"more than 1,000 pairs .* threshold 0\.5.*50 items"):
        near_pairs(rows, "euclidean", 0.5, most=1000)


# Shadows


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shadows and threads from 1,000 rows on."""
    for module in (shadows, pairing):
        monkeypatch.setattr(module, "MANY", 1000)
    monkeypatch.setattr(pairing, "ROWS", 100)
    monkeypatch.setattr(pairing, "COLUMNS", 230)


def family(rng: np.random.Generator, count: int, dim: int, decay: float) -> Any:
    """Rows whose axes carry less and less, off the origin, a tenth of them beside the one before."""
    scales = np.arange(1, dim + 1) ** -decay
    rows = rng.normal(size=(count, dim)) * scales + 0.3
    rows[1::10] = rows[::10][: len(rows[1::10])] + 0.02 * rng.normal(size=(len(rows[1::10]), dim))
    return rows.astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("dim", "decay"), [(40, 0.0), (72, 0.0), (72, 0.7), (20, 2.0)])
@pytest.mark.usefixtures("few_are_many")
def test_pairs_by_shadows_are_those_of_brute_force(metric: str, dim: int, decay: float) -> None:
    rows = prepare(family(np.random.default_rng(dim), 1500, dim, decay), metric)
    every = np.sort(
        np.concatenate([distances(rows[at], rows[at + 1 :], metric) for at in range(0, 1500, 30)])
    )
    # With hardly any pair, and with one of a hundred, of which some lie exactly on the threshold.
    for threshold in ({"cosine": 0.01, "euclidean": 0.3}[metric], float(every[len(every) // 100])):
        expected = brute(rows, metric, threshold)
        assert len(expected) > 100
        assert listed(near_pairs(rows, metric, threshold)) == expected


@pytest.mark.usefixtures("few_are_many")
def test_a_small_threshold_needs_few_axes_and_a_large_one_all() -> None:
    rows = prepare(family(np.random.default_rng(3), 8000, 192, 0.5), "cosine")
    near, far = shadows.cast(rows, "cosine", 0.01), shadows.cast(rows, "cosine", 0.9)
    assert near.width <= 65
    assert far.width == 192


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.usefixtures("few_are_many")
def test_shadows_are_never_farther_apart_than_their_rows(metric: str) -> None:
    rows = prepare(family(np.random.default_rng(4), 4000, 80, 0.4), metric)
    shadow = shadows.cast(rows, metric, 0.01)
    assert shadow.width < 80
    lengths = np.linalg.norm(rows, axis=1)[:, None].astype(np.float64)
    for start in range(0, 4000, 500):
        some = slice(start, start + 500)
        scores = shadow.scores(some, some, np.empty(500 * 500, np.float32))
        apart = np.stack([distances(row, rows[some], metric) for row in rows[some]]).astype(np.float64)
        squares = 2 * apart if metric == "cosine" else apart**2
        assert (-2.0 * scores <= squares + 1e-5 * lengths.max() ** 2).all()


@pytest.mark.usefixtures("few_are_many")
def test_equal_rows_in_threads_are_refused_with_the_numbers() -> None:
    rows = np.zeros((3000, 64), np.float32)
    with pytest.raises(InvalidItemError, match=r"more than 100,000 pairs .* threshold 0\.5.*3,000 items"):
        near_pairs(rows, "euclidean", 0.5, most=100_000)
    assert len(near_pairs(rows[:1200], "euclidean", 0.0)) == 1200 * 1199 // 2


def test_the_longest_rows_and_thresholds_do_not_overflow() -> None:
    rows = np.array([[1e18, 0], [-1e18, 0], [0, 1]], np.float32)
    assert len(near_pairs(rows, "euclidean", 1e30)) == 3
    assert listed(near_pairs(rows, "euclidean", 1.1e18))[0][:2] == (0, 2)
