"""Putting a gallery in order: rename, merge, split, and taking each of them back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import ConflictError, InvalidItemError, Precomputed, UnknownSubjectError
from gallery.cli import main
from tests.gallery.doubles import contents, seen, true_distances, vectors

DIM = 6
ROWS = vectors(40, DIM)
OWNERS = ["alice"] * 3 + ["bob"] * 2 + ["carol"] * 4 + [f"s{at}" for at in range(9, 40)]


@pytest.fixture(params=["auto", "Flat", "IVF4,Flat"])
def people(request, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("gallery.indexes.kinds._PER_CELL", 2)
    with gallery.create(
        tmp_path / "g", Precomputed(DIM, "euclidean"), index=request.param, actor="tester@here"
    ) as people:
        fill(people)
        yield people


def fill(people) -> None:
    people.enroll("alice", ROWS[:3], metadata={"site": "north", "badge": 7})
    people.enroll("bob", ROWS[3:5], metadata={"site": "south", "floor": 2})
    people.enroll("carol", ROWS[5:9])
    people.enroll_many((f"s{at}", ROWS[at : at + 1]) for at in range(9, 40))


def check(people, owners: list[str], where: dict | None = None) -> None:
    """Every answer against brute force. owners: whose template n + 1 is, "" for nobody's."""
    living = [at for at, id in enumerate(owners) if id]
    for probe in ROWS[:12] + np.float32(0.01):
        away = true_distances(probe, ROWS[living], "euclidean")
        best: dict[str, tuple[float, int]] = {}
        for distance, at in sorted(zip(away.tolist(), living, strict=True)):
            best.setdefault(owners[at], (distance, at + 1))
        expected = [(id, number) for id, (_, number) in best.items()][:5]
        found = people.identify(probe, k=5, threshold=100.0, where=where)
        if people.info().index_wish != "IVF4,Flat":
            assert [(one.id, one.template) for one in found.candidates] == expected
        for one in found.candidates:
            assert owners[one.template - 1] == one.id
    assert people.check() == []


def tables(folder: Path) -> dict[str, list]:
    """Every record of what is enrolled, bit for bit."""
    db = sqlite3.connect(f"file:{folder / 'catalog.sqlite'}?mode=ro", uri=True)
    wanted = ["subjects", "templates_1"]
    found = {name: db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in wanted}
    db.close()
    return found


def test_rename(people):
    before = tables(people.location)
    done = people.rename("bob", "robert")
    owners = ["robert" if id == "bob" else id for id in OWNERS]
    check(people, owners)
    assert people.ids()[:3] == ["alice", "robert", "carol"] and "bob" not in people
    assert people.metadata("robert") == {"site": "south", "floor": 2}
    assert people.verify("robert", ROWS[3], threshold=0.0).template == 4
    with pytest.raises(UnknownSubjectError):
        people.verify("bob", ROWS[3], threshold=0.0)
    # What came since is no reason against it: only the name goes back.
    people.enroll("robert", ROWS[:1])
    people.undo(done)
    assert people.ids()[:3] == ["alice", "bob", "carol"]
    assert len(people.templates("bob")) == 3
    people.remove_templates([41])
    assert tables(people.location) == before


def test_merge_and_its_undo_leave_every_byte_as_it_was(people):
    before = tables(people.location)
    done = people.merge("bob", ["carol", "alice"])
    assert (done.verb, done.templates, done.subjects) == ("merge", 7, ("bob", "carol", "alice"))
    owners = ["bob" if id in ("alice", "carol") else id for id in OWNERS]
    check(people, owners)
    assert people.metadata("bob") == {"site": "south", "floor": 2, "badge": 7}
    assert [int(one) for one in people.templates("bob")] == [*range(1, 10)]
    again = people.undo(done)
    assert tables(people.location) == before
    check(people, OWNERS)
    # And the undoing is undone.
    people.undo(again)
    check(people, owners)
    people.undo(done)
    assert tables(people.location) == before
    assert [(one.verb, one.undone is None) for one in people.operations()] == [
        ("merge", False),
        ("undo", False),
        ("undo", True),
        ("undo", True),
    ]


def test_split_and_its_undo(people):
    before = tables(people.location)
    done = people.split("carol", [7, 9], "dora", metadata={"site": "east"})
    owners = list(OWNERS)
    owners[6] = owners[8] = "dora"
    check(people, owners)
    assert people.metadata("dora") == {"site": "east"} and people.metadata("carol") == {}
    with pytest.raises(ConflictError, match="'carol' and 'dora' are remembered as different"):
        people.merge("carol", ["dora"])
    people.undo(done)
    assert tables(people.location) == before
    assert people.enroll("new", ROWS[:1]).created and people.check() == []


def test_filters_follow_what_changed_hands(people):
    """What is known of subjects in memory, here and in another process, is not what it was before."""
    other = gallery.open(people.location, people.encoder, read_only=True)
    north, south = {"site": "north"}, {"site": "south"}
    for asked in (people, other):
        assert [one.id for one in asked.within(ROWS[0], 100.0, where=north)] == ["alice"]
        assert [one.id for one in asked.within(ROWS[0], 100.0, where=south)] == ["bob"]
    done = people.merge("bob", ["alice"])
    for asked in (people, other):
        assert asked.within(ROWS[0], 100.0, where=north) == []
        (found,) = asked.within(ROWS[0], 100.0, where=south)
        assert (found.id, found.template, found.metadata["badge"]) == ("bob", 1, 7)
        assert seen(asked.identify(ROWS[0], k=1, threshold=0.0, where=south)) == [("bob", 0.0, 1)]
    people.undo(done)
    for asked in (people, other):
        assert [one.id for one in asked.within(ROWS[0], 100.0, where=north)] == ["alice"]
        (found,) = asked.within(ROWS[0], 100.0, where=south)
        assert (found.id, found.metadata) == ("bob", {"site": "south", "floor": 2})
    other.close()


@pytest.mark.parametrize("people", ["auto"], indirect=True)
class TestRefusals:
    def refused(self, people, error, match, call) -> None:
        before, revision = tables(people.location), people.info().revision
        with pytest.raises(error, match=match):
            call()
        assert tables(people.location) == before and people.info().revision == revision
        check(people, OWNERS)

    @pytest.mark.parametrize(
        ("error", "match", "call"),
        [
            (UnknownSubjectError, "nobody", lambda g: g.rename("nobody", "x")),
            (ConflictError, "'bob' is enrolled already: merge", lambda g: g.rename("alice", "bob")),
            (InvalidItemError, "called that already", lambda g: g.rename("alice", "alice")),
            (InvalidItemError, "non-empty", lambda g: g.rename("alice", "")),
            (UnknownSubjectError, "nobody", lambda g: g.merge("alice", ["bob", "nobody"])),
            (UnknownSubjectError, "nobody", lambda g: g.merge("nobody", ["bob"])),
            (InvalidItemError, "into itself", lambda g: g.merge("alice", ["bob", "alice"])),
            (InvalidItemError, "no subject was given", lambda g: g.merge("alice", [])),
            (InvalidItemError, "one string", lambda g: g.merge("alice", "bob")),
            (InvalidItemError, "list of ids to merge, got None", lambda g: g.merge("alice", None)),
            (InvalidItemError, "got the bool True", lambda g: g.split("alice", [True], "x")),
            (InvalidItemError, "template 4 is not one of 'alice', which has 1, 2, 3",
             lambda g: g.split("alice", [1, 4], "x")),
            (InvalidItemError, "all templates", lambda g: g.split("alice", [1, 2, 3, 3], "x")),
            (InvalidItemError, "no templates", lambda g: g.split("alice", [], "x")),
            (InvalidItemError, "list of template numbers", lambda g: g.split("alice", "12", "x")),
            (InvalidItemError, "expected numbers", lambda g: g.split("alice", [1.5], "x")),
            (ConflictError, "'bob' is enrolled already", lambda g: g.split("alice", [1], "bob")),
            (UnknownSubjectError, "nobody", lambda g: g.split("nobody", [1], "x")),
            (InvalidItemError, "mapping", lambda g: g.split("alice", [1], "x", metadata=[1])),
            (InvalidItemError, "no operation 7", lambda g: g.undo(7)),
            (InvalidItemError, "expected numbers", lambda g: g.undo("merge")),
        ],
    )  # fmt: skip
    def test_bad_requests_change_nothing(self, people, error, match, call):
        self.refused(people, error, match, lambda: call(people))

    @pytest.mark.parametrize(
        ("since", "match"),
        [
            (lambda g: g.enroll("alice", ROWS[:1]), "templates of 'alice' came or went since"),
            (lambda g: g.remove_templates([2]), "templates of 'alice' came or went since"),
            (lambda g: g.remove("alice"), "'alice' is not enrolled any more"),
            (lambda g: g.rename("alice", "eve"), "'alice' is called 'eve' since"),
            (lambda g: g.rename("s9", "bob"), "'bob' is enrolled already"),
            (lambda g: g.split("alice", [4], "x"), "templates of 'alice' came or went since"),
            (lambda g: (g.remove_templates([5]), g.enroll("alice", ROWS[:1])), "came or went since"),
        ],
    )
    def test_a_merge_is_not_undone_after_a_change(self, people, since, match):
        done = people.merge("alice", ["bob"])
        since(people)
        before, revision = tables(people.location), people.info().revision
        with pytest.raises(ConflictError, match=f"operation {int(done)} .merge. cannot be undone: .*{match}"):
            people.undo(done)
        assert (tables(people.location), people.info().revision) == (before, revision)
        assert people.check() == []

    def test_a_subject_is_not_undone_while_it_is_said_to_be_different(self, people):
        """The pair would be left with a subject that is gone: no export, no backup."""
        done = people.split("alice", [1], "dora")
        said = people.differ("dora", "carol")
        before, revision = tables(people.location), people.info().revision
        match = "split. cannot be undone: 'carol' and 'dora' were said to be different since"
        with pytest.raises(ConflictError, match=match):
            people.undo(done)
        assert (tables(people.location), people.info().revision) == (before, revision)
        assert people.check() == [] and len(people.different()) == 2
        people.undo(said)
        people.undo(done)
        assert people.check() == [] and people.different() == []

    def test_a_merge_is_not_made_again_either(self, people):
        undone = people.undo(people.merge("alice", ["bob"]))
        people.differ("bob", "carol")
        with pytest.raises(ConflictError, match=r"undo. cannot be undone: .*were said to be different since"):
            people.undo(undone)
        assert people.check() == [] and people.different() == [("bob", "carol")]

    def test_metadata_that_changed_are_not_lost_by_an_undo(self, people):
        done = people.merge("alice", ["bob"])
        people.enroll("alice", ROWS[:1], metadata={"badge": 8})
        people.remove_templates([41])
        with pytest.raises(ConflictError, match="the metadata of 'alice' were changed since"):
            people.undo(done)

    def test_not_twice(self, people):
        done = people.merge("alice", ["bob"])
        by = people.undo(done)
        with pytest.raises(ConflictError, match=f"was undone by operation {int(by)}"):
            people.undo(done)

    def test_not_after_an_erasure(self, people):
        done = people.rename("bob", "robert")
        people.compact()
        assert people.operations() == []
        with pytest.raises(InvalidItemError, match="forget what came before"):
            people.undo(done)

    def test_not_in_a_gallery_opened_for_reading(self, people):
        with gallery.open(people.location, people.encoder, read_only=True) as reader:
            assert reader.operations() == []
            for call in (
                lambda: reader.rename("bob", "x"),
                lambda: reader.merge("bob", ["alice"]),
                lambda: reader.split("alice", [1], "x"),
                lambda: reader.undo(1),
            ):
                with pytest.raises(gallery.GalleryError, match="read-only"):
                    call()


@pytest.mark.parametrize("people", ["auto"], indirect=True)
def test_one_entry_of_the_log_for_each(people):
    people.keep_log(True)
    done = people.merge("alice", ["bob"])
    people.undo(done)
    people.rename("carol", "kate")
    told = [(one.verb, one.subjects, one.templates, one.note) for one in people.log()[4:]]
    assert told == [
        ("merge", ("alice", "bob"), 2, ""),
        ("undo", ("alice", "bob"), 2, f"operation {int(done)} (merge)"),
        ("rename", ("carol", "kate"), 0, ""),
    ]


@pytest.mark.parametrize("people", ["auto"], indirect=True)
def test_an_erasure_leaves_nothing_of_names_that_are_gone(people):
    people.rename("bob", "somebody else")
    people.merge("alice", ["carol"])
    people.remove_templates([1])
    assert people.log()[-2].subjects == ("alice", "carol")
    found = [name for name, content in contents(people.location).items() if b"carol" in content]
    assert found
    people.compact()
    people.close()
    for name, content in contents(people.location).items():
        assert b"carol" not in content and b'"bob"' not in content and b"bob" not in content, name


@pytest.mark.parametrize("people", ["auto"], indirect=True)
def test_a_backup_is_put_in_order_and_tells_of_nothing_that_was(people, tmp_path):
    people.merge("alice", ["carol"])
    people.backup(tmp_path / "copy")
    with gallery.open(tmp_path / "copy", people.encoder) as copy:
        check(copy, ["alice" if id == "carol" else id for id in OWNERS])
        assert copy.operations() == []
        assert seen(copy.identify(ROWS[6], threshold=0.0)) == [("alice", 0.0, 7)]
    assert all(b"carol" not in content for content in contents(tmp_path / "copy").values())


@pytest.mark.parametrize("people", ["auto"], indirect=True)
def test_with_other_encoders_beside(people):
    """What changes hands does so under the encoder that was before, too."""
    doubled = Precomputed(DIM, "euclidean", "doubled")
    items = {id: [] for id in OWNERS}
    for at, id in enumerate(OWNERS):
        items[id].append(2 * ROWS[at])
    people.migrate(doubled, items)
    done = people.merge("alice", ["bob"])
    assert people.check() == []
    people.split("carol", [6], "dora")
    assert people.check() == []
    people.rollback()
    owners = ["alice" if id == "bob" else id for id in OWNERS]
    owners[5] = "dora"
    with gallery.open(people.location, Precomputed(DIM, "euclidean"), read_only=True) as back:
        check(back, owners)
    people.undo(done)
    owners[3:5] = ["bob", "bob"]
    with gallery.open(people.location, Precomputed(DIM, "euclidean"), read_only=True) as back:
        check(back, owners)


@pytest.mark.parametrize("people", ["auto"], indirect=True)
def test_damage_is_not_handed_over(people):
    db = sqlite3.connect(people.location / "catalog.sqlite")
    with db:
        db.execute("UPDATE templates_1 SET enrolled = enrolled + 1 WHERE template = 4")
    db.close()
    with pytest.raises(gallery.CorruptGalleryError, match="template 4 does not match"):
        people.merge("alice", ["bob"])
    assert "bob" in people


@pytest.mark.parametrize("people", ["auto"], indirect=True)
def test_damage_of_what_can_be_undone_is_reported(people):
    done = people.merge("alice", ["bob"])
    db = sqlite3.connect(people.location / "catalog.sqlite")
    with db:
        db.execute("UPDATE operations SET change = replace(change, 'bob', 'rob')")
    db.close()
    assert [one.where for one in people.check()] == [f"operation {int(done)}"]
    with pytest.raises(gallery.CorruptGalleryError, match=f"operation {int(done)} does not match"):
        people.undo(done)


@pytest.mark.parametrize("people", ["auto"], indirect=True)
@pytest.mark.parametrize("damage", ["DELETE FROM operations", "UPDATE operations SET checksum = NULL"])
def test_what_can_be_undone_is_not_vouched_for_once_some_is_lost(people, damage):
    people.rename("carol", "carla")
    _spoil(people, "operations", damage)
    for change in (people.operations, lambda: people.merge("alice", ["bob"])):
        with pytest.raises(gallery.CorruptGalleryError, match="some of what can be undone is missing"):
            change()
    assert "bob" in people


@pytest.mark.parametrize("people", ["auto"], indirect=True)
@pytest.mark.parametrize(
    "damage", ["DELETE FROM quarantine WHERE template = 1", "UPDATE quarantine SET at = 1"]
)
def test_a_removal_does_not_vouch_for_marks_that_are_lost(people, damage):
    people.quarantine([1, 4], "blurred")
    _spoil(people, "quarantine", damage)
    with pytest.raises(gallery.CorruptGalleryError, match="quarantine"):
        people.remove_templates([4])
    before = people.template_count
    people.remove_templates([5])
    assert people.template_count == before - 1


def _spoil(people: gallery.Gallery, table: str, damage: str) -> None:
    """Damages records as a bad disk would, with values that their table does not take."""
    db = sqlite3.connect(people.location / "catalog.sqlite")
    with db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE name = ?", (table,))
    db.close()
    db = sqlite3.connect(people.location / "catalog.sqlite")
    with db:
        db.execute(damage)
    db.close()


@pytest.mark.parametrize("people", ["auto"], indirect=True)
def test_on_the_command_line(people, capsys):
    place = str(people.location)
    people.close()
    assert main(["rename", place, "bob", "robert"]) == 0
    assert "rename bob, robert" in capsys.readouterr().out
    assert main(["merge", place, "alice", "robert", "carol"]) == 0
    assert main(["split", place, "alice", "dora", "7", "8"]) == 0
    assert main(["undo", place]) == 0
    said = capsys.readouterr().out
    assert "merge" in said and "split" in said
    assert main(["undo", place, "5"]) == 2
    assert "cannot be undone: 'robert' is not enrolled any more" in capsys.readouterr().err
    assert main(["undo", place, "7"]) == 0 and main(["undo", place, "6"]) == 0
    assert main(["undo", place, "5"]) == 0
    with gallery.open(place, Precomputed(DIM, "euclidean")) as back:
        check(back, OWNERS)


@pytest.mark.parametrize("sql", ["DELETE FROM operations WHERE operation = ?", "DELETE FROM operations"])
def test_operations_that_went_missing_are_noticed_and_listed_by_a_repair(tmp_path, sql):
    with gallery.create(tmp_path / "g", Precomputed(DIM, "euclidean")) as people:
        fill(people)
        first = people.rename("alice", "Alice")
        people.rename("bob", "Bob")
        assert len(people.operations()) == 2 and people.check() == []
        people.undo(first)
        assert len(people.operations()) == 3
    with sqlite3.connect(tmp_path / "g" / "catalog.sqlite") as db:
        db.execute(sql, (first.operation,) * sql.count("?"))
    db.close()
    with gallery.open(tmp_path / "g", Precomputed(DIM, "euclidean")) as people:
        with pytest.raises(gallery.CorruptGalleryError, match="what can be undone is missing"):
            people.operations()
        assert [one.where for one in people.check()] == ["operations"]
    done = gallery.repair(tmp_path / "g")
    assert [one.where for one in done.lost] == ["operations"]
    with gallery.open(tmp_path / "g", Precomputed(DIM, "euclidean")) as people:
        assert people.check() == [] and len(people.operations()) == (2 if "WHERE" in sql else 0)
        people.rename("carol", "Carol")
        assert people.check() == []


def test_a_template_in_quarantine_that_went_missing_is_told(tmp_path):
    with gallery.create(tmp_path / "g", Precomputed(DIM, "euclidean")) as people:
        fill(people)
        people.quarantine([3], "blurred")
    with sqlite3.connect(tmp_path / "g" / "catalog.sqlite") as db:
        db.execute("DELETE FROM templates_1 WHERE template = 3")
    db.close()
    with (
        gallery.open(tmp_path / "g", Precomputed(DIM, "euclidean")) as people,
        pytest.raises(gallery.CorruptGalleryError, match="template 3, which is in quarantine, is missing"),
    ):
        people.quarantined()
