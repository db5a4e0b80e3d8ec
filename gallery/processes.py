"""What was opened before a process was forked belongs to the parent."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from gallery.errors import GalleryError


def check_not_forked(process: int, location: Path) -> None:
    """GalleryError unless this is the process that opened the gallery.

    To be asked before any lock is taken: another thread may have held it when the process was forked.
    """
    if os.getpid() != process:
        raise GalleryError(
            f"{location} was opened before this process was forked: open it again in the worker"
        )


class ModuleLock:
    """A lock that lives as long as its module, and is free in a process that was forked.

    The thread that held it at that moment is not there, and would never let go. The same thread may take it
    twice, as when the garbage collector runs inside and closes something. It is used as `with it.lock:`: at
    the entry of a method of this class Ctrl-C could come in between, and the lock would stay taken.
    """

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()


class PutOffSignals:
    """Signal handlers that wait, so that Ctrl-C does not stop the hooks of a fork in the middle.

    What they raise in there would be lost as well.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []

    def begin(self) -> None:
        """From now on signals are only noted. Handlers run in the main thread alone: in others all stays."""
        if threading.current_thread() is threading.main_thread():
            for number in signal.valid_signals():
                if callable(signal.getsignal(number)):
                    self._handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)

    def end(self, *, again: bool) -> None:
        """The handlers as they were. again: what came meanwhile comes in a moment, when the hook is over."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())
        main = threading.main_thread().ident
        if again and main is not None:
            for number in self._came:
                threading.Timer(0.01, signal.pthread_kill, (main, number)).start()
