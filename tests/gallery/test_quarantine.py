"""What is in quarantine is kept, listed and exported, and never matched; who is different is remembered."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

import gallery
from gallery import ConflictError, InvalidItemError, Precomputed, QuarantinedError, UnknownSubjectError
from gallery.cli import main
from gallery.curation import Change, Mark
from gallery.engines import filtering
from tests.gallery.doubles import seen, true_distances, vectors

DIM = 6
ROWS = vectors(60, DIM)
OWNERS = ["a"] * 3 + ["b"] * 2 + ["c"] * 4 + [f"s{at}" for at in range(9, 60)]


@pytest.fixture(params=["auto", "Flat", "IVF4,Flat", "IVF4,SQ8", "copies"])
def people(request, tmp_path: Path, monkeypatch):
    """copies: what is left is searched in a copy, as where much is in quarantine."""
    monkeypatch.setattr("gallery.indexes.kinds._PER_CELL", 2)
    index = request.param
    if index == "copies":
        monkeypatch.setattr(filtering, "_MOST", 2)
        index = "auto"
    with gallery.create(tmp_path / "g", Precomputed(DIM, "euclidean"), index=index) as people:
        people.enroll("a", ROWS[:3], metadata={"site": "north"})
        people.enroll("b", ROWS[3:5], metadata={"site": "south"})
        people.enroll("c", ROWS[5:9], metadata={"site": "north"})
        people.enroll_many((f"s{at}", ROWS[at : at + 1]) for at in range(9, 60))
        yield people


only_exact = pytest.mark.parametrize("people", ["auto"], indirect=True)


def check(people, barred: set[int], where: dict | None = None, among: str = "") -> None:
    """Every way of searching against brute force among those that are not in quarantine."""
    living = [at for at in range(len(OWNERS)) if at + 1 not in barred]
    living = [at for at in living if not among or OWNERS[at] in among]
    exhaustive = not people.info().index_wish.startswith("IVF")
    for probe in ROWS[:10] + np.float32(0.01):
        away = true_distances(probe, ROWS[living], "euclidean")
        best: dict[str, tuple[str, int]] = {}
        within = set()
        for distance, at in sorted(zip(away.tolist(), living, strict=True)):
            best.setdefault(OWNERS[at], (OWNERS[at], at + 1))
            if distance <= 2.5:
                within.add(OWNERS[at])
        found = people.identify(probe, k=5, threshold=100.0, where=where)
        if exhaustive:
            assert [(one.id, one.template) for one in found.candidates] == [*best.values()][:5]
        assert not barred & {one.template for one in found.candidates}
        assert {one.id for one in people.within(probe, 2.5, where=where)} == within
    assert people.check() == []


def test_nobody_is_found_by_a_template_in_quarantine(people):
    check(people, set())
    done = people.quarantine("c", "someone else's")
    assert (done.verb, done.subjects, done.templates) == ("quarantine", ("c",), 4)
    check(people, {6, 7, 8, 9})
    check(people, {6, 7, 8, 9}, where={"site": "north"}, among="ac")
    people.quarantine([1, 4], "blurred")
    people.quarantine(people.templates("s20")[0], "blurred")
    barred = {1, 4, 6, 7, 8, 9, 21}
    check(people, barred)
    check(people, barred, where={"site": ["north", "south"]}, among="abc")
    # Kept and listed all the same.
    assert len(people.templates("c")) == 4 and people.template_count == 60 and "c" in people
    assert {one.template: one.reason for one in people.quarantined()} == {
        number: "someone else's" if number in (6, 7, 8, 9) else "blurred" for number in barred
    }
    info = people.info()
    assert (info.quarantined, info.templates) == (7, 60)
    # A reader of its own, and after the index was built anew.
    with gallery.open(people.location, people.encoder, read_only=True) as other:
        check(other, barred)
    people.release("c")
    people.undo(people.release([4]))
    check(people, {1, 4, 21})
    people.undo(done.operation + 1)
    check(people, {21})
    people.release([21])
    check(people, set())


def test_another_process_follows(people):
    with gallery.open(people.location, people.encoder, read_only=True) as other:
        check(other, set())
        people.quarantine([6, 10], "blurred")
        check(other, {6, 10})
        people.release([6])
        check(other, {10})


def test_verify(people):
    people.quarantine([4], "blurred")
    answer = people.verify("b", ROWS[3], threshold=0.0)
    away = float(true_distances(ROWS[3], ROWS[4:5], "euclidean")[0])
    assert not answer.accepted and answer.template == 5 and answer.distance == pytest.approx(away)
    people.quarantine([5], "turned round")
    with pytest.raises(
        QuarantinedError, match=r"all 2 templates of 'b' are in quarantine .template 4: blurred"
    ):
        people.verify("b", ROWS[3], threshold=9.0)
    people.enroll("b", ROWS[3:4])
    assert people.verify("b", ROWS[3], threshold=0.0).template == 61


def test_recall_is_measured_among_what_may_be_found(people):
    people.quarantine("c", "blurred")
    assert people.recall(k=3).value > 0.3


@only_exact
def test_a_calibration_passes_it_over(people):
    """40 strangers' templates under a subject spoil every rate; in quarantine they do not."""
    clean = people.calibrate(target_fmr=0.05).to_dict()
    people.enroll("a", np.repeat(ROWS[30:32], 20, axis=0) + vectors(40, DIM, 5) * np.float32(0.05))
    spoilt = people.calibrate(target_fmr=0.05).to_dict()
    assert spoilt["threshold"] < clean["threshold"]
    people.quarantine(range(61, 101), "someone else's")
    again = people.calibrate(target_fmr=0.05).to_dict()
    for key in ("measured", "templates"):
        del clean[key], again[key]
    assert again == clean


def test_everything_in_quarantine(people):
    people.quarantine([*range(1, 61)], "all of it")
    assert people.identify(ROWS[0]).candidates == () and people.within(ROWS[0], 100.0) == []
    assert people.identify(ROWS[0], where={"site": "north"}).nearest is None
    people.enroll("new", ROWS[:1])
    assert seen(people.identify(ROWS[0], threshold=0.0)) == [("new", 0.0, 61)]


@only_exact
def test_it_follows_the_template_and_goes_with_it(people):
    people.quarantine([1, 4], "blurred")
    people.merge("b", ["a"])
    people.split("b", [1, 2], "d")
    people.rename("d", "e")
    assert [(one.template, one.id) for one in people.quarantined()] == [(1, "e"), (4, "b")]
    people.remove("e")
    assert [(one.template, one.id) for one in people.quarantined()] == [(4, "b")]
    people.remove_templates([4])
    assert people.quarantined() == [] and people.check() == []


@only_exact
def test_an_undo_brings_back_since_when(people, monkeypatch):
    clock = iter(range(10**18, 2 * 10**18, 10**9))  # each look at it a second later
    monkeypatch.setattr("gallery.stores.curation.time.time_ns", lambda: next(clock))
    done = people.quarantine([1, 2], "blurred")
    people.quarantine([3], "turned round")
    before, rows = people.quarantined(), _rows(people)
    assert before[0].at == before[1].at < before[2].at
    people.undo(people.release([2, 3]))
    assert people.quarantined() == before and _rows(people) == rows
    # The undo of an undo too.
    people.undo(people.undo(done))
    assert people.quarantined() == before and _rows(people) == rows
    # Taken out and put back by hand it is another quarantine, however alike.
    people.release([2])
    people.quarantine([2], "blurred")
    with pytest.raises(ConflictError, match="the quarantine of template 2 was changed since"):
        people.undo(done)
    assert people.quarantined()[1].at > before[1].at and people.check() == []


def _rows(people) -> list:
    with closing(sqlite3.connect(people.location / "catalog.sqlite")) as db:
        return db.execute("SELECT * FROM quarantine ORDER BY template").fetchall()


def test_an_operation_of_before_is_still_read():
    change = Change.from_json(
        '{"about":["a"],"subjects":[],"moves":[],"marks":[[1,"blurred",null]],"pairs":[]}'
    )
    assert change.marks == (Mark(1, "blurred", None),)
    assert not change.marks[0].differs(("blurred", 5)) and change.marks[0].differs(None)
    assert Change.from_json(change.to_json()) == change


@only_exact
@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (UnknownSubjectError, "nobody", lambda g: g.quarantine("nobody", "x")),
        (InvalidItemError, "template 99 is not enrolled", lambda g: g.quarantine([1, 99], "x")),
        (ConflictError, "template 2 is in quarantine already .blurred", lambda g: g.quarantine("a", "x")),
        (InvalidItemError, "reason", lambda g: g.quarantine([1], " ")),
        (InvalidItemError, "no templates", lambda g: g.quarantine([], "x")),
        (InvalidItemError, "expected numbers", lambda g: g.quarantine([1.5], "x")),
        (InvalidItemError, "template 1 is not in quarantine", lambda g: g.release([1, 2])),
        (InvalidItemError, "no template of 'b' is in quarantine", lambda g: g.release("b")),
        (UnknownSubjectError, "nobody", lambda g: g.differ("a", "nobody")),
        (InvalidItemError, "from itself", lambda g: g.differ("a", "a")),
        (ConflictError, "already", lambda g: g.differ("c", "b")),
        (ConflictError, "not remembered", lambda g: g.differ("a", "b", different=False)),
    ],
)
def test_bad_requests_change_nothing(people, error, match, call):
    people.quarantine([2], "blurred")
    people.differ("b", "c")
    revision = people.info().revision
    with pytest.raises(error, match=match):
        call(people)
    assert people.info().revision == revision
    assert [one.template for one in people.quarantined()] == [2] and people.different() == [("b", "c")]


@only_exact
def test_who_is_different_is_remembered(people):
    done = people.differ("b", "a")
    assert people.different() == [("a", "b")] and people.info().different == 1
    with pytest.raises(ConflictError, match="'a' and 'b' are remembered as different"):
        people.merge("c", ["a", "b"])
    people.rename("b", "x")
    people.differ("x", "c")
    assert people.different() == [("a", "x"), ("x", "c")]
    # Merged, s10 is different from all that x was.
    merged = people.merge("s10", ["x"])
    assert people.different() == [("a", "s10"), ("c", "s10")]
    people.undo(merged)
    assert people.different() == [("a", "x"), ("x", "c")]
    people.undo(people.operations()[1])
    people.undo(done)
    assert people.different() == [("b", "c")]
    people.differ("c", "b", different=False)
    assert people.different() == [] and people.check() == []


@only_exact
def test_it_goes_with_a_subject(people):
    people.differ("a", "b")
    people.differ("a", "c")
    merged = people.merge("s9", ["a"])
    people.remove("b")
    assert people.different() == [("c", "s9")] and people.check() == []
    people.undo(merged)
    assert people.different() == [("a", "c")] and people.check() == []
    people.remove("a", erase=True)
    assert people.different() == [] and people.check() == []


@only_exact
def test_both_are_exported_and_imported(people, tmp_path):
    people.quarantine([1, 60], "blurred: ä")
    people.differ("c", "a")
    people.rename("a", "alice\0")
    people.remove("s9")
    people.export(tmp_path / "all.h5")
    with h5py.File(tmp_path / "all.h5") as file:
        assert file["quarantine"].asstr()[0] == "blurred: ä" and file["different"].shape == (1, 2)
    with gallery.create(tmp_path / "h", people.encoder) as back:
        back.enroll("c", ROWS[:1])
        back.import_file(tmp_path / "all.h5")
        assert [(one.id, one.reason) for one in back.quarantined()] == [
            ("alice\0", "blurred: ä"),
            ("s59", "blurred: ä"),
        ]
        assert back.different() == [("c", "alice\0")]
        assert back.identify(ROWS[59], threshold=0.0).decision == "unknown"
        assert back.check() == []
        # Twice is no more than once.
        back.import_file(tmp_path / "all.h5")
        assert back.different() == [("c", "alice\0")] and len(back.quarantined()) == 4


@only_exact
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quarantine", ["x"]),
        ("quarantine", 7.5),
        ("quarantine", np.zeros(60)),
        ("different", [[0, 99]]),
        ("different", [[-1, 0]]),
        ("different", [0, 1]),
        ("different", [[0.5, 1]]),
        ("different", [["a", "b"]]),
    ],
)
def test_a_file_that_says_nonsense_is_refused(people, tmp_path, name, value):
    people.export(tmp_path / "all.h5")
    with h5py.File(tmp_path / "all.h5", "a") as file:
        file[name] = value
    with gallery.create(tmp_path / "h", people.encoder) as back:
        with pytest.raises(gallery.CorruptGalleryError, match="damaged, or is no exported gallery"):
            back.import_file(tmp_path / "all.h5")
        assert len(back) == 0 and back.info().revision == 0


@only_exact
@pytest.mark.parametrize(
    ("sql", "match"),
    [
        ("UPDATE quarantine SET reason = 'sharp' WHERE template = 2", "template 2 does not match"),
        ("DELETE FROM quarantine WHERE template = 2", "not all there"),
        ("DELETE FROM different", "not all there"),
        ("UPDATE different SET one = 3", "does not match"),
        ("DROP TABLE quarantine", "missing"),
    ],
)
def test_lost_marks_are_noticed_and_never_answered_without(people, sql, match):
    people.quarantine([1, 2], "blurred")
    people.differ("a", "b")
    people.close()
    db = sqlite3.connect(people.location / "catalog.sqlite")
    with db:
        db.execute(sql)
    db.close()
    with (
        gallery.open(people.location, people.encoder) as opened,
        pytest.raises(gallery.CorruptGalleryError, match=match),
    ):
        opened.identify(ROWS[0])
    with gallery.open(people.location, read_only=True) as opened:
        assert any(match in one.what for one in opened.check()) or match == "missing"


@only_exact
def test_a_repair_keeps_both(people):
    people.quarantine([1, 2], "blurred")
    people.differ("a", "b")
    people.close()
    db = sqlite3.connect(people.location / "catalog.sqlite")
    with db:
        db.execute("UPDATE templates_1 SET enrolled = 7 WHERE template IN (2, 30)")
    db.close()
    done = gallery.repair(people.location)
    assert [one.where for one in done.lost if "quarantine" in one.where] == []
    with gallery.open(people.location, people.encoder) as opened:
        assert [(one.template, one.reason) for one in opened.quarantined()] == [(1, "blurred")]
        assert opened.different() == [("a", "b")] and opened.check() == []
        # The first was of a template that is lost, and the second is as it was.
        first, second = opened.operations()
        with pytest.raises(ConflictError, match="template 2 is not enrolled"):
            opened.undo(first)
        opened.undo(second)
        assert opened.different() == []


@only_exact
def test_an_export_without_any_is_as_it_always_was(people, tmp_path):
    people.undo(people.quarantine([1], "blurred"))
    people.export(tmp_path / "all.h5")
    with h5py.File(tmp_path / "all.h5") as file:
        assert {"quarantine", "different"}.isdisjoint(file)


@only_exact
def test_on_the_command_line(people, capsys):
    place = str(people.location)
    people.close()

    def shell(*words: str) -> str:
        assert main([*words]) == 0
        return capsys.readouterr().out

    assert "nothing is in quarantine" in shell("quarantine", place)
    assert "quarantine a (3 templates)" in shell("quarantine", place, "a", "--reason", "blurred")
    shell("quarantine", place, "--template", "4", "--template", "6", "--reason", "turned round")
    assert "turned round" in shell("quarantine", place)
    assert "in quarantine" in shell("list", place) and "quarantined" in shell("info", place)
    shell("release", place, "--template", "4")
    shell("release", place, "a")
    assert main(["release", place, "a"]) == 2
    assert main(["release", place]) == 2
    assert main(["quarantine", place, "a"]) == 2
    assert "differ a, b" in shell("differ", place, "a", "b")
    assert "is not" in shell("differ", place)
    shell("differ", place, "a", "b", "--forget")
    assert "no two subjects" in shell("differ", place)
    assert main(["differ", place, "a"]) == 2
    assert "release" in shell("undo", place)
