"""Checking and repairing galleries that may not open, and backing up those in use."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import gallery
from gallery.cli import main
from gallery.errors import (
    CorruptGalleryError,
    GalleryError,
    GalleryExistsError,
    GalleryLockedError,
    GalleryNotFoundError,
)
from gallery.stores import witness
from gallery.stores.pages import Pages
from gallery.vectors import prepare
from tests.gallery.doubles import contents, seen, vectors

DIM = 8
ENCODER = gallery.Precomputed(DIM, "cosine", "repairs")
ROWS = vectors(300, DIM)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A closed gallery of 100 subjects with 1 to 3 templates, less two of them and template 2."""
    place = tmp_path / "g"
    with gallery.create(place, ENCODER, keep_items=True, actor="me") as people:
        people.enroll("alice", ROWS[:3], metadata={"badge": 7})
        people.enroll_many([(f"s{at}", ROWS[at : at + 1 + at % 3]) for at in range(3, 102)])
        people.remove("s7")
        people.remove_templates([2])
        people.remove("s101")
        people._engine.set_setting("threshold", json.dumps({"threshold": 0.25}))
    return place


def change(folder: Path, sql: str, *values: object) -> None:
    db = sqlite3.connect(folder / "catalog.sqlite")
    with db:
        db.execute(sql, values)
    db.close()


def put(folder: Path, at: int, content: bytes) -> None:
    """Overwrites bytes of the catalog."""
    path = folder / "catalog.sqlite"
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


def told(place: Path) -> dict[str, object]:
    """What a gallery answers."""
    with gallery.open(place, ENCODER, read_only=True) as people:
        return {
            "listing": people.subjects(),
            "templates": [(one.id, int(one), one.enrolled) for id in people for one in people.templates(id)],
            "answers": [seen(one) for one in people.identify_batch(ROWS[::30], threshold=2.0)],
            "threshold": people.threshold,
            "next": people._engine._store.last_template(),
            "identity": people._engine.header,
            "log": people.log(),
        }


# -- repair


def test_a_sound_gallery_is_left_as_it_is(place):
    before = contents(place)
    assert gallery.check(place) == []
    done = gallery.repair(place)
    assert (bool(done), done.subjects, done.damaged) == (True, 98, None)
    assert str(done) == f"98 subjects, {done.templates} templates saved, nothing lost"
    assert contents(place) == before


@pytest.mark.parametrize("pages", [[1], [1, 2, 3]], ids=str)
def test_structure_that_is_lost_costs_no_record(place, pages):
    """The first page holds the header of the file and the way to everything else."""
    before = told(place)
    put(place, 0, os.urandom(600))
    assert gallery.check(place) != []
    with pytest.raises(CorruptGalleryError):
        gallery.open(place, ENCODER)
    done = gallery.repair(place, actor="me")
    assert done.lost == ()
    assert gallery.check(place) == []
    after = told(place)
    assert after["log"][-1].verb == "repair"
    assert after | {"log": after["log"][:-1]} == before


def test_a_damaged_template_is_lost_alone_and_its_number_is_not_used_again(place):
    before = told(place)
    change(place, "UPDATE templates_1 SET embedding = zeroblob(32) WHERE template = 5")
    change(place, "DELETE FROM templates_1 WHERE template = 6")
    done = gallery.repair(place)
    assert [str(one) for one in done.lost] == [
        "subject 's4': none of its 2 templates can be read",
        "templates 5 to 6: it cannot be read, or does not match its checksum; enrol it again",
    ]
    with gallery.open(place, ENCODER) as people:
        assert people.check() == []
        assert "s4" not in people
        assert people.enroll("s4", ROWS[:1]).templates == (before["next"] + 1,)
        assert [one for one in told(place)["templates"] if one[0] != "s4"] == [
            one for one in before["templates"] if one[1] not in (5, 6)
        ]


def test_a_lost_subject_is_listed_with_its_templates(place):
    change(place, "UPDATE subjects SET id = 'mallory' WHERE id = 's8'")
    done = gallery.repair(place)
    assert sorted(str(one) for one in done.lost) == [
        "subjects: the records of 1 subject are lost",
        *(f"template {number}: the record of its subject, number 7, is lost" for number in (13, 14, 15)),
    ]
    with gallery.open(place, ENCODER) as people:
        assert "s8" not in people
        assert "mallory" not in people
        assert people.check() == []


def test_the_row_that_counts_is_rebuilt_and_no_number_is_used_again(place):
    before = told(place)
    change(place, "UPDATE state SET next_template = 3")
    done = gallery.repair(place)
    assert {one.where for one in done.lost} == {"settings", "state"}
    after = told(place)
    assert {key: after[key] for key in ("listing", "templates", "answers")} == {
        key: before[key] for key in ("listing", "templates", "answers")
    }
    assert after["next"] == before["next"]
    assert gallery.check(place) == []


def test_the_log_is_kept_as_far_as_its_chain_holds(place):
    change(place, "UPDATE audit SET actor = 'not me' WHERE entry = 3")
    with gallery.open(place) as people, pytest.raises(CorruptGalleryError, match="audit entry 3"):
        people.log()
    done = gallery.repair(place, actor="me")
    assert [str(one) for one in done.lost] == ["audit log: entries 3 to 5 are lost"]
    with gallery.open(place) as people:
        assert [one.verb for one in people.log()] == ["enroll", "enroll", "repair"]


def test_what_the_gallery_is_cannot_be_guessed(place):
    change(place, "UPDATE generations SET fingerprint = 'forged'")
    before = gallery.check(place)
    with pytest.raises(CorruptGalleryError, match=r"dim, metric and encoder, are\s+lost.*backup"):
        gallery.repair(place)
    assert gallery.check(place) == before
    assert {one.name for one in place.iterdir()} == {"catalog.sqlite", "catalog.head"}


def test_an_identity_is_found_in_the_head(place):
    change(place, "UPDATE header SET identity = 'x'")
    assert gallery.check(place) != []
    assert gallery.repair(place).lost == ()
    assert gallery.check(place) == []


def test_an_older_catalog_is_accepted_as_it_is(place, tmp_path):
    shutil.copytree(place, tmp_path / "old")
    with gallery.open(place, ENCODER) as people:
        people.enroll("late", ROWS[:1])
    shutil.copy(tmp_path / "old" / "catalog.sqlite", place)
    assert "older" in str(gallery.check(place)[0])
    done = gallery.repair(place)
    assert [str(one) for one in done.lost] == [
        "catalog.sqlite: revisions 7 to 7 are not in it: what they changed is lost"
    ]
    with gallery.open(place, ENCODER) as people:
        assert people.info().revision == 8
        assert people.check() == []


def test_the_write_ahead_log_is_read_where_sqlite_does_not(place, tmp_path):
    with gallery.open(place, ENCODER) as people:
        (number,) = people.enroll("late", ROWS[:1]).templates
        people.remove("s3")
        shutil.copytree(place, tmp_path / "killed")
    put(tmp_path / "killed", 0, os.urandom(100))
    assert (tmp_path / "killed" / "catalog.sqlite-wal").stat().st_size > 0
    assert gallery.repair(tmp_path / "killed").lost == ()
    with gallery.open(tmp_path / "killed", ENCODER) as people:
        assert [int(one) for one in people.templates("late")] == [number]
        assert "s3" not in people
        assert people.check() == []


def test_an_opening_that_is_refused_leaves_the_log_to_a_repair(place, tmp_path):
    """Closing what was opened for writing would take in what is sound of the log, and delete the rest."""
    killed = tmp_path / "killed"
    with gallery.open(place, ENCODER) as people:
        for at in range(20):
            people.enroll(f"late{at}", ROWS[at : at + 1])
        shutil.copytree(place, killed)
    log = killed / "catalog.sqlite-wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 4
    log.write_bytes(content)
    with pytest.raises(CorruptGalleryError, match="its write-ahead log was lost"):
        gallery.open(killed, ENCODER)
    assert log.read_bytes() == content
    gallery.repair(killed)
    (aside,) = killed.glob("damaged-*")
    assert (aside / log.name).read_bytes() == content


def test_a_damaged_name_that_sqlite_quotes_is_damage_like_any_other(place):
    name = b"removed_by_revisionremoved"
    put(place, (place / "catalog.sqlite").read_bytes().index(name), b"\xde" * len(name))
    with pytest.raises(CorruptGalleryError, match="is damaged"):
        gallery.open(place, ENCODER)
    assert "is damaged" in str(gallery.check(place)[0])
    assert gallery.repair(place).subjects == 98
    with gallery.open(place, ENCODER) as people:
        assert people.check() == []


def test_nothing_left_is_said(place):
    (place / "catalog.sqlite").unlink()
    assert "missing or empty" in str(gallery.check(place)[0])
    with pytest.raises(CorruptGalleryError, match="nothing can be saved"):
        gallery.repair(place)
    assert sorted(one.name for one in place.iterdir()) == ["catalog.head"]


@pytest.mark.parametrize("verb", [gallery.check, gallery.repair])
def test_no_gallery_is_no_damage(verb, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "nothing", tmp_path / "empty"):
        with pytest.raises(GalleryNotFoundError, match="no gallery"):
            verb(place)
    assert [one.name for one in tmp_path.rglob("*")] == ["empty"]


def test_a_gallery_in_use_is_not_repaired(place):
    change(place, "DELETE FROM templates_1 WHERE template = 5")
    for read_only in (True, False):
        with gallery.open(place, ENCODER, read_only=read_only) as people:
            len(people)
            with pytest.raises(GalleryLockedError, match="in use"):
                gallery.repair(place, lock_timeout=0.1)
            people.ids()
    assert not gallery.repair(place)
    assert gallery.check(place) == []


def test_damaged_files_are_private_kept_and_gone_with_an_erasure(place):
    whole = (place / "catalog.sqlite").read_bytes()
    put(place, 0, b"no database")
    damaged = (place / "catalog.sqlite").read_bytes()
    kept = Path(gallery.repair(place).damaged)
    assert kept.parent == place
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert (kept / "catalog.sqlite").read_bytes() == damaged != whole
    (place / "damaged-by-me").mkdir()
    with gallery.open(place, ENCODER) as people:
        people.remove("alice", erase=True)
    assert not kept.exists()
    assert (place / "damaged-by-me").exists()


def test_a_kill_at_any_moment_of_a_repair_loses_nothing(place, tmp_path):
    put(place, 0, os.urandom(600))
    code = (
        "import os, sys, gallery\n"
        "from gallery.stores import repair\n"
        "real = getattr(repair, sys.argv[2])\n"
        "def kill(*arguments):\n"
        "    if sys.argv[3] == 'after': real(*arguments)\n"
        "    os._exit(9)\n"
        "setattr(repair, sys.argv[2], kill)\n"
        "gallery.repair(sys.argv[1])\n"
    )
    for where in ("_swap", "_head"):
        for when in ("before", "after"):
            copy = shutil.copytree(place, tmp_path / f"{where}-{when}")
            done = subprocess.run([sys.executable, "-c", code, copy, where, when], check=False)
            assert done.returncode == 9
            assert gallery.repair(copy).lost == ()
            assert gallery.check(copy) == []
            assert len(gallery.open(copy, ENCODER)) == 98


def test_a_damaged_index_file_or_head_is_renewed_without_a_rebuild(place):
    (place / "catalog.head").write_bytes(b"x" * 128)
    assert [one.where for one in gallery.check(place)] == ["catalog.head"]
    assert gallery.repair(place).damaged is None
    assert gallery.check(place) == []


def test_a_head_that_is_being_written_is_not_taken_for_damage(place, monkeypatch):
    head = place / "catalog.head"
    whole = head.read_bytes()
    torn = whole[:60] + b"7" * 8 + whole[68:]
    head.write_bytes(torn)
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            head.write_bytes(whole)

    monkeypatch.setattr(witness.time, "sleep", sleep)
    assert gallery.check(place) == []
    assert len(waited) == 3
    head.write_bytes(torn)
    assert [one.where for one in gallery.check(place)] == ["catalog.head"]


def test_the_pages_of_every_size_are_read_without_sqlite(tmp_path):
    for size in (512, 1024, 4096, 65536):
        path = tmp_path / f"{size}.sqlite"
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA page_size = {size}")
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c BLOB, d INTEGER)")
        wanted = [
            (at, "ä" * (at % 700), os.urandom(at * 37 % 9000), (-1) ** at * 7**at if at < 22 else None)
            for at in range(1, 200)
        ]
        db.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", wanted)
        db.commit()
        db.close()
        pages = Pages(path)
        assert pages.size == size
        found = [(cell.rowid, *cell.values[1:]) for cell in pages.cells(13) if len(cell.values) == 4]
        pages.close()
        assert sorted(found) == wanted


# -- the write-ahead log of a killed process


def killed(at: Path, place: Path, *verbs: Callable[[gallery.Gallery], object]) -> Path:
    """A copy of `place` in which somebody did that and was killed."""
    shutil.copytree(place, at / "working")
    with gallery.open(at / "working", ENCODER) as people:
        for verb in verbs:
            verb(people)
        shutil.copytree(at / "working", at / "killed")
    shutil.rmtree(at / "working")
    return (at / "killed").rename(at / f"killed-{len(list(at.iterdir()))}")


def enrol(id: str, first: int, count: int = 1) -> Callable[[gallery.Gallery], object]:
    return lambda people: people.enroll(id, ROWS[first : first + count])


def test_what_is_whole_behind_damage_in_the_log_is_saved(place, tmp_path):
    verbs = [enrol(f"t{at}", 200 + at) for at in range(40)]
    verbs.insert(20, lambda people: people.remove("s3"))
    left = killed(tmp_path, place, *verbs)
    wanted = told(shutil.copytree(left, tmp_path / "whole"))
    log = left / "catalog.sqlite-wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 4] ^= 4
    log.write_bytes(content)
    with pytest.raises(CorruptGalleryError, match="commits"):
        gallery.open(left, ENCODER, read_only=True)
    done = gallery.repair(left)
    assert done.lost == ()
    saved = told(left)
    for part in ("listing", "templates", "answers", "threshold", "next"):
        assert saved[part] == wanted[part]
    with gallery.open(left, ENCODER) as people:
        assert "s3" not in people and "t39" in people
    assert gallery.check(left) == []


@pytest.mark.parametrize("head", [True, False])
def test_what_the_log_holds_of_an_unfinished_commit_does_not_replace_a_later_one(place, tmp_path, head):
    """A power cut left most of a commit, and the next one was written over the beginning of that."""
    base = killed(tmp_path, place, enrol("first", 200))
    unfinished = killed(tmp_path, base, enrol("never", 210, 60))
    later = killed(tmp_path, base, enrol("last", 220))
    log, other = (one / "catalog.sqlite-wal" for one in (later, unfinished))
    sound = log.read_bytes()
    assert other.read_bytes()[:32] == sound[:32], "of one round"
    log.write_bytes(sound + other.read_bytes()[len(sound) :])
    if not head:
        (later / "catalog.head").unlink()
    catalog = (later / "catalog.sqlite").read_bytes()
    put(later, catalog.index(prepare(ROWS[50:51], "cosine").tobytes()), b"damage")
    done = gallery.repair(later)
    lost = [one.where for one in done.lost]
    assert sum(one.startswith("template ") for one in lost) == 1
    assert ("catalog.sqlite-wal" in lost) == (not head)
    with gallery.open(later, ENCODER) as people:
        assert "last" in people and "first" in people and "never" not in people


# -- the command line


def test_check_and_repair_on_the_command_line(place, capsys):
    assert main(["check", str(place)]) == 0
    change(place, "DELETE FROM templates_1 WHERE template = 1")
    assert main(["check", str(place), "--json"]) == 3
    capsys.readouterr()
    assert main(["check", str(place), "--repair", "--json"]) == 3
    done = json.loads(capsys.readouterr().out)
    assert [one["where"] for one in done["lost"]] == ["subject 'alice'", "template 1"]
    assert main(["check", str(place), "--repair"]) == 0
    assert "nothing lost" in capsys.readouterr().out
    put(place, 0, b"no database")
    assert main(["check", str(place)]) == 3
    assert main(["check", str(place), "--repair"]) == 0
    assert "damaged files are in" in capsys.readouterr().out
    assert main(["check", str(place.parent / "nothing")]) == 2


def test_backup_on_the_command_line(place, tmp_path, capsys):
    assert main(["backup", str(place), str(tmp_path / "copy"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done == {"target": str(tmp_path / "copy"), "templates": len(told(place)["templates"])}
    assert main(["backup", str(place), str(tmp_path / "copy")]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "copy")]) == 0


# -- backup


@pytest.mark.parametrize("read_only", [True, False])
def test_a_backup_answers_as_the_gallery_did(place, tmp_path, read_only):
    before, seen_progress = told(place), []
    with gallery.open(place, ENCODER, read_only=read_only) as people:
        progress = lambda done, total: seen_progress.append((done, total))  # noqa: E731
        assert people.backup(tmp_path / "copy", progress=progress) == people.template_count
    copied = told(tmp_path / "copy")
    assert told(place) == before
    assert copied | {"log": before["log"]} == before
    # The log too, but for the names of those who were removed.
    assert [one.hash for one in copied["log"]] == [one.hash for one in before["log"]]
    assert ["#" in one.subjects[0] for one in copied["log"]] == [False, False, True, False, True]
    assert all(0 <= done <= total for done, total in seen_progress)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "copy").iterdir()}
    assert modes == {"catalog.sqlite": 0o600, "catalog.head": 0o600}
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    assert gallery.check(tmp_path / "copy") == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy", "g"]
    with gallery.open(tmp_path / "copy", ENCODER) as copy:
        copy.enroll("more", ROWS[:1])
        assert copy.check() == []


def test_a_backup_of_a_gallery_with_an_index_file_has_none_and_misses_none(tmp_path):
    with gallery.open(tmp_path / "g", ENCODER) as people:
        people.enroll("many", vectors(1200, DIM))
    with gallery.open(tmp_path / "g", ENCODER, read_only=True) as people:
        assert people.backup(tmp_path / "copy") == 1200
    assert gallery.check(tmp_path / "copy") == []
    assert [one.name for one in (tmp_path / "g" / "index").iterdir()] != []


def test_a_backup_holds_no_byte_of_what_was_removed(place, tmp_path):
    secret = "a secret that must go"
    with gallery.open(place, ENCODER) as people:
        people.enroll("gone", ROWS[200:203], metadata={"note": secret})
        row = people._engine.embeddings("gone").rows[1].tobytes()
        people.remove("gone")
        people.backup(tmp_path / "copy")
    for content in contents(tmp_path / "copy").values():
        assert secret.encode() not in content
        assert row not in content


def test_backups_while_others_write_are_each_of_one_revision(place, tmp_path):
    stop, failures = threading.Event(), []

    def write():
        with gallery.open(place, ENCODER) as people:
            at = 0
            while not stop.is_set():
                at += 1
                people.enroll_many([(f"pair {at} {side}", ROWS[:2]) for side in "lr"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with gallery.open(place, ENCODER, read_only=True) as people:
            for at in range(5):
                people.backup(tmp_path / str(at))
    finally:
        stop.set()
        thread.join()
    for at in range(5):
        with gallery.open(tmp_path / str(at), ENCODER) as copy:
            assert copy.check() == failures
            pairs = [id.rpartition(" ")[0] for id in copy.ids() if id.startswith("pair")]
            assert len(pairs) == 2 * len(set(pairs))


def test_a_backup_is_never_of_the_gallery_that_took_the_place(tmp_path):
    with gallery.open(tmp_path / "g", ENCODER) as people:
        people.enroll("alice", ROWS[:1])
        (tmp_path / "g").rename(tmp_path / "moved")
        with gallery.open(tmp_path / "g", ENCODER) as others:
            others.enroll("mallory", ROWS[1:2])
        with pytest.raises(GalleryError, match="another gallery than the one that was opened; nothing"):
            people.backup(tmp_path / "b")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "moved"]


def test_a_backup_never_replaces_anything_and_leaves_nothing_behind(place, tmp_path):
    (tmp_path / "there").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    with gallery.open(place, ENCODER) as people:
        for name in ("there", "dangling", "g"):
            with pytest.raises(GalleryExistsError, match="there already"):
                people.backup(tmp_path / name)
        with pytest.raises(GalleryError, match="cannot be made"):
            people.backup(tmp_path / "no" / "folder")
    with pytest.raises(GalleryError, match="closed"):
        people.backup(tmp_path / "copy")
    assert sorted(tmp_path.iterdir()) == before


def test_damage_is_not_backed_up(place, tmp_path):
    change(place, "UPDATE templates_1 SET embedding = zeroblob(32) WHERE template = 5")
    with gallery.open(place, ENCODER) as people, pytest.raises(CorruptGalleryError, match="template 5"):
        people.backup(tmp_path / "copy")
    assert [one.name for one in tmp_path.iterdir()] == ["g"]


def test_what_was_backed_up_can_be_put_in_place(place, tmp_path):
    with gallery.open(place, ENCODER) as people:
        people.backup(tmp_path / "copy")
        people.enroll("late", ROWS[:1])
    put(place, 0, b"no database")
    shutil.copy(tmp_path / "copy" / "catalog.sqlite", place)
    with pytest.raises(CorruptGalleryError, match="older"):
        gallery.open(place, ENCODER)
    gallery.repair(place)
    with gallery.open(place, ENCODER) as people:
        assert "late" not in people


def test_a_removal_whose_number_is_damaged_hides_nobody(tmp_path: Path) -> None:
    """The count of the index comes out: it keeps one that was removed, and loses one that is enrolled."""
    encoder, place = gallery.Precomputed(4, "euclidean"), tmp_path / "g"
    with gallery.create(place, encoder) as people:
        people.enroll_many((f"s{at}", [[at, 0, 0, 0]]) for at in range(1500))
    with gallery.open(place, encoder) as people:
        people.remove("s7")
    with closing(sqlite3.connect(place / "catalog.sqlite")) as db, db:
        db.execute("UPDATE removed SET template = 1001 WHERE template = 8")
    with gallery.open(place, encoder) as people:
        for ask in (
            lambda: people.identify([1000, 0, 0, 0], threshold=0.5),
            lambda: people.within([1000, 0, 0, 0], 0.5),
        ):
            with pytest.raises(gallery.CorruptGalleryError, match="template 1001 is enrolled, and on record"):
                ask()
        assert people.check() != []
    assert gallery.repair(place).damaged is not None
    with gallery.open(place, encoder) as people:
        assert people.identify([1000, 0, 0, 0], threshold=0.5).best.id == "s1000"
        assert people.check() == []
