"""What a commit writes: subjects and templates come and go, and the state keeps count.

Everything works in chunks, because a statement for each row is what makes a bulk enrolment slow.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gallery.metadata import as_json, unfit
from gallery.stores.base import Added, NewTemplates
from gallery.stores.integrity import agrees, original_checksum, subject_checksum, template_checksum
from gallery.stores.state import CatalogState

_CHUNK = 1024

SubjectRow = tuple[int, str, int, str, int]
"""(subject, id, templates, metadata, checksum)"""


def add(
    db: sqlite3.Connection, table: str, state: CatalogState, batch: Iterable[NewTemplates], known: Any
) -> Iterator[Added]:
    """Enrols a batch in the table of the generation in use; known: ids -> {id: their rows}."""
    for chunk in _chunks(batch):
        yield from _add_chunk(db, table, state, chunk, known({new.id for new in chunk}))


def _chunks(batch: Iterable[NewTemplates]) -> Iterator[list[NewTemplates]]:
    """Runs of subjects with about `_CHUNK` templates together."""
    chunk: list[NewTemplates] = []
    held = 0
    for new in batch:
        chunk.append(new)
        held += len(new.rows)
        if held >= _CHUNK:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


@dataclass(slots=True)
class _Subject:
    """A subject while a chunk is added to it."""

    number: int
    id: str
    before: SubjectRow | None
    templates: int
    metadata: str

    def learn(self, more: Mapping[str, Any] | str) -> None:
        """Merges metadata into what is there; new values win."""
        if self.metadata == "{}":
            self.metadata = more if isinstance(more, str) else as_json(more)
            return
        new = json.loads(more) if isinstance(more, str) else dict(more)
        self.metadata = as_json(json.loads(self.metadata) | new)

    def row(self) -> SubjectRow:
        checksum = subject_checksum(self.number, self.id, self.templates, self.metadata)
        return self.number, self.id, self.templates, self.metadata, checksum


def _add_chunk(
    db: sqlite3.Connection,
    table: str,
    state: CatalogState,
    chunk: Sequence[NewTemplates],
    known: dict[str, SubjectRow],
) -> list[Added]:
    now = time.time_ns() // 1000
    subjects: dict[str, _Subject] = {}
    templates: list[tuple[Any, ...]] = []
    added = []
    for new in chunk:
        subject = subjects.get(new.id)
        created = subject is None and new.id not in known
        if subject is None:
            subject = subjects[new.id] = _taken_up(state, new.id, known.get(new.id))
        first = state.next_template
        count = len(new.rows)
        state.next_template += count
        subject.templates += count
        try:
            if new.metadata:
                subject.learn(new.metadata)
        except (TypeError, ValueError, RecursionError) as error:
            raise unfit(new.id, error) from error
        templates += _template_rows(new, first, subject.number, now)
        added.append(Added(new.id, tuple(range(first, first + count)), created))
    _write_subjects(db, state, list(subjects.values()))
    db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", templates)
    state.count_templates([row[4] for row in templates])
    for new, one in zip(chunk, added, strict=True):
        if new.originals is not None:
            db.executemany("INSERT INTO originals VALUES (?, ?, ?, ?)", _original_rows(new.originals, one))
    return added


def _original_rows(
    originals: Iterable[tuple[str, bytes] | None], added: Added
) -> Iterator[tuple[int, str, int, bytes]]:
    # One at a time, because an item may be large.
    for number, original in zip(added.templates, originals, strict=True):
        if original is not None:
            kind, content = original
            yield number, kind, original_checksum(number, kind, content), content


def _taken_up(state: CatalogState, id: str, before: SubjectRow | None) -> _Subject:
    if before is None:
        state.next_subject += 1
        return _Subject(state.next_subject - 1, id, None, 0, "{}")
    return _Subject(before[0], id, before, before[2], before[3])


def _template_rows(new: NewTemplates, first: int, subject: int, now: int) -> list[tuple[Any, ...]]:
    rows = new.rows.astype("<f4", copy=False)
    made = []
    for at, source in enumerate(new.sources):
        number, blob = first + at, rows[at].tobytes()
        enrolled = now if new.enrolled is None else new.enrolled[at]
        checksum = template_checksum(number, subject, enrolled, source, blob)
        made.append((number, subject, enrolled, source, checksum, blob))
    return made


def _write_subjects(db: sqlite3.Connection, state: CatalogState, subjects: Sequence[_Subject]) -> None:
    new = [_stored(one) for one in subjects if one.before is None]
    db.executemany("INSERT INTO subjects VALUES (?, ?, ?, ?, ?)", new)
    state.count_subjects([row[4] for row in new])
    for one in subjects:
        if one.before is not None:
            replace_subject(db, state, one.before, _stored(one))


def _stored(subject: _Subject) -> SubjectRow:
    try:
        return subject.row()
    except UnicodeEncodeError as error:
        raise unfit(subject.id, error) from error


def replace_subject(
    db: sqlite3.Connection, state: CatalogState, before: SubjectRow, after: SubjectRow
) -> None:
    """Writes a subject's record anew."""
    db.execute(
        "UPDATE subjects SET id = ?, templates = ?, metadata = ?, checksum = ? WHERE subject = ?",
        (*after[1:], before[0]),
    )
    state.subject_sum += after[4] - before[4]


def remove_templates(
    db: sqlite3.Connection, tables: Sequence[str], state: CatalogState, found: Sequence[tuple[int, int, int]]
) -> None:
    """Removes templates (number, subject, checksum) from every generation; the first table is in use."""
    numbers = [(row[0],) for row in found]
    sound = _agree(db, tables[0], numbers)
    for table in tables:
        db.executemany(f"DELETE FROM {table} WHERE template = ?", numbers)
    db.executemany("DELETE FROM originals WHERE template = ?", numbers)
    state.count_templates((row[2] for row in found), -1)
    if not sound:
        # What a damaged record had added to the sum is not known; those that are left have their checksums.
        whole = f"SELECT coalesce(sum(checksum), 0) FROM {tables[0]}"
        state.template_sum = db.execute(whole).fetchone()[0]
    db.executemany(
        "INSERT INTO removed(template, revision) VALUES (?, ?)",
        ((number, state.revision + 1) for (number,) in numbers),
    )


def _agree(db: sqlite3.Connection, table: str, numbers: Sequence[tuple[int]]) -> bool:
    """Whether the records of templates match their checksums."""
    rows = db.execute(
        f"SELECT template, subject, enrolled, source, checksum, embedding FROM {table} "
        "WHERE template IN (SELECT value FROM json_each(?))",
        (json.dumps([number for (number,) in numbers]),),
    )
    return all(agrees(template_checksum, checksum, *row, blob) for *row, checksum, blob in rows)


def shrink_subject(db: sqlite3.Connection, state: CatalogState, before: SubjectRow, by: int) -> bool:
    """Takes templates off a subject's count; True when it went with its last one."""
    number, id, templates, metadata, checksum = before
    if templates > by:
        left = templates - by
        after = (number, id, left, metadata, subject_checksum(number, id, left, metadata))
        replace_subject(db, state, before, after)
        return False
    db.execute("DELETE FROM subjects WHERE subject = ?", (number,))
    state.count_subjects([checksum], -1)
    return True
