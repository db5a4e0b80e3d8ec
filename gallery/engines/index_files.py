"""The files in `index/`: an index, stamped with what it was built from.

A file of vectors gets a name of its own and never changes; `current.json` names the one in use and is
replaced atomically once that file is on the disk. Whatever does not fit is passed over: the store can always
rebuild it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gallery.errors import GalleryError
from gallery.indexes.base import VectorIndex

_CURRENT = "current.json"


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


def load(folder: Path, index: VectorIndex, identity: str, revision: int, last_template: int) -> Stamp | None:
    """Fills `index` from the newest file that fits the store's present state; None when there is none."""
    stamp = _stamp(folder)
    if stamp is None or (stamp.identity, stamp.kind) != (identity, index.kind):
        return None
    path = folder / stamp.file
    if stamp.revision > revision or stamp.last_template > last_template or not _whole(path, stamp.size):
        return None
    try:
        index.load(path)
    except GalleryError:
        return None
    return stamp


def save(folder: Path, index: VectorIndex, identity: str, revision: int, last_template: int) -> None:
    """Writes a generation and makes it the one in use."""
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{revision}-{os.urandom(4).hex()}.faiss"
    index.save(folder / name)
    size = (folder / name).stat().st_size
    stamp = Stamp(identity, index.kind, revision, last_template, len(index), name, size)
    _replace(folder / _CURRENT, json.dumps(asdict(stamp), indent=1).encode())
    for old in folder.glob("*.faiss"):
        if old.name != name:
            # Somebody who has it mapped keeps it until they let go.
            old.unlink(missing_ok=True)


def drop(folder: Path) -> None:
    """Deletes every file of the cache."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)


def _stamp(folder: Path) -> Stamp | None:
    try:
        stamp = Stamp(**json.loads((folder / _CURRENT).read_bytes()))
        fits = (
            Path(stamp.file).name == stamp.file and min(stamp.revision, stamp.last_template, stamp.size) >= 0
        )
    except (OSError, ValueError, TypeError):
        return None
    return stamp if fits else None


def _whole(path: Path, size: int) -> bool:
    with suppress(OSError):
        return path.stat().st_size == size
    return False


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
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
