"""The files in `index/`: an index as it was at one revision, under a name of its own, never changed.

Which of them is in use, and what it was built from, the store says (a `Stamp` among its settings): a file
from another time or another gallery is not named there, and what does not fit its stamp is passed over. The
store can always rebuild it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gallery import workers
from gallery.errors import GalleryError
from gallery.indexes.base import Trained, VectorIndex
from gallery.records import Problem
from gallery.stores.catalog import sync_folder

_BYTES_AT_A_TIME = 2**20
_NAME = re.compile(r"[0-9]+-[0-9a-f]+\.faiss")


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
        whole = (stamp.generation, stamp.revision, stamp.last_template, stamp.templates)
        if _NAME.fullmatch(stamp.file) and all(
            type(number) is int and 0 <= number < 2**63 for number in whole
        ):
            return stamp
    return None


class MappedFile:
    """An index file in use, held open: whoever deletes it only takes its name away."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._found = self._now()

    def is_untouched(self) -> bool:
        """False once somebody wrote to it or cut it short: it was compared with its checksum before that."""
        return self._now() == self._found

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self._handle)
        return found.st_size, found.st_mtime_ns

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._handle)


def load(folder: Path, index: VectorIndex, stamp: Stamp) -> MappedFile | None:
    """Fills `index` from the file of `stamp`; None when it is not there or not as it was written."""
    path = folder / stamp.file
    if stamp.kind != index.kind:
        return None
    try:
        file = MappedFile(path)
    except OSError:
        return None
    try:
        if not is_sound(folder, stamp):
            file.close()
            return None
        index.load(path)
    except BaseException as error:
        file.close()
        if isinstance(error, (GalleryError, OSError)):
            return None
        raise
    return file


def is_sound(folder: Path, stamp: Stamp) -> bool:
    """Whether the file of `stamp` is there, and no link, as it was written. Reads all of it."""
    path = folder / stamp.file
    try:
        if folder.is_symlink() or not stat.S_ISREG(path.lstat().st_mode):
            return False
        return path.stat().st_size == stamp.size and checksum(path) == stamp.content
    except (OSError, ValueError):
        return False


def problems(folder: Path, stamp: Stamp | None) -> list[Problem]:
    """What is wrong with the file of `stamp`, or with the folder in its place. Reads all of it."""
    if folder.is_symlink():
        what = "it is a link, through which nothing is read or written; the next index file replaces it"
        return [Problem(f"{folder.name}/", what)]
    if stamp is None or not (folder / stamp.file).exists() or is_sound(folder, stamp):
        return []
    what = "it is not as it was written; nothing is answered from it, and it is made anew"
    return [Problem(f"{folder.name}/{stamp.file}", what)]


def save(folder: Path, index: VectorIndex, generation: int, revision: int, last_template: int) -> Stamp:
    """Writes a new file, on the disk when it returns. It is in use once the store has the stamp."""
    if folder.is_symlink():
        # It would lead out of the gallery.
        folder.unlink()
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
    """Everything in the cache; nothing of what a link in its place leads to."""
    return list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def drop_if_possible(folder: Path) -> None:
    """Deletes what nothing refers to any more; what cannot be deleted is rubbish that does no harm."""
    with suppress(OSError):
        drop(files(folder))


def drop(paths: list[Path]) -> None:
    """Deletes files of the cache; somebody who has one mapped keeps it until they let go."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
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

    starts = range(0, len(content), _BYTES_AT_A_TIME)
    sums = workers.side_by_side(sum_of, starts, min(4, os.cpu_count() or 1))
    return zlib.crc32(np.array(sums, "<u4").tobytes())
