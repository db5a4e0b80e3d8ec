"""People who must leave no trace, and the search for what is left of them in raw files."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DIM = 64
PIECE = 32
"""Every run of 64 bytes holds one of the pieces of 32 bytes that a value is cut into."""


class Files:
    """Embeds a file by the SHA-256 of its bytes, so that no byte of the file is one of the embedding."""

    metric = "euclidean"

    def __init__(self, version: int = 1, dim: int = DIM) -> None:
        self.dim = dim
        self.name = f"files {version}"
        self.fingerprint = f"files/{version}/{dim}"
        self._salt = version

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        return np.array([self.embedding(Path(item).read_bytes()) for item in items], np.float32)

    def embedding(self, content: bytes) -> np.ndarray:
        seed = hashlib.sha256(bytes([self._salt]) + content).digest()
        return np.random.default_rng(list(seed)).standard_normal(self.dim).astype(np.float32)


class Person:
    """Somebody with an id, items in files, metadata longer than many pages, and all that is made of them."""

    def __init__(self, folder: Path, templates: int = 2, large: int = 100_000) -> None:
        self.mark = secrets.token_hex(16)
        self.id = f"Zoë-{self.mark}-中"
        self.key = f"key-{secrets.token_hex(16)}"
        self.large = secrets.token_hex(large // 2)
        self.contents = [secrets.token_bytes(3000) for _ in range(templates)]
        self.paths = [folder / f"{secrets.token_hex(16)}.bin" for _ in range(templates)]
        for path, content in zip(self.paths, self.contents, strict=True):
            path.write_bytes(content)

    @property
    def metadata(self) -> dict[str, Any]:
        return {self.key: f"value of {self.mark}", "large": self.large}

    def rows(self, encoder: Files) -> np.ndarray:
        return np.stack([encoder.embedding(content) for content in self.contents])

    def about(self) -> dict[str, list[bytes]]:
        """What is kept of it but embeddings and items: {what: values of which no piece may be left}."""
        return {
            "id": [self.mark.encode(), self.id.encode(), self.id.encode("utf-16-le")],
            "metadata": [self.key.encode(), self.large.encode()],
            "source": [path.stem.encode() for path in self.paths],
        }

    def traces(self, *encoders: Files) -> dict[str, list[bytes]]:
        """Everything that is kept of it, under these encoders."""
        rows = {one.fingerprint: [row.tobytes() for row in self.rows(one)] for one in encoders}
        return self.about() | rows | {"items": self.contents}


def pieces(value: bytes) -> list[bytes]:
    """A value that is short as it is, and a long one in pieces of which every window of 64 bytes has one."""
    if len(value) < 2 * PIECE:
        return [value]
    return [value[at : at + PIECE] for at in range(0, len(value) - PIECE + 1, PIECE)]


def files(*folders: Path) -> dict[str, bytes]:
    """Every file below the folders, links not followed, with its bytes; its name is one of them."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_dir() or path.is_symlink():
                name = str(path.relative_to(folder.parent))
                held = b"" if path.is_symlink() else path.read_bytes()
                found[name] = name.encode() + b"\0" + held
    return found


def left(traces: dict[str, list[bytes]], *folders: Path) -> set[tuple[str, str]]:
    """(what, in which file) of every piece of every value that can be found."""
    searches = {
        what: Search(piece for value in values for piece in pieces(value)) for what, values in traces.items()
    }
    return {
        (what, name)
        for name, content in files(*folders).items()
        for what, search in searches.items()
        if search.finds(content)
    }


class Search:
    """Thousands of pieces at a time: a table of the hashes of their first 8 bytes says where to look."""

    def __init__(self, wanted: Iterable[bytes]) -> None:
        self._wanted: dict[bytes, list[bytes]] = {}
        for one in wanted:
            assert len(one) >= 8, "short enough to be there by chance"
            self._wanted.setdefault(one[:8], []).append(one)
        self._table = np.zeros(2**20, np.bool_)
        self._table[_hashes(b"".join(self._wanted))[::8]] = True

    def finds(self, content: bytes) -> bool:
        """Whether any of them is in `content`."""
        return any(
            content.startswith(one, at)
            for at in np.flatnonzero(self._table[_hashes(content)]).tolist()
            for one in self._wanted.get(content[at : at + 8], [])
        )


def _hashes(content: bytes) -> np.ndarray:
    """20 bits of every run of 8 bytes."""
    found = np.zeros(max(0, len(content) - 7), np.uint32)
    for shift in range(8):
        words = np.frombuffer(content[shift : shift + (len(content) - shift) // 8 * 8], "<u8")
        found[shift::8] = (words * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(44)
    return found


def kinds(found: set[tuple[str, str]]) -> set[str]:
    """What was found, wherever."""
    return {what for what, _ in found}
