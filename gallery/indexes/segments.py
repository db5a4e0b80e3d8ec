"""Rows with their numbers, and what was prepared for searching them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

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
