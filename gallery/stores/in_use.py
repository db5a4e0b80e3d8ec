"""Which catalogs this process has open, and what becomes of them when it is forked.

SQLite keeps a list of the files that a process has open with the locks that it holds on them. A forked
process inherits the list and not the locks: what it opens there it would read and write without any, and
whoever closes first would delete the log that the other writes to. A lock of SQLite's own memory that another
thread held at that moment would never be let go there either. So before a fork every session waits for its
turn and closes its files, which its next use opens again, and nobody opens or closes a catalog during the
fork. The forked process refuses those that the thread itself was in the middle of; where another thread did
not come to an end in time it refuses all, as that thread may have held a lock that all of them need.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from gallery.errors import GalleryError, GalleryLockedError
from gallery.processes import ModuleLock, PutOffSignals
from gallery.stores.lineage import check_log

PATIENCE = 10.0
"""Seconds that a fork waits for whoever is using a catalog."""

_MOMENT = 0.1
"""Seconds within which whoever is only between two uses lets go of a catalog."""

File = tuple[int, int]


class Pausing(Protocol):
    """Has a catalog open."""

    lock: threading.RLock
    """Held by whoever uses it: without, it would be closed in the middle of something."""

    def pause(self) -> bool:
        """Closes it until the next use, unless a transaction is open; whether it is closed."""


class Use:
    """That there is a connection to a catalog, or is going to be one, for as long as somebody holds this.

    An object, so that what Ctrl-C or an error stops half-way is not counted for ever.
    """

    def __init__(self, file: File | None) -> None:
        self.file = file


class Connection(sqlite3.Connection):
    """A connection that is counted from before it opens its file until it has closed it."""

    _use: Use | None = None

    def hold(self, use: Use) -> None:
        """Takes over what `take_up` counted."""
        self._use = use
        _CONNECTIONS.add(self)

    def close(self) -> None:
        """Lets go of the file."""
        super().close()
        if self._use is not None:
            let_go(self._use)


_PAUSING: weakref.WeakSet[Pausing] = weakref.WeakSet()
_CONNECTIONS: weakref.WeakSet[Connection] = weakref.WeakSet()
_INHERITED: set[File] = set()
_MIXED = threading.Event()
"""This process, or one that it descends from, was forked while another thread was in the middle."""
_USES: weakref.WeakSet[Use] = weakref.WeakSet()
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
    with _LOCK.lock:
        return _count(file_of(path))


def _count(file: File | None) -> int:
    return sum(use.file == file for use in _USES)


def take_up(path: Path, check: bool, patience: float) -> Use:
    """Counts a connection that is going to be opened. check: CorruptGalleryError when the log is not its own.

    To look at the log is to open and close the catalog, and closing a file drops all the locks that a process
    has on it. So it is looked at by whoever is the first; and where those that are there have not looked, as
    a repair has not, this waits until they are gone: GalleryLockedError after `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        with _LOCK.lock:
            use = Use(file_of(path))
            alone = _count(use.file) == 0
            if alone:
                _CHECKED.discard(use.file)
            if not check or alone or use.file in _CHECKED:
                if check and use.file not in _CHECKED:
                    check_log(path)
                    _CHECKED.add(use.file)
                _USES.add(use)
                return use
        if time.monotonic() > end:
            raise GalleryLockedError(f"{path.parent} is being looked at by another thread; try again")
        time.sleep(0.005)


def let_go(use: Use) -> None:
    """Takes note that a connection is closed."""
    with _LOCK.lock:
        _USES.discard(use)


def watch(pausing: Pausing) -> None:
    """Has it closed before each fork, as long as it is there. From now on whoever uses it holds its lock."""
    with _LOCK.lock:
        _PAUSING.add(pausing)


def check_not_inherited(path: Path) -> None:
    """GalleryError for a catalog that cannot be used since this process was forked."""
    if _MIXED.is_set():
        raise GalleryError(
            f"{path.parent} cannot be opened here: another thread was in the middle of a read or a write "
            "when this process was forked; fork before or after that, or start the worker by spawn"
        )
    if _INHERITED and file_of(path) in _INHERITED:
        raise GalleryError(
            f"{path.parent} was in the middle of a read or a write when this process was forked, so it "
            "cannot be opened here: fork before or after that, or start the worker by spawn"
        )


class _Fork:
    """What a thread that forks keeps from the others meanwhile."""

    def __init__(self) -> None:
        self._held: list[threading.RLock] = []
        self.signals = PutOffSignals()
        self.calm = False
        """No other thread is in the middle of something."""

    def begin(self) -> None:
        """Waits for the others."""
        self.signals.begin()
        end = time.monotonic() + PATIENCE
        if not self._take(_TURN.lock, end):
            return
        with _LOCK.lock:
            everyone = list(_PAUSING)
        # Those that are free at once or in a moment last: nobody waits for them before it is their turn.
        everyone.sort(key=lambda one: _is_free(one.lock))
        taken = [one for one in everyone if self._take(one.lock, end)]
        # Which count here in any case; those that could not be taken are open at least.
        paused = [self._is_paused(one) for one in taken]
        still_open = len(everyone) - sum(paused)
        while not self._is_quiet(still_open):
            if time.monotonic() > end:
                return
            time.sleep(0.001)
        self.calm = len(taken) == len(everyone)

    def _take(self, lock: threading.RLock, end: float) -> bool:
        if not lock.acquire(timeout=max(0.0, end - time.monotonic())):
            return False
        self._held.append(lock)
        return True

    def _is_paused(self, one: Pausing) -> bool:
        with suppress(Exception):  # the fork itself takes place
            return one.pause()
        return False

    def _is_quiet(self, still_open: int) -> bool:
        """Whether nobody is just opening or closing a catalog; then no one begins to until `end`.

        still_open: how many connections those have that are not paused.
        """
        _LOCK.lock.acquire()
        if len(_USES) <= still_open:
            self._held.append(_LOCK.lock)
            return True
        _LOCK.lock.release()
        return False

    def end(self) -> None:
        """Gives everything back."""
        for lock in reversed(self._held):
            lock.release()
        self.signals.end(again=True)


_FORKS: dict[int, _Fork] = {}
"""By the thread that forks."""
_TURN = ModuleLock()
"""Of those who fork: two would wait for each other."""


def _is_free(lock: threading.RLock) -> bool:
    if not lock.acquire(timeout=_MOMENT):
        return False
    lock.release()
    return True


def _pause() -> None:
    fork = _FORKS[threading.get_ident()] = _Fork()
    fork.begin()


def _go_on() -> None:
    _FORKS.pop(threading.get_ident()).end()


def _begin_as_a_child() -> None:
    """Nothing here is this process's own. What is still open must never be closed, not even as garbage."""
    fork = _FORKS[threading.get_ident()]
    if not fork.calm:
        _MIXED.set()
    fork.signals.end(again=False)
    # Those too that another thread was just opening or closing.
    _INHERITED.update(use.file for use in _USES if use.file is not None)
    for connection in list(_CONNECTIONS):
        # One that is closed as well: to keep it costs nothing.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    for those in (_FORKS, _PAUSING, _USES, _CHECKED, _CONNECTIONS):
        those.clear()


os.register_at_fork(before=_pause, after_in_parent=_go_on, after_in_child=_begin_as_a_child)
