"""The SQLite file itself: its schema, how it is made and opened, and the one border for SQLite's errors."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
from gallery.stores.headers import insert_generation
from gallery.stores.in_use import Connection, check_not_inherited, let_go, take_up
from gallery.stores.settings import write_setting
from gallery.stores.state import COLUMNS, CatalogState, insert_state, read_state
from gallery.stores.witness import head_path

FORMAT = 2
OLDEST_FORMAT = 1
"""What `stores.upgrade` can still read."""

_CACHE_KIB = 65_536
_CHECKPOINT_BYTES = 4 * 2**20

# header and state hold one row each. Blobs come last, so that a read of the other columns stops before them.
SCHEMA = f"""
CREATE TABLE header (format INTEGER NOT NULL, created TEXT NOT NULL, identity TEXT NOT NULL);
CREATE TABLE generations (
  generation INTEGER PRIMARY KEY, state TEXT NOT NULL, dim INTEGER NOT NULL, metric TEXT NOT NULL,
  encoder TEXT NOT NULL, fingerprint TEXT NOT NULL, provenance TEXT NOT NULL, created TEXT NOT NULL,
  checksum INTEGER NOT NULL
);
CREATE TABLE state ({COLUMNS}, checksum INTEGER NOT NULL);
CREATE TABLE subjects (
  subject INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, templates INTEGER NOT NULL, metadata TEXT NOT NULL,
  checksum INTEGER NOT NULL
);
CREATE TABLE removed (template INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
CREATE INDEX removed_by_revision ON removed(revision);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE originals (
  template INTEGER PRIMARY KEY, kind TEXT NOT NULL, checksum INTEGER NOT NULL, content BLOB NOT NULL
);
CREATE TABLE audit (
  entry INTEGER PRIMARY KEY, revision INTEGER NOT NULL, at INTEGER NOT NULL, actor TEXT NOT NULL,
  verb TEXT NOT NULL, templates INTEGER NOT NULL, note TEXT NOT NULL, hash BLOB NOT NULL,
  subjects BLOB NOT NULL
);
CREATE TABLE audit_names (key BLOB PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
"""


def templates_schema(generation: int) -> str:
    """The table of one generation's templates."""
    return f"""
CREATE TABLE templates_{generation} (
  template INTEGER PRIMARY KEY, subject INTEGER NOT NULL, enrolled INTEGER NOT NULL, source TEXT,
  checksum INTEGER NOT NULL, embedding BLOB NOT NULL
);
CREATE INDEX templates_{generation}_by_subject ON templates_{generation}(subject);
"""


def page_size(dim: int) -> int:
    """The smallest SQLite page that takes at most a tenth more room than the best one.

    A row larger than a page goes on in overflow pages, which it fills but for the last: a 512-d embedding
    takes 2,106 bytes in pages of 512, while pages of 4 KiB hold one each and so waste half. And small pages
    commit faster, because a commit writes whole pages.
    """
    sizes = [512, 1024, 2048, 4096, 8192, 16384, 32768]
    best = min(_bytes_per_row(4 * dim + 32, size) for size in sizes)
    return next(size for size in sizes if _bytes_per_row(4 * dim + 32, size) <= 1.1 * best)


def _bytes_per_row(row: int, page: int) -> float:
    """https://www.sqlite.org/fileformat2.html, "Cell Payload Overflow Pages" for the leaf of a table."""
    if row <= page - 35:
        return page / ((page - 8) // (row + 8))
    least = (page - 12) * 32 // 255 - 23
    local = least + (row - least) % (page - 4)
    if local > page - 35:
        local = least
    return page / ((page - 8) // (local + 12)) + float(page * -(-(row - local) // (page - 4)))


def create(
    path: Path, header: Header, lock_timeout: float, settings: Mapping[str, str], logging: bool
) -> None:
    """Makes the catalog at `path` in one commit; GalleryExistsError when there is one already."""
    with translated(path):
        check_own(path)
        # SQLite gives its WAL and shared memory the mode of the catalog, which is private from the start.
        path.touch(mode=0o600)
        db = open_new(path, page_size(header.dim), lock_timeout)
        try:
            db.execute("BEGIN IMMEDIATE")
            if _has_header(db):
                raise GalleryExistsError(f"a gallery is already at {path.parent}; open it instead")
            execute_all(db, SCHEMA + templates_schema(header.generation))
            values = (FORMAT, header.created.isoformat(), header.identity)
            db.execute("INSERT INTO header VALUES (?, ?, ?)", values)
            insert_generation(db, header, "current")
            state = CatalogState(generation=header.generation, logging=int(logging))
            for key, value in settings.items():
                write_setting(db, state, key, value)
            insert_state(db, state)
            db.execute("COMMIT")
        finally:
            db.close()
        # The names of the new file and of its folder have to survive a power cut as well.
        sync_folder(path.parent)
        with suppress(PermissionError):
            # Somebody else's folder; it was there before.
            sync_folder(path.parent.parent)


def discard_unused(path: Path, lock_timeout: float = 1.0) -> None:
    """Takes away the catalog at `path` in which nothing was ever done, unless somebody else has it open."""
    with suppress(sqlite3.Error, FileNotFoundError):
        db = _open(path, "rw", lock_timeout)
        try:
            keep_others_out(db)
            if read_state(db).revision == 0:
                # Whoever waits to read it finds no gallery in it, and writes to no file without a name.
                db.execute("DROP TABLE header")
                head_path(path).unlink(missing_ok=True)
                path.unlink()
                db.execute("COMMIT")
        finally:
            db.close()


def keep_others_out(db: sqlite3.Connection) -> None:
    """Takes the log into the catalog, and has it alone until `db` is closed.

    sqlite3.Error where another connection, of any process, is open.
    """
    db.execute("PRAGMA journal_mode = DELETE")
    # No file with a name that somebody who makes a new gallery here could take for theirs.
    db.execute("PRAGMA journal_mode = MEMORY")
    db.execute("BEGIN EXCLUSIVE")


def check_own(path: Path) -> None:
    """CorruptGalleryError when the catalog or a file that SQLite keeps beside it is a link, or no file.

    SQLite follows links, and would read and write wherever one leads.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            # Not `lstat` of a Path: four times at every opening, and twice as fast.
            if not stat.S_ISREG(os.lstat(f"{path}{suffix}").st_mode):
                raise CorruptGalleryError(
                    f"{path}{suffix} is a link, or no file, and a gallery reads and writes only the files of "
                    "its own folder: put the file itself there"
                )


def open_existing(path: Path, lock_timeout: float) -> sqlite3.Connection:
    """A bare connection to a file that may hold anything, to write to."""
    return _open(path, "rw", lock_timeout)


def open_new(path: Path, page: int, lock_timeout: float) -> sqlite3.Connection:
    """A connection to an empty file that is going to be a catalog. page: its page size."""
    db = _open(path, "rw", lock_timeout)
    try:
        db.execute(f"PRAGMA page_size = {page}")
        _set_up(db)
    except BaseException:
        db.close()
        raise
    return db


def execute_all(db: sqlite3.Connection, statements: str) -> None:
    """Runs statements inside the present transaction, which `executescript` would commit."""
    for statement in statements.split(";\n"):
        db.execute(statement)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_wal(path: Path) -> None:
    """Makes the truncation of the WAL durable, which SQLite does not."""
    with suppress(FileNotFoundError):
        handle = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def connect(path: Path, *, read_only: bool, lock_timeout: float, check: bool = True) -> sqlite3.Connection:
    """A connection to a catalog that exists; GalleryNotFoundError when none does.

    check: CorruptGalleryError when the log beside it is not its own.
    """
    with translated(path):
        if not path.is_file():
            raise GalleryNotFoundError(f"there is no gallery at {path.parent}")
        if not read_only:
            db = _open(path, "rw", lock_timeout, check=check)
            _set_up(db)
            return db
        _finish_interrupted_creation(path, lock_timeout)
        try:
            db = _open(path, "ro", lock_timeout, check=check)
        except sqlite3.OperationalError:
            # A WAL database on a read-only medium cannot make its shared memory; without a WAL there is
            # nothing that could change under us either.
            if path.with_name(path.name + "-wal").exists() or os.access(path.parent, os.W_OK):
                raise
            db = _open(path, "ro&immutable=1", lock_timeout, Still, check=check)
        return db


def _finish_interrupted_creation(path: Path, lock_timeout: float) -> None:
    """A process killed while it made the catalog leaves a rollback journal, which only a writer can undo."""
    if path.with_name(path.name + "-journal").exists() and os.access(path.parent, os.W_OK):
        with suppress(sqlite3.Error):
            _open(path, "rw", lock_timeout).close()


def has_gallery(path: Path, lock_timeout: float = 30.0) -> bool:
    """True when a committed gallery is in the catalog file at `path`."""
    with translated(path):
        if not path.is_file() or path.stat().st_size == 0:
            return False
    db = connect(path, read_only=True, lock_timeout=lock_timeout)
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
            _open(path, "rw", 0.0).close()


def read_format(db: sqlite3.Connection, path: Path) -> int:
    """The catalog's format; CorruptGalleryError without one, GalleryError for a newer one."""
    if not _has_header(db):
        raise CorruptGalleryError(
            f"{path} is a database without a gallery in it; nothing can be read from it"
        )
    format: object = db.execute("SELECT max(format) FROM header").fetchone()[0]
    if format is None:
        raise CorruptGalleryError(f"{path} has lost its header; restore the folder from a backup")
    if not isinstance(format, int) or not OLDEST_FORMAT <= format <= FORMAT:
        raise GalleryError(
            f"{path} has format {format} and this version reads formats up to {FORMAT}: "
            "upgrade siamese-gallery to open it"
        )
    return format


RAW = (sqlite3.Error, OSError, UnicodeDecodeError)
"""What SQLite and the disk raise; the last one in place of a message that quotes a damaged name."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into the gallery's."""
    try:
        yield
    except GalleryError:
        raise
    except RAW as error:
        raise translation(error, path) from error


def translation(error: Exception, path: Path) -> GalleryError:
    """The gallery's error for one of SQLite's or of the disk."""
    if isinstance(error, OSError):
        return GalleryError(f"{path} cannot be written or read here: {error.strerror or error}")
    text, folder = str(error), path.parent
    if "locked" in text or "busy" in text:
        return GalleryLockedError(
            f"another writer has held {folder} for longer than the lock timeout; try again"
        )
    if "disk is full" in text:
        return GalleryError(f"the disk that holds {folder} is full; nothing was written")
    if "disk I/O error" in text:
        return GalleryError(
            f"the disk that holds {folder} is full or failing ({text}); nothing is known to be written: "
            "open the gallery again when the disk works"
        )
    if "readonly" in text or "unable to open" in text:
        return GalleryError(f"{folder} cannot be written or opened here ({text}); nothing was written")
    if "closed database" in text:
        return GalleryError(f"{folder} was closed")
    return CorruptGalleryError(
        f"{path} is damaged ({text}); `gallery check {folder}` says what is lost, and with --repair saves "
        "the rest; or restore the folder from a backup"
    )


class Still(Connection):
    """A connection that takes the file for one that never changes: it locks nothing and sees no commit."""


def as_it_lies(path: Path) -> tuple[int, int, int, bool]:
    """What changes once somebody writes to the catalog after all, as through another mount."""
    with translated(path):
        found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, path.with_name(path.name + "-wal").exists()


def _open(
    path: Path,
    mode: str,
    lock_timeout: float,
    factory: type[Connection] = Connection,
    *,
    check: bool = False,
) -> sqlite3.Connection:
    check_own(path)
    check_not_inherited(path)
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    use = take_up(path, check, lock_timeout)
    try:
        db: Connection = sqlite3.connect(
            address,
            uri=True,
            timeout=lock_timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=factory,
        )
    except BaseException:
        let_go(use)
        raise
    db.hold(use)
    try:
        # An untrusted file must not be able to run code through views or triggers that somebody put in it.
        db.execute("PRAGMA trusted_schema = OFF")
        # A record's length or type that was flipped is an error, not whatever lies behind it.
        db.execute("PRAGMA cell_size_check = ON")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute("SELECT count(*) FROM sqlite_master")
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    (page,) = db.execute("PRAGMA page_size").fetchone()
    db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // page}")


def _has_header(db: sqlite3.Connection) -> bool:
    found = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'header'").fetchone()
    return found is not None
