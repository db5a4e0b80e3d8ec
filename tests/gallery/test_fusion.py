"""Ways of fusing a subject's templates, against plain loops; and a gallery that decides by one of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gallery
from gallery import fusion as pure
from gallery.engines import scoring
from tests.gallery.doubles import METRICS, true_distances, vectors

DIM = 8
MOST = {"nearest": 1, "mean2": 2, "mean3": 3}


def by_hand(away: list[float], fusion: str) -> float:
    some = sorted(d for d in away if np.isfinite(d))[: MOST[fusion]]
    return sum(some) / len(some) if some else np.inf


def centroid_by_hand(probe, rows, metric: str) -> float:
    if not len(rows):
        return np.inf
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return float(true_distances(probe, np.mean(rows, axis=0, keepdims=True, dtype=np.float64), metric)[0])


def test_fused_distances_are_those_of_a_loop():
    chance = np.random.default_rng(0)
    sizes = [1, 3, 1, 7, 2, 3]
    starts = np.cumsum([0, *sizes[:-1]])
    away = chance.random((40, sum(sizes))).astype("f4")
    away[chance.random(away.shape) < 0.3] = np.inf
    for fusion in MOST:
        found = pure.fused(away, starts, fusion)
        for probe, row in enumerate(away.tolist()):
            for at, (start, size) in enumerate(zip(starts, sizes, strict=True)):
                expected = by_hand(row[start : start + size], fusion)
                assert found[probe, at] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_centroids_are_those_of_a_loop(metric):
    rows, probes = vectors(17, DIM, 1), vectors(9, DIM, 2)
    if metric == "cosine":
        rows, probes = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (rows, probes))
    sizes = [1, 3, 1, 7, 2, 3]
    starts = np.cumsum([0, *sizes[:-1]])
    out = np.random.default_rng(3).random((9, 17)) < 0.2
    found = pure.to_centroids(probes, rows, starts, out, metric)
    for probe in range(9):
        for at, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            mine = slice(start, start + size)
            expected = centroid_by_hand(probes[probe], rows[mine][~out[probe, mine]], metric)
            assert found[probe, at] == pytest.approx(expected, abs=1e-5)
    opposite = np.stack([rows[0], -rows[0]])
    cancelled = pure.to_centroids(probes[:1], opposite, np.zeros(1, int), np.zeros((1, 2), bool), metric)
    assert cancelled[0, 0] == pytest.approx(
        1.0 if metric == "cosine" else np.linalg.norm(probes[0]), rel=1e-5
    )


def uneven(seed: int, count: int = 30) -> list[tuple[str, np.ndarray]]:
    """Subjects with 1, 2, 3, 4 and 9 templates."""
    centres = vectors(count, DIM, 1)
    return [
        (
            f"s{n}",
            centres[n] + np.float32(0.6) * vectors((1, 2, 3, 4, 9)[n % 5], DIM, 100 * seed + n),
        )
        for n in range(count)
    ]


@pytest.fixture(params=METRICS)
def people(request, tmp_path):
    with gallery.open(tmp_path / "g", gallery.Precomputed(DIM, request.param)) as people:
        for id, rows in uneven(3):
            people.enroll(id, rows[:2], metadata={"of": {1: "one", 9: "nine"}.get(len(rows), "some")})
        # Templates of a subject need not lie together.
        people.enroll_many((id, rows[2:]) for id, rows in uneven(3) if len(rows) > 2)
        yield people


def held(people):
    return {id: people._engine.embeddings(id).rows for id in people.ids()}


@pytest.mark.parametrize("fusion", pure.FUSIONS)
@pytest.mark.parametrize("block", [7, 10_000])
def test_scores_of_every_fusion(people, fusion, block, monkeypatch):
    monkeypatch.setattr(scoring, "MOST_CELLS", max(people.template_count * 30, block))
    with people._engine._at_one_revision() as store:
        asked = scoring.from_the_gallery(store, 1000, 0)
        found = scoring.compared(store, asked, 0, fusion)
        ids = {store.subject(id): id for id in store.ids()}
    rows = held(people)
    metric = people.encoder.metric
    for at, (probe, number) in enumerate(zip(asked.rows, asked.owners.tolist(), strict=True)):
        owner = ids[number]
        assert found.own_templates[at] == len(rows[owner]) - 1
        for column, id in enumerate(found.columns):
            others = rows[id][true_distances(probe, rows[id], metric) > 1e-6]
            away = true_distances(probe, others, metric)
            expected = (
                centroid_by_hand(probe, others, metric)
                if fusion == "centroid"
                else by_hand(list(away), fusion)
            )
            given = found.scores.mated[at] if id == owner else found.scores.distances[at, column]
            if np.isinf(expected):
                assert np.isnan(given)
            else:
                assert given == pytest.approx(expected, abs=2e-4)
    assert found.templates.tolist() == [len(rows[id]) for id in found.columns]


@pytest.mark.parametrize("fusion", ["mean2", "mean3", "centroid"])
def test_a_gallery_decides_by_what_was_adopted(people, fusion):
    found = people.calibrate(target_fmr=0.1, fusion=fusion)
    assert found.fusion == fusion
    people.adopt(found)
    rows = held(people)
    metric = people.encoder.metric
    probes = vectors(60, DIM, 9)
    answers = people.identify_batch(probes, k=3, threshold=100.0)
    for probe, answer in zip(probes, answers, strict=True):
        each = {
            id: centroid_by_hand(probe, mine, metric)
            if fusion == "centroid"
            else by_hand(list(true_distances(probe, mine, metric)), fusion)
            for id, mine in rows.items()
        }
        best = sorted(each, key=each.get)[:3]
        assert [one.id for one in answer.candidates] == best
        for one in answer.candidates:
            assert one.distance == pytest.approx(each[one.id], abs=1e-6)
            # The template that is shown is the nearest one.
            away = true_distances(probe, rows[one.id], metric)
            assert one.template == int(people.templates(one.id)[int(away.argmin())])
            claim = people.verify(one.id, probe, threshold=one.distance)
            assert claim.distance == one.distance and claim.accepted
            assert not people.verify(one.id, probe, threshold=np.nextafter(one.distance, 0))
    assert people.identify(probes[0], k=3, threshold=100.0) == answers[0]
    some = people.identify(probes[0], k=3, threshold=100.0, where={"of": ["one", "nine"]})
    whole = people.identify(probes[0], k=30, threshold=100.0).candidates
    of_them = [one for one in whole if one.metadata.get("of") in ("one", "nine")]
    assert list(some.candidates) == of_them[:3] and len(of_them) == 12
    assert people.identify(probes[0]).threshold == found.threshold
    evaluated = people.evaluate([(id, mine + np.float32(0.01)) for id, mine in uneven(3)])
    accepted = [people.verify(id, row).accepted for id, mine in uneven(3) for row in mine + np.float32(0.01)]
    assert evaluated.fnmr.value == pytest.approx(1 - np.mean(accepted))


def test_a_search_looks_as_far_as_it_takes(tmp_path):
    """Fifty subjects with one near and one far template hide the one whose both are in the middle."""
    with gallery.open(tmp_path / "g", gallery.Precomputed(1, "euclidean")) as people:
        people.enroll_many((f"s{n}", np.array([[0.1 + n / 1000], [9.0]])) for n in range(50))
        people.enroll("middle", [[1.0], [1.2]])
        people.enroll("next", [[1.1], [1.4]])
        probe = np.zeros(1)
        assert people.identify(probe, threshold=9).best.id == "s0"
        people.adopt(people.calibrate(target_fmr=0.5, fusion="mean2"))
        answer = people.identify(probe, k=3, threshold=9)
        assert [one.id for one in answer.candidates] == ["middle", "next", "s0"]
        assert [one.distance for one in answer.candidates] == pytest.approx([1.1, 1.25, 4.55])
        assert len(people.identify(probe, k=60, threshold=9).candidates) == 52
        people.enroll("next", [[1.1]])
        assert people.identify(probe, k=1, threshold=9).best.distance == pytest.approx(1.1)


def test_what_is_compared_is_what_the_gallery_would_do(people):
    probes = [
        (id, rows[:2] + np.float32(0.3) * vectors(len(rows[:2]), DIM, n))
        for n, (id, rows) in enumerate(uneven(3))
    ]
    strangers = [(f"t{n}", rows[:1]) for n, (_, rows) in enumerate(uneven(5))]
    compared = people.compare_fusions([*probes, *strangers], target_fmr=0.05)
    assert [one.fusion for one in compared] == ["nearest", "mean2", "mean3", "centroid"]
    assert sum(one.chosen for one in compared) == 1
    for one in compared:
        assert one.fmr.value <= 0.05
        assert sum(part.fnmr.trials for part in one.by_templates) == one.fnmr.trials
        assert sum(part.fmr.trials for part in one.by_templates) == one.fmr.trials
        errors = sum(part.fmr.value * part.fmr.trials for part in one.by_templates)
        assert errors == pytest.approx(one.fmr.value * one.fmr.trials)
        assert [(part.low, part.high) for part in one.by_templates] == [(1, 1), (2, 2), (3, 4), (9, None)]
        found = people.calibrate([*probes, *strangers], target_fmr=0.05, fusion=one.fusion)
        assert (found.threshold, found.fnmr) == (one.threshold, one.fnmr)
        people.adopt(found)
        missed = [not people.verify(id, row) for id, rows in probes for row in rows]
        assert one.fnmr.value == pytest.approx(np.mean(missed))
    json.dumps([one.to_dict() for one in compared], allow_nan=False)


def test_the_nearest_of_many_is_a_chance_for_strangers(people):
    nearest = people.compare_fusions(target_fmr=0.05)[0]
    few, *_, many = [part.fmr.value for part in nearest.by_templates]
    assert many > 2 * few


def test_auto_takes_another_only_where_it_is_surely_better(tmp_path):
    with gallery.open(tmp_path / "g", gallery.Precomputed(DIM, "euclidean")) as people:
        centres = vectors(60, DIM, 1)
        people.enroll_many((f"s{n}", centres[n] + vectors(12, DIM, n + 100)) for n in range(60))
        compared = people.compare_fusions(target_fmr=0.01, sample=400)
        chosen = next(one for one in compared if one.chosen)
        assert chosen.fusion == "centroid" and chosen.fnmr.high < compared[0].fnmr.low
        assert people.calibrate(target_fmr=0.01, sample=400, fusion="auto").fusion == "centroid"
        people.remove_templates(int(one) for id in people.ids() for one in people.templates(id)[1:])
        probes = [(f"s{n}", centres[n] + vectors(3, DIM, n + 500)) for n in range(60)]
        assert people.calibrate(probes, target_fmr=0.1, fusion="auto").fusion == "nearest", "all are the same"


def test_mistakes_are_named(people):
    for fusion in ("Nearest", "mean4", ""):
        with pytest.raises(ValueError, match="fusion must be auto or one of nearest, mean2, mean3, centroid"):
            people.calibrate(target_fmr=0.1, fusion=fusion)
    with pytest.raises(gallery.NotEnoughDataError, match="independent"):
        people.compare_fusions(target_fmr=1e-6)
    with pytest.raises(ValueError, match="not both"):
        people.compare_fusions(target_fmr=0.1, target_fpir=0.1)


@pytest.mark.parametrize("fusion", ["nearest", "mean2", "centroid"])
def test_what_is_in_quarantine_counts_in_no_fusion(tmp_path, fusion):
    rows = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.6, 0.8, 0, 0]], np.float32)
    found = []
    for name in ("with", "without"):
        with gallery.open(tmp_path / name, gallery.Precomputed(4)) as people:
            people.enroll("a", rows[:2])
            people.enroll("b", rows[2:])
            if name == "with":
                (extra,) = people.enroll("a", [[0.6, 0.8, 0.001, 0]]).templates
                people.quarantine(extra, "not of a")
            ranked = people._engine.nearest(rows, 2, None, None, fusion)
            found.append([[(one.id, one.distance) for one in each] for each in ranked])
    assert found[0] == found[1]
