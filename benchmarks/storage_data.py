"""What every contender of the storage benchmark is given: random unit vectors, ids and a little metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

DIM = 512
BLOCK = 2000  # also what chromadb, which takes at most 5,461 at a time, can be given in one call
_SEED = 20
Row = tuple[str, np.ndarray, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive subjects with one template each."""

    ids: list[str]
    rows: np.ndarray  # (n, DIM) float32, at unit length
    metadata: list[dict[str, Any]]

    def __iter__(self) -> Iterator[Row]:
        return zip(self.ids, self.rows, self.metadata, strict=True)


def blocks(count: int) -> Iterator[Block]:
    """The first `count` subjects, made while they are asked for, so that they cost no memory."""
    for start in range(0, count, BLOCK):
        yield block(start, min(BLOCK, count - start))


def block(start: int, count: int) -> Block:
    """`count` subjects from number `start`; the same ones in every process."""
    drawn = np.random.default_rng([_SEED, start]).standard_normal((count, DIM), dtype=np.float32)
    rows = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    numbers = range(start, start + count)
    return Block([id_of(n) for n in numbers], rows, [{"badge": n, "site": "north"} for n in numbers])


def id_of(number: int) -> str:
    """Ids sort as they were enrolled."""
    return f"subject-{number:08d}"


def number_of(id: str) -> int:
    """What `id_of` was given."""
    return int(id.rpartition("-")[2])


def probe_near(rows: np.ndarray) -> np.ndarray:
    """A unit vector whose nearest among random ones is the first of `rows`, at cosine 0.9 or so."""
    noise = np.random.default_rng(_SEED).standard_normal(DIM, dtype=np.float32)
    near = rows[0] + 0.5 * noise / np.linalg.norm(noise)
    return (near / np.linalg.norm(near)).astype(np.float32)
