"""A disk that can forget: replays a trace of file operations, and makes what a power cut may leave of it.

What is modelled, as adversarially as POSIX allows and ext4 in ordered mode does not rule out:

- A file has durable content, which is what its last fsync or fdatasync found, and changes since then: writes
  and changes of its size. At a cut any of them may be lost, whichever came first, and a write may be torn
  between sectors of 512 bytes. What lies before or between writes that were kept reads as zeros.
- A folder has durable names, which are those of its own last fsync, and changes since then: new files,
  renames, deletions. Any of them may be lost. A file whose content was synced may lack its name; a deleted
  file may be back; a renamed one has its old name or its new one, never both or neither.
- A lost folder takes everything in it along.
- Acknowledgements are not on the disk: they were said to somebody outside.

Not modelled: sectors that are torn or return other bytes than were written, a disk that says it synced and
did not. SQLite's -shm is rubbish after a cut: it is written through a memory map that is never synced.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.crash.shim import Operation

SECTOR = 512

Survives = Callable[[int], bool]
"""Whether a change survives, by the index of its operation."""


@dataclass(frozen=True, slots=True)
class Change:
    """Of a file: `data` at `offset`, or without data the size `offset`."""

    at: int
    offset: int
    data: bytes | None

    def sectors(self) -> Iterator[Change]:
        """What can be lost by itself."""
        if self.data is None:
            yield self
            return
        start = self.offset
        end = self.offset + len(self.data)
        while start < end:
            stop = min(end, (start // SECTOR + 1) * SECTOR)
            yield Change(self.at, start, self.data[start - self.offset : stop - self.offset])
            start = stop

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
            return
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(eq=False, slots=True)
class Node:
    """A file, or a folder (whose names the disk keeps)."""

    folder: str | None = None
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            change.apply(self.durable)
        self.pending.clear()

    def left(self, survives: Survives) -> bytearray:
        """The content after a cut."""
        content = bytearray(self.durable)
        for change in self.pending:
            for sector in change.sectors():
                if survives(sector.at):
                    sector.apply(content)
        return content


@dataclass(frozen=True, slots=True)
class Naming:
    """A change of names: `node` loses the name `old` where that is given, and gets `new` where that is."""

    at: int
    old: str | None
    new: str | None
    node: Node

    def folders(self) -> set[str]:
        return {str(PurePosixPath(path).parent) for path in (self.old, self.new) if path}

    def apply(self, names: dict[str, Node]) -> None:
        if self.old is not None and names.get(self.old) is not self.node:
            # The name that was to go never came to be.
            return
        if self.old is not None:
            del names[self.old]
        if self.new is not None:
            names[self.new] = self.node


class Disk:
    """The folder `root` of the trace, empty or as it is found now; paths below are as in the trace."""

    def __init__(self, root: Path, *, found: bool = False) -> None:
        self._root = str(root)
        self._durable: dict[str, Node] = {self._root: Node(self._root)}
        self._pending: list[Naming] = []
        if found:
            for path in root.rglob("*"):
                node = Node(str(path)) if path.is_dir() else Node(durable=bytearray(path.read_bytes()))
                self._durable[str(path)] = node
        self._live = dict(self._durable)
        self._handles: dict[int, Node] = {}
        self._count = 0
        self.said = bytearray()

    def replay(self, operation: Operation) -> None:
        """One more operation happens."""
        self._count += 1
        if operation.result < 0:
            return
        kind, path = operation.kind, operation.path
        if kind == "ack":
            self.said += operation.data
        elif kind in ("create", "empty", "open"):
            self._open(kind, path, operation.handle)
        elif kind in ("write", "resize"):
            data = operation.data if kind == "write" else None
            self._handles[operation.handle].pending.append(Change(self._count, operation.offset, data))
        elif kind == "sync":
            self._sync(self._handles[operation.handle])
        else:
            self._rename(kind, path, operation.other)

    def _open(self, kind: str, path: str, handle: int) -> None:
        if kind == "create":
            self._name(None, path, Node())
        node = self._live[path]
        self._handles[handle] = node
        if kind == "empty":
            node.pending.append(Change(self._count, 0, None))

    def _rename(self, kind: str, path: str, other: str) -> None:
        if kind == "mkdir":
            self._name(None, path, Node(path))
        elif kind == "link":
            self._name(None, other, self._live[path])
        else:
            assert kind in ("unlink", "rmdir", "rename"), kind
            assert kind != "rename" or self._live[path].folder is None, "renamed folders are not modelled"
            self._name(path, other or None, self._live[path])

    def _name(self, old: str | None, new: str | None, node: Node) -> None:
        naming = Naming(self._count, old, new, node)
        naming.apply(self._live)
        self._pending.append(naming)

    def _sync(self, node: Node) -> None:
        node.sync()
        if node.folder is not None:
            for naming in self._pending:
                if node.folder in naming.folders():
                    naming.apply(self._durable)
            self._pending = [naming for naming in self._pending if node.folder not in naming.folders()]

    def cut(self, into: Path, survives: Survives, chance: random.Random) -> None:
        """Writes what is left after a power cut to an empty folder."""
        names = dict(self._durable)
        for naming in self._pending:
            if survives(naming.at):
                naming.apply(names)
        for path in sorted(names):
            if path == self._root or path == f"{self._root}/ack" or not self._reachable(path, names):
                continue
            target = into / path[len(self._root) + 1 :]
            if names[path].folder is not None:
                target.mkdir(mode=0o700)
            elif path.endswith("-shm"):
                target.write_bytes(chance.randbytes(len(names[path].durable) or 32768))
            else:
                target.write_bytes(names[path].left(survives))

    def _reachable(self, path: str, names: dict[str, Node]) -> bool:
        return all(
            str(parent) in names
            for parent in PurePosixPath(path).parents
            if len(str(parent)) >= len(self._root)
        )

    @property
    def happened(self) -> int:
        """How many operations were replayed."""
        return self._count


def survival(mode: str, disk: Disk, chance: random.Random) -> Survives:
    """What survives: "none", "all", "prefix" (an orderly disk, up to some operation), or "some" at random."""
    if mode == "none":
        return lambda at: False
    if mode == "all":
        return lambda at: True
    if mode == "prefix":
        last = chance.randint(max(0, disk.happened - 60), disk.happened)
        return lambda at: at < last or (at == last and chance.random() < 0.5)
    likely = chance.choice((0.1, 0.5, 0.9, 0.98))
    return lambda at: chance.random() < likely
