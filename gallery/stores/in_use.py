"""Which catalogs this process has open, and what becomes of them when it is forked.

SQLite keeps a list of the files that a process has open with the locks that it holds on them. A forked
process inherits the list and not the locks: what it opens there it would read and write without any, and
whoever closes first would delete the log that the other writes to. A lock of SQLite's own memory that another
thread held at that moment would never be let go there either. So before a fork every session waits for its
turn and closes its files, which its next use opens again; and the forked process refuses those that were in
the middle of something.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Protocol

from gallery.errors import GalleryError, GalleryLockedError
from gallery.processes import ModuleLock
from gallery.stores.lineage import check_log

PATIENCE = 10.0
"""Seconds that a fork waits for whoever is using a catalog."""

File = tuple[int, int]


class Pausing(Protocol):
    """Has a catalog open."""

    lock: threading.RLock
    """Held by whoever uses it: without, it would be closed in the middle of something."""

    def pause(self) -> None:
        """Closes it until the next use, unless a transaction is open."""


class Connection(sqlite3.Connection):
    """A connection that is counted from before it opens its file until it has closed it."""

    _let_go: weakref.finalize[[File | None], Connection] | None = None

    def hold(self, file: File | None) -> None:
        """Takes over what `take_up` counted."""
        self._let_go = weakref.finalize(self, let_go, file)
        self._let_go.atexit = False
        _CONNECTIONS.add(self)

    def close(self) -> None:
        """Lets go of the file."""
        super().close()
        if self._let_go is not None:
            self._let_go()


_PAUSING: weakref.WeakSet[Pausing] = weakref.WeakSet()
_HELD: dict[int, list[Pausing]] = {}
"""By the thread that forks, as several may at the same time."""
_CONNECTIONS: weakref.WeakSet[Connection] = weakref.WeakSet()
_INHERITED: set[File] = set()
_COUNTS: Counter[File | None] = Counter()
"""How many connections there are to which catalog."""
_CHECKED: set[File | None] = set()
"""Catalogs whose log was found to be their own while none was open."""
_LOCK = ModuleLock()


def file_of(path: Path) -> File | None:
    """What tells the file at `path` from another one there; None when there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - at every commit, and twice as fast
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connections(path: Path) -> int:
    """How many connections of this process there are to the catalog at `path`."""
    return _COUNTS[file_of(path)]


def take_up(path: Path, check: bool, patience: float) -> File | None:
    """Counts a connection that is going to be opened. check: CorruptGalleryError when the log is not its own.

    To look at the log is to open and close the catalog, and closing a file drops all the locks that a process
    has on it. So it is looked at by whoever is the first; and where those that are there have not looked, as
    a repair has not, this waits until they are gone: GalleryLockedError after `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        with _LOCK:
            file = file_of(path)
            if not check or file in _CHECKED or not _COUNTS[file]:
                if check and file not in _CHECKED:
                    check_log(path)
                    _CHECKED.add(file)
                _COUNTS[file] += 1
                return file
        if time.monotonic() > end:
            raise GalleryLockedError(f"{path.parent} is being looked at by another thread; try again")
        time.sleep(0.005)


def let_go(file: File | None) -> None:
    """Takes note that a connection is closed."""
    with _LOCK:
        _COUNTS[file] -= 1
        if _COUNTS[file] <= 0:
            del _COUNTS[file]
            _CHECKED.discard(file)


def watch(pausing: Pausing) -> None:
    """Has it closed before each fork, as long as it is there. From now on whoever uses it holds its lock."""
    with _LOCK:
        _PAUSING.add(pausing)


def check_not_inherited(path: Path) -> None:
    """GalleryError for a catalog that was in use at the moment when this process was forked."""
    if _INHERITED and file_of(path) in _INHERITED:
        raise GalleryError(
            f"{path.parent} was in the middle of a read or a write when this process was forked, so it "
            "cannot be opened here: fork before or after that, or start the worker by spawn"
        )


def _pause() -> None:
    with _LOCK:
        everyone = list(_PAUSING)
    mine = [one for one in everyone if one.lock.acquire(timeout=PATIENCE)]
    _HELD[threading.get_ident()] = mine
    for one in mine:
        one.pause()


def _go_on() -> None:
    for one in _HELD.pop(threading.get_ident(), []):
        one.lock.release()


def _begin_as_a_child() -> None:
    """Nothing here is this process's own. What is still open must never be closed, not even as garbage."""
    # Those too that another thread was just opening or closing.
    _INHERITED.update(file for file in _COUNTS if file is not None)
    for connection in list(_CONNECTIONS):
        # One that is closed as well: to keep it costs nothing.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    for those in (_HELD, _PAUSING, _COUNTS, _CHECKED, _CONNECTIONS):
        those.clear()


os.register_at_fork(before=_pause, after_in_parent=_go_on, after_in_child=_begin_as_a_child)
