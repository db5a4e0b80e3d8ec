"""An index that is made to look as hard as a share of the neighbours takes, and goes on so."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import gallery
from gallery.engines.base import EFFORT, RECALL
from gallery.errors import GalleryError
from gallery.indexes import kinds
from gallery.indexes.base import Effort

DIM, SUBJECTS = 24, 1500
PEOPLE = gallery.Precomputed(DIM)


def rows(seed: int, count: int = SUBJECTS) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, monkeypatch_module):
    monkeypatch_module.setattr(kinds, "_PER_CELL", 2)
    place = tmp_path_factory.mktemp("goal") / "people"
    with gallery.open(place, PEOPLE) as people:
        people.enroll_many((f"s{n}", [row]) for n, row in enumerate(rows(0)))
        people.reindex("IVF64,Flat")
    return place


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def place(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "people")


def effort(people: gallery.Gallery) -> Effort:
    people.identify(rows(1)[0])
    return people._engine._cache._index.effort()


def test_it_looks_just_as_hard_as_the_goal_takes(place):
    with gallery.open(place, PEOPLE) as people:
        default = people.recall(300)
        assert effort(people).cells == 8
        high = people.recall(300, goal=0.97)
        hard = effort(people).cells
        low = people.recall(300, goal=0.3)
        assert low.value >= 0.3
        assert 1 <= effort(people).cells < 8 < hard <= 64
        assert high.value >= 0.97 > default.value
        # Half as hard is not enough: that is what it was lowered to.
        people._engine._cache._index.look(Effort(cells=hard // 2))
        assert people.recall(300).value < 0.97
        # And what is known of it is the last measurement.
        assert people.info().recall.value < 0.97


def test_it_is_remembered_wherever_the_index_comes_from(place):
    with gallery.open(place, PEOPLE) as people:
        people.recall(300, goal=0.97)
        hard = effort(people)
        assert hard.cells > 8
        assert json.loads(people._engine.setting(EFFORT)) == {
            "index": "IVF64,Flat", "cells": hard.cells, "reach": 0, "refined": 0,
        }  # fmt: skip
    with gallery.open(place, PEOPLE, read_only=True) as people:
        assert effort(people) == hard
    shutil.rmtree(place / "index")
    with gallery.open(place, PEOPLE) as people:
        assert effort(people) == hard
        # It is the same index still.
        people.reindex("IVF64,Flat")
        assert effort(people) == hard
        assert people.info().recall is not None


def test_it_holds_until_the_kind_is_changed(place):
    with gallery.open(place, PEOPLE) as people, gallery.open(place, PEOPLE) as other:
        people.recall(300, goal=0.3)
        assert effort(people).cells == effort(other).cells < 8
        for kind in ("IVF32,Flat", "IVF64,Flat"):
            people.reindex(kind)
            assert effort(people).cells == effort(other).cells == 8
            assert people.info().recall is None
        people.recall(300, goal=0.3)
        people.reindex("exact")
        people.reindex("IVF64,Flat")
        assert effort(people).cells == effort(other).cells == 8
        assert people._engine.setting(EFFORT) is people._engine.setting(RECALL) is None


def test_every_open_session_looks_as_hard_from_the_next_revision_on(place):
    """Else `info` would show it the recall of an effort that it does not make."""
    with gallery.open(place, PEOPLE) as people, gallery.open(place, PEOPLE, read_only=True) as other:
        assert effort(other).cells == 8
        before = other.recall(300).value
        for goal in (0.97, 0.3):
            measured = people.recall(300, goal=goal)
            assert other.info().recall == measured
            assert effort(other) == effort(people) != Effort(cells=8)
            assert other.recall(300).value == measured.value != before


def test_it_stays_with_its_encoder(place):
    with gallery.open(place, PEOPLE) as people:
        measured = people.recall(300, goal=0.3)
        low = effort(people).cells
        assert low < 8
        items = {f"s{n}": [row] for n, row in enumerate(rows(7))}
        people.migrate(gallery.Precomputed(DIM, name="another"), items)
        assert people.info().recall is None
        assert effort(people).cells == 8
        people.rollback(PEOPLE)
        assert people.info().recall == measured
        assert effort(people).cells == low


def test_a_measured_recall_is_void_when_a_tenth_of_the_subjects_was_merged(place):
    with gallery.open(place, PEOPLE) as people:
        people.recall(300)
        people.merge("s0", [f"s{n}" for n in range(1, 151)])
        assert people.info().recall is not None
        people.merge("s0", ["s151"])
        assert people.info().recall is None


def test_where_nothing_can_be_tuned_nothing_changes(place):
    with gallery.open(place, PEOPLE) as people:
        people.reindex("exact")
        assert people.recall(100, goal=0.99).value == 1
        assert people._engine.setting(EFFORT) is None
        # It waits for templates to be trained on, and is exact meanwhile.
        people.reindex("IVF1024,Flat")
        assert people.recall(100, goal=0.5).value == 1
        assert people._engine.setting(EFFORT) is None


def test_a_goal_out_of_reach_is_told_by_the_measurement(place):
    with gallery.open(place, PEOPLE) as people:
        people.reindex("PQ2x4,RFlat")
        found = people.recall(200, goal=1.0)
        assert found.value < 1
        assert effort(people) == people._engine._cache._index.hardest()


@pytest.mark.parametrize("goal", [0, 1.01, -1, "0.9", True, float("nan")])
def test_goals_that_are_no_share_are_refused(place, goal):
    with (
        gallery.open(place, PEOPLE) as people,
        pytest.raises(ValueError, match="a share of the neighbours above 0 and up to 1"),
    ):
        people.recall(100, goal=goal)


def test_a_session_that_only_reads_may_measure_but_not_tune(place):
    with gallery.open(place, PEOPLE, read_only=True) as people:
        people.recall(100)
        with pytest.raises(GalleryError):
            people.recall(100, goal=0.9)
