"""Galleries that earlier versions wrote open for ever after: formats/N holds one of each format N."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import vectors as door
from gallery.errors import CorruptGalleryError, GalleryError, UnknownSubjectError
from gallery.stores import catalog, upgrade
from tests.gallery.doubles import contents, in_another_process, seen
from tests.gallery.formats.make import rows

FORMATS = Path(__file__).parent / "formats"
ENCODER = gallery.Precomputed(8, "cosine", "format-1")
ROWS = rows()

ENROLLED = {1: "alice", 3: "alice"} | {at + 1: f"s{at}" for at in range(3, 40) if at != 5} | {41: "bøb 中"}
"""{template: id}"""
ITEMS = {number: number - 1 for number in ENROLLED} | {41: 5}
"""{template: row of ROWS}"""

EMPTY = zlib.crc32(b"{}", zlib.crc32(b"x", zlib.crc32(struct.pack("<qq", 99, 1))))
"""The checksum that format 1 would have for a subject 99 of the id x."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the gallery of format 1."""
    return Path(shutil.copytree(FORMATS / "1" / "gallery", tmp_path / "old"))


def change(folder: Path, sql: str, *values: object) -> None:
    db = sqlite3.connect(folder / "catalog.sqlite")
    with db:
        db.execute(sql, values)
    db.close()


def format_of(folder: Path) -> int:
    db = sqlite3.connect(f"file:{folder / 'catalog.sqlite'}?mode=ro", uri=True)
    ((format,),) = db.execute("SELECT format FROM header").fetchall()
    db.close()
    return int(format)


def brute_force(probe: np.ndarray, sign: int = 1) -> list[tuple[str, float, int]]:
    """Every subject by its nearest template, straight from the items."""
    prepared = door.prepare(ROWS, "cosine") * np.float32(sign)
    (asked,) = door.prepare(probe[None], "cosine")
    numbers = sorted(ENROLLED)
    scores = door.distances(asked, prepared[[ITEMS[number] for number in numbers]], "cosine")
    best: dict[str, tuple[str, float, int]] = {}
    for score, number in sorted(zip(scores.tolist(), numbers, strict=True)):
        best.setdefault(ENROLLED[number], (ENROLLED[number], score, number))
    return list(best.values())


def check_answers(people: gallery.Gallery, sign: int = 1) -> None:
    """Everything that can be asked about what `formats.make.fill` enrols, bit for bit."""
    assert people.ids() == list(dict.fromkeys(ENROLLED[number] for number in sorted(ENROLLED)))
    assert (len(people), people.template_count) == (38, 39)
    assert people.metadata("alice") == {"badge": 7, "ä": [1, None]}
    assert people.metadata("s3") == {}
    for id in people.ids():
        assert [int(one) for one in people.templates(id)] == [n for n, its in ENROLLED.items() if its == id]
    for at, answer in enumerate(people.identify_batch(ROWS * sign, k=38, threshold=2.0)):
        assert seen(answer) == brute_force(ROWS[at] * sign, sign), at
    for id in people.ids():
        wanted = min((s, n) for i, s, n in brute_force(ROWS[0] * sign, sign) if i == id)
        answer = people.verify(id, ROWS[0] * sign, threshold=2.0)
        assert (answer.distance, answer.template) == wanted
    with pytest.raises(UnknownSubjectError):
        people.templates("s5")
    with pytest.raises(UnknownSubjectError):
        people.verify("nobody", ROWS[0], threshold=1.0)


def test_format_1_opens_and_answers_as_it_did(old):
    for _ in range(2):
        with gallery.open(old, ENCODER) as people:
            check_answers(people)
            assert people.check() == []
        assert format_of(old) == catalog.FORMAT
    assert gallery.check(old) == []


def test_format_1_goes_on_at_the_right_number(old):
    with gallery.open(old, ENCODER, actor="me") as people:
        before = people.info().revision
        assert people.enroll("carol", ROWS[:2]).templates == (42, 43)
        assert people.remove("s3") == 1
        assert people.enroll("s3", ROWS[3:4]).templates == (44,)
        assert people.info().revision == before + 3
        assert people.check() == []


def test_the_audit_log_begins_with_the_upgrade(old):
    with gallery.open(old, ENCODER, actor="me") as people:
        people.enroll("carol", ROWS[:1])
        people.remove("alice")
        told = [(one.verb, one.subjects, one.actor) for one in people.log() if one.verb != "upgrade"]
        assert told == [("enroll", ("carol",), "me"), ("remove", ("alice",), "me")]
        assert people.check() == []


def test_format_1_is_erased_backed_up_and_repaired_after_the_upgrade(old, tmp_path):
    with gallery.open(old, ENCODER) as people:
        people.compact()
        assert people.backup(tmp_path / "copy") == 39
    assert gallery.repair(old) == gallery.Repair(38, 39)
    with gallery.open(tmp_path / "copy", ENCODER, read_only=True) as copy:
        check_answers(copy)


def test_read_only_format_1_is_refused_and_not_touched(old):
    before = contents(old)
    with pytest.raises(GalleryError, match=r"has format 1.*open it for writing once.*gallery compact"):
        gallery.open(old, ENCODER, read_only=True)
    with pytest.raises(GalleryError, match="has format 1"):
        gallery.check(old)
    assert contents(old) == before


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("UPDATE templates SET embedding = zeroblob(32) WHERE template = 7", "template 7"),
        ("UPDATE templates SET subject = 3 WHERE template = 1", "template 1"),
        ("UPDATE subjects SET metadata = '{\"badge\": 8}' WHERE subject = 1", "subject 1"),
        ("UPDATE subjects SET id = 'mallory' WHERE id = 'alice'", "mallory"),
    ],
)
def test_damage_of_format_1_is_not_made_sound_by_the_upgrade(old, sql, where):
    change(old, sql)
    for _ in range(2):
        with pytest.raises(CorruptGalleryError, match=where):
            gallery.open(old, ENCODER)
    assert format_of(old) == 1


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("DELETE FROM templates WHERE subject = 5", "1 templates are missing"),
        ("DELETE FROM subjects WHERE subject = 5", "subject 5: its record is missing"),
        ("DELETE FROM removed", "2 templates are missing"),
        (
            f"INSERT INTO subjects VALUES (99, 'x', '{{}}', {EMPTY})",
            "subject 99: a template of 'x' is missing",
        ),
    ],
)
def test_rows_that_format_1_lost_are_missed(old, sql, what):
    change(old, sql)
    with pytest.raises(CorruptGalleryError, match=what):
        gallery.open(old, ENCODER)
    assert format_of(old) == 1


@pytest.mark.parametrize("at", ["_copy_subjects", "_copy_templates", "insert_state"])
def test_an_interrupted_upgrade_leaves_format_1_whole(old, at):
    code = (
        "import os, sys, gallery\n"
        "from gallery.stores import upgrade\n"
        f"upgrade.{at} = lambda *_: os._exit(0)\n"
        "gallery.open(sys.argv[1])\n"
    )
    in_another_process(code, old)
    assert format_of(old) == 1
    with gallery.open(old, ENCODER) as people:
        check_answers(people)
        assert people.check() == []


def test_an_upgrade_that_fails_leaves_format_1_whole(old, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "insert_state", fail)
        with pytest.raises(RuntimeError, match="no"):
            gallery.open(old, ENCODER)
    assert format_of(old) == 1
    with gallery.open(old, ENCODER) as people:
        check_answers(people)


@pytest.mark.parametrize("format", sorted(one.name for one in FORMATS.iterdir() if one.name.isdigit()))
def test_exports_are_imported(format, tmp_path):
    encoder = gallery.Precomputed(8, "cosine", f"format-{format}")
    with gallery.open(tmp_path / "new", encoder) as people:
        done = people.import_file(FORMATS / format / "export.h5")
        assert (done.subjects, done.templates) == (38, 39)
        assert people.metadata("alice") == {"badge": 7, "ä": [1, None]}
        for at, answer in enumerate(people.identify_batch(ROWS, k=38, threshold=2.0)):
            found = [(id, distance) for id, distance, _ in seen(answer)]
            assert sorted(found) == sorted((id, distance) for id, distance, _ in brute_force(ROWS[at]))


@pytest.mark.skipif(not (FORMATS / "2").is_dir(), reason="format 2 is not final: run formats/make.py then")
def test_format_2_opens_and_answers_as_it_did(tmp_path):
    place = shutil.copytree(FORMATS / "2" / "gallery", tmp_path / "two")
    before = contents(place)
    with gallery.open(place, read_only=True) as people:
        check_answers(people, -1)
        assert people.threshold is None
        log = people.log()
        assert people.check() == []
    assert contents(place) == before
    assert [one.verb for one in log] == [
        *("enroll", "enroll", "remove", "remove templates", "enroll", "stage", "switch")
    ]
    with gallery.open(place) as people:
        assert people.enroll("carol", ROWS[:1]).templates == (42,)
        assert people.log()[: len(log)] == log
        assert people.check() == []


def test_a_newer_format_is_refused_by_everything(old, tmp_path):
    with gallery.open(old, ENCODER):
        pass
    change(old, "UPDATE header SET format = 3")
    before = contents(old)
    for refused in (
        lambda: gallery.open(old, ENCODER),
        lambda: gallery.open(old, read_only=True),
        lambda: gallery.check(old),
        lambda: gallery.repair(old),
    ):
        with pytest.raises(GalleryError, match=r"format 3 .* upgrade siamese-gallery"):
            refused()
    assert contents(old) == before


def test_the_files_of_earlier_formats_are_kept_by_git():

    kept = subprocess.run(
        ["git", "check-ignore", *map(os.fspath, FORMATS.rglob("*.*"))],
        capture_output=True,
        text=True,
        cwd=FORMATS,
        check=False,
    ).stdout.split()
    assert [one for one in kept if "__pycache__" not in one] == []
