"""Enrolling, looking, removing: what the verbs say and keep."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import gallery
from gallery import (
    Precomputed,
    UnknownSubjectError,
    bulk,
)
from tests.gallery.doubles import Words, contents, vectors

CORNERS = np.eye(4, dtype=np.float32)


@pytest.fixture
def people(tmp_path):
    with gallery.open(tmp_path / "g", Precomputed(4, "euclidean")) as people:
        yield people


# -- enrolling and looking


def test_what_enroll_says_and_keeps(people):
    first = people.enroll("alice", CORNERS[:2], metadata={"badge": 7})
    assert (first.id, first.templates, first.created, first.revision) == ("alice", (1, 2), True, 1)
    again = people.enroll("alice", [CORNERS[2]], metadata={"badge": 8, "floor": 2})
    assert (again.templates, again.created, again.revision) == ((3,), False, 2)
    assert str(again) == "alice (known), 1 template enrolled"
    assert people.metadata("alice") == {"badge": 8, "floor": 2}
    assert [int(one) for one in people.templates("alice")] == [1, 2, 3]
    assert (len(people), people.template_count, people.ids()) == (1, 3, ["alice"])
    assert "alice" in people
    assert "bob" not in people
    assert list(people) == ["alice"]


def test_an_empty_gallery_is_true_and_knows_no_one(people):
    assert people
    assert len(people) == 0
    answer = people.identify(CORNERS[0], threshold=1.0)
    assert (answer.decision, answer.best, answer.candidates, answer.nearest) == ("unknown", None, (), None)
    assert people.identify_batch([]) == []


def test_anything_that_gives_items_is_a_list_of_items(people):
    people.enroll("array", CORNERS[:2])
    people.enroll("list of lists", [[0, 0, 1, 0], [0, 0, 0, 1]])
    people.enroll("generator", (row for row in CORNERS))
    people.enroll("tuple", (np.float64([1, 2, 3, 4]), np.int8([1, 2, 3, 4])))
    assert people.template_count == 10
    assert people.identify([1, 2, 3, 4], k=1).best.template == 9


def test_ids_keep_the_order_of_first_enrolment(people):
    people.enroll_many([("b", CORNERS[:1]), ("a", CORNERS[:1]), ("b", CORNERS[1:2])])
    assert people.ids() == ["b", "a"]
    people.remove("b")
    people.enroll("b", CORNERS[:1])
    assert people.ids() == ["a", "b"]


@pytest.mark.parametrize("id", ["é", "e\u0301", "👩‍👩‍👧", "a\0b", " ", "x" * 50_000, "'--", "5"])
def test_any_unicode_is_an_id(people, id):
    people.enroll(id, CORNERS[:1])
    assert people.ids() == [id]
    assert id in people
    assert people.identify(CORNERS[0], threshold=0).best.id == id
    assert people.verify(id, CORNERS[0], threshold=0).id == id
    assert people.remove(id) == 1


def test_precomposed_and_combining_are_two_ids(people):
    people.enroll_many([("é", CORNERS[:1]), ("e\u0301", CORNERS[1:2])])
    assert [people.identify(row, k=1).best.id for row in CORNERS[:2]] == ["é", "e\u0301"]


def test_template_numbers_are_never_used_again(tmp_path):
    encoder = Precomputed(4)
    with gallery.open(tmp_path / "g", encoder) as people:
        people.enroll("a", CORNERS)
        people.remove("a", erase=True)
    with gallery.open(tmp_path / "g", encoder) as people:
        assert people.enroll("a", CORNERS[:1]).templates == (5,)
        people.remove_templates([5])
        assert people.enroll("b", CORNERS[:2]).templates == (6, 7)


def test_enroll_many(people):
    calls = []
    result = people.enroll_many(
        ((f"s{n}", CORNERS[:2], {"n": n}) for n in range(1200)),
        progress=lambda done, total: calls.append((done, total)),
        total=2400,
    )
    assert calls == [(1024, 2400), (2048, 2400), (2400, 2400)]
    assert (result.subjects, result.templates, result.created, result.revision) == (1200, 2400, 1200, 1)
    assert people.metadata("s1199") == {"n": 1199}
    assert [int(one) for one in people.templates("s1199")] == [2399, 2400]
    assert people.enroll_many([("s1", CORNERS[:1]), ("t", CORNERS[:1])]).created == 1
    nothing = people.enroll_many([])
    assert (nothing.subjects, nothing.templates, nothing.revision) == (0, 0, people.info().revision)


def test_enroll_many_takes_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "_IN_MEMORY", 2**20)
    rows = vectors(64, 256)
    with gallery.open(tmp_path / "g", Precomputed(256)) as people:
        tracemalloc.start()
        people.enroll_many((f"s{n}", rows + n) for n in range(500))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert people.template_count == 32_000
    # The embeddings are 33 MB; a batch of 1,024 is 1 MB, and is held several times over while it is encoded.
    assert peak < 14e6


# -- removing


def test_removing(people):
    people.enroll_many([("a", CORNERS[:2]), ("b", CORNERS[2:])])
    assert people.identify(CORNERS[0], k=1).best.id == "a"
    assert people.remove("a") == 2
    assert people.identify(CORNERS[0], k=1).best.id == "b"
    assert people.remove_templates(people.templates("b")[:1]) == 1
    assert people.remove_templates(np.array([4])) == 1
    assert (len(people), people.template_count, people.ids()) == (0, 0, [])
    with pytest.raises(UnknownSubjectError):
        people.remove("b")


def test_erasing_leaves_no_byte_in_any_file(tmp_path):
    rng = np.random.default_rng(4)
    secret = rng.random((3, 16)).astype(np.float32)
    location = tmp_path / "g"
    with gallery.open(location, Precomputed(16, "euclidean")) as people:
        people.enroll_many((f"s{n}", rng.random((2, 16))) for n in range(900))
        people.enroll("SECRET-ID", secret, metadata={"SECRET-KEY": "SECRET-VALUE"})
        people.enroll_many((f"t{n}", rng.random((2, 16))) for n in range(300))
        people.identify(secret[0])
    assert any(secret[0].tobytes() in content for content in contents(location).values())
    with gallery.open(location, Precomputed(16, "euclidean")) as people:
        people.identify(secret[0])
        assert people.remove("SECRET-ID", erase=True) == 3
        people.identify(secret[0])
    for name, content in contents(location).items():
        assert b"SECRET" not in content, name
        for row in secret:
            assert row.tobytes() not in content, name
    with gallery.open(location, Precomputed(16, "euclidean")) as people:
        assert (len(people), people.check()) == (1200, [])


def test_compact_erases_what_was_removed_before(people):
    secret = np.float32([[0.123, 4.567, 8.901, 2.345]])
    people.enroll("SECRET-ID", secret)
    people.enroll("a", CORNERS)
    people.remove("SECRET-ID")
    people.compact()
    raw = b"".join(contents(people.location).values())
    assert b"SECRET" not in raw
    assert secret.tobytes() not in raw


# -- somebody's own encoder


def test_an_encoder_of_ones_own(tmp_path):
    with gallery.open(tmp_path / "g", Words()) as people:
        people.enroll("a", ["1 0 0 0", "1 1 0 0"])
        assert [one.source for one in people.templates("a")] == [None, None], "no files of that name"
        assert people.identify("0 2 0 0", k=1).best.template == 2
        result = people.enroll("b", ["0 0 1 0", "cursed", "0 0 0 0", "0 0 0 1"], on_error="skip")
        assert result.templates == (3, 4)
        assert [(one.id, one.index, one.reason) for one in result.refused] == [
            ("b", 1, "RuntimeError: this one is cursed"),
            ("b", 2, "its embedding is all zeros, which has no direction under the cosine metric"),
        ]
        assert str(result) == "b (new), 2 templates enrolled, 2 items refused"
        many = people.enroll_many([("c", ["cursed"]), ("d", ["1 2 3 4", "cursed"])], on_error="skip")
        assert (many.subjects, many.templates, "c" in people) == (1, 1, False)
        assert [(one.id, one.index) for one in many.refused] == [("c", 0), ("d", 1)]


def test_ids_with_a_nul_are_known_again_in_a_bulk(tmp_path):
    with gallery.create(tmp_path / "g", Precomputed(4)) as people:
        for count in (1, 2):
            done = people.enroll_many((id, np.eye(4)[:1]) for id in ("a\0", "a", "a\0b"))
            assert (done.created, len(people)) == (3 if count == 1 else 0, 3)
            assert {one.id: one.templates for one in people.subjects()} == dict.fromkeys(people.ids(), count)
