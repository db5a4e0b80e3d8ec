"""What the storage benchmark asks of everything that it compares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from benchmarks.storage_data import Block


class NotMeasuredError(Exception):
    """Says why a contender has no such figure."""


class Contender(Protocol):
    """One way to keep embeddings in a folder under ids. Used as create or open, then the rest, then close."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]  # whose versions are reported
    durable: ClassVar[str]  # what one addition has survived when it returns, as seen with strace
    search: ClassVar[str]  # how the nearest is found

    def load(self) -> None:
        """Imports what is needed; ImportError when it is not installed."""

    def create(self, folder: Path) -> None:
        """Makes an empty one."""

    def open(self, folder: Path) -> None:
        """Opens one that was closed."""

    def bulk(self, blocks: Iterable[Block]) -> None:
        """Adds many in the fastest natural way."""

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        """Adds one, which is there when this returns."""

    def remove(self, id: str) -> None:
        """Takes one away, which is gone when this returns."""

    def ask(self, probe: np.ndarray) -> str:
        """The id of the nearest."""

    def close(self) -> None:
        """Lets go of the files."""

    def reopen_and_ask(self, folder: Path, probe: np.ndarray) -> str:
        """Opens one and answers."""
        self.open(folder)
        return self.ask(probe)

    def bytes(self, folder: Path) -> dict[str, int]:
        """Bytes of the files of a closed one: all that has to be kept, and caches apart from it."""
        return {"kept": sum(file.stat().st_size for file in files(folder)), "index": 0}


def files(folder: Path) -> list[Path]:
    """Every file in a folder, however deep; none when there is no such folder."""
    return [path for path in folder.rglob("*") if path.is_file()]
