"""Whether a write-ahead log continues the catalog beside it, or one that came later.

SQLite lays any log whose checksums hold over any catalog: over one that was put back from a backup too, with
pages of two ages as the result, each of them sound. What tells them apart is the row that every commit
rewrites: the log's first commit comes right after one that the catalog has, or before.
"""

from __future__ import annotations

import struct
from pathlib import Path

from gallery.errors import CorruptGalleryError
from gallery.stores.integrity import agrees
from gallery.stores.pages import TABLE_LEAF, Cell, Pages
from gallery.stores.state import COLUMNS, CatalogState

_FIELDS = len(COLUMNS.split(",")) + 1


def check_log(path: Path) -> None:
    """CorruptGalleryError when the log of the catalog at `path` continues a newer one.

    No connection of this process may be open: closing a file drops all the locks that a process has on it.
    """
    log = path.with_name(path.name + "-wal")
    try:
        if not path.is_file() or log.stat().st_size <= 32:
            return
        first, stood = _revisions(path, log)
    except (OSError, ValueError, struct.error):
        # What cannot be read is noticed by who reads it.
        return
    if first is not None and stood is not None and first > stood + 1:
        raise CorruptGalleryError(
            f"{path} is of revision {stood}, and the log beside it goes on from revision {first - 1}: an "
            f"older file was put in the place of the catalog. Put the newer one back, or run "
            f"`gallery check --repair {path.parent}` to go on from revision {stood} without the log"
        )


def _revisions(path: Path, log: Path) -> tuple[int | None, int | None]:
    """(of the first commit in the log, of the catalog); None for what cannot be told."""
    with path.open("rb") as file:
        header = file.read(18)
    size = int.from_bytes(header[16:18], "big")
    pages = Pages(path, 65_536 if size == 1 else size)
    try:
        root = _root_of_state(pages)
        # The log before the catalog, which another process may be bringing up to date.
        first = None if root is None else _first_in(log, root, pages)
        return first, None if root is None else _revision(list(pages.cells_of(root, (TABLE_LEAF,))))
    finally:
        pages.close()


def _root_of_state(pages: Pages) -> int | None:
    todo, seen = [1], set[int]()
    while todo:
        number = todo.pop()
        if number in seen:
            continue
        seen.add(number)
        for cell in pages.cells_of(number, (TABLE_LEAF,)):
            if cell.values is not None and cell.values[:2] == ("table", "state"):
                return int(cell.values[3])
        todo += pages.children(number) or []
    return None


def _revision(cells: list[Cell]) -> int | None:
    for cell in cells:
        if cell.values is not None and len(cell.values) == _FIELDS:
            state = CatalogState(*cell.values[:-1])
            if agrees(state.checksum, cell.values[-1]):
                return state.revision
    return None


def _first_in(log: Path, root: int, pages: Pages) -> int | None:
    """The revision of the first commit in the log that has one."""
    with log.open("rb") as file:
        _, _, size, _, *salt, _, _ = struct.unpack(">8I", file.read(32))
        if size != pages.size:
            return None
        found = None
        while len(frame := file.read(24)) == 24:
            page, commit, *mine, _, _ = struct.unpack(">6I", frame)
            if mine != salt:
                return None
            if page == root:
                found = _revision(pages.cells_in(root, file.read(size)))
            else:
                file.seek(size, 1)
            if commit and found is not None:
                return found
    return None
