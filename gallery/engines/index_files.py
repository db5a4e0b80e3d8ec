"""The files in `index/`: an index as it was at one revision, under a name of its own, never changed.

Which of them is in use, and what it was built from, the store says (a `Stamp` among its settings): a file
from another time or another gallery is not named there, and what does not fit its stamp is passed over. The
store can always rebuild it.
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
from gallery.stores.catalog import sync_folder

_WORDS_AT_A_TIME = 2**17


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an index file was built from."""

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

    def to_json(self) -> str:
        """What the store keeps."""
        return json.dumps(asdict(self))


def stamp_of(text: str | None) -> Stamp | None:
    """The stamp that the store keeps; None when there is none, or none that can be understood."""
    with suppress(ValueError, TypeError, RecursionError):
        stamp = Stamp(**json.loads(text or "null"))
        if Path(stamp.file).name == stamp.file:
            return stamp
    return None


def load(folder: Path, index: VectorIndex, stamp: Stamp) -> bool:
    """Fills `index` from the file of `stamp`; False when it is not there or not as it was written."""
    path = folder / stamp.file
    try:
        if stamp.kind != index.kind or path.stat().st_size != stamp.size or checksum(path) != stamp.content:
            return False
        index.load(path)
    except (GalleryError, OSError):
        return False
    return True


def save(folder: Path, index: VectorIndex, revision: int, last_template: int) -> Stamp:
    """Writes a new file, on the disk when it returns. It is in use once the store has the stamp."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{revision}-{os.urandom(4).hex()}.faiss"
    try:
        index.save(path)
        sync_folder(folder)
        size, content = path.stat().st_size, checksum(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Stamp(index.kind, revision, last_template, len(index), path.name, size, content)


def files(folder: Path) -> list[Path]:
    """Every file of the cache."""
    return list(folder.iterdir()) if folder.is_dir() else []


def drop(paths: list[Path]) -> None:
    """Deletes files of the cache; somebody who has one mapped keeps it until they let go."""
    for path in paths:
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
