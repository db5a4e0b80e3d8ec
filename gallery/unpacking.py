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
_HANDLES: set[int] = set()
"""Of the folders that this process has locked. A forked one shares the lock and would outlive it."""


def _let_go() -> None:
    for handle in _HANDLES:
        os.close(handle)
    _HANDLES.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def unpacking(location: Path) -> Iterator[Path]:
    """A new folder, 0700, in the gallery's; deleted with what is in it at the end."""
    try:
        folder, handle = _locked_folder(location)
    except OSError as error:
        raise GalleryError(
            f"{location} has no room for kept items, which the encoder reads there: {error.strerror or error}"
        ) from error
    _HANDLES.add(handle)
    try:
        yield folder
    finally:
        if handle in _HANDLES:  # else this is a process that was forked meanwhile
            shutil.rmtree(folder, ignore_errors=True)
            _HANDLES.remove(handle)
            os.close(handle)


def _locked_folder(location: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=location))
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # An erasure that came in between holds it, and only for as long as it takes to delete it.
                fcntl.flock(handle, fcntl.LOCK_EX)
                folder.stat()
            except BaseException:
                os.close(handle)
                raise
            return folder, handle


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
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        raise GalleryError(f"{folder} cannot be deleted: {error.strerror or error}") from error
    finally:
        os.close(handle)
