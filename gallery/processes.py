"""What was opened before a process was forked belongs to the parent."""

from __future__ import annotations

import os
from pathlib import Path

from gallery.errors import GalleryError


def check_not_forked(process: int, location: Path) -> None:
    """GalleryError unless this is the process that opened the gallery.

    To be asked before any lock is taken: another thread may have held it when the process was forked.
    """
    if os.getpid() != process:
        raise GalleryError(
            f"{location} was opened before this process was forked: open it again in the worker"
        )
