"""Encoders to migrate between, and the process that is killed while it migrates.

python -m tests.gallery.migrating LOCATION BATCH
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import gallery
from gallery import staging
from tests.gallery.doubles import vectors

SUBJECTS, EACH, WIDE = 40, 3, 6


class Projected:
    """Turns vectors of six numbers into others by a fixed matrix; refuses one that begins with 13."""

    def __init__(self, name: str, dim: int, metric: str, threshold: float | None = None) -> None:
        self.name, self.dim, self.metric, self.threshold = name, dim, metric, threshold
        self.fingerprint = f"projected/{name}/{dim}/{metric}"
        self.matrix = vectors(WIDE, dim, seed=len(name) + dim).astype(np.float64)
        self.asked = 0

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        self.asked += len(items)
        return np.array([self._one(item) for item in items], np.float32).reshape(len(items), self.dim)

    def _one(self, item: Any) -> np.ndarray:
        row = np.asarray(item, np.float64)
        if row[0] == 13:
            raise ValueError("thirteen")
        return (row[:, None] * self.matrix).sum(axis=0)


def old() -> Projected:
    return Projected("old", 4, "cosine", threshold=0.25)


def new() -> Projected:
    return Projected("newer", 7, "euclidean", threshold=1.5)


def third() -> Projected:
    return Projected("the third", 3, "cosine")


def everybody() -> dict[str, np.ndarray]:
    """{id: (3, 6)}"""
    return {f"s{n}": vectors(EACH, WIDE, seed=n) for n in range(SUBJECTS)}


def main() -> None:
    """Migrates, saying how far it has come, and goes on at each line that it is told."""
    staging.BATCH = int(sys.argv[2])

    def progress(done: int, total: int | None) -> None:
        print(done, flush=True)
        sys.stdin.readline()

    with gallery.open(sys.argv[1]) as people:
        people.migrate(new(), progress=progress)
        print("switched", flush=True)
        time.sleep(60)


if __name__ == "__main__":
    main()
