"""The pure parts of dedupe: pairs beside brute force, groups around keepers, and what the answer answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery import pairs as pairing
from gallery.duplicates import Duplicates, Evidence, Picture, assigned, grouped, preference
from gallery.errors import InvalidItemError
from gallery.folders import Unreadable
from gallery.pairs import Pairs, near_pairs
from gallery.vectors import distances, prepare


def pairs_of(*triples: tuple[int, int, float]) -> Pairs:
    rows = sorted(triples)
    left, right, away = zip(*rows, strict=True) if rows else ((), (), ())
    return Pairs(np.array(left, np.int32), np.array(right, np.int32), np.array(away, np.float32))


def evidence_of(
    count: int, *triples: tuple[int, int, float], copies: dict[int, int] | None = None
) -> Evidence:
    """`count` pictures p0, p1, ... in order of preference; `copies` gives a number of equal files to some."""
    pictures = tuple(Picture(f"p{at}", 1000 - at, 10, 10) for at in range(count))
    same = {
        at: tuple(Picture(f"p{at}-{extra}", 1000 - at, 10, 10) for extra in range(1, number + 1))
        for at, number in (copies or {}).items()
    }
    return Evidence(pictures, pairs_of(*triples), same)


def shape(evidence: Evidence, threshold: float) -> dict[str, list[tuple[str, float]]]:
    found = grouped(evidence, threshold)
    return {g.keeper: [(m.path, round(m.distance, 6)) for m in g.members] for g in found}


# Pairs


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


# Groups


def test_a_chain_of_small_steps_is_not_one_group() -> None:
    chain = [(at, at + 1, 0.125) for at in range(5)]
    assert shape(evidence_of(6, *chain), 0.125) == {
        "p0": [("p1", 0.125)],
        "p2": [("p3", 0.125)],
        "p4": [("p5", 0.125)],
    }
    assert shape(evidence_of(6, *chain), 0.124) == {}


def test_a_member_joins_the_nearest_keeper_of_those_it_may_join() -> None:
    evidence = evidence_of(4, (0, 2, 0.09), (1, 2, 0.03), (1, 3, 0.05))
    assert shape(evidence, 0.1) == {"p1": [("p2", 0.03), ("p3", 0.05)]}
    tied = evidence_of(3, (0, 2, 0.05), (1, 2, 0.05))
    assert shape(tied, 0.1) == {"p0": [("p2", 0.05)]}


def test_the_keeper_is_preferred_to_all_its_members() -> None:
    evidence = evidence_of(4, (0, 1, 0.09), (1, 2, 0.01), (2, 3, 0.09))
    # p1 may not join p2, its nearest: p2 is worth less. p2 is a keeper, for p0 is too far from it.
    assert shape(evidence, 0.1) == {"p0": [("p1", 0.09)], "p2": [("p3", 0.09)]}


def test_preference_is_pixels_then_bytes_then_path() -> None:
    best = Picture("z", 10, 200, 100)
    more_bytes = Picture("y", 99, 100, 100)
    first, second = Picture("a", 50, 100, 100), Picture("b", 50, 50, 200)
    assert sorted([second, first, more_bytes, best], key=preference) == [best, more_bytes, first, second]


def test_equal_files_stand_with_the_one_that_was_looked_at() -> None:
    evidence = evidence_of(3, (0, 1, 0.05), copies={0: 2, 1: 1, 2: 1})
    first, second = grouped(evidence, 0.1)
    assert first.keeper == "p0"
    assert [(m.path, round(m.distance, 6), m.identical) for m in first.members] == [
        ("p0-1", 0.0, True),
        ("p0-2", 0.0, True),
        ("p1", 0.05, False),
        ("p1-1", 0.05, False),
    ]
    assert first.weakest.path == "p1-1"
    assert (second.keeper, [m.path for m in second.members]) == ("p2", ["p2-1"])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Any, float]:
    points = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=25))
    return np.array(points, np.float32), float(draw(st.integers(0, 6)))


@given(scenes())
def test_every_member_is_near_its_keeper_and_keepers_are_apart(scene: tuple[Any, float]) -> None:
    rows, threshold = scene
    keeper, away = assigned(len(rows), near_pairs(rows, "euclidean", threshold))
    for at in range(len(rows)):
        exact = float(distances(rows[at], rows[keeper[at]][None], "euclidean")[0])
        assert away[at] == exact <= threshold
        assert keeper[at] <= at
        assert keeper[keeper[at]] == keeper[at]
        others = [k for k in set(keeper.tolist()) if k < at]
        apart = [float(distances(rows[at], rows[k][None], "euclidean")[0]) for k in others]
        if keeper[at] == at:
            assert all(distance > threshold for distance in apart)
        else:
            assert min(apart) == exact


# The answer


def answer(evidence: Evidence, threshold: float) -> Duplicates:
    bad = (Unreadable("broken.jpg", "is empty (0 bytes)"),)
    return Duplicates(grouped(evidence, threshold), bad, threshold, 10, evidence)


@given(scenes(), st.floats(0, 6))
def test_rethreshold_is_what_a_new_scan_would_say(scene: tuple[Any, float], smaller: float) -> None:
    rows, threshold = scene
    smaller = min(smaller, threshold)
    pictures = tuple(Picture(f"p{at:02d}", 1, 1, 1) for at in range(len(rows)))
    wide, narrow = (
        answer(Evidence(pictures, near_pairs(rows, "euclidean", t), {}), t) for t in (threshold, smaller)
    )
    again = wide.rethreshold(smaller)
    assert (again.groups, again.threshold) == (narrow.groups, narrow.threshold)
    assert again.rethreshold(smaller).groups == narrow.groups


def test_rethreshold_refuses_what_was_not_scanned() -> None:
    found = answer(evidence_of(2, (0, 1, 0.05)), 0.1)
    for threshold in (0.2, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"from 0 to 0\.1.*scan again"):
            found.rethreshold(threshold)


def test_counts_json_and_text() -> None:
    found = answer(evidence_of(3, (0, 1, 0.05), copies={0: 1}), 0.1)
    assert (found.duplicates, found.duplicate_ratio, found.scanned) == (2, 0.2, 10)
    assert found.to_dict() == {
        "groups": [
            {
                "keeper": "p0",
                "members": [
                    {"path": "p0-1", "distance": 0.0},
                    {"path": "p1", "distance": pytest.approx(0.05)},
                ],
            }
        ],
        "unreadable": [{"path": "broken.jpg", "reason": "is empty (0 bytes)"}],
    }
    assert str(found).splitlines() == [
        "group              distance  path",
        "-----  ----------  --------  ----",
        "1      keep        -         p0",
        "       same bytes  0.0000    p0-1",
        "       near        0.0500    p1",
        "unreadable: broken.jpg: is empty (0 bytes)",
        "2 of 10 files (20.0%) are duplicates, in 1 group, at threshold 0.1000; 1 unreadable",
    ]
    assert sorted(found.pictures()) == ["p0", "p0-1", "p1", "p2"]


def test_nothing_found_prints_too() -> None:
    empty = Duplicates((), (), 0.1, 0, evidence_of(0))
    assert str(empty) == "0 of 0 files (0.0%) are duplicates, in 0 groups, at threshold 0.1000; 0 unreadable"


def test_records_are_frozen() -> None:
    found = answer(evidence_of(2, (0, 1, 0.05)), 0.1)
    with pytest.raises(AttributeError):
        found.threshold = 1.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        found.groups[0].keeper = "other"  # type: ignore[misc]
