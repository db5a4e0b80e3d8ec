"""What was opened before a process was forked belongs to the parent."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

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
    twice, as when the garbage collector runs inside and closes something.
    """

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()
        """For whoever keeps it past a block."""

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()
