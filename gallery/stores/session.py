"""One connection to a catalog: who may use it, and what a snapshot and a commit are."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gallery.errors import CorruptGalleryError, GalleryError
from gallery.stores import audit, catalog
from gallery.stores.audit import Acts
from gallery.stores.base import Header
from gallery.stores.state import CatalogState, read_state
from gallery.stores.state import write_state as _write_state
from gallery.stores.upgrade import upgrade
from gallery.stores.witness import HeadWriter, read_head


class Session:
    """A catalog in use by one process. Not for several threads at once: the engine holds the lock."""

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
        self._in_commit = False
        self._process = os.getpid()
        # Before the catalog, so that a commit between the two makes it older and not younger than it.
        head = self._head_there()
        self._db = catalog.connect(path, read_only=read_only, lock_timeout=lock_timeout)
        try:
            with catalog.translated(path), self._named():
                self._bring_up_to_date()
                self.header = catalog.read_header(self._db, path)
                state = read_state(self._db)
                if head is not None:
                    _check_not_older(path, self.header, state, head)
                settings = catalog.read_settings(self._db, state.setting_sum)
                self.audit_key = bytes.fromhex(settings[audit.KEY_SETTING])
        except BaseException:
            self._db.close()
            raise
        self._head = HeadWriter(path, self.header.identity)
        if head is None and self.writable:
            self._head.write(state.revision)
        self._file = _file_of(path)

    def _head_there(self) -> tuple[str, int] | None:
        try:
            head = read_head(self.path)
        except (ValueError, OSError):
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
            db.execute("BEGIN")
            try:
                self._follow(read_state(db))
                yield
            finally:
                if db.in_transaction:
                    db.execute("COMMIT")

    @contextmanager
    def commit(self, verb: str | None) -> Iterator[None]:
        """Changes inside are one commit, with its entry in the audit log."""
        self.check_writable()
        with self.used() as db:
            self.check_alone()
            db.execute("BEGIN IMMEDIATE")
            try:
                self.state = read_state(db)
                self._follow(self.state)
                self._in_commit = True
                self.acts = Acts(verb, self._actor)
                before = db.total_changes
                yield
                changed = db.total_changes != before or self.acts.switched
                if changed:
                    self._finish(db)
                db.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled the transaction back already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            finally:
                self._in_commit = False
        if changed:
            self._head.write(self.state.revision)

    def _finish(self, db: sqlite3.Connection) -> None:
        self.state.revision += 1
        if self.acts.verb is not None and (self.state.logging or self.acts.switched):
            audit.append(db, self.state, self.acts, self.audit_key)
        _write_state(db, self.state)

    def keep_log(self, on: bool) -> None:
        """Switches the audit log on or off with this commit, of which it tells in either case."""
        self.acts.switched = bool(self.state.logging) != on
        self.state.logging = int(on)

    def _follow(self, state: CatalogState) -> None:
        """After another process has bound the gallery to another encoder."""
        if state.generation != self.header.generation:
            self.header = catalog.read_header(self._db, self.path)

    @contextmanager
    def used(self) -> Iterator[sqlite3.Connection]:
        """The connection, with SQLite's errors translated."""
        if os.getpid() != self._process:
            raise GalleryError(
                f"{self.path.parent} was opened before this process was forked: open it again in the worker"
            )
        with catalog.translated(self.path), self._named():
            yield self._db

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Adds to an error of damage where it is and what to do, where that is not said."""
        try:
            yield
        except CorruptGalleryError as error:
            if str(self.path.parent) in str(error):
                raise
            raise CorruptGalleryError(
                f"{self.path}: {error}; run `gallery check {self.path.parent}`"
            ) from error

    def check_alone(self) -> None:
        """Refuses a second transaction of the same connection."""
        if self._db.in_transaction:
            raise GalleryError(
                f"{self.path.parent} is being read by this thread, as by an export that is not finished: "
                "finish that first; nothing was written"
            )

    def check_writable(self) -> None:
        """Refuses to write where that was not asked for, or into a file that no one can open again."""
        if not self.writable:
            raise GalleryError(f"{self.path.parent} was opened read-only; nothing was written")
        if _file_of(self.path) != self._file:
            raise GalleryError(
                f"{self.path} was deleted or replaced since it was opened; nothing was written: open it again"
            )

    # -- reading

    def one(self, sql: str, *values: Any) -> Any:
        """The first row, or None."""
        with self.used() as db:
            return db.execute(sql, values).fetchone()

    def all(self, sql: str, *values: Any) -> list[Any]:
        """Every row."""
        with self.used() as db:
            return db.execute(sql, values).fetchall()

    def current(self) -> CatalogState:
        """The state: inside a commit as it is going to be, else as it is."""
        if self._in_commit:
            return self.state
        with self.used() as db:
            return read_state(db)

    def settings(self) -> dict[str, str]:
        """Every setting."""
        with self.used() as db:
            return catalog.read_settings(db, self.current().setting_sum)

    def close(self) -> None:
        """Lets go of the files."""
        if os.getpid() == self._process:
            with catalog.translated(self.path):
                self._db.close()
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


def _file_of(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from another one there; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
