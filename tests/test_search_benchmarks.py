"""The search benchmarks on a tiny scale: that what they count is what they say."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    picture,
    search_approximate,
    search_exact,
    search_gpu,
    search_growth,
    search_overhead,
    search_removal,
)
from benchmarks.search_approximate import Turns, quickest, verdict, worth_racing
from benchmarks.search_data import Crowd, first_subjects, index_of, opened, recall, truth
from encoders.charts import Axis
from gallery.indexes import half_pass
from gallery.indexes.certified import Plan
from gallery.indexes.exact import ExactIndex


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    with opened(Crowd(600, 8, 6), tmp_path_factory.mktemp("crowd") / "people", "exact") as people:
        yield people


@pytest.mark.parametrize("related", [False, True])
def test_mates_are_near_and_half_of_the_queries_have_some(related):
    crowd = Crowd(2000, 256, 20, related)
    rows, queries = crowd.rows(), crowd.queries(100)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    mates = (rows[:-1] * rows[1:]).sum(axis=1)[np.arange(1999) % 20 != 19]
    assert 0.75 < mates.mean() < 0.85
    # A new sample is as near to its mates as they are to each other.
    near = (queries @ rows.T).max(axis=1) > 0.75
    assert near.sum() >= 50 if related else near.sum() == 50
    assert (Crowd(2000, 256, 20, related).rows() == rows).all()


def test_the_truth_is_that_of_a_plain_loop(people):
    crowd = Crowd(600, 8, 6)
    queries, rows = crowd.queries(10), crowd.rows()
    numbers = np.arange(600)
    found = truth(queries, iter([(numbers[:250], rows[:250]), (numbers[250:], rows[250:])]), 6)
    for query, subjects in zip(queries, found.tolist(), strict=True):
        away = (1 - rows @ query).reshape(100, 6).min(axis=1)
        assert subjects == np.argsort(away)[:5].tolist()
    asked = people.identify_batch(queries, k=5)
    assert [[one.metadata["badge"] for one in answer.candidates] for answer in asked] == found.tolist()


def test_first_subjects_and_their_recall():
    owners = np.array([[4, 4, 2, 4, 7, 1], [3, 3, 3, -1, 3, -1]])
    found = first_subjects(owners, 3)
    assert found.tolist() == [[4, 2, 7], [3, -1, -1]]
    assert recall(found, np.array([[2, 4, 9], [3, 5, 6]])) == 3 / 6
    assert recall(found, np.array([[2, 4, 7], [3, -1, -1]])) == 1


def test_who_races_and_who_wins():
    turns = [
        Turns(None, at, share, [seconds])
        for at, (share, seconds) in enumerate(
            [
                (0.5, 1.0),
                (0.8, 2.0),
                (0.7, 3.0),
                (0.95, 4.0),
                (0.98, 5.0),
                (0.99, 6.0),
                (0.99, 7.0),
                (1.0, 8.0),
            ]
        )
    ]
    assert [one.setting for one in worth_racing(turns)] == [3, 4, 5, 7]
    points = [{"recall": r, "queries_a_second": q} for r, q in [(0.9899, 99), (0.99, 50), (1.0, 40)]]
    assert quickest(points) == points[1]
    assert quickest(points[:1]) is None
    won = verdict({"ours, a": points[1], "ours, b": points[2], "other": points[1] | {"queries_a_second": 55}})
    assert (won["ours"], won["best_other"], won["ratio"], won["met"]) == ("ours, a", "other", 0.91, True)
    assert verdict({"ours, a": None, "other": points[0]})["met"] is None


def test_the_calls_of_the_index_are_replayed(people):
    index = index_of(people)
    queries = Crowd(600, 8, 6).queries(4)
    calls = search_overhead.recorded(index, lambda: people.identify_batch(queries, k=3))
    assert len(calls) >= 1
    assert calls[0][0].shape == (4, 8)
    assert calls[0][1] >= 3
    assert "search" not in vars(index)


def test_removals_are_judged_by_brute_force(tmp_path):
    crowd = Crowd(3000, 8, 6)
    parts = search_removal.portions(crowd)
    assert [len(part) for part in parts] == [1, 10, 19]
    case = search_removal.measured(crowd, tmp_path, "exact")
    for when in ("after", "reopened"):
        assert (case[when]["templates"], case[when]["removed_found"], case[when]["wrong"]) == (2970, 0, 0)
    # A judge that lets everything pass is none.
    queries = crowd.queries(20)
    with opened(crowd, tmp_path / "whole", "exact") as whole:
        nearest = [answer.candidates[0].template - 1 for answer in whole.identify_batch(queries, k=1)]
        judged = search_removal.judged(whole, crowd, queries, np.unique(nearest))
    assert judged["removed_found"] >= 20
    assert judged["wrong"] >= 10


def test_the_pictures_show_every_series(tmp_path):
    drawn = picture.lines(
        "a < b", {"one": [(1.0, 10.0), (10.0, 100.0)], "ours": [(2.0, 50.0)]},
        Axis("x", *picture.around([1, 10]), "log"), Axis("y", *picture.around([10, 99]), "log"),
    )  # fmt: skip
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 3
    assert "a &lt; b" in drawn
    assert picture.around([0.02, 300]) == (0.01, 1000)


@pytest.mark.slow
def test_the_short_forms_run(tmp_path, monkeypatch):
    small = ["--counts", "400", "--dim", "8", "--results", str(tmp_path)]
    assert search_growth.main(small) == 0
    assert search_overhead.main(
        ["--shapes", "400x8", "--rounds", "1", "--each", "4", "--results", str(tmp_path)]
    ) in (0, 1)
    monkeypatch.setattr(search_approximate, "QUERIES", 20)
    monkeypatch.setattr(search_approximate, "RIVALS", {})
    run = ["--shapes", "400x8", "--kinds", "exact", "HNSW8", "--rounds", "1", "--results", str(tmp_path)]
    assert search_approximate.main(run) == 0
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    for name, draw in (
        ("growth", search_growth),
        ("overhead", search_overhead),
        ("approximate", search_approximate),
    ):
        draw.drawn(results[f"search_{name}"], tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").glob("*.svg"))) == 2 + 1 + 2
    case = results["search_approximate"]["cases"][0]
    assert case["at_goal"]["ours, exact"]["recall"] == 1
    assert all(one["removed_found"] == 0 for one in case["after_removal"].values())


@pytest.mark.parametrize("kind", ["clustered", "crowded"])
def test_the_exact_search_is_compared_with_faiss(tmp_path: Path, kind: str) -> None:
    found = search_exact.Case("600x16", kind, tmp_path).run([1, 8], 1)
    for size in ("1", "8"):
        assert found["sizes"][size]["worse"] == 0
        assert found["sizes"][size]["identical"] + found["sizes"][size]["ties"] == int(size)


def test_the_bare_products_of_a_gpu_are_made_one_at_a_time(monkeypatch):
    """All of them at once, of 1,024 queries with 10,000,000 rows, fill 40 GB of a card."""
    rows = Crowd(400, 64, 4).rows()

    def make(rows, metric, size):
        return half_pass.HalfPass(rows, metric, size, "cpu")

    index = ExactIndex(64, "cosine", Plan(make, rows=1, dim=1, block=64, patient=False))
    index.add(np.arange(400), rows)
    index.search(rows[:3], 2)
    alive, most, products = [], [], half_pass._products

    def watched(rows, queries):
        found = products(rows, queries)
        alive.append(weakref.ref(found[0]))
        gc.collect()
        most.append(sum(one() is not None for one in alive))
        return found

    monkeypatch.setattr(half_pass, "_products", watched)
    monkeypatch.setattr(search_gpu, "timed", lambda work, rounds: bool(work()) or rounds)
    assert search_gpu.first_product(index, rows) == 5
    assert len(most) == len(index._segments[0].first.blocks) > 3 and max(most) == 1


def test_the_benchmark_of_a_gpu_says_that_there_is_none(monkeypatch, capsys):
    monkeypatch.setattr(half_pass, "on_gpu", lambda: False)
    assert search_gpu.main([]) == 1
    assert "no GPU" in capsys.readouterr().out
