"""The files in `index/`: an index as it was at one revision, under a name of its own, never changed.

Which of them is in use, and what it was built from, the store says (a `Stamp` among its settings): a file
from another time or another gallery is not named there, and what does not fit its stamp is passed over. The
store can always rebuild it.
"""

from __future__ import annotations

import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gallery.errors import GalleryError
from gallery.indexes.base import Trained, VectorIndex
from gallery.stores.catalog import sync_folder

_BYTES_AT_A_TIME = 2**20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an index file was built from."""

    kind: str
    generation: int
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
    trained_on: int = 0
    """How many templates there were when the index was trained; 0 for a kind that needs no training."""

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


class MappedFile:
    """An index file in use, held open: whoever deletes it only takes its name away."""

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def is_whole(self) -> bool:
        """False once somebody cut it short or wrote past its end."""
        return os.fstat(self._handle).st_size == self._size

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._handle)


def load(folder: Path, index: VectorIndex, stamp: Stamp) -> MappedFile | None:
    """Fills `index` from the file of `stamp`; None when it is not there or not as it was written."""
    path = folder / stamp.file
    if stamp.kind != index.kind or not is_sound(folder, stamp):
        return None
    try:
        file = MappedFile(path, stamp.size)
    except OSError:
        return None
    try:
        index.load(path)
    except BaseException as error:
        file.close()
        if isinstance(error, (GalleryError, OSError)):
            return None
        raise
    return file


def is_sound(folder: Path, stamp: Stamp) -> bool:
    """Whether the file of `stamp` is there as it was written. Reads all of it."""
    path = folder / stamp.file
    try:
        return path.stat().st_size == stamp.size and checksum(path) == stamp.content
    except OSError:
        return False


def save(folder: Path, index: VectorIndex, generation: int, revision: int, last_template: int) -> Stamp:
    """Writes a new file, on the disk when it returns. It is in use once the store has the stamp."""
    if folder.is_symlink():
        raise GalleryError(f"{folder} is a link, and no index is written to where it leads")
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    path = folder / f"{revision}-{os.urandom(4).hex()}.faiss"
    try:
        index.save(path)
        sync_folder(folder)
        size, content = path.stat().st_size, checksum(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Stamp(
        kind=index.kind,
        generation=generation,
        revision=revision,
        last_template=last_template,
        templates=len(index),
        file=path.name,
        size=size,
        content=content,
        trained_on=index.trained_on if isinstance(index, Trained) else 0,
    )


def files(folder: Path) -> list[Path]:
    """Every file of the cache; none of what a link leads to, which is somebody's, nor of a folder in it."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [one for one in folder.iterdir() if one.is_symlink() or not one.is_dir()]


def drop(paths: list[Path]) -> None:
    """Deletes files of the cache; somebody who has one mapped keeps it until they let go."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        # What was erased must not come back with a name that a power cut brings back.
        sync_folder(folder)


def checksum(path: Path) -> int:
    """CRC-32 of the CRC-32s of a file's pieces of 1 MiB, several at a time: about 4 GB/s on two cores.

    A plain sum would be faster, and not notice pages that change places: a vector under another number, which
    hides a neighbour.
    """
    content = np.memmap(path, np.uint8, mode="r")

    def sum_of(start: int) -> int:
        return zlib.crc32(content[start : start + _BYTES_AT_A_TIME].data)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        sums = list(threads.map(sum_of, range(0, len(content), _BYTES_AT_A_TIME)))
    return zlib.crc32(np.array(sums, "<u4").tobytes())
