"""One connection to a catalog: who may use it, and what a snapshot and a commit are."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from gallery.errors import CorruptGalleryError, GalleryError
from gallery.processes import check_not_forked
from gallery.stores import audit, catalog, headers, in_use
from gallery.stores.audit import Acts
from gallery.stores.base import Header
from gallery.stores.integrity import agrees, template_checksum
from gallery.stores.settings import read_settings
from gallery.stores.state import CatalogState, read_state, write_state
from gallery.stores.upgrade import upgrade
from gallery.stores.witness import HeadWriter, head_path, is_another_file, read_head


class Used:
    """A connection while it is used. A class, because a generator would cost a tenth of an enrolment."""

    __slots__ = ("_db", "_path")

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path, self._db = path, db

    def __enter__(self) -> sqlite3.Connection:
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, catalog.RAW) and not isinstance(error, GalleryError):
            raise catalog.translation(error, self._path) from error
        # Not of another kind: that says by itself where it is, as in a file that is being imported.
        if type(error) is CorruptGalleryError and str(self._path.parent) not in str(error):
            raise CorruptGalleryError(
                f"{self._path}: {error}; run `gallery check {self._path.parent}`"
            ) from error


class Session:
    """A catalog in use by one process, and by one thread at a time: those who share it hold `lock`."""

    def __init__(self, path: Path, *, read_only: bool, lock_timeout: float, actor: str | None) -> None:
        """Opens a catalog that exists; GalleryNotFoundError, CorruptGalleryError."""
        self.path = path
        self.writable = not read_only
        self.header: Header
        self.state: CatalogState
        """Inside a commit: what is going to be written."""
        self.acts: Acts
        """Inside a commit: what the audit log is going to say."""
        self._actor = actor or audit.default_actor()
        self._in_commit = self._in_transaction = False
        self._seen: tuple[int] | None = None
        """The version of the data that `state` is of."""
        self._process = os.getpid()
        self.lock = threading.RLock()
        self.lock_timeout = lock_timeout
        self._paused = self._closed = False
        catalog.check_own(path)
        # Before the catalog, so that a commit between the two makes it older and not younger than it.
        head = self._head_there()
        with catalog.translated(path):
            before = catalog.as_it_lies(path) if path.is_file() else None
        self._file = in_use.file_of(path)
        self._db = self._connected()
        self._still = before if isinstance(self._db, catalog.Still) else None
        """How the catalog lay when it was opened, where SQLite does not look whether it changes."""
        try:
            with Used(path, self._db):
                self._bring_up_to_date()
            with Used(path, self._db), self.one_view():
                self.header = headers.read_header(self._db, path)
                state = read_state(self._db)
                if head is not None:
                    _check_not_older(path, self.header, state, head)
                settings = read_settings(self._db, state.setting_sum)
                self.audit_key = bytes.fromhex(settings[audit.KEY_SETTING])
        except BaseException:
            _close_refused(self._db, path)
            raise
        self._head = HeadWriter(path, self.header.identity)
        if head is None and self.writable:
            self._head.write(state.revision)

    def _connected(self) -> sqlite3.Connection:
        return catalog.connect(self.path, read_only=not self.writable, lock_timeout=self.lock_timeout)

    def _head_there(self) -> tuple[str, int] | None:
        try:
            head = read_head(self.path)
        except (ValueError, OSError):
            if is_another_file(self.path):
                raise CorruptGalleryError(
                    f"{head_path(self.path)} is another file than was written there, so nothing tells "
                    f"whether the catalog is the newest: put the right one back, or run "
                    f"`gallery check --repair {self.path.parent}` to go on with the catalog as it is"
                ) from None
            # `check` reports it, and the next commit writes it anew.
            return None
        return None if head is None else (head.identity, head.revision)

    def _bring_up_to_date(self) -> None:
        format = catalog.read_format(self._db, self.path)
        if format == catalog.FORMAT:
            return
        if not self.writable:
            raise GalleryError(
                f"{self.path.parent} has format {format}, which is older than format {catalog.FORMAT}: open "
                f"it for writing once, which upgrades it, as `gallery compact {self.path.parent}` does"
            )
        upgrade(self._db)

    # -- transactions

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads inside see one revision."""
        with self.used() as db:
            self.check_alone()
            try:
                db.execute("BEGIN")
                self._in_transaction = True
                self._follow(read_state(db))
                yield
                self._check_still()
            finally:
                self._in_transaction = False
                if db.in_transaction:
                    db.execute("COMMIT")

    @contextmanager
    def commit(self, verb: str | None, note: str = "") -> Iterator[None]:
        """Changes inside are one commit, with its entry in the audit log."""
        self._check_may_write()
        with self.used() as db:
            self.check_alone()
            try:
                # Inside: Ctrl-C while this waits is raised once it has the lock, which nobody would give up.
                db.execute("BEGIN IMMEDIATE")
                # Only now: the folder may have been moved while this waited.
                self._check_there()
                self.state = self._state_now(db)
                self._follow(self.state)
                self._in_commit = self._in_transaction = True
                self.acts = Acts(verb, self._actor, note=note)
                before = db.total_changes
                yield
                changed = db.total_changes != before or self.acts.switched
                if changed:
                    self._finish(db)
                db.execute("COMMIT")
            except BaseException:
                self._seen = None
                # A full disk may have rolled the transaction back already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            finally:
                self._in_commit = self._in_transaction = False
        if changed:
            self._head.write(self.state.revision)

    def _state_now(self, db: sqlite3.Connection) -> CatalogState:
        """The state, read again only where another connection has written since this one did."""
        version = db.execute("PRAGMA data_version").fetchone()
        if self._seen != version:
            self.state = read_state(db)
            self._seen = version
        return self.state

    def _finish(self, db: sqlite3.Connection) -> None:
        self.state.revision += 1
        if self.acts.verb is not None and (self.state.logging or self.acts.switched):
            audit.append(db, self.state, self.acts, self.audit_key)
        write_state(db, self.state)

    def keep_log(self, on: bool) -> None:
        """Switches the audit log on or off with this commit, of which it tells in either case."""
        self.acts.switched = bool(self.state.logging) != on
        self.state.logging = int(on)

    def _follow(self, state: CatalogState) -> None:
        """After another process has bound the gallery to another encoder."""
        if state.generation != self.header.generation:
            self.header = headers.read_header(self._db, self.path)

    @property
    def db(self) -> sqlite3.Connection:
        """The connection, inside a transaction: whoever began that translates SQLite's errors."""
        return self._db

    def used(self) -> Used:
        """The connection, with SQLite's errors translated, and errors of damage that say where it is."""
        check_not_forked(self._process, self.path.parent)
        if self._paused:
            self._resume()
        self._check_still()
        return Used(self.path, self._db)

    def pause(self) -> bool:
        """Closes the files until the next use, unless a transaction is open: this process is being forked."""
        if not self._closed and not self._paused and not self._db.in_transaction:
            self._paused = True
            self._db.close()
        return self._closed or self._paused

    def _resume(self) -> None:
        db = self._connected()
        try:
            self._check_there()
        except GalleryError:
            db.close()
            raise
        self._db, self._seen, self._paused = db, None, False

    def _check_still(self) -> None:
        if self._still is not None and catalog.as_it_lies(self.path) != self._still:
            raise GalleryError(
                f"{self.path.parent} lies on a read-only disk here, and somebody who can write to it does: "
                "nothing is answered from what was there before; open it again"
            )

    def check_alone(self) -> None:
        """Refuses a second transaction of the same connection."""
        if self._db.in_transaction:
            raise GalleryError(
                f"{self.path.parent} is being read by this thread, as by an export that is not finished: "
                "finish that first; nothing was written"
            )

    def _check_may_write(self) -> None:
        """Refuses to write where that was not asked for."""
        if not self.writable:
            raise GalleryError(f"{self.path.parent} was opened read-only; nothing was written")

    def _check_there(self) -> None:
        """Refuses to go on with a file that no one can open again."""
        if in_use.file_of(self.path) != self._file:
            raise GalleryError(
                f"{self.path} was deleted or replaced since it was opened; nothing was written: open it again"
            )

    # -- reading

    def one(self, sql: str, *values: Any) -> Any:
        """The first row, or None."""
        if self._in_transaction:
            return self._db.execute(sql, values).fetchone()
        with self.used() as db:
            return db.execute(sql, values).fetchone()

    def all(self, sql: str, *values: Any) -> list[Any]:
        """Every row."""
        if self._in_transaction:
            return self._db.execute(sql, values).fetchall()
        with self.used() as db:
            return db.execute(sql, values).fetchall()

    def vouched_for(self, table: str, templates: Sequence[int]) -> list[Any]:
        """(template, subject, enrolled, source, checksum, embedding) of records that get a new checksum.

        It must not vouch for what the old one denies: CorruptGalleryError.
        """
        rows = self.all(
            f"SELECT template, subject, enrolled, source, checksum, embedding FROM {table} "
            "WHERE template IN (SELECT value FROM json_each(?)) ORDER BY template",
            json.dumps([*templates]),
        )
        for number, subject, enrolled, source, checksum, blob in rows:
            if not agrees(template_checksum, checksum, number, subject, enrolled, source, blob):
                raise CorruptGalleryError(
                    f"the embedding of template {number} does not match its checksum: remove that template "
                    "first, and enrol it again"
                )
        return rows

    def current(self) -> CatalogState:
        """The state: inside a commit as it is going to be, else as it is."""
        if self._in_commit:
            return self.state
        with self.used() as db:
            return read_state(db)

    def settings(self) -> dict[str, str]:
        """Every setting."""
        with self.used() as db, self.one_view():
            return read_settings(db, self.current().setting_sum)

    @contextmanager
    def one_view(self) -> Iterator[None]:
        """Several reads see one revision, whether the state can be read or not."""
        if self._db.in_transaction:
            yield
            return
        try:
            self._db.execute("BEGIN")
            yield
        finally:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Lets go of the files."""
        if os.getpid() == self._process:
            with catalog.translated(self.path):
                self._db.close()
            self._closed = True
            self._head.close()
            if not self.writable:
                catalog.tidy(self.path)


def _check_not_older(path: Path, header: Header, state: CatalogState, head: tuple[str, int]) -> None:
    identity, revision = head
    if identity != header.identity:
        raise CorruptGalleryError(
            f"{path} belongs to another gallery than the files beside it: put the right one back, or run "
            f"`gallery check --repair {path.parent}` to go on with it"
        )
    if state.revision < revision:
        lost = revision - state.revision
        raise CorruptGalleryError(
            f"{path} is of revision {state.revision}, and revision {revision} was committed here: an older "
            f"file was put in its place, or its write-ahead log was lost, and with it {lost} commits. Put "
            f"the newer files back, or run `gallery check --repair {path.parent}` to go on from revision "
            f"{state.revision}"
        )


def _close_refused(db: sqlite3.Connection, path: Path) -> None:
    """Closes a connection to a damaged catalog, and leaves the log to a repair.

    The last connection that may write would take the log in as far as it is sound, and delete it with the
    rest: one that only reads outlives it.
    """
    reader = None
    with suppress(GalleryError, sqlite3.Error):
        reader = catalog.connect(path, read_only=True, lock_timeout=0.0)
    db.close()
    if reader is not None:
        reader.close()
    catalog.tidy(path)
