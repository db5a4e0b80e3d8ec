"""The audit log: one entry a commit, chained, with ids only as long as they are not erased."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import GalleryError, Precomputed
from gallery.cli import main
from tests.gallery.doubles import contents

ROWS = np.eye(4, dtype=np.float32)


@pytest.fixture
def people(tmp_path: Path):
    with gallery.create(tmp_path / "g", Precomputed(4), actor="tester@here") as people:
        yield people


def test_one_entry_for_each_commit(people):
    people.enroll("alice", ROWS[:2])
    people.enroll_many((f"s{n}", ROWS[:1]) for n in range(2000))
    people.remove("alice")
    people.remove_templates(people.templates("s7"))
    people.compact()
    told = [(one.entry, one.revision, one.verb, one.templates, len(one.subjects)) for one in people.log()]
    assert told == [
        (1, 1, "enroll", 2, 1),
        (2, 2, "enroll", 2000, 2000),
        (3, 3, "remove", 2, 1),
        (4, 4, "remove templates", 1, 1),
        (5, 5, "erase", 0, 0),
    ]
    assert {one.actor for one in people.log()} == {"tester@here"}
    assert all(timedelta(0) <= datetime.now(UTC) - one.at < timedelta(minutes=5) for one in people.log())
    assert people.check() == []


def test_ids_are_shown_until_they_are_erased(people):
    people.enroll("alice", ROWS[:1])
    people.enroll("bob", ROWS[1:2])
    people.remove("alice")
    assert [one.subjects for one in people.log()] == [("alice",), ("bob",), ("alice",)]
    people.compact()
    first, second, third, _ = (one.subjects for one in people.log())
    assert second == ("bob",) and first == third and first[0].startswith("#") and len(first[0]) == 33
    people.close()
    assert all(b"alice" not in content for content in contents(people.location).values())


def test_the_chain_is_what_the_docs_say(people):
    people.enroll("alice", ROWS[:1])
    people.enroll("bob", ROWS[:1])
    people.close()
    db = sqlite3.connect(people.location / "catalog.sqlite")
    before = bytes(32)
    for *fields, keys, hash in db.execute(
        "SELECT entry, revision, at, actor, verb, templates, note, subjects, hash FROM audit ORDER BY entry"
    ):
        text = "\0".join(map(str, fields)).encode()
        before = hashlib.sha256(before + text + b"\0" + keys).digest()
        assert hash == before
    db.close()


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE entry = 2", "audit entry 2"),
        ("UPDATE audit SET at = at + 1 WHERE entry = 1", "audit entry 1"),
        ("UPDATE audit SET subjects = x'' WHERE entry = 3", "audit entry 3"),
        ("DELETE FROM audit WHERE entry = 2", "audit entry 2"),
        ("DELETE FROM audit WHERE entry = 4", "audit log"),
        ("DELETE FROM audit", "audit log"),
    ],
)
def test_what_was_changed_is_reported(people, sql, where):
    for n in range(4):
        people.enroll(f"s{n}", ROWS[:1])
    people.close()
    db = sqlite3.connect(people.location / "catalog.sqlite")
    with db:
        db.execute(sql)
    db.close()
    with gallery.open(people.location, read_only=True) as opened:
        assert where in [one.where for one in opened.check()]


def test_switched_off_and_on(people):
    people.keep_log(False)
    people.enroll("alice", ROWS[:1])
    people.keep_log(False)
    people.keep_log(True)
    people.enroll("bob", ROWS[:1])
    assert [one.verb for one in people.log()] == ["log off", "log on", "enroll"]
    assert people.check() == []


def test_without_a_log(tmp_path):
    with gallery.create(tmp_path / "g", Precomputed(4), audit=False) as people:
        people.enroll("alice", ROWS[:1])
        people.remove("alice")
        assert people.log() == [] and people.check() == []
    with (
        gallery.open(tmp_path / "g", read_only=True) as people,
        pytest.raises(GalleryError, match="read-only"),
    ):
        people.keep_log(True)


def test_on_the_command_line(people, capsys):
    people.enroll_many((f"s{n}", ROWS[:1]) for n in range(5))
    people.close()
    assert main(["log", str(people.location), "--limit", "1"]) == 0
    said = capsys.readouterr().out
    assert "s0, s1, s2, +2" in said and "tester@here" in said and "enroll" in said
    assert main(["log", str(people.location), "--off"]) == 0
    assert main(["log", str(people.location), "--limit", "0"]) == 2
