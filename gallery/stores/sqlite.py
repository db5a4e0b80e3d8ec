"""The store of the local engine: one SQLite catalog (WAL, synchronous=FULL, secure_delete=ON)."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gallery.errors import CorruptGalleryError, GalleryLockedError, InvalidItemError, UnknownSubjectError
from gallery.records import LogEntry, Problem, Subject, Template
from gallery.stores import audit, catalog, changes, in_use, marks, owners
from gallery.stores.backup import backup
from gallery.stores.base import Added, Header, NewTemplates, Stored
from gallery.stores.changes import SubjectRow
from gallery.stores.checking import problems
from gallery.stores.curation import SqliteCuration
from gallery.stores.generations import SqliteGenerations
from gallery.stores.integrity import agrees, subject_checksum, template_checksum
from gallery.stores.session import Session
from gallery.stores.settings import write_setting
from gallery.vectors import Numbers

_SUBJECT = "SELECT subject, id, templates, metadata, checksum FROM subjects"
_TEMPLATE = "SELECT template, subject, enrolled, source, checksum, embedding FROM"


class SqliteStore:
    """See `gallery.stores.base.Store`."""

    def __init__(
        self, path: Path, *, read_only: bool = False, lock_timeout: float = 30.0, actor: str | None = None
    ) -> None:
        """Opens a catalog that exists; GalleryNotFoundError, CorruptGalleryError."""
        self.path = path
        self._session = Session(path, read_only=read_only, lock_timeout=lock_timeout, actor=actor)
        self._ids_are_sound = False

    @classmethod
    def create(
        cls,
        path: Path,
        header: Header,
        *,
        lock_timeout: float = 30.0,
        settings: Mapping[str, str] = MappingProxyType({}),
        audit_log: bool = True,
        actor: str | None = None,
    ) -> SqliteStore:
        """Makes a catalog where none is, in one commit; GalleryExistsError when one is there."""
        all_settings = {audit.KEY_SETTING: audit.new_key(), **settings}
        catalog.create(path, header, lock_timeout, all_settings, audit_log)
        return cls(path, lock_timeout=lock_timeout, actor=actor)

    @property
    def header(self) -> Header:
        """What the gallery is, as of the last transaction."""
        return self._session.header

    @property
    def generations(self) -> SqliteGenerations:
        return SqliteGenerations(self._session, self.remove_templates)

    @property
    def curation(self) -> SqliteCuration:
        return SqliteCuration(self._session, self._known, self._subject_rows, self._tables)

    @property
    def _table(self) -> str:
        return f"templates_{self.header.generation}"

    def shared(self) -> AbstractContextManager[bool]:
        in_use.watch(self._session)
        return self._session.lock

    def snapshot(self) -> AbstractContextManager[None]:
        return self._session.snapshot()

    def commit(self, verb: str | None = None, note: str = "") -> AbstractContextManager[None]:
        return self._session.commit(verb, note)

    # -- writing

    def add(self, batch: Iterable[NewTemplates]) -> list[Added]:
        session = self._session
        added = list(changes.add(session.db, self._table, session.state, batch, self._rows_of))
        session.acts.subjects += [one.id for one in added]
        session.acts.templates += sum([len(one.templates) for one in added])
        return added

    def _rows_of(self, ids: set[str]) -> dict[str, SubjectRow]:
        """The records of those of `ids` that are enrolled."""
        if len(ids) == 1:
            (id,) = ids
            row = self._subject_row(id)
            return {} if row is None else {id: row}
        odd = {id for id in ids if "\0" in id}
        if odd:
            # JSON in SQLite ends a text at a NUL.
            single = [self._rows_of({id}) for id in odd]
            return {id: row for found in (*single, self._rows_of(ids - odd)) for id, row in found.items()}
        rows = self._session.all(
            f"{_SUBJECT} WHERE id IN (SELECT value FROM json_each(?))", json.dumps([*ids])
        )
        if len(rows) < len(ids):
            self._check_ids()
        return {row[1]: self._sound(row) for row in rows}

    def remove_subject(self, id: str) -> int:
        row = self._known(id)
        found = self._session.all(
            f"SELECT template, subject, checksum FROM {self._table} WHERE subject = ?", row[0]
        )
        self._check_count(row, len(found))
        self._remove(found, [row])
        return len(found)

    def remove_templates(self, numbers: Sequence[int]) -> int:
        wanted = sorted(set(numbers))
        found = self._session.all(
            f"SELECT template, subject, checksum FROM {self._table} "
            "WHERE template IN (SELECT value FROM json_each(?))",
            json.dumps(wanted),
        )
        if len(found) < len(wanted):
            missing = sorted(set(wanted) - {row[0] for row in found})
            raise InvalidItemError(
                f"{len(missing)} of the {len(wanted)} templates are not enrolled, "
                f"{missing[0]} among them; nothing was removed"
            )
        self._remove(found, self._subject_rows({row[1] for row in found}))
        return len(wanted)

    def _remove(self, found: Sequence[tuple[int, int, int]], subjects: Iterable[SubjectRow]) -> None:
        session = self._session
        by = Counter(subject for _, subject, _ in found)
        changes.remove_templates(session.db, self._tables(), session.state, found)
        for row in subjects:
            session.acts.subjects.append(row[1])
            gone = changes.shrink_subject(session.db, session.state, row, by[row[0]])
            if gone and session.state.logging:
                audit.remember_names(session.db, session.audit_key, [row[1]])
        session.acts.templates += len(found)
        marks.forget(session.db, session.state, [row[0] for row in found], by)

    def _tables(self) -> list[str]:
        """The tables of all generations, that of the one in use first."""
        numbers = [row[0] for row in self._session.all("SELECT generation FROM generations")]
        return sorted((f"templates_{number}" for number in numbers), key=lambda name: name != self._table)

    def forget_removed(self) -> None:
        audit.forget_names(self._session.db)
        marks.forget_operations(self._session.db, self._session.state)

    def erase(self) -> None:
        try:
            with self._session.used() as db:
                self._session.check_alone()
                # secure_delete zeroes freed cells; VACUUM also drops copies that page splits left behind,
                # and truncating the WAL drops the pages as they were before.
                db.execute("VACUUM")
                busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                catalog.sync_wal(self.path)
        except GalleryLockedError:
            busy = 1
        if busy:
            raise GalleryLockedError(
                f"another process is using {self.path.parent}, so old pages are still in it: call compact() "
                "once it has finished"
            )

    def set_setting(self, key: str, value: str | None) -> None:
        write_setting(self._session.db, self._session.state, key, value)

    def keep_log(self, on: bool) -> None:
        self._session.keep_log(on)

    # -- reading

    def revision(self) -> int:
        return self._session.current().revision

    def last_template(self) -> int:
        return self._session.current().next_template - 1

    def counts(self) -> tuple[int, int]:
        state = self._session.current()
        return state.subjects, state.templates

    def ids(self) -> list[str]:
        return [row[1] for row in self._all_subjects()]

    def listing(self) -> list[Subject]:
        return [Subject(row[1], row[2], json.loads(row[3])) for row in self._all_subjects()]

    def _all_subjects(self) -> list[SubjectRow]:
        rows = [self._sound(row) for row in self._session.all(f"{_SUBJECT} ORDER BY subject")]
        state = self._session.current()
        if (len(rows), sum(row[4] for row in rows)) != (state.subjects, state.subject_sum):
            raise self._damaged(f"{len(rows)} subjects are left of {state.subjects}, or not the right ones")
        return rows

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        # Most subjects have the metadata of some other one.
        known: dict[str, dict[str, Any]] = {}
        for number, _, _, text, _ in self._all_subjects():
            if text not in known:
                known[text] = json.loads(text)
            yield number, known[text]

    def owners(self, after: int = 0) -> tuple[Numbers, Numbers]:
        try:
            return owners.read(self._session.all, self._table, self._session.current(), after)
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def subject(self, id: str) -> int | None:
        row = self._subject_row(id)
        return None if row is None else row[0]

    def _subject_row(self, id: str) -> SubjectRow | None:
        # A lone surrogate cannot be stored, and SQLite takes the number 5 for the text "5".
        if not isinstance(id, str) or any("\ud800" <= letter <= "\udfff" for letter in id):
            return None
        row = self._session.one(f"{_SUBJECT} WHERE id = ?", id)
        if row is None:
            self._check_ids()
            return None
        return self._sound(row)

    def _check_ids(self) -> None:
        """Before an id is first said not to be enrolled: that the way to it is not what is damaged."""
        if not self._ids_are_sound:
            said = self._session.all("PRAGMA integrity_check(subjects)")
            if said != [("ok",)]:
                raise self._damaged(f"the table of subjects: {said[0][0]}")
            self._ids_are_sound = True

    def _known(self, id: str) -> SubjectRow:
        row = self._subject_row(id)
        if row is None:
            raise UnknownSubjectError(f"no subject {id!r} is enrolled in {self.path.parent}")
        return row

    def templates(self, id: str) -> list[Template]:
        return [
            Template(number, id, datetime.fromtimestamp(at / 1e6, UTC), source)
            for number, _, at, source, _, _ in self._rows_of_subject(id)
        ]

    def metadata(self, id: str) -> dict[str, Any]:
        metadata: dict[str, Any] = json.loads(self._known(id)[3])
        return metadata

    def embeddings(self, id: str) -> Stored:
        return self._stored(self._rows_of_subject(id))

    def _rows_of_subject(self, id: str) -> list[Any]:
        subject = self._known(id)
        rows = self._template_rows("WHERE subject = ? ORDER BY template", subject[0])
        self._check_count(subject, len(rows))
        return rows

    def _check_count(self, subject: SubjectRow, found: int) -> None:
        if subject[2] != found:
            raise self._damaged(f"{found} templates of {subject[1]!r} are left of {subject[2]}")

    def fetch(self, numbers: Iterable[int]) -> Stored:
        wanted = json.dumps([int(number) for number in numbers])
        which = "WHERE template IN (SELECT value FROM json_each(?)) ORDER BY template"
        return self._stored(self._template_rows(which, wanted))

    def scan(self, after: int = 0, block: int = 8192) -> Iterator[Stored]:
        whole, count, total = after == 0, 0, 0
        while rows := self._template_rows("WHERE template > ? ORDER BY template LIMIT ?", after, block):
            if rows[-1][0] <= after:
                # Pages that changed places would be gone through for ever.
                raise self._damaged(f"template {rows[-1][0]} comes after template {after}")
            yield self._stored(rows)
            count += len(rows)
            total += sum(row[4] for row in rows)
            after = rows[-1][0]
        state = self._session.current()
        if whole and (count, total) != (state.templates, state.template_sum):
            raise self._damaged(f"{count} templates are left of {state.templates}, or not the right ones")

    def _template_rows(self, where: str, *values: Any) -> list[Any]:
        """(template, subject, enrolled, source, checksum, embedding), after each was found to be sound."""
        rows = self._session.all(f"{_TEMPLATE} {self._table} {where}", *values)
        length = 4 * self.header.dim
        for number, subject, enrolled, source, checksum, blob in rows:
            fits = isinstance(blob, bytes) and len(blob) == length
            if not fits or not agrees(template_checksum, checksum, number, subject, enrolled, source, blob):
                raise CorruptGalleryError(
                    f"{self.path}: the embedding of template {number} does not match its checksum; "
                    f"run `gallery check {self.path.parent}`, then remove that template and enrol it again"
                )
        return rows

    def _stored(self, rows: Sequence[Any]) -> Stored:
        numbers = np.array([row[0] for row in rows], np.int64)
        subjects = np.array([row[1] for row in rows], np.int64)
        embeddings = np.frombuffer(b"".join(row[5] for row in rows), "<f4").reshape(-1, self.header.dim)
        return Stored(numbers, subjects, embeddings.astype(np.float32, copy=False))

    def describe(self, subjects: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
        return {row[0]: (row[1], json.loads(row[3])) for row in self._subject_rows(subjects)}

    def _subject_rows(self, subjects: Iterable[int]) -> list[SubjectRow]:
        wanted = sorted({int(subject) for subject in subjects})
        rows = self._session.all(
            f"{_SUBJECT} WHERE subject IN (SELECT value FROM json_each(?))", json.dumps(wanted)
        )
        if len(rows) < len(wanted):
            missing = min(set(wanted) - {row[0] for row in rows})
            raise self._damaged(f"the record of subject {missing} is missing")
        return [self._sound(row) for row in rows]

    def _sound(self, row: SubjectRow) -> SubjectRow:
        number, id, templates, metadata, checksum = row
        if not agrees(subject_checksum, checksum, number, id, templates, metadata):
            raise self._damaged(f"the record of subject {number} ({id!r}) does not match its checksum")
        return row

    def _damaged(self, what: str) -> CorruptGalleryError:
        return CorruptGalleryError(f"{self.path}: {what}; run `gallery check {self.path.parent}`")

    def numbers_of(self, subjects: Iterable[int]) -> Numbers:
        records = self._subject_rows(subjects)
        rows = self._session.all(
            f"SELECT template, subject FROM {self._table} WHERE subject IN (SELECT value FROM json_each(?)) "
            "ORDER BY template",
            json.dumps([record[0] for record in records]),
        )
        held = Counter(row[1] for row in rows)
        for record in records:
            self._check_count(record, held[record[0]])
        return np.array([row[0] for row in rows], np.int64)

    def subject_numbers(self) -> Numbers:
        return np.array([row[0] for row in self._all_subjects()], np.int64)

    def sources_of(self, numbers: Iterable[int]) -> dict[int, str]:
        return self._sources("template", [int(number) for number in numbers])

    def templates_from(self, sources: Sequence[str]) -> dict[int, str]:
        return self._sources("source", list(sources))

    def _sources(self, by: str, values: list[Any]) -> dict[int, str]:
        rows = self._session.all(
            f"SELECT template, source FROM {self._table} "
            f"WHERE source IS NOT NULL AND {by} IN (SELECT value FROM json_each(?))",
            json.dumps(values),
        )
        return dict(rows)

    def removed_since(self, revision: int) -> Numbers:
        try:
            return owners.removed(self._session.all, self._table, revision)
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def setting(self, key: str) -> str | None:
        return self._session.settings().get(key)

    def log(self) -> list[LogEntry]:
        with self._session.used() as db:
            return list(audit.entries(db, self._session.current(), self._session.audit_key, self.ids()))

    def check(self) -> list[Problem]:
        with self._session.used() as db, self._session.one_view():
            return problems(db, self.path)

    def backup(
        self, target: Path, without: Iterable[str], progress: Callable[[int, int | None], None] | None
    ) -> int:
        known = self._session.lock_timeout, self.header.identity
        return backup(self.path, target, *known, without=without, progress=progress).templates

    def close(self) -> None:
        self._session.close()


def new_header(
    dim: int,
    metric: str,
    encoder: str,
    fingerprint: str,
    provenance: Mapping[str, str] = MappingProxyType({}),
) -> Header:
    """The header of a gallery made now."""
    return Header(dim, metric, encoder, fingerprint, datetime.now(UTC), uuid.uuid4().hex, 1, dict(provenance))
