"""The SQLite file itself: its schema, how it is made and opened, and the one border for SQLite's errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from gallery.errors import (
    CorruptGalleryError,
    GalleryError,
    GalleryExistsError,
    GalleryLockedError,
    GalleryNotFoundError,
)
from gallery.stores.base import Header

FORMAT = 1

# header and state hold one row each. Blobs come last, so that a read of the other columns stops before them.
_SCHEMA = """
CREATE TABLE header (
  format INTEGER NOT NULL, dim INTEGER NOT NULL, metric TEXT NOT NULL, encoder TEXT NOT NULL,
  fingerprint TEXT NOT NULL, created TEXT NOT NULL, identity TEXT NOT NULL
);
CREATE TABLE state (revision INTEGER NOT NULL, next_template INTEGER NOT NULL, next_subject INTEGER NOT NULL);
CREATE TABLE subjects (
  subject INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE templates (
  template INTEGER PRIMARY KEY,
  subject INTEGER NOT NULL REFERENCES subjects(subject) DEFERRABLE INITIALLY DEFERRED,
  enrolled INTEGER NOT NULL, source TEXT, checksum INTEGER NOT NULL, embedding BLOB NOT NULL
);
CREATE INDEX templates_by_subject ON templates(subject);
CREATE TABLE removed (template INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
CREATE INDEX removed_by_revision ON removed(revision);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO state VALUES (0, 1, 1);
"""


def page_size(dim: int) -> int:
    """The smallest SQLite page that wastes at most a tenth of itself on embeddings of this length.

    A row larger than what is left of a page leaves a gap: 4 KiB pages hold one 512-d embedding each and so
    waste half, 32 KiB pages hold fifteen and waste 4 %. Small pages commit faster (less is written), so no
    larger than needed.
    """
    row = 4 * dim + 32
    for size in (4096, 8192, 16384, 32768):
        room = size - 12
        if row > room or (room // row) * row >= 0.9 * size:
            return size
    return 65536


def create(path: Path, header: Header, lock_timeout: float, settings: Mapping[str, str]) -> None:
    """Makes the catalog at `path` in one commit; GalleryExistsError when there is one already."""
    with translated(path):
        # SQLite gives its WAL and shared memory the mode of the catalog, which is private from the start.
        path.touch(mode=0o600)
        db = _open(path, "rw", lock_timeout)
        try:
            db.execute(f"PRAGMA page_size = {page_size(header.dim)}")
            _set_up(db)
            db.execute("BEGIN IMMEDIATE")
            if _has_header(db):
                raise GalleryExistsError(f"a gallery is already at {path.parent}; open it instead")
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute("INSERT INTO header VALUES (?, ?, ?, ?, ?, ?, ?)", _row(header))
            db.executemany("INSERT INTO settings(key, value) VALUES (?, ?)", settings.items())
            db.execute("COMMIT")
        finally:
            db.close()
    # The names of the new file and of its folder have to survive a power cut as well.
    sync_folder(path.parent)
    with suppress(PermissionError):
        # Somebody else's folder; it was there before.
        sync_folder(path.parent.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def connect(path: Path, *, read_only: bool, lock_timeout: float) -> sqlite3.Connection:
    """A connection to a catalog that exists; GalleryNotFoundError when none does."""
    if not path.is_file():
        raise GalleryNotFoundError(f"there is no gallery at {path.parent}")
    with translated(path):
        if not read_only:
            db = _open(path, "rw", lock_timeout)
            _set_up(db)
            return db
        db = _open(path, "ro", lock_timeout)
        try:
            db.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            # A WAL database on a read-only medium cannot make its shared memory; without a WAL there is
            # nothing that could change under us either.
            db.close()
            if path.with_name(path.name + "-wal").exists() or os.access(path.parent, os.W_OK):
                raise
            db = _open(path, "ro&immutable=1", lock_timeout)
        return db


def has_gallery(path: Path) -> bool:
    """True when a committed gallery is in the catalog file at `path`."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    db = connect(path, read_only=True, lock_timeout=30.0)
    try:
        with translated(path):
            return _has_header(db)
    finally:
        db.close()
        tidy(path)


def tidy(path: Path) -> None:
    """After reading: deletes the empty WAL and shared memory that a read-only connection leaves behind.

    A writable connection does that when it is the last one, and SQLite knows whether it is.
    """
    wal = path.with_name(path.name + "-wal")
    with suppress(OSError, sqlite3.Error):
        if wal.stat().st_size == 0:
            db = _open(path, "rw", 0.0)
            try:
                db.execute("SELECT count(*) FROM sqlite_master")
            finally:
                db.close()


def read_header(db: sqlite3.Connection, path: Path) -> Header:
    """The header; CorruptGalleryError without one, GalleryError for a newer format."""
    if not _has_header(db):
        raise CorruptGalleryError(
            f"{path} is a database without a gallery in it; nothing can be read from it"
        )
    (format,) = db.execute("SELECT max(format) FROM header").fetchone()
    if format is None:
        raise CorruptGalleryError(f"{path} has lost its header; restore the folder from a backup")
    if format != FORMAT:
        raise GalleryError(
            f"{path} has format {format} and this version reads format {FORMAT}: "
            "upgrade siamese-gallery to open it"
        )
    dim, metric, encoder, fingerprint, created, identity = db.execute(
        "SELECT dim, metric, encoder, fingerprint, created, identity FROM header"
    ).fetchone()
    try:
        return Header(dim, metric, encoder, fingerprint, datetime.fromisoformat(created), identity)
    except (TypeError, ValueError) as error:
        raise CorruptGalleryError(
            f"{path} has a damaged header ({error}); restore the folder from a backup"
        ) from error


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into the gallery's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error
    except PermissionError as error:
        raise GalleryError(f"{path}: permission denied; nothing was written") from error


def _translate(error: sqlite3.Error, path: Path) -> GalleryError:
    text, folder = str(error), path.parent
    if "locked" in text or "busy" in text:
        return GalleryLockedError(
            f"another writer has held {folder} for longer than the lock timeout; try again"
        )
    if "disk is full" in text:
        return GalleryError(f"the disk that holds {folder} is full; nothing was written")
    if "readonly" in text or "unable to open" in text:
        return GalleryError(f"{folder} cannot be written or opened here ({text}); nothing was written")
    if "closed database" in text:
        return GalleryError(f"{folder} was closed")
    return CorruptGalleryError(
        f"{path} is damaged ({text}); run `gallery check {folder}`, or restore the folder from a backup"
    )


def _open(path: Path, mode: str, lock_timeout: float) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    db = sqlite3.connect(
        address, uri=True, timeout=lock_timeout, isolation_level=None, check_same_thread=False
    )
    # One untrusted file must not be able to run code through views or triggers that somebody put in it.
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _set_up(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA foreign_keys = ON")


def _has_header(db: sqlite3.Connection) -> bool:
    found = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'header'").fetchone()
    return found is not None


def _row(header: Header) -> tuple[object, ...]:
    return (
        FORMAT,
        header.dim,
        header.metric,
        header.encoder,
        header.fingerprint,
        header.created.isoformat(),
        header.identity,
    )
