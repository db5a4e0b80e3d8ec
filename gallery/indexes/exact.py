"""Brute force that can prove its answer: the default index, and the oracle of the others.

The vectors are the mapped file of an earlier session, and in memory what came since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.indexes import library
from gallery.indexes.base import Neighbours, Selection, nothing
from gallery.vectors import FloatRows, Numbers

_BLOCK = 65536
_MOST_PIECES = 32
"""Each costs a search of its own."""


@dataclass(slots=True)
class _Segment:
    """Rows with their numbers, ascending, and which of them were removed."""

    numbers: Numbers
    rows: FloatRows
    dead: npt.NDArray[np.bool_]
    keeper: Any = field(default=None, repr=False)
    """What owns the memory of `rows`, when numpy does not."""

    def hide(self, numbers: Numbers) -> None:
        at = np.searchsorted(self.numbers, numbers)
        at[at == len(self.numbers)] = 0
        self.dead[at[self.numbers[at] == numbers]] = True

    def living(self) -> int:
        return len(self.dead) - int(self.dead.sum())

    def pieces(self, among: Selection | None) -> list[_Segment]:
        """What of it is selected: slices of it where few will do, else a copy of those rows."""
        if among is None:
            return [self]
        chosen = among.holds(self.numbers)
        bounds = [0, *(np.flatnonzero(np.diff(chosen)) + 1).tolist(), len(chosen)]
        runs = [slice(start, end) for start, end in pairwise(bounds) if end > start and chosen[start]]
        parts = runs if len(runs) <= _MOST_PIECES else [chosen & ~self.dead]
        return [_Segment(self.numbers[at], self.rows[at], self.dead[at], self.keeper) for at in parts]


class ExactIndex:
    """See `gallery.indexes.base.VectorIndex`. `floor` is certain: it allows for every rounding error."""

    kind = "exact"
    keeps_removed = False

    def __init__(self, dim: int, metric: str) -> None:
        self._dim = dim
        self._metric = metric
        self._segments: list[_Segment] = []
        self._largest_norm = 1.0

    def __len__(self) -> int:
        return sum(segment.living() for segment in self._segments)

    def add(self, numbers: Numbers, rows: FloatRows) -> None:
        if len(numbers) == 0:
            return
        self._measure(rows)
        new = _Segment(numbers.copy(), rows.copy(), np.zeros(len(numbers), np.bool_))
        # A segment is merged into the one before it while that is in memory and not much larger, so that n
        # single additions copy each row only log n times and leave few segments to search.
        while self._segments and _mergeable(self._segments[-1], new):
            new = _joined(self._segments.pop(), new)
        self._segments.append(new)

    def remove(self, numbers: Numbers) -> None:
        for segment in self._segments:
            segment.hide(numbers)

    def search(self, queries: FloatRows, k: int, among: Selection | None = None) -> Neighbours:
        parts = [
            _living_nearest(piece, queries, k, self._metric)
            for segment in self._segments
            for piece in segment.pieces(among)
            if piece.living()
        ]
        if not parts:
            return nothing(len(queries), k)
        numbers = np.concatenate([part[0] for part in parts], axis=1)
        distances = np.concatenate([part[1] for part in parts], axis=1)
        reach = np.minimum.reduce([part[2] for part in parts])
        order = np.lexsort((numbers, distances), axis=1)
        numbers = np.take_along_axis(numbers, order, axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        if numbers.shape[1] > k:
            reach = np.minimum(reach, distances[:, k])
        floor = self._lower_bound(queries, reach)
        numbers, distances = _padded(numbers[:, :k], distances[:, :k], k)
        return Neighbours(numbers, distances, floor, np.isinf(reach))

    def _lower_bound(self, queries: FloatRows, reach: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The least that a distance computed as `reach` can truly be.

        A float32 sum of n products, in any order, is off by at most n u / (1 - n u) times the sum of their
        magnitudes, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 3.1); rows of unit
        length in float32 are off by a few u more.
        """
        error = 1.01 * (self._dim + 12) * 2.0**-24
        if self._metric == "cosine":
            return reach - error
        norms = np.sqrt(np.square(queries.astype(np.float64)).sum(axis=1)) + self._largest_norm
        squared = np.square(reach) * (1 - 2.0**-22) - error * np.square(norms)
        bound: npt.NDArray[np.float64] = np.sqrt(np.maximum(squared, 0))
        return bound

    def living(self) -> Iterator[tuple[Numbers, FloatRows]]:
        """What can be found, (numbers, rows) in blocks, by number."""
        for segment in self._segments:
            for start in range(0, len(segment.numbers), _BLOCK):
                block = slice(start, start + _BLOCK)
                alive = ~segment.dead[block]
                if alive.any():
                    yield segment.numbers[block][alive], segment.rows[block][alive]

    def saveable(self) -> bool:
        return True

    def save(self, path: Path) -> None:
        flat = library.faiss().IndexFlat(self._dim, library.faiss_metric(self._metric))
        index = library.numbered(flat)
        for numbers, rows in self.living():
            index.add_with_ids(rows, numbers)
        library.write(index, path)

    def load(self, path: Path) -> None:
        index, numbers = library.read(path, self._dim, self._metric, mapped=True)
        rows = library.flat_rows(index)
        dead = np.zeros(len(numbers), np.bool_)
        self._segments = [_Segment(numbers, rows, dead, index)] if len(numbers) else []
        self._largest_norm = 1.0
        if self._metric == "euclidean":
            for start in range(0, len(rows), _BLOCK):
                self._measure(rows[start : start + _BLOCK])

    def worn(self) -> bool:
        total = sum(len(segment.numbers) for segment in self._segments)
        return total - len(self) > max(1000, total // 4)

    def _measure(self, rows: FloatRows) -> None:
        if self._metric == "euclidean":
            largest = float(np.square(rows.astype(np.float64)).sum(axis=1).max())
            self._largest_norm = max(self._largest_norm, largest**0.5)


def _mergeable(old: _Segment, new: _Segment) -> bool:
    return old.keeper is None and len(old.numbers) <= 2 * len(new.numbers)


def _joined(old: _Segment, new: _Segment) -> _Segment:
    return _Segment(
        np.concatenate([old.numbers, new.numbers]),
        np.concatenate([old.rows, new.rows]),
        np.concatenate([old.dead, new.dead]),
    )


def _living_nearest(
    segment: _Segment, queries: FloatRows, k: int, metric: str
) -> tuple[Numbers, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """(numbers, distances, reach) of a segment's k nearest living rows, dead ones as (-1, inf).

    reach: how far the search went, +inf where it went through all rows.
    """
    total = len(segment.numbers)
    wanted = min(k, segment.living())
    ask = min(total, k + min(total - segment.living(), k))
    while True:
        distances, rows = library.nearest(queries, segment.rows, ask, metric)
        dead = segment.dead[rows]
        if ask == total or int((~dead).sum(axis=1).min()) >= wanted:
            break
        ask = min(total, 4 * ask)
    all_found = (~dead).sum(axis=1) == segment.living()
    reach = np.where(all_found, np.inf, distances[:, -1].astype(np.float64))
    return np.where(dead, -1, segment.numbers[rows]), np.where(dead, np.float32(np.inf), distances), reach


def _padded(
    numbers: Numbers, distances: npt.NDArray[np.float32], k: int
) -> tuple[Numbers, npt.NDArray[np.float32]]:
    lacking = k - numbers.shape[1]
    if lacking <= 0:
        return numbers, distances
    return (
        np.pad(numbers, ((0, 0), (0, lacking)), constant_values=-1),
        np.pad(distances, ((0, 0), (0, lacking)), constant_values=np.inf),
    )
