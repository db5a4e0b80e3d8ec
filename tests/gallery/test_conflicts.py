"""What is noticed at an enrolment: somebody else, nobody like that, a copy. A double loop is the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import Conflict, ConflictError, InvalidItemError, NotCalibratedError, Precomputed
from gallery.auditing import COPY, nearest_other
from gallery.cli import main
from gallery.vectors import paired_distances, prepare
from tests.gallery.doubles import METRICS, vectors

DIM = 3


def line(*places: float) -> np.ndarray:
    """Points on a line, at exact distances in float32."""
    return np.array([[place, 0, 0] for place in places], np.float32)


@pytest.fixture
def people(tmp_path: Path):
    """Threshold 1, so that near copies are within 0.05."""
    with gallery.create(tmp_path / "g", Precomputed(DIM, "euclidean", threshold=1.0)) as people:
        people.enroll("a", line(10, 10.5))
        people.enroll("b", line(14))
        yield people


def told(result) -> list[tuple]:
    return [
        (one.kind, one.id, one.index, one.template, one.other_id, one.other_template, round(one.distance, 6))
        for one in result.conflicts
    ]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (11.25, []),
        (13.0, [("unlike", "a", 0, 4, "a", 2, 2.5), ("duplicate", "a", 0, 4, "b", 3, 1.0)]),
        (12.99, [("unlike", "a", 0, 4, "a", 2, 2.49)]),
        (11.5, []),
        (11.5625, [("unlike", "a", 0, 4, "a", 2, 1.0625)]),
        (10.5, [("copy", "a", 0, 4, "a", 2, 0.0)]),
        (10.53125, [("near copy", "a", 0, 4, "a", 2, 0.03125)]),
        (10.5625, []),
        (14.0, [("unlike", "a", 0, 4, "a", 2, 3.5), ("duplicate", "a", 0, 4, "b", 3, 0.0)]),
    ],
)
def test_inside_on_and_outside_the_bounds(people, place, expected):
    result = people.enroll("a", line(place), on_conflict="warn")
    assert sorted(told(result)) == sorted(expected)
    assert result.templates == (4,) and people.template_count == 4
    for one in result.conflicts:
        bound = 0.05 if "copy" in one.kind else 1.0
        assert one.bound == bound and (
            one.distance > bound if one.kind == "unlike" else one.distance <= bound
        )
        assert str(one) and Conflict(**one.to_dict()) == one


def test_refused_is_as_if_nothing_had_been_asked(people):
    revision = people.info().revision
    with pytest.raises(ConflictError, match=r"item 1 of 'new' may be 'b' \(0.5 <= 1, template 3\)") as caught:
        people.enroll("new", line(20, 14.5, 20.5), on_conflict="refuse", metadata={"x": 1})
    kinds = [(one.kind, one.index, one.template, one.other_template) for one in caught.value.conflicts]
    assert kinds == [("duplicate", 1, None, 3), ("unlike", 1, None, None)]
    assert (people.info().revision, people.template_count, "new" in people) == (revision, 3, False)
    # And what follows is searched as ever.
    assert people.enroll("new", line(20, 20.5), on_conflict="refuse").templates == (4, 5)
    assert people.identify(line(20)[0]).best.template == 4
    assert people.check() == []


def test_nothing_is_looked_at_by_default(people, monkeypatch):
    def never(*_, **__):
        raise AssertionError("looked")

    monkeypatch.setattr("gallery.engines.local.screened", never)
    assert people.enroll("a", line(14)).conflicts == ()
    assert people.enroll_many([("a", line(14))]).conflicts == ()


def test_within_one_call(people):
    batch = [("x", line(30, 30.5)), ("y", line(31)), ("x", line(30)), ("z", line(40)), ("b", line(40.5))]
    result = people.enroll_many(batch, on_conflict="warn")
    assert sorted(told(result)) == sorted(
        [
            ("duplicate", "x", 0, 4, "y", 6, 1.0),
            ("duplicate", "x", 1, 5, "y", 6, 0.5),
            ("duplicate", "y", 0, 6, "x", 5, 0.5),
            ("duplicate", "x", 0, 7, "y", 6, 1.0),
            # The second of two copies is one of the first.
            ("copy", "x", 0, 7, "x", 4, 0.0),
            ("duplicate", "z", 0, 8, "b", 9, 0.5),
            ("duplicate", "b", 0, 9, "z", 8, 0.5),
            ("unlike", "b", 0, 9, "b", 3, 26.5),
        ]
    )
    assert people.template_count == 9


def test_those_that_are_known_to_be_different_are_passed_over(people):
    people.enroll("twin", line(14.5))
    people.enroll("third", line(14.75))
    assert [one.other_id for one in people.enroll("b", line(14.5), on_conflict="warn").conflicts][:1] == [
        "twin"
    ]
    people.differ("b", "twin")
    (one,) = (
        one for one in people.enroll("b", line(14.6), on_conflict="warn").conflicts if one.kind == "duplicate"
    )
    assert one.other_id == "third"
    people.differ("third", "b")
    kinds = {one.kind for one in people.enroll("b", line(14.3), on_conflict="warn").conflicts}
    assert "duplicate" not in kinds
    result = people.enroll_many([("b", line(14.4)), ("twin", line(14.4))], on_conflict="warn")
    assert {(one.id, one.other_id) for one in result.conflicts if one.kind == "duplicate"} == {
        ("twin", "third")
    }


def test_what_is_in_quarantine_is_passed_over(people):
    people.quarantine([3, 2], "blurred")
    assert told(people.enroll("new", line(14), on_conflict="warn")) == []
    assert told(people.enroll("a", line(10.5), on_conflict="warn")) == []
    people.quarantine("new", "blurred")
    assert told(people.enroll("new", line(50), on_conflict="warn")) == []


def test_without_a_threshold_it_says_so(tmp_path):
    with gallery.create(tmp_path / "g", Precomputed(DIM, "euclidean")) as people:
        with pytest.raises(NotCalibratedError, match="calibrate"):
            people.enroll("a", line(1), on_conflict="warn")
        with pytest.raises(ValueError, match="'ignore', 'warn' or 'refuse'"):
            people.enroll("a", line(1), on_conflict="maybe")
        with pytest.raises(InvalidItemError):
            people.enroll("a", [])
        assert len(people) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_against_a_double_loop(metric, tmp_path):
    """200 items of 40 subjects in rough places, half of them enrolled before."""
    chance = np.random.default_rng(3)
    items = np.round(vectors(200, DIM, 4) * 3).astype(np.float32) / 3 + np.float32(0.01)
    ids = [f"s{number}" for number in chance.integers(40, size=200)]
    items[150], ids[150] = items[20], ids[20]
    rows = prepare(items, metric)
    threshold = {"cosine": 0.05, "euclidean": 0.4}[metric]
    with gallery.create(tmp_path / "g", Precomputed(DIM, metric, threshold=threshold)) as people:
        people.enroll_many([(id, items[at : at + 1]) for at, id in enumerate(ids[:100])])
        people.differ(*people.ids()[:2])
        result = people.enroll_many(
            [(id, items[at : at + 1]) for at, id in enumerate(ids[100:], 100)], on_conflict="warn"
        )
        apart = {*people.ids()[:2]}
    expected = {}
    for item in range(100, 200):
        away = paired_distances(rows[item][None], rows, metric)
        others = [
            (float(away[at]), at)
            for at in range(200)
            if ids[at] != ids[item] and {ids[at], ids[item]} != apart and away[at] <= threshold
        ]
        if others:
            expected[item, "duplicate"] = min(others)[0]
        own = [(float(away[at]), at) for at in range(200) if ids[at] == ids[item] and at != item]
        if not own:
            continue
        nearest, at = min(own)
        length = float(np.linalg.norm(rows[item])) if metric == "euclidean" else 1.0
        if nearest <= COPY[metric] * length:
            kind = "copy"
        elif nearest <= 0.05 * threshold:
            kind = "near copy"
        else:
            kind = "unlike" if nearest > threshold else ""
        if kind and not ("copy" in kind and at > item):
            expected[item, kind] = nearest
    assert {(one.template - 1, one.kind): one.distance for one in result.conflicts} == expected
    assert {"duplicate", "copy", "unlike"} <= {kind for _, kind in expected}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("copies", [True, False])
def test_nearest_other_is_what_a_double_loop_finds(metric, copies):
    rows = prepare(np.concatenate([vectors(60, 5), vectors(20, 5), vectors(1, 5) + 1]), metric)
    rows[61] = rows[3]
    away, at = nearest_other(rows, metric, first=20, copies=copies)
    for item in range(20, len(rows)):
        own = paired_distances(rows[item][None], rows, metric)
        lengths = np.linalg.norm(rows[item]) if metric == "euclidean" else 1.0
        wanted = [
            (float(own[other]), other)
            for other in range(len(rows))
            if other != item and (copies or own[other] > COPY[metric] * lengths)
        ]
        assert (float(away[item - 20]), int(at[item - 20])) == min(wanted)
    assert (nearest_other(rows[:1], metric)[0].tolist(), nearest_other(rows[:1], metric)[1].tolist()) == (
        [np.inf],
        [-1],
    )
    assert nearest_other(rows[:0], metric)[0].shape == (0,)


def test_on_the_command_line(tmp_path, capsys):
    from tests.gallery.test_cli import draw

    for id, letter in (("A", "A"), ("B", "A"), ("C", "K")):
        (tmp_path / "items" / id).mkdir(parents=True)
        draw(letter).save(tmp_path / "items" / id / "1.png")
    place, items = str(tmp_path / "g"), str(tmp_path / "items")
    refused = main(["enroll", place, items, "--encoder", "glyph", "--on-conflict", "refuse"])
    assert refused == 2 and not (tmp_path / "g" / "catalog.sqlite").exists()
    assert "may be 'B'" in capsys.readouterr().err
    assert main(["enroll", place, items, "--encoder", "glyph", "--on-conflict", "warn"]) == 0
    assert "item 0 of 'A' may be 'B'" in capsys.readouterr().out
