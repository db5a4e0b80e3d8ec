"""`catalog.head`: a few bytes beside the catalog that say how far it had come.

A catalog that was replaced by an older one, or that lost its write-ahead log, is sound in itself; only
something outside it can tell. The head is written after each commit and never before, so it cannot be ahead
of a catalog that nothing happened to. It is not flushed: a power cut may leave an older head, which notices
less and claims nothing false.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LENGTH = 128
_LOOKS, _BETWEEN = 10, 0.01
"""How often a head that is not as it was written is looked at again, and the seconds before each."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far the catalog of that identity had come."""

    identity: str
    revision: int

    def to_bytes(self) -> bytes:
        """One line of text of fixed length, its checksum last."""
        text = b"siamese-gallery %s %020d" % (self.identity.encode(), self.revision)
        return b"%s %08x\n" % (text.ljust(_LENGTH - 10), zlib.crc32(text))


def head_path(catalog: Path) -> Path:
    """Where the head of a catalog is."""
    return catalog.with_suffix(".head")


def read_head(catalog: Path) -> Head | None:
    """The head; None when there is none. ValueError when it is not as it was written."""
    path = head_path(catalog)
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN)
        try:
            content = _content(path)
        except FileNotFoundError:
            return None
        if not content.strip(b"\0"):
            # It was being made when the power went.
            return None
        # Whoever reads while another process writes may see some bytes of either; damage stays.
        head = _parsed(content)
        if head is not None:
            return head
    raise ValueError(f"{path.name} is not as it was written")


def _parsed(content: bytes) -> Head | None:
    try:
        text, checksum = content[: _LENGTH - 10].rstrip(b" "), content[_LENGTH - 9 : _LENGTH - 1]
        _, identity, revision = text.decode("ascii").split(" ")
        head = Head(identity, int(revision))
        sound = len(content) == _LENGTH and int(checksum, 16) == zlib.crc32(text)
    except ValueError:
        return None
    return head if sound and head.to_bytes() == content else None


def _content(path: Path) -> bytes:
    """What is in the file, and a little of what is behind that; OSError for a link, a pipe or a folder."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path.name} is no file")
        return os.read(handle, 2 * _LENGTH)
    finally:
        os.close(handle)


def is_another_file(catalog: Path) -> bool:
    """Whether something else lies in the place of the head: no crash makes it longer than it is written."""
    try:
        found = head_path(catalog).lstat()
    except OSError:
        return False
    return not stat.S_ISREG(found.st_mode) or found.st_size > _LENGTH


class HeadWriter:
    """Keeps the head of one catalog up to date. A head that cannot be written is gone without."""

    def __init__(self, catalog: Path, identity: str) -> None:
        self._path = head_path(catalog)
        self._identity = identity
        self._file: int | None = None

    def write(self, revision: int) -> None:
        """Says that `revision` is committed."""
        with suppress(OSError):
            if self._file is None:
                # A pipe in its place would wait for a reader without O_NONBLOCK.
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
                os.ftruncate(self._file, _LENGTH)
            os.pwrite(self._file, Head(self._identity, revision).to_bytes(), 0)

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
