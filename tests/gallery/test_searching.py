"""Changing the kind of index, and measuring what it finds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import gallery
from gallery.indexes import kinds
from gallery.indexes.base import Effort
from gallery.searching import known_recall
from tests.gallery.doubles import vectors

DIM = 16
ENCODER = gallery.Precomputed(DIM)
KINDS = ["HNSW16", "IVF16,Flat", "IVF8,SQ8", "IVF8,PQ8x4fs,RFlat", "PCA8,Flat", "auto"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """30 subjects of 330 templates each: enough for every kind to be trained."""
    place = tmp_path_factory.mktemp("filled") / "g"
    centres = vectors(30, DIM, 1)
    with gallery.open(place, ENCODER) as people:
        people.enroll_many(
            (f"s{n}", centres[n] + np.float32(0.2) * vectors(330, DIM, 100 + n)) for n in range(30)
        )
    return place


@pytest.fixture
def place(filled, tmp_path):
    with gallery.open(filled, ENCODER, read_only=True) as people:
        people.backup(tmp_path / "copy")
    return tmp_path / "copy"


def answers(people, probes):
    return [
        [(one.id, one.template, one.distance) for one in answer.candidates]
        for answer in people.identify_batch(probes, k=3)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_answers_the_same_and_stays(place, kind):
    probes = vectors(30, DIM, 1) + np.float32(0.1) * vectors(30, DIM, 5)
    with gallery.open(place, ENCODER) as people, gallery.open(place, ENCODER) as other:
        before = answers(people, probes)
        other.identify(probes[0])
        if kind == "auto":
            people.reindex("HNSW8")
        assert people.reindex(kind) == ("exact" if kind == "auto" else kind)
        assert people.info().index_wish == other.info().index_wish == kind
        assert other.info().index == people.info().index
        for one in (people, other):
            assert [found[0] for found in answers(one, probes)] == [found[0] for found in before]
        last = people.log()[-1]
        assert (last.verb, last.note) == ("reindex", kind)
        # Removals and additions after it.
        first = before[0][0]
        people.remove(first[0])
        people.enroll("new", [probes[0]])
        for one in (people, other):
            found = one.identify(probes[0], k=5).candidates
            assert found[0].id == "new"
            assert found[0].distance < 1e-6
            assert first[0] not in [each.id for each in found]
            assert len(found) == 5
        assert people.check() == []
    with gallery.open(place, ENCODER) as people:
        assert people.info().index == ("exact" if kind == "auto" else kind)
        assert people.identify(probes[0]).candidates[0].id == "new"


@pytest.mark.parametrize("kind", ["IVF", "nonsense", "", "IVF0,Flat", 5, None])
def test_what_faiss_cannot_make_is_refused_and_changes_nothing(place, kind):
    with gallery.open(place, ENCODER) as people:
        before = people.info()
        with pytest.raises(ValueError, match="index"):
            people.reindex(kind)
        after = people.info()
        assert (after.revision, after.index, after.index_wish) == (before.revision, "exact", "auto")
    with (
        gallery.open(place, ENCODER, read_only=True) as people,
        pytest.raises(gallery.GalleryError, match="read-only"),
    ):
        people.reindex("exact")


@pytest.mark.parametrize(
    "kind",
    ["x" * 100_000, "(" * 201, "Flat\ud800", "Flat\0junk", "Flat\n", "Flät"],
    ids=lambda kind: ascii(kind[:9]),
)
def test_a_kind_is_a_short_text_of_printable_ascii(place, kind):
    with gallery.open(place, ENCODER) as people:
        before = people.info().revision
        with pytest.raises(ValueError, match="at most 200 printable ASCII characters") as refused:
            people.reindex(kind)
        assert len(str(refused.value)) < 400
        assert people.info().revision == before


@pytest.mark.parametrize(
    "asked",
    [
        {"k": 2.5}, {"k": True}, {"k": 0}, {"k": "5"}, {"sample": 2.5}, {"sample": None}, {"sample": -1},
        {"seed": -1}, {"seed": 0.5}, {"seed": "x"}, {"goal": [1]}, {"goal": 1j}, {"goal": np.ones(2)},
    ],
    ids=str,
)  # fmt: skip
def test_what_recall_cannot_be_asked_is_refused(place, asked):
    with gallery.open(place, ENCODER) as people, pytest.raises(ValueError, match=r"whole number|a share"):
        people.recall(**{"sample": 5} | asked)


def test_recall_takes_numbers_of_numpy(place):
    with gallery.open(place, ENCODER) as people:
        found = people.recall(np.int64(5), k=np.int32(2), goal=np.float32(0.5))
        assert (found.probes, found.k) == (5, 2)


@pytest.mark.parametrize("kind", ["PCA64,Flat", "PQ4x0"])
def test_a_kind_that_cannot_be_trained_is_refused_while_the_gallery_is_small(tmp_path, kind):
    with gallery.open(tmp_path / "small", ENCODER) as people:
        people.enroll("a", vectors(3, DIM))
        before = people.info()
        with pytest.raises(ValueError, match="index"):
            people.reindex(kind)
        assert (people.info().revision, people.info().index_wish) == (before.revision, "auto")
    with pytest.raises(ValueError, match="index"):
        gallery.create(tmp_path / "new", ENCODER, index=kind)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def small_training(monkeypatch):
    """Kinds train on 512 vectors."""
    monkeypatch.setattr(kinds, "_PER_CELL", 2)


@pytest.mark.usefixtures("small_training")
def test_an_exact_search_stands_in_for_a_stored_kind_that_fails_after_all(place):
    """As one that was stored before kinds were tried out."""
    with gallery.open(place, ENCODER) as people:
        probe = vectors(30, DIM, 1)[7]
        truth = answers(people, [probe])
        people._engine.set_setting("index", "PCA64,Flat")
        with pytest.warns(
            RuntimeWarning, match=r"'PCA64,Flat' is of no use here: .*; an exact search stands in"
        ):
            assert answers(people, [probe]) == truth
        # Once, and for all verbs.
        assert (people.info().index, people.info().index_wish) == ("exact", "PCA64,Flat")
        assert "cannot output 64 dimensions from 16" in people.info().index_why
        assert people.within(probe, 0.5)
        assert people.recall(20).value == 1
        people.enroll("new", [probe])
        assert people.identify(probe).candidates[0].id == "new"
    with (
        gallery.open(place, ENCODER) as people,
        pytest.warns(RuntimeWarning, match="an exact search stands in"),
    ):
        assert people.reindex("HNSW16") == "HNSW16"
        people._engine.set_setting("index", "PCA64,Flat")
        assert people.info().index == "exact"


@pytest.mark.usefixtures("small_training")
def test_an_exact_search_stands_in_for_a_kind_that_cannot_be_searched_after_all(place, monkeypatch):
    with gallery.open(place, ENCODER) as people:
        probe = vectors(30, DIM, 1)[7]
        truth = answers(people, [probe])
        people.reindex("IVF16,Flat")

        def fails(*_):
            raise RuntimeError("Error in search at here.cpp:1: it cannot")

        with monkeypatch.context() as patch:
            patch.setattr(kinds, "search", fails)
            with pytest.warns(RuntimeWarning, match="an exact search stands in"):
                assert answers(people, [probe]) == truth
            assert "it cannot" in people.info().index_why
        # Asking for it once more tries it once more.
        assert people.reindex("IVF16,Flat") == people.info().index == "IVF16,Flat"


@pytest.fixture
def scattered(tmp_path):
    """10,000 subjects of one template each, alike to nobody."""
    place = tmp_path / "scattered"
    with gallery.open(place, ENCODER) as people:
        people.enroll_many((f"s{n}", [row]) for n, row in enumerate(vectors(10_000, DIM, 9)))
        people.backup(tmp_path / "exact")
    return place


def brute_recall(people, approximate, k, seed, sample):
    """The same sample, asked of both through the public verbs."""
    chance = np.random.default_rng(seed)
    numbers = chance.permutation(10_000)[:sample] + 1
    owner, row = {}, {}
    for id in people.ids():
        for template in people.templates(id):
            owner[template.template] = id
    for id in people.ids():
        stored = people._engine.embeddings(id)
        row |= dict(zip(stored.numbers.tolist(), stored.rows, strict=True))
    probes = np.stack([row[int(number)] for number in sorted(numbers)])
    owners = [owner[int(number)] for number in sorted(numbers)]
    hits = total = 0
    for own, true, found in zip(
        owners,
        people.identify_batch(probes, k + 1),
        approximate.identify_batch(probes, k + 1),
        strict=True,
    ):
        right = [one.id for one in true.candidates if one.id != own][:k]
        hits += len(set(right) & {one.id for one in found.candidates})
        total += len(right)
    return hits / total


def test_recall_is_what_a_comparison_with_brute_force_gives(scattered, tmp_path):
    place = scattered
    with gallery.open(tmp_path / "exact", ENCODER) as exact, gallery.open(place, ENCODER) as people:
        assert people.info().recall is None
        perfect = people.recall(100)
        assert (perfect.value, perfect.low, perfect.high, perfect.index) == (1.0, 1.0, 1.0, "exact")
        assert people.info().recall == perfect
        people.reindex("IVF64,PQ4x4")
        assert people.info().recall is None
        found = people.recall(200, k=4, seed=3)
        assert found.value == pytest.approx(brute_recall(exact, people, 4, 3, 200), abs=1e-12)
        assert found.low <= found.value <= found.high < 1.0, "a kind so coarse misses some"
        assert (found.k, found.probes, found.templates) == (4, 200, 10_000)
        assert people.info().recall == found
        assert "recall@4" in str(found)
    with gallery.open(place, ENCODER, read_only=True) as people:
        assert people.info().recall == found
        assert people.recall(50).probes == 50


def test_a_measured_recall_is_void_when_much_has_changed(place):
    with gallery.open(place, ENCODER) as people:
        measured = people.recall(20)
        text, state = json.dumps(measured.to_dict()), people._engine.state()
        assert known_recall(text, state) == measured
        assert known_recall(text, replace(state, changes=state.changes + 990)) == measured
        assert known_recall(text, replace(state, changes=state.changes + 991)) is None
        assert known_recall(text, replace(state, index="HNSW16")) is None
        assert known_recall(None, state) is None
        # As many removed as added: the number of templates stays, and yet it is another gallery.
        for n in range(2):
            assert people.info().recall == measured
            people.remove(f"s{n}")
            people.enroll(f"new{n}", vectors(330, DIM, 50 + n))
        assert people.template_count == 9900
        assert people.info().recall is None


def test_a_measured_recall_stays_with_its_encoder(place):
    with gallery.open(place, ENCODER) as people:
        measured = people.recall(20)
        items = {id: vectors(330, DIM, n) for n, id in enumerate(people.ids())}
        people.migrate(gallery.Precomputed(DIM, name="another"), items)
        assert people.info().recall is None
        people.rollback(ENCODER)
        assert people.info().recall == measured


@pytest.mark.usefixtures("small_training")
def test_within_misses_nobody_whatever_the_kind(place):
    """As its docstring and docs/search.md say; `identify` looks into one cell and finds few."""
    probe = vectors(30, DIM, 1)[7]
    with gallery.open(place, ENCODER) as people:
        truth = [(one.id, one.distance) for one in people.within(probe, 2.0)]
        people.reindex("IVF64,PQ2x4")
        people._engine._cache._index.look(Effort(cells=1))
        assert [(one.id, one.distance) for one in people.within(probe, 2.0)] == truth
        assert len(truth) == 30
    assert "misses nobody" in gallery.Gallery.within.__doc__


def test_recall_needs_two_subjects(tmp_path):
    with gallery.open(tmp_path / "one", ENCODER) as people:
        for enrolled in (0, 1):
            with pytest.raises(gallery.NotEnoughDataError, match=f"has {enrolled} subjects"):
                people.recall()
            people.enroll("a", vectors(2, DIM))
        for wrong in ({"sample": 0}, {"k": 0}, {"sample": 2.5}, {"seed": -1}, {"seed": "1"}):
            with pytest.raises(ValueError, match=r"is a whole number.* or more, not"):
                people.recall(**wrong)
