"""The files in `index/`: an index, stamped with what it was built from.

A file of vectors gets a name of its own and never changes; `current.json` names the one in use and is
replaced atomically once that file is on the disk. Both carry a checksum. Whatever does not fit is passed
over: the store can always rebuild it.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gallery.errors import GalleryError
from gallery.indexes.base import VectorIndex

_CURRENT = "current.json"
_WORDS_AT_A_TIME = 2**17


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an index file was built from."""

    identity: str
    """The gallery's, so that a file from another gallery is never taken up."""
    kind: str
    revision: int
    last_template: int
    """The highest template number given until then."""
    templates: int
    """How many the index could find."""
    file: str
    size: int
    """Bytes."""
    content: int
    """Checksum of the file."""


def load(
    folder: Path, index: VectorIndex, identity: str, revisions: range, last_template: int
) -> Stamp | None:
    """Fills `index` from the file in use when it fits the store's present state; None when none does."""
    stamp = _stamp(folder)
    if stamp is None or (stamp.identity, stamp.kind) != (identity, index.kind):
        return None
    if stamp.revision not in revisions or stamp.last_template > last_template:
        return None
    path = folder / stamp.file
    try:
        if path.stat().st_size != stamp.size or checksum(path) != stamp.content:
            return None
        index.load(path)
    except (GalleryError, OSError):
        return None
    return stamp


def save(folder: Path, index: VectorIndex, identity: str, revision: int, last_template: int) -> None:
    """Writes a generation and makes it the one in use; the files there before are deleted."""
    folder.mkdir(mode=0o700, exist_ok=True)
    before = [path for path in folder.iterdir() if path.name != _CURRENT]
    path = folder / f"{revision}-{os.urandom(4).hex()}.faiss"
    try:
        index.save(path)
        size, content = path.stat().st_size, checksum(path)
        stamp = Stamp(identity, index.kind, revision, last_template, len(index), path.name, size, content)
        _replace(folder / _CURRENT, _stamped(stamp))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    for old in before:
        # Somebody who has it mapped keeps it until they let go.
        old.unlink(missing_ok=True)


def drop(folder: Path) -> None:
    """Deletes every file of the cache."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)


def checksum(path: Path) -> int:
    """CRC-32 of the sums of a file's 64-bit words, 1 MiB at a time: as fast as memory, unlike a plain CRC.

    Notices any one change, torn writes and zeroed pages; not words that change places within a MiB, which
    could only hide a neighbour: what is answered is read from the store.
    """
    content = np.memmap(path, np.uint8, mode="r")
    whole = len(content) // 8 * 8
    words, tail = content[:whole].view("<u8"), bytes(content[whole:])
    sums = [
        words[start : start + _WORDS_AT_A_TIME].sum(dtype=np.uint64)
        for start in range(0, len(words), _WORDS_AT_A_TIME)
    ]
    return zlib.crc32(tail, zlib.crc32(np.array(sums, "<u8").tobytes()))


def _stamped(stamp: Stamp) -> bytes:
    """The content of `current.json`."""
    fields = asdict(stamp)
    return json.dumps(fields | {"checksum": zlib.crc32(json.dumps(fields).encode())}, indent=1).encode()


def _stamp(folder: Path) -> Stamp | None:
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        content = (folder / _CURRENT).read_bytes()
        fields = json.loads(content)
        fields.pop("checksum", None)
        stamp = Stamp(**fields)
        if content == _stamped(stamp) and Path(stamp.file).name == stamp.file:
            return stamp
    return None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}.tmp")
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
