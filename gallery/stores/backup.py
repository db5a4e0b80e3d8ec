"""A copy of a catalog in use: of one revision, while others write, and without a byte of what was removed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gallery.errors import CorruptGalleryError, GalleryError, GalleryExistsError
from gallery.stores import audit, catalog, headers, marks
from gallery.stores.checking import problems
from gallery.stores.settings import write_setting
from gallery.stores.state import CatalogState, read_state, write_state
from gallery.stores.witness import HeadWriter

Progress = Callable[[int, int | None], None]

_STEP = 100_000
"""Instructions of SQLite's machine between two looks at how far the copy is."""


def backup(
    path: Path,
    target: Path,
    lock_timeout: float,
    identity: str,
    *,
    without: Iterable[str] = (),
    progress: Progress | None = None,
) -> CatalogState:
    """Makes the folder `target` with a copy of the catalog at `path`: the state that it is of.

    Rows are copied (`VACUUM INTO`) and not pages, because a page may still hold parts of rows that were
    removed. The copy is read in full and compared with its checksums before it gets its name, and nobody
    waits for it. identity: of the gallery that was opened, which may have been moved since, and another one
    made in its place. without: settings to leave out; progress: called with the bytes written and about how
    many there will be. GalleryExistsError when something is at `target`, CorruptGalleryError when the
    catalog is damaged.
    """
    if os.path.lexists(target):
        raise GalleryExistsError(f"{target} is there already; a backup never replaces anything")
    building = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        building.mkdir(mode=0o700)
        try:
            copy = building / path.name
            _copied(path, copy, progress, lock_timeout)
            state = _finished(path, copy, identity, without)
            catalog.sync_folder(building)
            building.rename(target)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        with suppress(PermissionError):
            # Somebody else's folder; it was there before.
            catalog.sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, GalleryError):
            raise
        raise GalleryError(f"{target} cannot be made: {error.strerror or error}") from error
    return state


def _copied(path: Path, copy: Path, progress: Progress | None, lock_timeout: float) -> None:
    # SQLite writes to an empty file that is there, with the mode that it has.
    copy.touch(mode=0o600)
    db = catalog.connect(path, read_only=True, lock_timeout=lock_timeout)
    try:
        with catalog.translated(path):
            raised = [] if progress is None else _watch(db, copy, progress)
            try:
                db.execute("VACUUM INTO ?", (os.fspath(copy.absolute()),))
            except sqlite3.OperationalError as error:
                if "full" in str(error) and _is_full(path, copy):
                    # Not that of the gallery, which is all that SQLite's words would be taken for.
                    raise GalleryError(
                        f"the disk that holds {copy.parent.parent} is full; nothing was written"
                    ) from error
                if "full" in str(error):
                    # SQLite counts pages in a damaged catalog until there could be no more.
                    raise sqlite3.DatabaseError("it has no end") from error
                if "interrupted" not in str(error):
                    raise
                # Nothing else interrupts it; Ctrl-C may come before the first line of what looks.
                raise raised[0] if raised else KeyboardInterrupt from error
    finally:
        db.close()
        catalog.tidy(path)


def _is_full(path: Path, copy: Path) -> bool:
    """Whether the disk of the copy lacks room for what the catalog still has."""
    log = path.with_name(path.name + "-wal")
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    return shutil.disk_usage(copy.parent).free < size - copy.stat().st_size + 2**20


def _watch(db: sqlite3.Connection, copy: Path, progress: Progress) -> list[BaseException]:
    """Calls `progress` while SQLite copies; what it raises stops that, and is in the list."""
    raised: list[BaseException] = []
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    total = (pages - free) * size

    def look() -> int:
        try:
            progress(min(copy.stat().st_size, total), total)
        except BaseException as error:
            # SQLite would only say that it was interrupted.
            raised.append(error)
        return len(raised)

    db.set_progress_handler(look, _STEP)
    return raised


def _finished(path: Path, copy: Path, identity: str, without: Iterable[str]) -> CatalogState:
    """Takes settings out, compares all with its checksums, writes the head; then all is on the disk."""
    with catalog.translated(copy):
        db = catalog.connect(copy, read_only=False, lock_timeout=0.0)
        try:
            if headers.read_header(db, copy).identity != identity:
                raise GalleryError(
                    f"{path.parent} holds another gallery than the one that was opened; nothing was written: "
                    "open it again"
                )
            db.execute("BEGIN IMMEDIATE")
            state = read_state(db)
            for key in without:
                write_setting(db, state, key, None)
            # The ids of removed subjects, which the log shows until an erasure, are no part of a copy, nor
            # is what could be undone, which tells of them too.
            audit.forget_names(db)
            marks.forget_operations(db, state)
            write_state(db, state)
            db.execute("COMMIT")
            found = problems(db, copy)
        finally:
            db.close()
    if found:
        raise CorruptGalleryError(
            f"{path} is damaged ({found[0]}), and a copy of it would be no backup: nothing was written; run "
            f"`gallery check {path.parent}`"
        )
    head = HeadWriter(copy, identity)
    head.write(state.revision)
    head.close()
    for file in copy.parent.iterdir():
        with file.open("rb") as raw:
            os.fsync(raw.fileno())
    return state
