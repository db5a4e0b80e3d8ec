"""identify and verify: to the bit, and exactly inside, on and outside a threshold."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gallery
from gallery import (
    NotCalibratedError,
    Precomputed,
    UnknownSubjectError,
)
from gallery.vectors import distances, prepare
from tests.gallery.doubles import METRICS, seen, vectors

CORNERS = np.eye(4, dtype=np.float32)


@pytest.fixture
def people(tmp_path):
    with gallery.open(tmp_path / "g", Precomputed(4, "euclidean")) as people:
        yield people


@pytest.mark.parametrize("metric", METRICS)
def test_verify_and_identify_agree_to_the_bit(tmp_path, metric):
    rows = vectors(300, 7)
    with gallery.open(tmp_path / "g", Precomputed(7, metric)) as people:
        people.enroll_many((f"s{n}", rows[3 * n : 3 * n + 3]) for n in range(100))
        probes = vectors(20, 7, 1)
        batch = people.identify_batch(probes, k=3, threshold=100.0)
        assert [seen(people.identify(probe, k=3, threshold=100.0)) for probe in probes] == list(
            map(seen, batch)
        )
        for probe, answer in zip(probes, batch, strict=True):
            for candidate in answer.candidates:
                claim = people.verify(candidate.id, probe, threshold=candidate.distance)
                assert (claim.distance, claim.template, claim.accepted) == (
                    candidate.distance,
                    candidate.template,
                    True,
                )
                assert not people.verify(candidate.id, probe, threshold=np.nextafter(candidate.distance, 0))


@pytest.mark.parametrize("dim", [1, 2, 7, 8, 9, 31, 64, 129, 300])
@pytest.mark.parametrize("metric", METRICS)
def test_distances_do_not_depend_on_what_stands_beside(dim, metric):
    rows = vectors(37, dim) + np.float32(3)
    together = prepare(rows, metric)
    alone = np.concatenate([prepare(rows[n : n + 1], metric) for n in range(37)])
    assert alone.tobytes() == together.tobytes()
    scores = distances(together[0], together, metric)
    assert [distances(together[0], together[n : n + 1], metric)[0] for n in range(37)] == scores.tolist()
    assert scores[0] == 0
    assert distances(together[5], together[:1], metric)[0] == scores[5]


@pytest.mark.parametrize(
    ("threshold", "accepted"),
    [(np.nextafter(5, 9), True), (5, True), (np.nextafter(5, 0), False), (0, False), (float("inf"), True)],
)
def test_exactly_inside_on_and_outside_a_euclidean_threshold(people, threshold, accepted):
    """3-4-5: the distance is 5 without any rounding."""
    people.enroll("a", [[1, 1, 1, 1]])
    probe = [4, 5, 1, 1]
    answer = people.identify(probe, threshold=threshold)
    assert answer.nearest.distance == 5.0
    assert answer.decision == ("match" if accepted else "unknown")
    assert [one.id for one in answer.candidates] == (["a"] if accepted else [])
    claim = people.verify("a", probe, threshold=threshold)
    assert (bool(claim), claim.distance, claim.threshold) == (accepted, 5.0, threshold)


@pytest.mark.parametrize("away", [-1, 0, 1])
def test_neighbours_just_inside_on_and_outside(people, away):
    """The neighbour moves by the least that float32 can, the threshold stays."""
    x = np.float32(2) if away == 0 else np.nextafter(np.float32(2), np.float32(2 + away))
    people.enroll("a", [[x, 0, 0, 0]])
    answer = people.identify([0, 0, 0, 0], threshold=2.0)
    assert answer.nearest.distance == float(x)
    assert answer.decision == ("unknown" if away > 0 else "match")


@pytest.mark.parametrize(
    ("probe", "distance"), [([0, 1, 0, 0], 1.0), ([-2, 0, 0, 0], 2.0), ([9, 0, 0, 0], 0.0)]
)
def test_exactly_inside_on_and_outside_a_cosine_threshold(tmp_path, probe, distance):
    with gallery.open(tmp_path / "g", Precomputed(4)) as people:
        people.enroll("a", [[3, 0, 0, 0]])
        assert people.identify(probe).nearest.distance == distance
        assert people.verify("a", probe, threshold=distance)
        assert people.identify(probe, threshold=distance).decision == "match"
        if distance:
            below = np.nextafter(distance, 0)
            assert not people.verify("a", probe, threshold=below)
            assert people.identify(probe, threshold=below).decision == "unknown"


def test_only_those_within_the_threshold_are_candidates(people):
    people.enroll_many((f"s{n}", [[n, 0, 0, 0]]) for n in range(6))
    answer = people.identify([0, 0, 0, 0], k=5, threshold=2.0)
    assert seen(answer) == [("s0", 0.0, 1), ("s1", 1.0, 2), ("s2", 2.0, 3)]
    answer = people.identify([0, 0, 0, 0], k=2, threshold=2.0)
    assert seen(answer) == [("s0", 0.0, 1), ("s1", 1.0, 2)]
    unknown = people.identify([0, 9, 0, 0], threshold=2.0)
    assert (unknown.decision, unknown.best, unknown.nearest.id, unknown.nearest.distance) == (
        "unknown",
        None,
        "s0",
        9.0,
    )


def test_without_a_threshold_identify_ranks_and_verify_refuses(people):
    people.enroll_many((f"s{n}", [[n, 0, 0, 0]]) for n in range(6))
    answer = people.identify([5, 0, 0, 0], k=2)
    assert (answer.decision, answer.threshold) == ("undecided", None)
    assert seen(answer) == [("s5", 0.0, 6), ("s4", 1.0, 5)]
    with pytest.raises(NotCalibratedError, match=r"give one .threshold="):
        people.verify("s5", [5, 0, 0, 0])
    assert people.threshold is None


def test_the_encoders_recommendation_is_used_until_the_gallery_has_its_own(tmp_path):
    with gallery.open(tmp_path / "g", Precomputed(4, "euclidean", threshold=1.5)) as people:
        people.enroll("a", [[0, 0, 0, 0]])
        assert (people.threshold, people.info().threshold_source) == (1.5, "encoder")
        assert people.verify("a", [1.5, 0, 0, 0])
        assert people.identify([1.5, 0, 0, 0]).decision == "match"
        assert not people.verify("a", [1.5, 0, 0, 0], threshold=1.0)
        people._engine.set_setting("threshold", json.dumps({"threshold": 0.5}))
        assert (people.threshold, people.info().threshold_source) == (0.5, "gallery")
        assert not people.verify("a", [1.5, 0, 0, 0])


def test_verify_scores_the_nearest_of_all_templates(people):
    people.enroll("a", [[9, 0, 0, 0], [2, 0, 0, 0], [-2, 0, 0, 0]])
    people.enroll("b", [[0, 0, 0, 0]])
    claim = people.verify("a", [0, 0, 0, 0], threshold=1.0)
    assert (claim.accepted, claim.distance, claim.template) == (False, 2.0, 2)
    assert str(claim) == "a rejected: distance 2.0000 > threshold 1.0000"
    assert claim.to_dict() == {"id": "a", "accepted": False, "distance": 2.0, "threshold": 1.0, "template": 2}
    with pytest.raises(UnknownSubjectError, match="no subject 'c' is enrolled in"):
        people.verify("c", [0, 0, 0, 0], threshold=1.0)


def test_candidates_bring_their_metadata(people):
    people.enroll("a", CORNERS[:1], metadata={"badge": 7})
    best = people.identify(CORNERS[0], threshold=0).best
    assert best.to_dict() == {"id": "a", "distance": 0.0, "template": 1, "metadata": {"badge": 7}}
