"""Kept items that are files again, for as long as a migration embeds them: private, and found after a kill.

They lie in the gallery's own folder, where an erasure can reach them, and not in the system's folder for
temporary files. A lock on their folder, which ends with the process, tells whether somebody uses them still.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gallery.errors import GalleryError

_PREFIX = "unpacked-"


@contextmanager
def unpacking(location: Path) -> Iterator[Path]:
    """A new folder, 0700, in the gallery's; deleted with what is in it at the end."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=location))
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise GalleryError(
            f"{location} has no room for kept items, which the encoder reads there: {error.strerror or error}"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def discard_unpacked(location: Path) -> list[Path]:
    """Deletes what processes that are gone have left: the folders of those that are still at work."""
    return [folder for folder in sorted(location.glob(f"{_PREFIX}*")) if not _discarded(folder)]


def _discarded(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        # Somebody's file, or a link: none of ours.
        return True
    try:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            return True
        return False
    finally:
        os.close(handle)
