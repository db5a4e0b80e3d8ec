"""The store of the local engine: one SQLite catalog (WAL, synchronous=FULL, secure_delete=ON)."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gallery.errors import (
    CorruptGalleryError,
    GalleryError,
    GalleryLockedError,
    InvalidItemError,
    UnknownSubjectError,
)
from gallery.records import Problem, Subject, Template
from gallery.stores import catalog
from gallery.stores.base import Header, NewTemplates, Stored
from gallery.stores.integrity import problems, subject_checksum, template_checksum
from gallery.vectors import Numbers

_STORED = "SELECT template, subject, checksum, embedding FROM templates"


class SqliteStore:
    """See `gallery.stores.base.Store`. Not for several threads at once: the engine holds the lock."""

    def __init__(self, path: Path, *, read_only: bool = False, lock_timeout: float = 30.0) -> None:
        """Opens a catalog that exists; GalleryNotFoundError, CorruptGalleryError."""
        self.path = path
        self._writable = not read_only
        self._process = os.getpid()
        self._db = catalog.connect(path, read_only=read_only, lock_timeout=lock_timeout)
        try:
            with catalog.translated(path):
                self.header = catalog.read_header(self._db, path)
        except BaseException:
            self._db.close()
            raise
        self._file = _file_of(path)

    @classmethod
    def create(
        cls,
        path: Path,
        header: Header,
        *,
        lock_timeout: float = 30.0,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> SqliteStore:
        """Makes a catalog where none is, in one commit; GalleryExistsError when one is there."""
        catalog.create(path, header, lock_timeout, settings)
        return cls(path, lock_timeout=lock_timeout)

    # -- transactions

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._used() as db:
            self._alone(db)
            db.execute("BEGIN")
            try:
                yield
            finally:
                db.execute("COMMIT")

    @contextmanager
    def commit(self) -> Iterator[None]:
        if not self._writable:
            raise GalleryError(f"{self.path.parent} was opened read-only; nothing was written")
        if _file_of(self.path) != self._file:
            # SQLite would go on writing into a file that no one can open again.
            raise GalleryError(
                f"{self.path} was deleted or replaced since it was opened; nothing was written: open it again"
            )
        with self._used() as db:
            self._alone(db)
            db.execute("BEGIN IMMEDIATE")
            try:
                before = db.total_changes
                yield
                if db.total_changes != before:
                    db.execute("UPDATE state SET revision = revision + 1")
                db.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled the transaction back already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _used(self) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._process:
            raise GalleryError(
                f"{self.path.parent} was opened before this process was forked: open it again in the worker"
            )
        with catalog.translated(self.path):
            yield self._db

    def _alone(self, db: sqlite3.Connection) -> None:
        if db.in_transaction:
            raise GalleryError(
                f"{self.path.parent} is being read by this thread, as by an export that is not finished: "
                "finish that first; nothing was written"
            )

    def _one(self, sql: str, *values: Any) -> Any:
        with self._used() as db:
            return db.execute(sql, values).fetchone()

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._used() as db:
            return db.execute(sql, values).fetchall()

    # -- writing

    def add(self, new: NewTemplates) -> tuple[list[int], bool]:
        with self._used() as db:
            first, next_subject = db.execute("SELECT next_template, next_subject FROM state").fetchone()
            subject, created = self._upsert(new, next_subject)
            now = int(datetime.now(UTC).timestamp() * 1e6)
            numbers = list(range(first, first + len(new.rows)))
            times = new.enrolled or [now] * len(numbers)
            db.executemany(
                "INSERT INTO templates(template, subject, enrolled, source, checksum, embedding) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (number, subject, at, source, template_checksum(number, subject, blob), blob)
                    for number, at, source, blob in zip(
                        numbers, times, new.sources, _blobs(new.rows), strict=True
                    )
                ),
            )
            db.execute(
                "UPDATE state SET next_template = ?, next_subject = max(next_subject, ?)",
                (first + len(new.rows), subject + 1),
            )
            return numbers, created

    def _upsert(self, new: NewTemplates, next_subject: int) -> tuple[int, bool]:
        known = self._one("SELECT subject, metadata FROM subjects WHERE id = ?", new.id)
        if known is None:
            metadata = _json(dict(new.metadata or {}))
            row = (next_subject, new.id, metadata, subject_checksum(next_subject, new.id, metadata))
            self._db.execute("INSERT INTO subjects(subject, id, metadata, checksum) VALUES (?, ?, ?, ?)", row)
            return next_subject, True
        subject: int = known[0]
        if new.metadata is not None:
            metadata = _json({**json.loads(known[1]), **new.metadata})
            self._db.execute(
                "UPDATE subjects SET metadata = ?, checksum = ? WHERE subject = ?",
                (metadata, subject_checksum(subject, new.id, metadata), subject),
            )
        return subject, False

    def remove_subject(self, id: str) -> int:
        subject = self._known(id)
        numbers = [row[0] for row in self._all("SELECT template FROM templates WHERE subject = ?", subject)]
        return self.remove_templates(numbers)

    def remove_templates(self, numbers: Sequence[int]) -> int:
        wanted = sorted(set(numbers))
        with self._used() as db:
            found = self._all(
                "SELECT template, subject FROM templates WHERE template IN (SELECT value FROM json_each(?))",
                json.dumps(wanted),
            )
            if len(found) < len(wanted):
                missing = sorted(set(wanted) - {row[0] for row in found})
                raise InvalidItemError(
                    f"{len(missing)} of the {len(wanted)} templates are not enrolled, "
                    f"{missing[0]} among them; nothing was removed"
                )
            revision = self.revision() + 1
            db.executemany("DELETE FROM templates WHERE template = ?", ((number,) for number in wanted))
            db.executemany(
                "INSERT INTO removed(template, revision) VALUES (?, ?)", ((n, revision) for n in wanted)
            )
            db.executemany(
                "DELETE FROM subjects WHERE subject = ?1 "
                "AND NOT EXISTS (SELECT 1 FROM templates WHERE subject = ?1)",
                ((subject,) for subject in {row[1] for row in found}),
            )
        return len(wanted)

    def erase(self) -> None:
        try:
            with self._used() as db:
                self._alone(db)
                # secure_delete zeroes freed cells; VACUUM also drops copies that page splits left behind,
                # and truncating the WAL drops the pages as they were before.
                db.execute("VACUUM")
                busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except GalleryLockedError:
            busy = 1
        if busy:
            raise GalleryLockedError(
                f"what was removed is gone from every search, but another process is using "
                f"{self.path.parent}, so old pages are still in it; call compact() once it has finished"
            )

    def set_setting(self, key: str, value: str | None) -> None:
        with self._used() as db:
            if value is None:
                db.execute("DELETE FROM settings WHERE key = ?", (key,))
            else:
                db.execute("INSERT OR REPLACE INTO settings(key, value) VALUES (?, ?)", (key, value))

    # -- reading

    def revision(self) -> int:
        return int(self._one("SELECT revision FROM state")[0])

    def last_template(self) -> int:
        return int(self._one("SELECT next_template FROM state")[0]) - 1

    def counts(self) -> tuple[int, int]:
        counts = "SELECT (SELECT count(*) FROM subjects), (SELECT count(*) FROM templates)"
        subjects, templates = self._one(counts)
        return subjects, templates

    def ids(self) -> list[str]:
        return [row[0] for row in self._all("SELECT id FROM subjects ORDER BY subject")]

    def listing(self) -> list[Subject]:
        rows = self._all(
            "SELECT id, (SELECT count(*) FROM templates t WHERE t.subject = s.subject), metadata "
            "FROM subjects s ORDER BY subject"
        )
        return [Subject(id, templates, json.loads(metadata)) for id, templates, metadata in rows]

    def subject(self, id: str) -> int | None:
        # A lone surrogate cannot be stored, and SQLite takes the number 5 for the text "5".
        if not isinstance(id, str) or any("\ud800" <= letter <= "\udfff" for letter in id):
            return None
        row = self._one("SELECT subject FROM subjects WHERE id = ?", id)
        return None if row is None else int(row[0])

    def _known(self, id: str) -> int:
        subject = self.subject(id)
        if subject is None:
            raise UnknownSubjectError(f"no subject {id!r} is enrolled in {self.path.parent}")
        return subject

    def templates(self, id: str) -> list[Template]:
        rows = self._all(
            "SELECT template, enrolled, source FROM templates WHERE subject = ? ORDER BY template",
            self._known(id),
        )
        return [
            Template(number, id, datetime.fromtimestamp(at / 1e6, UTC), source) for number, at, source in rows
        ]

    def metadata(self, id: str) -> dict[str, Any]:
        subject = self._known(id)
        return self.describe([subject])[subject][1]

    def embeddings(self, id: str) -> Stored:
        return self._stored(f"{_STORED} WHERE subject = ? ORDER BY template", self._known(id))

    def fetch(self, numbers: Iterable[int]) -> Stored:
        return self._stored(
            f"{_STORED} WHERE template IN (SELECT value FROM json_each(?)) ORDER BY template",
            json.dumps([int(number) for number in numbers]),
        )

    def scan(self, after: int = 0, block: int = 8192) -> Iterator[Stored]:
        while True:
            stored = self._stored(f"{_STORED} WHERE template > ? ORDER BY template LIMIT ?", after, block)
            if len(stored.numbers) == 0:
                return
            yield stored
            after = int(stored.numbers[-1])

    def _stored(self, sql: str, *values: Any) -> Stored:
        rows = self._all(sql, *values)
        for number, subject, checksum, blob in rows:
            if len(blob) != 4 * self.header.dim or checksum != template_checksum(number, subject, blob):
                raise CorruptGalleryError(
                    f"{self.path}: the embedding of template {number} does not match its checksum; "
                    f"run `gallery check {self.path.parent}`, then remove that template and enrol it again"
                )
        numbers = np.array([row[0] for row in rows], np.int64)
        subjects = np.array([row[1] for row in rows], np.int64)
        embeddings = np.frombuffer(b"".join(row[3] for row in rows), "<f4").reshape(-1, self.header.dim)
        return Stored(numbers, subjects, embeddings.astype(np.float32, copy=False))

    def describe(self, subjects: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
        wanted = sorted({int(subject) for subject in subjects})
        rows = self._all(
            "SELECT subject, id, metadata, checksum FROM subjects "
            "WHERE subject IN (SELECT value FROM json_each(?))",
            json.dumps(wanted),
        )
        if len(rows) < len(wanted):
            missing = min(set(wanted) - {row[0] for row in rows})
            raise CorruptGalleryError(
                f"{self.path}: the record of subject {missing} is missing; "
                f"run `gallery check {self.path.parent}`"
            )
        for number, id, metadata, checksum in rows:
            if checksum != subject_checksum(number, id, metadata):
                raise CorruptGalleryError(
                    f"{self.path}: the record of subject {number} ({id!r}) does not match its checksum; "
                    f"run `gallery check {self.path.parent}`"
                )
        return {number: (id, json.loads(metadata)) for number, id, metadata, _ in rows}

    def removed_since(self, revision: int) -> Numbers:
        rows = self._all("SELECT template FROM removed WHERE revision > ? ORDER BY template", revision)
        return np.array([row[0] for row in rows], np.int64)

    def setting(self, key: str) -> str | None:
        row = self._one("SELECT value FROM settings WHERE key = ?", key)
        return None if row is None else str(row[0])

    def check(self) -> list[Problem]:
        with self._used() as db:
            return problems(db, self.path, self.header.dim)

    def close(self) -> None:
        if os.getpid() == self._process:
            with catalog.translated(self.path):
                self._db.close()
            if not self._writable:
                catalog.tidy(self.path)


def new_header(dim: int, metric: str, encoder: str, fingerprint: str) -> Header:
    """The header of a gallery made now."""
    return Header(dim, metric, encoder, fingerprint, datetime.now(UTC), uuid.uuid4().hex)


def _blobs(rows: Any) -> Iterator[bytes]:
    return (row.tobytes() for row in rows.astype("<f4", copy=False))


def _json(metadata: dict[str, Any]) -> str:
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _file_of(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from another one there; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
