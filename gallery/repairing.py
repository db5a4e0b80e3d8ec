"""Looking at a gallery that may not open any more, and saving what can be saved of it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gallery import opening
from gallery.engines import index_files
from gallery.engines.index_cache import INDEX_FILE
from gallery.errors import CorruptGalleryError, GalleryError, GalleryNotFoundError
from gallery.folders import absolute_path
from gallery.records import Problem, Repair
from gallery.stores import audit, catalog
from gallery.stores.checking import problems
from gallery.stores.repair import repair as repair_catalog
from gallery.stores.sqlite import SqliteStore
from gallery.stores.witness import head_path


def check(location: str | os.PathLike[str], *, lock_timeout: float = 30.0) -> list[Problem]:
    """Reads everything in a gallery, also in one that does not open: what is damaged, [] when all is well.

    Raises GalleryNotFoundError where no gallery ever was, GalleryLockedError, and GalleryError for a gallery
    of another format.
    """
    folder = absolute_path(location)
    path = folder / opening.CATALOG
    _check_was_there(path)
    try:
        with opening.open(folder, read_only=True, lock_timeout=lock_timeout) as people:
            return people.check()
    except GalleryNotFoundError:
        return [Problem(path.name, f"no gallery is in it any more; {_BACKUP}")]
    except CorruptGalleryError as error:
        first = Problem(path.name, str(error))
    with suppress(GalleryError):
        db = catalog.connect(path, read_only=True, lock_timeout=lock_timeout, check=False)
        try:
            with catalog.translated(path):
                return [first, *problems(db, path)]
        finally:
            db.close()
            catalog.tidy(path)
    return [first]


_BACKUP = "restore the folder from a backup"


def repair(
    location: str | os.PathLike[str], *, actor: str | None = None, lock_timeout: float = 30.0
) -> Repair:
    """Saves all that matches its checksum, and lists the rest; the damaged files are kept aside.

    actor   who the audit log says did it; None is user@host

    Nothing is changed in a sound gallery. Raises GalleryLockedError while somebody has the gallery open,
    CorruptGalleryError when nothing can be saved.
    """
    folder = absolute_path(location)
    path = folder / opening.CATALOG
    found = check(folder, lock_timeout=lock_timeout)
    beside = (head_path(path).name, f"{opening.INDEX}/")
    if all(one.where.startswith(beside) for one in found):
        with opening.open(folder, lock_timeout=lock_timeout, actor=actor) as people:
            saved = len(people), people.template_count
        if found:
            _renew_what_is_beside(path, folder / opening.INDEX)
        return Repair(*saved)
    outcome = repair_catalog(
        path, without=[INDEX_FILE], actor=actor or audit.default_actor(), lock_timeout=lock_timeout
    )
    index_files.drop(index_files.files(folder / opening.INDEX))
    state = outcome.state
    return Repair(state.subjects, state.templates, tuple(outcome.lost), str(outcome.damaged))


def _renew_what_is_beside(path: Path, index: Path) -> None:
    """The head, which opening for writing renews, and the index files, which closing does."""
    store = SqliteStore(path)
    try:
        with store.commit():
            store.set_setting(INDEX_FILE, None)
        index_files.drop(index_files.files(index))
    finally:
        store.close()


def _check_was_there(path: Path) -> None:
    traces = [path, head_path(path), path.with_name(path.name + "-wal")]
    if not any(one.is_file() and one.stat().st_size for one in traces):
        raise GalleryNotFoundError(f"there is no gallery at {path.parent}")
