"""The audit: double subjects, wrong labels and the zoo, against double loops and planted cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import InvalidItemError, NotCalibratedError, Precomputed
from gallery.auditing import COPY, Count, animals, binomial_tail, holm
from gallery.cli import main
from gallery.vectors import paired_distances, prepare
from tests.gallery.doubles import METRICS, vectors

DIM = 8


def crowd(subjects: int, each: int, spread: float = 0.1, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """`subjects` random directions in 32 dimensions, `each` items around every one."""
    centres = vectors(subjects, 32, seed)
    noise = vectors(subjects * each, 32, seed + 1) * np.float32(spread)
    return np.repeat(centres, each, axis=0) + noise, [f"s{at}" for at in range(subjects) for _ in range(each)]


def filled(place: Path, items: np.ndarray, ids: list[str], metric: str = "cosine", **more) -> gallery.Gallery:
    people = gallery.create(place, Precomputed(items.shape[1], metric, **more))
    people.enroll_many([(id, items[at : at + 1]) for at, id in enumerate(ids)])
    return people


@pytest.mark.parametrize("metric", METRICS)
def test_against_a_double_loop(metric, tmp_path):
    rows = prepare(vectors(150, 4, 7), metric)
    rows[40] = rows[3]
    ids = [f"s{number}" for number in np.random.default_rng(1).integers(30, size=150)]
    ids[40] = ids[3]
    threshold = {"cosine": 0.1, "euclidean": 0.7}[metric]
    with filled(tmp_path / "g", rows, ids, metric, threshold=threshold) as people:
        barred = {10, 20, 77}
        people.quarantine(barred, "blurred")
        people.differ("s1", "s2")
        people.differ("s3", "s4")
        stored = np.concatenate([people._engine.embeddings(id).rows for id in people.ids()])
        numbers = np.concatenate([people._engine.embeddings(id).numbers for id in people.ids()])
        order = np.argsort(numbers)
        stored, numbers = stored[order], numbers[order].tolist()
        owner = {number: ids[number - 1] for number in numbers}
        found = people.audit(most=10_000)
    away = {
        one: dict(zip(numbers, paired_distances(stored[at][None], stored, metric).tolist(), strict=True))
        for at, one in enumerate(numbers)
    }
    apart = [{"s1", "s2"}, {"s3", "s4"}]
    same: dict[frozenset, list] = {}
    wrong = {}
    for one in numbers:
        length = 1.0 if metric == "cosine" else float(np.linalg.norm(stored[numbers.index(one)]))
        others, own = [], []
        for other in numbers:
            distance = away[one][other]
            if owner[one] == owner[other]:
                if one != other and distance > COPY[metric] * length:
                    own.append(distance)
            elif distance <= threshold and {owner[one], owner[other]} not in apart:
                others.append((distance, other))
                same.setdefault(frozenset([owner[one], owner[other]]), []).append(distance)
        if others and own and min(others)[0] < min(own):
            wrong[one] = (min(own), *min(others))
    assert {frozenset([one.id, one.other_id]): (one.distance, one.pairs) for one in found.same} == {
        pair: (min(distances), len(distances) // 2) for pair, distances in same.items()
    }
    for one in found.same:
        assert (owner[one.template], owner[one.other_template]) == (one.id, one.other_id)
        assert away[one.template][one.other_template] == one.distance
    assert [one.distance for one in found.same] == sorted(one.distance for one in found.same)
    assert {
        one.template: (one.own_distance, one.other_distance, one.other_template) for one in found.mislabelled
    } == wrong
    assert (found.same_found, found.mislabelled_found) == (len(same), len(wrong))
    assert len(same) > 20 and len(wrong) > 10
    assert (found.templates, found.quarantined, found.subjects) == (147, 3, len(set(owner.values())))
    assert found.expected is None


@pytest.mark.parametrize(
    ("hits", "trials", "rate"), [(1, 10, 0.1), (3, 40, 0.02), (40, 40, 0.9), (7, 9, 0.5)]
)
def test_the_tail_of_a_binomial_is_what_adding_it_up_gives(hits, trials, rate):
    exact = sum(
        math.comb(trials, at) * rate**at * (1 - rate) ** (trials - at) for at in range(hits, trials + 1)
    )
    assert binomial_tail(hits, trials, rate) == pytest.approx(exact, rel=1e-12)


def test_the_ends_of_the_tail():
    assert binomial_tail(0, 5, 0.1) == 1 and binomial_tail(6, 5, 0.1) == 0
    assert binomial_tail(1, 5, 0.0) == 0 and binomial_tail(5, 5, 1.0) == 1
    assert 0 < binomial_tail(900, 100_000, 0.001) < 1e-300 or binomial_tail(900, 100_000, 0.001) == 0


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01], 10) == pytest.approx([0.1]) and holm([]) == []


def test_nobody_is_named_where_all_are_alike():
    """500 lists of 200 subjects that differ by chance only: a name in one list of twenty at most."""
    chance = np.random.default_rng(5)
    named = 0
    for _ in range(500):
        hits = chance.binomial(199, 0.02, size=200)
        rate = float(hits.mean() / 199)
        named += bool(animals(Count(at, int(hit), 199, rate) for at, hit in enumerate(hits)))
    # 500 lists at 5 %: more than 38 would be one chance in a thousand.
    assert named <= 38


def test_planted_animals_are_found_and_nobody_else(tmp_path):
    items, ids = crowd(200, 4)
    lamb = prepare(items[4 * 20 : 4 * 20 + 1], "cosine")[0]
    # The first templates of forty subjects lean towards one, which all of them resemble.
    for at in range(40):
        subject = 30 + at
        unit = prepare(items[4 * subject : 4 * subject + 4], "cosine")
        items[4 * subject : 4 * subject + 4] = unit + np.float32(1.6) * lamb
    # Ten templates of a subject have nothing to do with each other.
    goat = vectors(10, 32, 9)
    items, ids = np.concatenate([items, goat]), ids + ["goat"] * 10
    with filled(tmp_path / "g", items, ids, threshold=0.25) as people:
        found = people.audit()
        assert [one.id for one in found.goats] == ["goat"]
        assert found.goats[0].hits == found.goats[0].trials == 5
        assert found.lambs[0].id == "s20" and found.lambs[0].hits >= 30
        assert {one.id for one in found.wolves} | {one.id for one in found.lambs} <= {
            "s20",
            *(f"s{at}" for at in range(30, 70)),
        }
        assert all(one.p_value <= 0.05 < one.expected * 100 for one in found.lambs)
        people.quarantine("s20", "resembles everybody")
        assert "s20" not in [one.id for one in people.audit().lambs]


@pytest.mark.parametrize("planted", [False, True])
def test_subjects_with_many_templates_make_no_lambs_of_the_others(tmp_path, planted):
    """As in LFW: hundreds of one, one of hundreds. Nobody is special, but for the one that is planted."""
    chance = np.random.default_rng(4)
    each = [1] * 150 + [100] * 15
    centres = chance.normal(size=(len(each), 16))
    if planted:
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        centres[:25] += 1.1 * centres[160]
    items = np.repeat(centres, each, axis=0) + 0.15 * chance.normal(size=(sum(each), 16))
    ids = [f"s{at}" for at, many in enumerate(each) for _ in range(many)]
    with filled(tmp_path / "g", items.astype("f4"), ids) as people:
        found = people.audit(0.4)
    assert [one.id for one in found.lambs[:1]] == (["s160"] if planted else [])
    assert {one.id for one in found.lambs} <= {"s160", *(f"s{at}" for at in range(25))}


def test_planted_twins_and_wrong_labels_are_first(tmp_path):
    items, ids = crowd(100, 3)
    items[30:33] = items[60] + vectors(3, 32, 4) * np.float32(0.1)
    # A template of s50 is one of s70's.
    items[150] = items[210] + vectors(1, 32, 5)[0] * np.float32(0.1)
    with filled(tmp_path / "g", items, ids, threshold=0.3) as people:
        found = people.audit()
        assert {(one.id, one.other_id): one.pairs for one in found.same} == {
            ("s10", "s20"): 9,
            ("s50", "s70"): 3,
        }
        assert found.mislabelled[0].template == 151 and found.mislabelled[0].other_id == "s70"
        people.differ("s20", "s10")
        again = people.audit()
        assert [(one.id, one.other_id) for one in again.same] == [("s50", "s70")]
        people.split("s50", [151], "found")
        people.merge("s70", ["found"])
        last = people.audit()
        assert (last.same, last.mislabelled) == ((), ())
        people.undo(people.operations()[-1])
        assert [(one.id, one.other_id) for one in people.audit().same] == [("s70", "found")]
        assert str(last) and json.dumps(last.to_dict())


def test_how_many_coincidences_are_expected(tmp_path):
    """Subjects that are all different: as many pairs as the calibration said, within its interval."""
    items = vectors(400, 12, 3)
    with filled(tmp_path / "g", items, [f"s{at}" for at in range(400)]) as people:
        with pytest.raises(NotCalibratedError, match="calibrate"):
            people.audit()
        measured = people.calibrate(target_fmr=0.01)
        people.adopt(measured)
        found = people.audit()
        assert found.expected == pytest.approx(measured.fmr.value * 400 * 399 / 2)
        assert found.expected_low <= found.same_found <= found.expected_high
        assert found.same_found == pytest.approx(found.expected, rel=0.02)
        assert people.audit(measured.threshold / 2).expected is None
        assert (len(people.audit(most=3).same), people.audit(most=3).same_found) == (3, found.same_found)
        assert people.audit(most=3).to_dict() == people.audit(most=3).to_dict()


@pytest.mark.parametrize("fusion", ["mean3", "centroid"])
def test_a_fused_calibration_has_a_threshold_for_one_against_one(tmp_path, fusion):
    """Its own is of other distances: by it three times as many pairs would be listed as are expected."""
    items, ids = crowd(80, 6, 0.6)
    with filled(tmp_path / "g", items, ids) as people:
        plain, fused = (people.calibrate(target_fmr=0.02, fusion=one) for one in ("nearest", fusion))
        assert plain.to_nearest is None and fused.threshold > 1.1 * plain.threshold
        assert (fused.to_nearest.threshold, fused.to_nearest.fmr) == (plain.threshold, plain.fmr)
        people.adopt(plain)
        wanted = people.audit()
        people.adopt(fused)
        assert people.audit() == wanted and 0 < wanted.same_found <= wanted.expected_high
        assert people.threshold == fused.threshold
        # A conflict is told by the same one.
        strangers = vectors(60, 32, 77)
        nearest = [people.within(row, 9.0)[0].distance for row in strangers]
        between = [plain.threshold < away < fused.threshold for away in nearest]
        within = [away <= plain.threshold for away in nearest]
        assert sum(between) > 3 and sum(within) > 3
        for at in (between.index(True), within.index(True)):
            found = people.enroll(f"new{at}", strangers[at : at + 1], on_conflict="warn").conflicts
            assert [one.kind for one in found] == (["duplicate"] if within[at] else [])
        stored = fused.to_dict() | {"to_nearest": None}
        people._engine.set_setting("threshold", json.dumps(stored))
        with pytest.raises(NotCalibratedError, match="fused distances only"):
            people.audit()
        assert people.audit(plain.threshold).same_found >= wanted.same_found


def test_small_galleries(tmp_path):
    with gallery.create(tmp_path / "g", Precomputed(DIM, threshold=0.1)) as people:
        for count in range(3):
            found = people.audit()
            assert (found.subjects, found.templates, found.same, found.lambs) == (count, count, (), ())
            people.enroll(f"s{count}", np.eye(DIM)[count : count + 1])
        people.quarantine([1, 2, 3], "all")
        assert people.audit().templates == 0


def test_a_threshold_that_everything_is_within(tmp_path, monkeypatch):
    from gallery import pairs

    monkeypatch.setattr(pairs.near_pairs, "__kwdefaults__", {"most": 10})
    with filled(tmp_path / "g", vectors(20, DIM), [f"s{at}" for at in range(20)]) as people:
        with pytest.raises(InvalidItemError, match="too loose"):
            people.audit(2.0)
        with pytest.raises(ValueError, match="threshold"):
            people.audit(-1)
        for seed in (-1, 1.5, True):
            with pytest.raises(ValueError, match="seed is a whole number, 0 or more, not"):
                people.audit(seed=seed)
        with pytest.raises(ValueError, match="most"):
            people.audit(0.1, most=-1)


def test_on_the_command_line(tmp_path, capsys):
    items, ids = crowd(20, 3)
    items[30:33] = items[:3]
    place = str(tmp_path / "g")
    filled(tmp_path / "g", items, ids).close()
    assert main(["audit", place]) == 2
    assert "calibrate" in capsys.readouterr().err
    assert main(["audit", place, "--threshold", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "1 pair of subjects may be the same" in said and "s10" in said
    assert main(["audit", place, "--threshold", "0.3", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["same"][0]["other_id"] == "s10" and plain["expected"] is None
