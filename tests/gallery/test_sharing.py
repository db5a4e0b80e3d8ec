"""One gallery for several: objects, threads, processes, forks, and those who only read."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading

import numpy as np
import pytest

import gallery
from gallery import (
    GalleryError,
    GalleryLockedError,
    Precomputed,
    UnknownSubjectError,
    opening,
)
from tests.gallery.doubles import METRICS, contents, in_another_process, seen, vectors

CORNERS = np.eye(4, dtype=np.float32)


@pytest.fixture
def people(tmp_path):
    with gallery.open(tmp_path / "g", Precomputed(4, "euclidean")) as people:
        yield people


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


def test_a_gallery_that_was_made_anew_is_not_written_through_an_old_handle(tmp_path):
    old = gallery.create(tmp_path / "g", gallery.Precomputed(4))
    shutil.rmtree(tmp_path / "g")
    with gallery.create(tmp_path / "g", gallery.Precomputed(4)) as new:
        with pytest.raises(gallery.GalleryError, match="deleted or replaced"):
            old.enroll("alice", np.eye(4))
        assert len(new) == 0
    old.close()


def test_an_encoder_that_changes_after_the_opening_is_refused(tmp_path):
    encoder = gallery.Precomputed(4)
    with gallery.create(tmp_path / "g", encoder) as people:
        people.enroll("alice", np.eye(4))
        encoder.fingerprint = "another"
        with pytest.raises(gallery.EncoderMismatchError, match="another"):
            people.enroll("bob", np.eye(4))
        with pytest.raises(gallery.EncoderMismatchError):
            people.identify(np.eye(4)[0])
        assert people.ids() == ["alice"]


def test_one_bare_colour_image_is_not_a_list(tmp_path):
    with (
        gallery.create(tmp_path / "g", gallery.Precomputed(4)) as people,
        pytest.raises(gallery.InvalidItemError, match="one colour image"),
    ):
        people.enroll("alice", np.zeros((60, 80, 3), np.uint8))


@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap2,Flat", "nonsense"])
def test_an_index_that_cannot_grow_is_refused_at_once(tmp_path, kind):
    with pytest.raises(ValueError, match="index"):
        gallery.create(tmp_path / "g", gallery.Precomputed(4), index=kind)
    assert not (tmp_path / "g").exists()


def test_an_unused_gallery_is_taken_away_unless_somebody_has_it_open(tmp_path):
    place = tmp_path / "g"
    with gallery.open(place, Precomputed(4)) as people:
        opening.discard_unused(place)
        people.enroll("a", CORNERS[:1])
    opening.discard_unused(place)
    with gallery.open(place) as people:
        assert people.ids() == ["a"] and people.check() == []
    gallery.open(tmp_path / "empty", Precomputed(4)).close()
    opening.discard_unused(tmp_path / "empty")
    opening.discard_unused(tmp_path / "nowhere")
    assert not (tmp_path / "empty").exists()
    gallery.open(tmp_path / "more", Precomputed(4)).close()
    (tmp_path / "more" / "letter.txt").write_text("mine")
    opening.discard_unused(tmp_path / "more")
    assert [one.name for one in (tmp_path / "more").iterdir()] == ["letter.txt"]
