"""The pure parts of dedupe: groups around keepers, and what the answer answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery.duplicates import Duplicates, Evidence, Picture, assigned, grouped, preference
from gallery.folders import Unreadable
from gallery.pairs import Pairs, near_pairs
from gallery.vectors import distances


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
