"""Another encoder for a gallery: staged, switched in one commit, rolled back, dropped."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import EncoderMismatchError, GalleryError, InvalidItemError, UnknownSubjectError, staging
from gallery.stores import generations as staged_generations
from gallery.stores.generations import SqliteGenerations
from tests.gallery.doubles import contents, in_another_process, seen, vectors
from tests.gallery.migrating import EACH, SUBJECTS, everybody, new, old, third

PROBES = list(vectors(20, 6, seed=1234))
ALL = SUBJECTS * EACH


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "g"


@pytest.fixture
def people(place):
    with gallery.create(place, old(), keep_items=True) as people:
        people.enroll_many(everybody().items())
        yield people


@pytest.fixture
def bare(place):
    """A gallery that keeps no items."""
    with gallery.create(place, old()) as people:
        people.enroll_many(everybody().items())
        yield people


def answers(people, threshold: float | None = 1e9) -> list:
    return [seen(one) for one in people.identify_batch(PROBES, k=7, threshold=threshold)]


def fresh(encoder, subjects=None) -> list:
    """What a gallery answers that never had another encoder."""
    with gallery.create(Path(os.environ["FRESH"]) / f"{random.random()}", encoder) as people:
        people.enroll_many((subjects or everybody()).items())
        return answers(people)


@pytest.fixture(autouse=True)
def _fresh_place(tmp_path, monkeypatch):
    monkeypatch.setenv("FRESH", str(tmp_path / "fresh"))


# -- the whole way


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_the_answers_are_those_of_a_fresh_gallery_of_the_new_encoder(people, place, monkeypatch, batch):
    monkeypatch.setattr(staging, "BATCH", batch)
    steps = []
    encoder = new()
    done = people.migrate(encoder, progress=lambda done, total: steps.append((done, total)))
    assert (done.encoder_before, done.encoder, done.templates, done.refused) == ("old", "newer", ALL, ())
    assert (done.fingerprint_before, done.fingerprint) == (old().fingerprint, encoder.fingerprint)
    assert steps == [(min(n, ALL), ALL) for n in range(batch, ALL + batch, batch)]
    assert (people.encoder, people.threshold, people.check()) == (encoder, 1.5, [])
    assert answers(people) == fresh(new())
    people.close()
    with gallery.open(place, new()) as again:
        assert answers(again) == fresh(new())
        assert again.verify("s3", everybody()["s3"][1]).distance == 0.0
        assert (len(again), again.template_count, again.threshold) == (SUBJECTS, ALL, 1.5)


@pytest.mark.parametrize(
    "items",
    [
        everybody,
        lambda: iter(everybody().items()),
        lambda: [[id, list(rows)] for id, rows in everybody().items()],
        lambda: lambda template: everybody()[template.id][(int(template) - 1) % EACH],
    ],
    ids=["mapping", "iterable", "lists", "callable"],
)
def test_items_come_from_the_caller(bare, items):
    assert bare.migrate(new(), items()).templates == ALL
    assert answers(bare) == fresh(new())
    assert bare.check() == []


def test_the_sources_recorded_at_enrolment(tmp_path):
    class Sizes:
        dim, metric, fingerprint, name = 2, "euclidean", "sizes/1", "sizes"

        def __init__(self, scale=1):
            self.scale, self.fingerprint = scale, f"sizes/{scale}"

        def encode(self, items):
            return np.array([[len(Path(item).read_bytes()) * self.scale, 1] for item in items], np.float32)

    for n in range(3):
        (tmp_path / f"{n}.bin").write_bytes(b"x" * n)
    with gallery.create(tmp_path / "g", Sizes()) as people:
        people.enroll("a", [tmp_path / "0.bin", tmp_path / "2.bin"])
        people.enroll("b", [tmp_path / "1.bin"])
        people.migrate(Sizes(10), lambda template: template.source)
        assert people.identify(tmp_path / "2.bin", threshold=0).best.id == "a"
        assert people.verify("b", str(tmp_path / "2.bin"), threshold=99).distance == 10.0


def test_the_old_encoder_answers_until_the_switch(people):
    before = answers(people)
    during = []

    def progress(done, total):
        during.append((answers(people), people.encoder.name, people.threshold, people.check()))

    people.migrate(new(), progress=progress)
    assert during == [(before, "old", 0.25, [])] * len(during) and during
    assert answers(people) != before


def test_an_empty_gallery(tmp_path):
    with gallery.create(tmp_path / "g", old()) as people:
        assert people.migrate(new()).templates == 0
        people.enroll("a", PROBES[:1])
        assert people.identify(PROBES[0]).best.distance == 0.0
        assert people.check() == []


def test_ids_enrolled_and_removed_meanwhile(people):
    rows = everybody()
    more = vectors(2, 6, seed=77)

    def item(template):
        if int(template) == 5:
            people.remove("s20")
            people.remove_templates([1])
            people.enroll("late", more)
        return (
            more[int(template) - ALL - 1]
            if template.id == "late"
            else rows[template.id][(int(template) - 1) % EACH]
        )

    assert people.migrate(new(), item).templates == ALL - EACH - 1 + 2
    assert "s20" not in people and people.verify("late", more[1]).distance == 0.0
    assert people.check() == []


# -- refusals


def test_a_count_that_does_not_fit(bare):
    with pytest.raises(InvalidItemError, match=r"'s0' has 3 templates and 2 items were given"):
        bare.migrate(new(), {"s0": everybody()["s0"][:2]})
    assert bare.encoder.name == "old"
    # Nothing was embedded yet that would be worth going on with.
    assert bare.info().staged is None
    with pytest.raises(InvalidItemError, match=r"'s3' has 3 templates and 1 item was given"):
        bare.migrate(new(), [(id, rows[: 1 if id == "s3" else 3]) for id, rows in everybody().items()])


def test_an_id_that_is_not_enrolled(bare):
    with pytest.raises(UnknownSubjectError, match="'nobody'"):
        bare.migrate(new(), {"nobody": PROBES[:1]})


@pytest.mark.parametrize("items", ["a/folder", 5, [3], [("s0",)], {"s0": "x.png"}])
def test_what_is_no_source_of_items(bare, items):
    before = answers(bare)
    with pytest.raises(InvalidItemError):
        bare.migrate(new(), items)
    assert answers(bare) == before


def test_a_gallery_that_keeps_no_items_asks_for_them(bare):
    before = bare.info()
    with pytest.raises(InvalidItemError, match=r"keeps no items.*pass items"):
        bare.migrate(new())
    assert bare.info() == before


def test_items_that_are_missing_refuse_the_switch_and_the_rest_goes_on(bare):
    before = answers(bare)
    rows = everybody()
    some = {id: rows[id] for id in rows if id not in ("s5", "s6")}
    with pytest.raises(
        GalleryError,
        match=r"6 templates of 120 have no embedding by 'newer' yet: template 16 of 's5', template 17 of "
        r"'s5', template 18 of 's5' and 3 more\. The gallery goes on answering by 'old'",
    ):
        bare.migrate(new(), some)
    assert (answers(bare), bare.check()) == (before, [])
    info = bare.info()
    assert (info.staged.templates, info.staged.encoder, info.encoder) == (ALL - 6, "newer", "old")
    encoder = new()
    assert bare.migrate(encoder, {"s5": rows["s5"], "s6": rows["s6"]}).templates == ALL
    assert encoder.asked == 6
    assert answers(bare) == fresh(new())


def test_the_present_encoder_has_nothing_to_migrate_to(people):
    with pytest.raises(GalleryError, match=r"bound to 'old' already.*nothing to migrate"):
        people.migrate(old())


def test_another_encoder_while_one_is_staged(people):
    with pytest.raises(GalleryError, match="no embedding"):
        people.migrate(new(), {})
    with pytest.raises(
        GalleryError, match=r"migration to 'newer'.*0 templates.*'the third'.*abandon_migration"
    ):
        people.migrate(third())
    assert people.abandon_migration() is True
    assert people.abandon_migration() is False
    assert (people.check(), people.info().staged) == ([], None)
    people.migrate(third())
    assert answers(people) == fresh(third())
    # Numbers of generations are never used again.
    assert people.info().generation == 3


def thirteen() -> dict[str, np.ndarray]:
    rows = everybody()
    rows["s4"][1, 0] = 13
    return rows


def test_an_item_that_cannot_be_embedded_stops_it(bare):
    before = answers(bare)
    with pytest.raises(
        InvalidItemError, match=r"'s4': item 1 of 3 \(template 14\) cannot be.*'newer': thirteen"
    ):
        bare.migrate(new(), thirteen())
    assert (answers(bare), bare.check()) == (before, [])


def test_skipping_removes_its_template_at_the_switch(bare):
    done = bare.migrate(new(), thirteen(), on_error="skip")
    assert [(one.id, one.index, one.template, one.reason) for one in done.refused] == [
        ("s4", 1, 14, "thirteen")
    ]
    assert (done.templates, [int(one) for one in bare.templates("s4")]) == (ALL - 1, [13, 15])
    assert bare.check() == []
    assert bare.log()[-1].note == "'old' -> 'newer'; 1 template refused and removed"
    bare.rollback()
    assert ([int(one) for one in bare.templates("s4")], bare.check()) == ([13, 15], [])


def test_skipping_never_empties_a_gallery(bare):
    before = answers(bare)
    with pytest.raises(InvalidItemError, match="none of the 120 items can be embedded"):
        bare.migrate(new(), lambda template: [13] * 6, on_error="skip")
    assert (answers(bare), bare.check()) == (before, [])


def test_reading_only(people, place):
    with gallery.open(place, old(), read_only=True) as reader:
        for act in (
            lambda: reader.migrate(new()),
            reader.rollback,
            reader.drop_previous,
            reader.abandon_migration,
        ):
            with pytest.raises(GalleryError, match="read-only"):
                act()


# -- thresholds


def adopt(people, threshold: float) -> None:
    people._engine.set_setting("threshold", f'{{"threshold": {threshold}}}')


def test_a_threshold_stays_with_its_encoder(people):
    adopt(people, 0.125)
    assert (people.threshold, people.info().threshold_source) == (0.125, "gallery")
    people.migrate(new())
    assert (people.threshold, people.info().threshold_source) == (1.5, "encoder")
    adopt(people, 2.5)
    people.migrate(third())
    assert people.threshold is None
    assert people.identify(PROBES[0]).decision == "undecided"
    people.rollback()
    assert (people.threshold, people.encoder.name) == (2.5, "newer")
    people.rollback()
    assert (people.threshold, people.encoder.name) == (0.125, "old")
    assert people.check() == []


def test_a_dropped_threshold_does_not_come_back(people, place):
    adopt(people, 0.125)
    people.migrate(new())
    people.drop_previous()
    people.migrate(old())
    assert (people.threshold, people.info().threshold_source) == (0.25, "encoder")
    with people._engine._open() as store:
        assert "0.125" not in str(store._session.settings())


# -- kills and faults


def test_a_killed_migration_goes_on_where_it_stopped(people, place):
    before = answers(people)
    reached, chance = 0, random.Random(0)
    for _ in range(6):
        reached = killed_after(place, batch=4, say=chance.randint(1, 5), at_least=reached)
        assert (answers(people), people.check()) == (before, [])
        assert people.info().staged.templates == reached
    there = people.info().staged.templates
    encoder = new()
    assert people.migrate(encoder).templates == ALL
    assert encoder.asked == ALL - there
    assert (answers(people), people.check()) == (fresh(new()), [])
    # The canary came with the first batch, which another process embedded.
    assert people._engine.setting("canary_2") is not None


def killed_after(place: Path, batch: int, say: int, at_least: int) -> int:
    """Kills a migrating process when it has spoken `say` times: how many templates it said are done."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.gallery.migrating", str(place), str(batch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert child.stdout is not None and child.stdin is not None
    child.stdin.write(b"\n" * (say - 1))
    child.stdin.flush()
    said = [int(child.stdout.readline()) for _ in range(say)]
    child.send_signal(signal.SIGKILL)
    child.stdin.close()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    assert said[0] > at_least
    return said[-1]


def test_a_killed_process_that_had_switched_has_switched(people, place):
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.gallery.migrating", str(place), "64"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(3)] == [b"64\n", b"120\n", b"switched\n"]
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait()
    with gallery.open(place, new()) as again:
        assert (answers(again), again.check()) == (fresh(new()), [])


class Broken(Exception):
    pass


def break_at(monkeypatch, step: int) -> None:
    """The step-th thing that a change of generations writes fails."""
    steps = iter(range(100))

    def failing(name):
        real = getattr(SqliteGenerations, name)

        def act(self, *arguments):
            if next(steps) == step:
                raise Broken
            return real(self, *arguments)

        monkeypatch.setattr(SqliteGenerations, name, act)

    for name in ("_set", "_mark", "_use", "_drop"):
        failing(name)


@pytest.mark.parametrize("step", range(6))
def test_a_fault_in_the_middle_of_the_switch(people, place, monkeypatch, step):
    adopt(people, 0.125)
    with pytest.raises(GalleryError):
        people.migrate(new(), {})
    before = answers(people, None)
    with monkeypatch.context() as patch:
        break_at(patch, step)
        with pytest.raises(Broken):
            people.migrate(new())
    assert (people.encoder.name, people.threshold, answers(people, None)) == ("old", 0.125, before)
    assert people.check() == []
    people.close()
    with gallery.open(place, old()) as again:
        assert answers(again, None) == before
        assert again.migrate(new()).templates == ALL
        assert (answers(again), again.check()) == (fresh(new()), [])


@pytest.mark.parametrize("step", range(9))
def test_a_fault_in_the_middle_of_a_rollback(people, monkeypatch, step):
    adopt(people, 0.125)
    before = answers(people)
    people.migrate(new())
    with monkeypatch.context() as patch:
        break_at(patch, step)
        with pytest.raises(Broken):
            people.rollback()
    assert (people.encoder.name, people.threshold, people.check()) == ("newer", 1.5, [])
    assert answers(people) == fresh(new())
    people.rollback()
    assert (answers(people), people.threshold, people.check()) == (before, 0.125, [])


def test_a_switch_that_waits_for_a_template_enrolled_just_before(people, monkeypatch):
    real = SqliteGenerations.switch

    def late(self, generation, refused=()):
        monkeypatch.setattr(SqliteGenerations, "switch", real)
        self._session.db.execute(f"DELETE FROM templates_{generation} WHERE template = 9")
        return real(self, generation, refused)

    monkeypatch.setattr(SqliteGenerations, "switch", late)
    with pytest.raises(
        GalleryError, match="1 template of 120 has no embedding by 'newer' yet: template 9 of 's2'"
    ):
        people.migrate(new())
    assert people.migrate(new()).templates == ALL


# -- several processes and threads


def test_another_object_is_told_who_migrated_what(people, place):
    other = gallery.open(place, old())
    watcher = gallery.open(place, old(), read_only=True)
    answers(other), answers(watcher)
    people.migrate(new())
    for one in (other, watcher):
        with pytest.raises(EncoderMismatchError, match=r"'old'.*'newer'"):
            one.identify(PROBES[0], threshold=1.0)
        with pytest.raises(EncoderMismatchError, match=r"'newer'.*'old'"):
            one.verify("s1", PROBES[0], threshold=1.0)
        assert len(one) == SUBJECTS
        one.close()
    third_party = gallery.open(place, new())
    assert answers(third_party) == fresh(new())
    people.rollback()
    with pytest.raises(EncoderMismatchError, match=r"'newer'.*'old'"):
        third_party.enroll("x", PROBES[:1])
    assert "x" not in people
    third_party.close()


def test_one_that_missed_a_switch_and_a_rollback_answers_as_before(people, place):
    with gallery.open(place, old()) as other:
        before = answers(other)
        people.migrate(new())
        people.enroll("late", PROBES[:1])
        people.remove("s7")
        people.rollback(force=True)
        assert answers(other) == answers(people) != before
        assert "s7" not in other and "late" not in other
        people.enroll("later", PROBES[:1])
        assert other.identify(PROBES[0]).best.id == "later"


def test_a_second_migration_cannot_be_taken_for_the_first(people, place):
    with gallery.open(place, old()) as other:
        people.migrate(new())
        with gallery.open(place, new()) as bound_to_two:
            answers(bound_to_two)
            people.rollback()
            people.migrate(third())
            for one in (other, bound_to_two):
                with pytest.raises(EncoderMismatchError, match="the third"):
                    answers(one)


def test_another_process_opens_with_the_new_encoder_only(people, place):
    people.migrate(new())
    code = (
        "import sys, gallery\nfrom tests.gallery.migrating import new, old\n"
        "try: gallery.open(sys.argv[1], old())\nexcept gallery.EncoderMismatchError as error: print(error)\n"
        "with gallery.open(sys.argv[1], new()) as people: print(people.threshold, people.check())"
    )
    refused, opened = in_another_process(code, place).splitlines()
    assert "filled by the encoder 'newer'; 'old' computes something else" in refused
    assert opened == "1.5 []"


def test_threads_of_one_object_never_see_a_mixture(people):
    known = [(one, name) for one, name in ((answers(people), "old"), (fresh(new()), "newer"))]
    stop, wrong = threading.Event(), []

    def ask():
        while not stop.is_set():
            try:
                found = answers(people)
            except EncoderMismatchError as error:
                if "migrated" not in str(error):
                    wrong.append(str(error))
            except BaseException as error:
                wrong.append(repr(error))
            else:
                if found not in [one for one, _ in known]:
                    wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        people.migrate(new())
        people.rollback()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- back, and for good


def test_rollback_restores_the_answers_bit_for_bit(people, place):
    adopt(people, 0.125)
    before = answers(people, None)
    first = people.encoder
    people.migrate(new())
    assert [str(one) for one in people.info().previous] == [
        "generation 1 (old, dim 4, cosine): 120 templates"
    ]
    now = people.rollback()
    assert (now.encoder, now.state, now.templates) == ("old", "current", ALL)
    assert (people.encoder, people.threshold, answers(people, None)) == (first, 0.125, before)
    assert (people.check(), people.info().previous) == ([], ())
    with pytest.raises(GalleryError, match="no generation to go back to"):
        people.rollback()
    people.close()
    with gallery.open(place, old()) as again:
        assert answers(again, None) == before


def test_what_was_removed_since_does_not_come_back(people):
    people.migrate(new())
    people.remove("s7")
    people.remove_templates([1, 2])
    people.rollback()
    assert "s7" not in people and [int(one) for one in people.templates("s0")] == [3]
    assert (people.template_count, people.check()) == (ALL - 5, [])
    rows = everybody()
    assert people.identify(rows["s7"][0], threshold=9).best.distance > 0


def test_what_was_enrolled_since_refuses_the_rollback(people):
    before = answers(people)
    people.migrate(new())
    people.enroll("late", PROBES[:2])
    people.enroll("s0", PROBES[2:3])
    now = answers(people)
    with pytest.raises(
        GalleryError,
        match=r"3 templates enrolled since.*'old' and would be lost: template 121 of 'late', template 122 of "
        r"'late', template 123 of 's0'\..*force=True",
    ):
        people.rollback()
    assert (answers(people), people.encoder.name) == (now, "newer")
    people.rollback(force=True)
    assert "late" not in people and len(people.templates("s0")) == EACH
    assert (answers(people), people.check()) == (before, [])
    assert people.log()[-1].note == "'newer' -> 'old'; 3 templates enrolled since removed"
    # A template's number is never used again.
    assert people.enroll("later", PROBES[:1]).templates == (124,)


def test_rollback_takes_the_right_encoder_only(people, place):
    people.migrate(new())
    people.close()
    with gallery.open(place, new()) as again:
        with pytest.raises(EncoderMismatchError, match=r"'old'.*'the third'"):
            again.rollback(third())
        assert again.encoder.name == "newer"
        again.rollback(old())
        assert (again.encoder.name, again.threshold) == ("old", 0.25)
        again.migrate(new())
    with gallery.open(place, new()) as again:
        again.rollback()
        assert again.encoder is None
        with pytest.raises(EncoderMismatchError, match="without an encoder"):
            again.identify(PROBES[0], threshold=1.0)


def test_two_migrations_in_a_row_and_back_twice(people):
    before = answers(people)
    people.migrate(new())
    people.migrate(third())
    assert answers(people) == fresh(third())
    assert [one.encoder for one in people.info().previous] == ["newer", "old"]
    people.rollback()
    assert (answers(people), people.check()) == (fresh(new()), [])
    people.rollback()
    assert (answers(people), people.check()) == (before, [])


def test_removal_goes_through_every_generation(people, place):
    row = people._engine.embeddings("s9").rows
    people.migrate(new())
    with pytest.raises(GalleryError, match="no embedding"):
        people.migrate(third(), {"s9": everybody()["s9"]})
    with people._engine.generations() as generations:
        assert [one.templates for one in generations.listing()] == [ALL, ALL, EACH]
    people.remove("s9", erase=True)
    with people._engine.generations() as generations:
        assert [one.templates for one in generations.listing()] == [ALL - EACH, ALL - EACH, 0]
    assert not any(one.tobytes() in all_bytes(place) for one in row)
    assert not any(one.tobytes() in all_bytes(place) for one in everybody()["s9"])
    assert people.check() == []


def all_bytes(place: Path) -> bytes:
    return b"".join(contents(place).values())


def rows_of(people) -> list[bytes]:
    return [row.tobytes() for id in people for row in people._engine.embeddings(id).rows]


def test_a_dropped_generation_leaves_no_byte(people, place):
    left, right = rows_of(people), None
    assert all(row in all_bytes(place) for row in left)
    people.migrate(new())
    right = rows_of(people)
    assert all(row in all_bytes(place) for row in left + right)
    assert people.drop_previous() == 1
    assert people.drop_previous() == 0
    assert (people.check(), people.info().previous) == ([], ())
    with pytest.raises(GalleryError, match="no generation to go back to"):
        people.rollback()
    people.compact()
    assert not any(row in all_bytes(place) for row in left)
    assert all(row in all_bytes(place) for row in right)
    assert (answers(people), people.check()) == (fresh(new()), [])
    people.migrate(third())
    people.drop_previous(erase=True)
    assert not any(row in all_bytes(place) for row in right)
    assert people.check() == []


def test_an_abandoned_generation_leaves_no_byte(bare, place):
    rows = everybody()
    with pytest.raises(GalleryError):
        bare.migrate(new(), {"s1": rows["s1"]})
    with bare._engine._open() as store:
        blobs = [row[0] for row in store._session.all("SELECT embedding FROM templates_2")]
    assert len(blobs) == EACH and all(blob in all_bytes(place) for blob in blobs)
    bare.abandon_migration()
    bare.compact()
    assert not any(blob in all_bytes(place) for blob in blobs)


def test_index_files_of_the_old_encoder_go_with_the_switch(tmp_path):
    rows = vectors(1500, 6)
    with gallery.create(tmp_path / "g", old(), keep_items=True) as people:
        people.enroll_many((f"s{n}", [row]) for n, row in enumerate(rows))
        answers(people)
    assert len(list((tmp_path / "g" / "index").iterdir())) == 1
    with gallery.open(tmp_path / "g", old()) as people:
        before = answers(people)
        people.migrate(new())
        assert list((tmp_path / "g" / "index").iterdir()) == []
        assert people.check() == []
        after = answers(people)
    with gallery.open(tmp_path / "g", new()) as people:
        assert answers(people) == after
        people.rollback(old())
        assert (answers(people), people.check()) == (before, [])


# -- damage, and the log


def change(place: Path, sql: str) -> None:
    db = sqlite3.connect(place / "catalog.sqlite")
    with db:
        db.execute(sql)
    db.close()


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("DELETE FROM templates_1 WHERE template = 3", "template 3 of generation 1"),
        ("UPDATE templates_1 SET template = 999 WHERE template = 3", "template 999 of generation 1"),
        ("DELETE FROM generations WHERE generation = 1", "templates_1"),
        ("UPDATE generations SET state = 'stagef' WHERE generation = 1", "catalog.sqlite"),
    ],
)
def test_damage_beside_what_is_in_use_is_found(people, place, sql, where):
    people.migrate(new())
    change(place, sql)
    assert where in [one.where for one in people.check()]
    assert answers(people) == fresh(new())
    with pytest.raises(GalleryError):
        people.rollback()
    assert answers(people) == fresh(new())


def test_a_damaged_embedding_is_not_vouched_for(people, place):
    change(place, "UPDATE templates_1 SET source = 'forged' WHERE template = 3")
    with pytest.raises(gallery.CorruptGalleryError, match=r"template 3 does not match.*remove that template"):
        people.migrate(new())


def test_every_step_is_in_the_log(people):
    with pytest.raises(GalleryError):
        people.migrate(new(), {})
    people.abandon_migration()
    people.migrate(new())
    people.rollback()
    people.migrate(new())
    people.drop_previous()
    said = [(one.verb, one.templates, one.note) for one in people.log()][1:]
    assert said == [
        ("migrate begin", 0, "to 'newer' as generation 2"),
        ("abandon migration", 0, ""),
        ("migrate begin", 0, "to 'newer' as generation 3"),
        ("migrate", ALL, "'old' -> 'newer'"),
        ("rollback", ALL, "'newer' -> 'old'"),
        ("migrate begin", 0, "to 'newer' as generation 4"),
        ("migrate", ALL, "'old' -> 'newer'"),
        ("drop previous", 0, "'old'"),
    ]


def test_a_refusal_names_a_few():
    some = [gallery.Template(n, "x", None) for n in (1, 2)]
    assert staged_generations.named(some, 2) == "template 1 of 'x', template 2 of 'x'"
