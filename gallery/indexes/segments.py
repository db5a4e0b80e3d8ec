"""Rows with their numbers, and what was prepared for searching them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.indexes import library
from gallery.indexes.base import Selection
from gallery.indexes.first_pass import FirstPass
from gallery.vectors import FloatRows, Numbers

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
    in_vain: int = 0
    """How many searches in a row the first pass proved too little for."""
    resting: int = 0
    """For how many searches more it is not asked."""

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
        return replace(self, dead=~chosen, in_vain=0, resting=0)

    def living(self) -> int:
        """How many rows were not removed."""
        return len(self.dead) - int(self.dead.sum())


class Roomy:
    """One segment that grows in room taken at once, in the memory of a FAISS index that can be written."""

    def __init__(self, room: int, dim: int, metric: str) -> None:
        self.index, self._rows = library.flat_with_room(room, dim, metric)
        self.numbers = np.empty(room, np.int64)
        self._dead = np.zeros(room, np.bool_)
        self._used = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def left(self) -> int:
        """How many rows it still has room for."""
        return len(self) - self._used

    def grown(self, numbers: Numbers, rows: FloatRows) -> Segment:
        """All that it holds, with these, copied, as the last; at most as many as there is room left for."""
        start, self._used = self._used, self._used + len(numbers)
        self.numbers[start : self._used], self._rows[start : self._used] = numbers, rows
        used = slice(self._used)
        return Segment(self.numbers[used], self._rows[used], self._dead[used], self.index)


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
