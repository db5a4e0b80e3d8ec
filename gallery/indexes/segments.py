"""Rows with their numbers, and FAISS's plain float32 search of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.indexes import library
from gallery.indexes.base import Selection
from gallery.indexes.first_pass import FirstPass
from gallery.indexes.ranking import Ranking
from gallery.vectors import FloatRows, Numbers

_SPARE = 8
"""So many more than k are scored exactly: what float32 puts in the wrong order is among them."""


_FEW = 8
"""Of less than one row in so many, copies are searched."""


@dataclass(slots=True)
class Segment:
    """Rows with their numbers, ascending, and which of them were removed."""

    numbers: Numbers
    rows: FloatRows
    dead: npt.NDArray[np.bool_]
    keeper: Any = field(default=None, repr=False)
    """What owns the memory of `rows`, when numpy does not."""
    first: FirstPass | None = None
    sample: tuple[Numbers, FloatRows] | None = field(default=None, repr=False)
    """Some of the rows, (where, rows): their nearest bound those of all."""
    credit: float = 0.0
    """Nanoseconds of plain search that a first pass would have spared, less what it cost to make."""

    def __len__(self) -> int:
        return len(self.numbers)

    def hide(self, numbers: Numbers) -> None:
        """Marks as removed those of `numbers` that are here."""
        at = np.searchsorted(self.numbers, numbers)
        at[at == len(self.numbers)] = 0
        self.dead[at[self.numbers[at] == numbers]] = True

    def selected(self, among: Selection) -> Segment:
        """The same with all others removed; a copy of the rows where they are few."""
        chosen = among.holds(self.numbers) & ~self.dead
        if int(chosen.sum()) * _FEW < len(self):
            rows = self.rows[chosen]
            return Segment(self.numbers[chosen], rows, np.zeros(len(rows), np.bool_))
        return replace(self, dead=~chosen)

    def living(self) -> int:
        """How many rows were not removed."""
        return len(self.dead) - int(self.dead.sum())


def mergeable(old: Segment, new: Segment) -> bool:
    """Whether `old`, just before `new`, is in memory and not much larger."""
    return old.keeper is None and len(old) <= 2 * len(new)


def joined(old: Segment, new: Segment) -> Segment:
    """Both in one; what was prepared for searching either is lost."""
    return Segment(
        np.concatenate([old.numbers, new.numbers]),
        np.concatenate([old.rows, new.rows]),
        np.concatenate([old.dead, new.dead]),
    )


def plain(
    segment: Segment, start: int, stop: int, ranking: Ranking, which: Numbers, error: npt.NDArray[np.float64]
) -> None:
    """Offers the nearest living rows from start to stop to the queries `which`, by float32 products.

    error: (all queries,) how far a cost computed in float32 may be off.
    """
    dead = segment.dead[start:stop]
    total, gone = stop - start, int(dead.sum())
    wanted = min(ranking.k, total - gone)
    if wanted == 0:
        return
    queries = ranking.queries[which]
    ask = min(total, ranking.k + _SPARE + min(gone, ranking.k))
    while True:
        distances, rows = library.nearest(queries, segment.rows[start:stop], ask, ranking.metric)
        alive = ~dead[rows]
        if ask == total or int(alive.sum(axis=1).min()) >= wanted:
            break
        ask = min(total, 4 * ask)
    query, place = np.nonzero(alive)
    at = rows[query, place] + start
    ranking.offer(which[query], segment.rows, at, segment.numbers[at])
    if ask < total:
        ranking.pass_over(which, _at_least(distances[:, -1], error[which], ranking.metric))


def _at_least(
    distances: npt.NDArray[np.float32], error: npt.NDArray[np.float64], metric: str
) -> npt.NDArray[np.float64]:
    """The least that distances computed in float32 can truly be."""
    wide = distances.astype(np.float64)
    if metric == "cosine":
        return wide - error
    least: npt.NDArray[np.float64] = np.sqrt(np.maximum(np.square(wide) - error, 0))
    return least
