"""The verbs: what they answer, to the bit, alone and beside others."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import tracemalloc

import numpy as np
import pytest

import gallery
from gallery import (
    GalleryError,
    GalleryLockedError,
    NotCalibratedError,
    Precomputed,
    UnknownSubjectError,
    bulk,
)
from gallery.vectors import distances, prepare
from tests.gallery.doubles import METRICS, Words, contents, in_another_process, seen, vectors

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
    assert str(again) == "alice (known): 1 templates enrolled"
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


# -- identify and verify


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
    with pytest.raises(NotCalibratedError, match="pass threshold="):
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


# -- several at once


def test_two_objects_see_each_others_commits_at_the_next_call(tmp_path):
    encoder = Precomputed(4, "euclidean")
    with gallery.open(tmp_path / "g", encoder) as first, gallery.open(tmp_path / "g", encoder) as second:
        watcher = gallery.open(tmp_path / "g", encoder, read_only=True)
        assert second.identify(CORNERS[0]).nearest is None
        first.enroll("a", CORNERS[:1], metadata={"x": 1})
        for one in (second, watcher):
            assert seen(one.identify(CORNERS[0])) == [("a", 0.0, 1)]
            assert (one.ids(), one.metadata("a"), "a" in one) == (["a"], {"x": 1}, True)
        second.enroll("b", CORNERS[:1], metadata={"x": 2})
        assert seen(first.identify(CORNERS[0])) == [("a", 0.0, 1), ("b", 0.0, 2)]
        second.remove("a")
        for one in (first, watcher):
            assert seen(one.identify(CORNERS[0])) == [("b", 0.0, 2)]
            with pytest.raises(UnknownSubjectError):
                one.verify("a", CORNERS[0], threshold=1)
        watcher.close()


def test_a_writer_that_waits_too_long_is_told(tmp_path):
    encoder = Precomputed(4)
    first = gallery.open(tmp_path / "g", encoder)
    second = gallery.open(tmp_path / "g", encoder, lock_timeout=0.05)
    with first._engine._store.commit():
        with pytest.raises(GalleryLockedError, match="another writer"):
            second.enroll("a", CORNERS)
        assert second.ids() == []
    assert second.enroll("a", CORNERS).revision == 1
    first.close()
    second.close()


def test_threads_share_one_gallery(people):
    people.enroll_many((f"s{n}", [[n, 0, 0, 0]]) for n in range(50))
    problems: list[object] = []

    def work(name: int) -> None:
        try:
            for n in range(10):
                id = f"{name}-{n}"
                people.enroll(id, [[n, 1000 + name, 0, 0]])
                if people.identify([n, 1000 + name, 0, 0], k=1).best.id != id:
                    problems.append(id)
                if seen(people.identify([7, 0, 0, 0], k=1)) != [("s7", 0.0, 8)]:
                    problems.append("s7")
                people.remove(id)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert (len(people), people.info().revision) == (50, 81)


def _fill(location: str, name: int) -> None:
    with gallery.open(location, Precomputed(4, "euclidean")) as people:
        for n in range(5):
            people.enroll(f"{name}-{n}", [[name, n, 0, 0]])


def test_processes_that_create_and_fill_one_gallery_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(str(tmp_path / "g"), name)) for name in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    with gallery.open(tmp_path / "g", Precomputed(4, "euclidean")) as people:
        assert sorted(people.ids()) == sorted(f"{name}-{n}" for name in range(4) for n in range(5))
        assert (people.template_count, people.info().revision, people.check()) == (20, 20, [])


def _use(people, answers) -> None:
    for use in (lambda: people.identify(CORNERS[0]), lambda: people.enroll("b", CORNERS), people.ids):
        try:
            use()
        except GalleryError as error:
            answers.put(str(error))
    people.close()
    answers.put("closed")


def test_a_forked_worker_is_told_to_open_again(people):
    people.enroll("a", CORNERS[:1])
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_use, args=(people, answers))
    process.start()
    told = [answers.get() for _ in range(4)]
    process.join()
    assert all("before this process was forked: open it again in the worker" in one for one in told[:3])
    assert (told[3], people.ids()) == ("closed", ["a"])


# -- another process, and reading only

_ASK = """
import json, sys
import numpy as np
import gallery
rows = np.load(sys.argv[2])
with gallery.open(sys.argv[1], read_only=len(sys.argv) > 3) as people:
    answers = people.identify_batch(rows, k=4)
    claims = [people.verify("s3", row, threshold=1.0).distance.hex() for row in rows]
    print(json.dumps([[(c.id, c.distance.hex(), c.template) for c in one.candidates] for one in answers]))
    print(json.dumps(claims))
"""


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("subjects", [5, 700])
def test_another_process_gives_the_same_answers_bit_for_bit(tmp_path, metric, subjects):
    rows, probes = vectors(2 * subjects, 24), vectors(9, 24, 1)
    np.save(tmp_path / "probes.npy", probes)
    with gallery.open(tmp_path / "g", Precomputed(24, metric)) as people:
        people.enroll_many((f"s{n}", rows[2 * n : 2 * n + 2]) for n in range(subjects))
        people.remove("s1")
        answers = [
            [[one.id, one.distance.hex(), one.template] for one in answer.candidates]
            for answer in people.identify_batch(probes, k=4)
        ]
        claims = [people.verify("s3", row, threshold=1.0).distance.hex() for row in probes]
    for extra in ([], ["read-only"]):
        printed = in_another_process(_ASK, tmp_path / "g", tmp_path / "probes.npy", *extra)
        assert [json.loads(line) for line in printed.splitlines()] == [answers, claims]


def test_reading_only_refuses_every_change_and_writes_no_file(tmp_path):
    location = tmp_path / "g"
    with gallery.open(location, Precomputed(4)) as people:
        people.enroll("a", CORNERS)
        people.enroll_many((f"s{n}", CORNERS + n) for n in range(300))
    before = contents(location)
    people = gallery.open(location, read_only=True)
    for change in (
        lambda: people.enroll("b", CORNERS),
        lambda: people.enroll_many([("b", CORNERS)]),
        lambda: people.remove("a"),
        lambda: people.remove_templates([1]),
        people.compact,
        lambda: people._engine.set_setting("threshold", "1"),
    ):
        with pytest.raises(GalleryError, match="read-only; nothing was written"):
            change()
    assert people.identify(CORNERS[0], k=1).best.id == "a"
    assert people.check() == []
    people.close()
    assert contents(location) == before


def test_a_folder_that_cannot_be_written_can_be_read(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root writes into every folder")
    location = tmp_path / "g"
    with gallery.open(location, Precomputed(4)) as people:
        people.enroll("a", CORNERS)
    before = contents(location)
    location.chmod(0o500)
    try:
        with gallery.open(location, read_only=True) as people:
            assert people.identify(CORNERS[0], k=1).best.id == "a"
        assert contents(location) == before
    finally:
        location.chmod(0o700)


def test_a_closed_gallery_says_so(tmp_path):
    people = gallery.open(tmp_path / "g", Precomputed(4))
    people.close()
    people.close()
    for use in (people.ids, lambda: people.identify(CORNERS[0]), lambda: people.enroll("a", CORNERS)):
        with pytest.raises(GalleryError, match="was closed"):
            use()
    assert repr(people).startswith("<Gallery ")


def test_files_and_folders_are_private(tmp_path):
    with gallery.open(tmp_path / "deep" / "g", Precomputed(4)) as people:
        people.enroll_many((f"s{n}", CORNERS) for n in range(300))
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "deep").rglob("*") if path.is_dir()
    }
    assert modes == {"g": 0o700, "index": 0o700}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o600}


# -- somebody's own encoder


def test_an_encoder_of_ones_own(tmp_path):
    with gallery.open(tmp_path / "g", Words()) as people:
        people.enroll("a", ["1 0 0 0", "1 1 0 0"])
        assert [one.source for one in people.templates("a")] == ["1 0 0 0", "1 1 0 0"]
        assert people.identify("0 2 0 0", k=1).best.template == 2
        result = people.enroll("b", ["0 0 1 0", "cursed", "0 0 0 0", "0 0 0 1"], on_error="skip")
        assert result.templates == (3, 4)
        assert [(one.id, one.index, one.reason) for one in result.refused] == [
            ("b", 1, "RuntimeError: this one is cursed"),
            ("b", 2, "its embedding is all zeros, which has no direction under the cosine metric"),
        ]
        assert str(result) == "b (new): 2 templates enrolled, 2 items refused"
        many = people.enroll_many([("c", ["cursed"]), ("d", ["1 2 3 4", "cursed"])], on_error="skip")
        assert (many.subjects, many.templates, "c" in people) == (1, 1, False)
        assert [(one.id, one.index) for one in many.refused] == [("c", 0), ("d", 1)]
