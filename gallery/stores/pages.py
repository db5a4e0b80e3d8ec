"""A SQLite file read without SQLite, page by page: what is left of one that SQLite will not read.

Every leaf is looked at, whether a way leads to it or not, and the write-ahead log is laid over the file as
far as its checksums hold, or, where that is asked for, with what is whole behind the damage. The layout is
that of https://www.sqlite.org/fileformat2.html. Nothing here is believed by its place: whoever reads a record
holds it against the record's own checksum.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIZES = [2**power for power in range(9, 17)]
TABLE_LEAF, TABLE_INNER, INDEX_LEAF = 13, 5, 10

_SAMPLE = 2000
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


@dataclass(frozen=True, slots=True)
class Cell:
    """A record of a leaf. values: None when it cannot be decoded; rowid: None in an index."""

    page: int
    rowid: int | None
    values: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class _Log:
    """What a write-ahead log holds, of the last commit that was found in it."""

    size: int
    """Of a page."""
    frames: dict[int, int]
    """{page: where it begins in the log}"""
    count: int
    """Pages of the catalog."""
    bad: int


_NOTHING = _Log(0, {}, 0, 0)


class Pages:
    """The pages of a catalog, counted from 1, of the newest commit that can be read."""

    def __init__(self, path: Path, size: int = 0, log: Path | None = None) -> None:
        """Opens the file at `path` and its log, either of which may be missing or hold anything.

        size: of a page; 0 is to be found out. With a size the log is left alone. log: where it is, when it is
        not beside the file.
        They stay open until `close`: closing a file drops the locks that this process has on it.
        """
        self._file = path.open("rb") if path.is_file() else None
        self._content: Any = b""
        if self._file is not None and path.stat().st_size:
            self._content = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        wal = log or path.with_name(path.name + "-wal")
        self._wal = wal.read_bytes() if wal.is_file() and not size else b""
        self._laid = _NOTHING
        self.count = 0
        if size and size not in SIZES:
            self.close()
            raise ValueError(f"a page of {size} bytes")
        sound = _read_log(self._wal)
        if sound.frames or size:
            self.size = size or sound.size
        else:
            self.size = max(SIZES, key=self._decodable)
        self._lay(sound)
        self.bad_frames = sound.bad
        """Pages of the log's last round that do not agree with their checksums."""

    def lay(self, *, all_of_the_log: bool) -> None:
        """Lays the log over the file: as far as it is sound, or with all that is whole behind the damage too.

        What follows damage may be older than what precedes it: a power cut leaves unfinished commits.
        """
        self._lay(_read_log(self._wal, beyond=all_of_the_log))

    def _lay(self, log: _Log) -> None:
        self._laid = log if log.size == self.size else _NOTHING
        self.count = max(self._laid.count, self._pages_of_file())

    def close(self) -> None:
        """Lets go of the file."""
        if isinstance(self._content, mmap.mmap):
            self._content.close()
        if self._file is not None:
            self._file.close()

    def _pages_of_file(self) -> int:
        return -(-len(self._content) // self.size)

    def _decodable(self, size: int) -> tuple[int, int]:
        """How many records can be decoded with pages of that size; a smaller page wins a tie."""
        self.size = size
        self.count = min(_SAMPLE, self._pages_of_file())
        return sum(cell.values is not None for cell in self.cells()), -size

    def page(self, number: int) -> bytes:
        """One page; shorter, or empty, where the file ends."""
        start = self._laid.frames.get(number)
        if start is not None:
            return self._wal[start : start + self.size]
        page: bytes = self._content[(number - 1) * self.size : number * self.size]
        return page

    def cells(self, *kinds: int) -> Iterator[Cell]:
        """Every record of every leaf, of those kinds of page, in the order of the file."""
        for number in range(1, self.count + 1):
            yield from self.cells_of(number, kinds or (TABLE_LEAF, INDEX_LEAF))

    def cells_of(self, number: int, kinds: tuple[int, ...]) -> Iterator[Cell]:
        """The records of one page, if it is of such a kind."""
        yield from self.cells_in(number, self.page(number), kinds)

    def cells_in(self, number: int, page: bytes, kinds: tuple[int, ...] = (TABLE_LEAF,)) -> list[Cell]:
        """The records of a page as it is given."""
        return list(self._cells_in(number, page, kinds))

    def _cells_in(self, number: int, page: bytes, kinds: tuple[int, ...]) -> Iterator[Cell]:
        start = 100 if number == 1 else 0
        if len(page) < start + 8 or page[start] not in kinds:
            return
        in_table = page[start] == TABLE_LEAF
        for at in range(int.from_bytes(page[start + 3 : start + 5], "big")):
            pointer = start + 8 + 2 * at
            if pointer + 2 > len(page):
                return
            yield self._cell(number, page, int.from_bytes(page[pointer : pointer + 2], "big"), in_table)

    def children(self, number: int) -> list[int] | None:
        """The pages below an inner page of a table, [] for a leaf; None for anything else."""
        page = self.page(number)
        start = 100 if number == 1 else 0
        if len(page) < start + 12 or page[start] not in (TABLE_LEAF, TABLE_INNER):
            return None
        if page[start] == TABLE_LEAF:
            return []
        below = [int.from_bytes(page[start + 8 : start + 12], "big")]
        for at in range(int.from_bytes(page[start + 3 : start + 5], "big")):
            pointer = int.from_bytes(page[start + 12 + 2 * at : start + 14 + 2 * at], "big")
            below.append(int.from_bytes(page[pointer : pointer + 4], "big"))
        return below

    def _cell(self, number: int, page: bytes, at: int, in_table: bool) -> Cell:
        rowid = None
        try:
            length, at = _varint(page, at)
            if in_table:
                rowid, at = _varint(page, at)
                rowid -= (rowid >> 63) << 64
            return Cell(number, rowid, _decoded(self._payload(page, at, length, in_table)))
        except (IndexError, ValueError, struct.error):
            return Cell(number, rowid, None)

    def _payload(self, page: bytes, at: int, length: int, in_table: bool) -> bytes:
        """A record's bytes, with those that went on in overflow pages."""
        most = self.size - 35 if in_table else (self.size - 12) * 64 // 255 - 23
        if length <= most:
            return page[at : at + length]
        if length > self.size * (self.count + 1):
            raise ValueError("longer than the file")
        least = (self.size - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.size - 4)
        local = local if local <= most else least
        parts = [page[at : at + local]]
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        left = length - local
        while left > 0:
            if not 0 < following <= self.count:
                raise ValueError("an overflow page is missing")
            more = self.page(following)
            following = int.from_bytes(more[:4], "big")
            parts.append(more[4 : 4 + left])
            left -= self.size - 4
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where the next one begins)"""
    value = 0
    for step in range(at, at + 8):
        byte = data[step]
        value = value << 7 | byte & 127
        if byte < 128:
            return value, step + 1
    return value << 8 | data[at + 8], at + 9


def _decoded(payload: bytes) -> tuple[Any, ...]:
    """The values of a record; ValueError when it is none."""
    end, at = _varint(payload, 0)
    body = end
    values: list[Any] = []
    while at < end:
        kind, at = _varint(payload, at)
        length = _INTEGER_BYTES.get(kind, 0) if kind < 12 else (kind - 12) // 2
        if kind in (7, 10, 11) or body + length > len(payload):
            raise ValueError("no record of a catalog")
        content = payload[body : body + length]
        body += length
        if kind == 0:
            values.append(None)
        elif kind < 12:
            values.append(kind - 8 if kind > 6 else int.from_bytes(content, "big", signed=True))
        else:
            values.append(content.decode() if kind % 2 else content)
    if body != len(payload):
        raise ValueError("bytes are left over")
    return tuple(values)


def _read_log(wal: bytes, beyond: bool = False) -> _Log:
    """As far as its checksums hold, as SQLite reads it, or `beyond`.

    Each frame's checksum goes on from that of the frame before, which is written there: so what is whole
    behind a damaged frame can be told.
    """
    if len(wal) < 32:
        return _NOTHING
    magic, _, size, _, *salt, first, second = struct.unpack(">8I", wal[:32])
    if magic & ~1 != 0x377F0682 or size not in SIZES:
        return _NOTHING
    order = ">" if magic & 1 else "<"
    sums = _sums(wal[:24], (0, 0), order)
    if sums != (first, second):
        return _NOTHING
    committed: dict[int, int] = {}
    pending: dict[int, int] = {}
    count = bad = 0
    ended = False
    for at in range(32, len(wal) - size - 23, 24 + size):
        page, pages, *mine, first, second = struct.unpack(">6I", wal[at : at + 24])
        expected = _sums(wal[at + 24 : at + 24 + size], _sums(wal[at : at + 8], sums, order), order)
        sums = first, second
        if mine != salt or sums != expected:
            # With another salt it may be of a round before this one, which this one has not reached.
            bad += mine == salt
            ended = not beyond
        elif not ended:
            pending[page] = at + 24
            if pages:
                committed |= pending
                pending, count = {}, pages
    return _Log(size, committed, count, bad)


def _sums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        first = first + words[at] + second & 0xFFFFFFFF
        second = second + words[at + 1] + first & 0xFFFFFFFF
    return first, second
