"""Brute force that can prove its answer: the default index, and the oracle of the others.

The vectors are the mapped file of an earlier session, and in memory what came since.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gallery.indexes import certified, library
from gallery.indexes.base import Neighbours, Selection, nothing
from gallery.indexes.certified import AUTO, Plan
from gallery.indexes.ranking import Ranking
from gallery.indexes.segments import Roomy, Segment, joined, mergeable
from gallery.vectors import FloatRows, Numbers, sum_error

_BLOCK = 65536


class ExactIndex:
    """See `gallery.indexes.base.VectorIndex`. `floor` is certain: it allows for every rounding error."""

    kind = "exact"
    keeps_removed = False

    def __init__(self, dim: int, metric: str, plan: Plan = AUTO) -> None:
        """plan: when and how large galleries get a first pass; the answers are the same with any."""
        self._dim = dim
        self._metric = metric
        self._plan = plan
        self._segments: list[Segment] = []
        self._room: Roomy | None = None
        """What its first segment grows in."""
        self._largest_norm = 1.0

    def __len__(self) -> int:
        return sum(segment.living() for segment in self._segments)

    def expect(self, count: int) -> None:
        """Takes room for so many templates, added to an empty index: no row is ever in memory twice."""
        if not self._segments and count > 0:
            self._room = Roomy(count, self._dim, self._metric)

    def add(self, numbers: Numbers, rows: FloatRows) -> None:
        if len(numbers) == 0:
            return
        self._measure(rows)
        if self._room is not None and len(self._segments) <= 1 and self._room.left() >= len(numbers):
            self._segments = [self._room.grown(numbers, rows)]
            return
        new = Segment(numbers.copy(), rows.copy(), np.zeros(len(numbers), np.bool_))
        # A segment is merged into the one before it while that is in memory and not much larger, so that n
        # single additions copy each row only log n times and leave few segments to search.
        while self._segments and mergeable(self._segments[-1], new):
            new = joined(self._segments.pop(), new)
        self._segments.append(new)

    def remove(self, numbers: Numbers) -> None:
        for segment in self._segments:
            segment.hide(numbers)

    def search(self, queries: FloatRows, k: int, among: Selection | None = None) -> Neighbours:
        segments = self._segments
        if among is not None:
            segments = [segment.selected(among) for segment in segments]
        alive = sum(segment.living() for segment in segments)
        if alive == 0 or len(queries) == 0:
            return nothing(len(queries), k)
        # No more than there are can be found: what is past them stays empty.
        ranking = Ranking(queries, min(k, alive), self._metric)
        error = self._error(queries)
        # The larger ones first: what is near in them bounds the search of the others.
        for segment in sorted(segments, key=len, reverse=True):
            certified.search(segment, ranking, error, self._plan)
        numbers, distances = _padded(ranking.numbers, ranking.distances, k)
        exhausted = np.full(len(queries), alive <= k)
        return Neighbours(numbers, distances, ranking.floor(), exhausted, exact=True)

    def first_passes(self) -> list[str]:
        """What is in use beside the rows themselves, by segment; "" for none yet."""
        return [segment.first.name if segment.first else "" for segment in self._segments]

    def _error(self, queries: FloatRows) -> npt.NDArray[np.float64]:
        """(m,) how far a cost that was computed in float32 may be off, whatever the row.

        By `sum_error`; rows of unit length in float32, and distances rounded to it, are off by a few u more.
        A product below 2^-126 may be taken for 0.
        """
        error = sum_error(self._dim + 20)
        if self._metric == "cosine":
            return np.full(len(queries), error)
        norms = np.sqrt(np.square(queries.astype(np.float64)).sum(axis=1)) + self._largest_norm
        bound: npt.NDArray[np.float64] = error * np.square(norms) + self._dim * 2.0**-124
        return bound

    def living(self) -> Iterator[tuple[Numbers, FloatRows]]:
        """What can be found, (numbers, rows) in blocks, by number."""
        for segment in self._segments:
            for start in range(0, len(segment.numbers), _BLOCK):
                block = slice(start, start + _BLOCK)
                alive = ~segment.dead[block]
                if alive.any():
                    yield segment.numbers[block][alive], segment.rows[block][alive]

    def rows_of(self, numbers: Numbers) -> FloatRows:
        """The rows of those of `numbers` that were added, (m, dim), bit for bit, in their order."""
        rows = np.empty((len(numbers), self._dim), np.float32)
        known = np.zeros(len(numbers), np.bool_)
        for segment in self._segments:
            at = np.searchsorted(segment.numbers, numbers)
            at[at == len(segment.numbers)] = 0
            there = np.flatnonzero(segment.numbers[at] == numbers)
            rows[there], known[there] = segment.rows[at[there]], True
        return rows if known.all() else rows[known]

    def saveable(self) -> bool:
        return True

    def save(self, path: Path) -> None:
        room = self._room
        if room is None or room.left() or len(self) != len(room) or len(self._segments) > 1:
            room = Roomy(len(self), self._dim, self._metric)
            for numbers, rows in self.living():
                room.grown(numbers, rows)
        library.write(library.with_numbers(room.index, room.numbers), path)

    def load(self, path: Path) -> None:
        index, numbers = library.read(path, self._dim, self._metric, mapped=True)
        rows = library.flat_rows(index)
        dead = np.zeros(len(numbers), np.bool_)
        self._segments, self._room = [Segment(numbers, rows, dead, index)] if len(numbers) else [], None
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
