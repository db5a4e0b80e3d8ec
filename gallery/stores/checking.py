"""The full reading of a catalog for damage: all is compared with its checksum and with what counts it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gallery.errors import GalleryError
from gallery.records import Problem
from gallery.stores import audit, headers, marks
from gallery.stores.integrity import agrees, original_checksum, subject_checksum, template_checksum
from gallery.stores.settings import read_settings
from gallery.stores.state import CatalogState, read_state
from gallery.stores.witness import Head, head_path, read_head


def problems(db: sqlite3.Connection, path: Path) -> list[Problem]:
    """Everything in the catalog that is damaged; empty when all is well. Inside a transaction or not."""
    found: list[Problem] = []
    # Before the first read, so that a commit in between makes the head older and not younger than it.
    try:
        head = read_head(path)
    except (OSError, ValueError) as error:
        head = None
        found.append(Problem(head_path(path).name, f"{error}; the next commit writes it anew"))
    for look in (
        _pages,
        _settings,
        _generations,
        _subjects,
        _originals,
        _curation,
        _removed,
        _log,
        partial(_head, head),
    ):
        try:
            found += look(db, path)
        except (sqlite3.Error, GalleryError, TypeError, ValueError, OverflowError) as error:
            found.append(Problem(path.name, str(error)))
    return list(dict.fromkeys(found))


def _pages(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    for (line,) in db.execute("PRAGMA integrity_check(100)"):
        if line != "ok":
            yield Problem(path.name, line)


def _settings(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    read_settings(db, read_state(db).setting_sum)
    return iter(())


def _generations(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    state = read_state(db)
    current = headers.read_header(db, path)
    if current.generation != state.generation:
        yield Problem(
            path.name, f"it says that generation {state.generation} is in use, and {current.generation} too"
        )
    known = headers.read_generations(db)
    for header, _ in known:
        yield from _templates(db, header.generation, header.dim, state)
        if header.generation != state.generation:
            yield from _beside(db, header.generation, state.generation)
    tables = {f"templates_{header.generation}" for header, _ in known}
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE name GLOB 'templates_*[0-9]'").fetchall():
        if name not in tables:
            yield Problem(name, "it holds embeddings of a generation that is not on record")


def _beside(db: sqlite3.Connection, generation: int, current: int) -> Iterator[Problem]:
    """What another generation has that is not enrolled, and what it lost since it was replaced."""
    without = (
        "SELECT template FROM templates_{} c WHERE NOT EXISTS "
        "(SELECT 1 FROM templates_{} t WHERE t.template = c.template)"
    )
    for (number,) in db.execute(without.format(generation, current)).fetchall():
        yield Problem(f"template {number} of generation {generation}", "it is not enrolled")
    replaced = db.execute(
        "SELECT value FROM settings WHERE key = ?", (f"replaced_at_{generation}",)
    ).fetchone()
    if replaced is not None:
        lost = without.format(current, generation) + " AND c.template <= ?"
        for (number,) in db.execute(lost, (int(replaced[0]),)).fetchall():
            yield Problem(f"template {number} of generation {generation}", "it is missing")


def _templates(db: sqlite3.Connection, generation: int, dim: int, state: CatalogState) -> Iterator[Problem]:
    where = "" if generation == state.generation else f" of generation {generation}"
    count = total = 0
    for number, subject, enrolled, source, checksum, blob, known in db.execute(
        "SELECT template, t.subject, enrolled, source, t.checksum, embedding, s.subject "
        f"FROM templates_{generation} t LEFT JOIN subjects s ON s.subject = t.subject"
    ):
        count, total = count + 1, total + (checksum if isinstance(checksum, int) else 0)
        if not isinstance(blob, bytes) or len(blob) != 4 * dim:
            size = len(blob) if isinstance(blob, bytes) else 0
            yield Problem(f"template {number}{where}", f"its embedding has {size} bytes, not {4 * dim}")
        elif not agrees(template_checksum, checksum, number, subject, enrolled, source, blob):
            yield Problem(f"template {number}{where}", "its embedding does not match its checksum")
        elif known is None:
            yield Problem(f"template {number}{where}", f"it belongs to subject {subject}, which is missing")
    if generation == state.generation and (count, total) != (state.templates, state.template_sum):
        yield Problem("templates", f"{count} are left of {state.templates}, or not the right ones")


def _subjects(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    state = read_state(db)
    count = total = 0
    owned = dict(
        db.execute(f"SELECT subject, count(*) FROM templates_{state.generation} GROUP BY subject").fetchall()
    )
    for number, id, templates, metadata, checksum in db.execute(
        "SELECT subject, id, templates, metadata, checksum FROM subjects"
    ):
        count, total = count + 1, total + (checksum if isinstance(checksum, int) else 0)
        if not agrees(subject_checksum, checksum, number, id, templates, metadata):
            yield Problem(f"subject {id!r}", "its record does not match its checksum")
        elif owned.get(number, 0) != templates:
            yield Problem(f"subject {id!r}", f"it has {owned.get(number, 0)} templates of {templates}")
    if (count, total) != (state.subjects, state.subject_sum):
        yield Problem("subjects", f"{count} are left of {state.subjects}, or not the right ones")


def _originals(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    for number, kind, checksum, content in db.execute(
        "SELECT template, kind, checksum, content FROM originals"
    ):
        if not agrees(original_checksum, checksum, number, kind, content):
            yield Problem(f"original of template {number}", "it does not match its checksum")


def _curation(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    if not marks.there(db):
        return
    state = read_state(db)
    operations = db.execute("SELECT operation, verb, at, change, undone, checksum FROM operations").fetchall()
    for row in operations:
        if not agrees(marks.operation_checksum, row[5], *row[:5]):
            yield Problem(f"operation {row[0]}", "its record does not match its checksum")
    said = read_settings(db, state.setting_sum).get(marks.UNDOABLE)
    if not marks.all_operations(said, [row[5] for row in operations]):
        yield Problem("operations", "some of what can be undone is missing")
    found = marks.read(db, state)
    for what, column, numbers in (
        ("template", "quarantine of template", found.quarantine),
        ("subject", "pair of different subjects,", {number for pair in found.different for number in pair}),
    ):
        table = f"templates_{state.generation}" if what == "template" else "subjects"
        for number in sorted(numbers):
            if db.execute(f"SELECT 1 FROM {table} WHERE {what} = ?", (number,)).fetchone() is None:
                yield Problem(f"{column} {number}", "it is not enrolled")


def _removed(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    state = read_state(db)
    (removed,) = db.execute("SELECT count(*) FROM removed").fetchone()
    if removed + state.templates != state.next_template - 1:
        given = (
            f"{state.next_template - 1} numbers were given to templates and {state.templates} are enrolled"
        )
        yield Problem("removed", f"{removed} are on record as removed, but {given}")
    for (number,) in db.execute(
        f"SELECT template FROM removed WHERE template IN (SELECT template FROM templates_{state.generation})"
    ).fetchall():
        yield Problem(f"template {number}", "it is enrolled, and on record as removed")


def _log(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    state = read_state(db)
    key = bytes.fromhex(read_settings(db, state.setting_sum)[audit.KEY_SETTING])
    for where, what in audit.broken_links(db, state, key):
        yield Problem(where, what)


def _head(head: Head | None, db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    identity, revision = headers.read_header(db, path).identity, read_state(db).revision
    if head is not None and head.identity != identity:
        yield Problem(path.name, "it belongs to another gallery than the files beside it")
    elif head is not None and head.revision > revision:
        yield Problem(
            path.name,
            f"it is of revision {revision}, and revision {head.revision} was committed: it is older",
        )
