"""Puts a new catalog, of all that can be saved, in the place of a damaged one, which is kept aside."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gallery.errors import GalleryError, GalleryLockedError
from gallery.records import Problem
from gallery.stores import catalog
from gallery.stores.pages import Pages
from gallery.stores.rebuild import Rebuilding
from gallery.stores.state import CatalogState
from gallery.stores.witness import Head, HeadWriter, head_path, read_head

_DAMAGED = re.compile(r"damaged-\d{8}T\d{6}\.\d{6}Z")
_NEW = "new.sqlite"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a repair came to."""

    state: CatalogState
    lost: list[Problem]
    damaged: Path
    """The folder with the files as they were."""


def repair(path: Path, *, without: Iterable[str], actor: str, lock_timeout: float) -> Outcome:
    """Rebuilds the catalog at `path` from every record that matches its checksum.

    without: settings to leave out. Nobody else may have it open: GalleryLockedError. CorruptGalleryError when
    nothing can be saved, GalleryError for another format or a folder that cannot be written; then all stays
    as it was.
    """
    catalog.check_own(path)
    folder = path.parent
    aside = folder / datetime.now(UTC).strftime("damaged-%Y%m%dT%H%M%S.%fZ")
    try:
        aside.mkdir(mode=0o700)
        try:
            return _repaired(path, aside, without, actor, lock_timeout)
        except BaseException:
            # The catalog is still in its place: what is aside are second names for its files.
            if path.exists() or not (aside / path.name).exists():
                shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        if isinstance(error, GalleryError):
            raise
        raise GalleryError(f"{folder} cannot be repaired here: {error.strerror or error}") from error


def _repaired(path: Path, aside: Path, without: Iterable[str], actor: str, lock_timeout: float) -> Outcome:
    log = path.with_name(path.name + "-wal")
    kept = None
    if log.exists():
        kept = aside / log.name
        kept.hardlink_to(log)
    with _alone(path, lock_timeout):
        # SQLite has taken the log in as far as it is sound, and deleted it.
        pages = Pages(path, log=kept)
        try:
            building = Rebuilding(pages, path, _head(path), without)
            state = building.run(aside / _NEW, actor)
            _swap(path, aside)
        finally:
            pages.close()
    head_path(path).unlink(missing_ok=True)
    writer = HeadWriter(path, building.identity)
    writer.write(state.revision)
    writer.close()
    return Outcome(state, building.lost, aside)


def _head(path: Path) -> Head | None:
    try:
        return read_head(path)
    except (OSError, ValueError):
        return None


@contextmanager
def _alone(path: Path, lock_timeout: float) -> Iterator[None]:
    """Keeps everybody else out, and has SQLite take the log into the catalog, as far as it can read them."""
    db = None
    # SQLite throws the log of an empty catalog away, and it may hold everything.
    if path.is_file() and path.stat().st_size:
        try:
            db = catalog.open_existing(path, lock_timeout)
            catalog.keep_others_out(db)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if "locked" in str(error) or "busy" in str(error):
                if db is not None:
                    db.close()
                raise GalleryLockedError(
                    f"{path.parent} is in use, here or by another process: close it there, then repair it"
                ) from error
    try:
        yield
    finally:
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def _swap(path: Path, aside: Path) -> None:
    """The one moment at which the new catalog takes the place of the old one."""
    head = head_path(path)
    if head.is_file():
        shutil.copy2(head, aside / head.name, follow_symlinks=False)
    if path.exists():
        (aside / path.name).hardlink_to(path)
    catalog.sync_folder(aside)
    # A log left beside the new catalog could be taken for its own.
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    catalog.sync_folder(path.parent)
    (aside / _NEW).replace(path)
    catalog.sync_folder(path.parent)


def put_aside(folder: Path) -> list[Path]:
    """The folders with damaged files that repairs have left in a gallery's folder."""
    if not folder.is_dir():
        return []
    named = [one for one in sorted(folder.iterdir()) if _DAMAGED.fullmatch(one.name)]
    # What a link leads to is somebody's.
    return [one for one in named if one.is_dir() and not one.is_symlink()]


def discard_put_aside(folder: Path) -> None:
    """Deletes them: they hold what was removed since, and before."""
    for one in put_aside(folder):
        try:
            while one.exists():
                # Another process may be erasing at the same time.
                with suppress(FileNotFoundError):
                    shutil.rmtree(one)
        except OSError as error:
            raise GalleryError(f"{one} cannot be deleted: {error.strerror or error}") from error
