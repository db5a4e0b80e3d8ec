"""The contract of an index: a cache that proposes neighbours and can be thrown away at any time.

Conventions
- Templates are known by their numbers. They are added in ascending order, each once.
- Rows come as `vectors.prepare` left them; queries too.
- Distances are the public ones (cosine: 1 - cos, euclidean: not squared), but only near the truth: whoever
  decides by them scores the finalists again with `vectors.distances`, unless they are said to be `exact`.
- A missing neighbour is number -1 at distance +inf, always after those that are there.
- A removed template is never returned, and the k places are filled with others as long as there are others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gallery.errors import GalleryError
from gallery.vectors import FloatRows, Numbers


class UnfitIndex(GalleryError):
    """A kind of index that cannot be trained, filled or searched after all: another has to stand in."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"an index {kind!r} is of no use here: {why}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The answer to q queries for k neighbours each.

    numbers    (q, k) int64, nearest first
    distances  (q, k) float32
    floor      (q,) float64: no template left out is nearer than this; +inf where an index cannot say
    exhausted  (q,) bool: asking for more would bring nothing more
    exact      `distances` are those of `vectors.distances`, bit for bit
    error      else how far one may be from that at most; +inf: not known
    """

    numbers: Numbers
    distances: npt.NDArray[np.float32]
    floor: npt.NDArray[np.float64]
    exhausted: npt.NDArray[np.bool_]
    exact: bool = False
    error: float = np.inf


@dataclass(frozen=True, slots=True)
class Selection:
    """Which templates may be found: those of `numbers`, (m,) ascending, or with `all_but` all others."""

    numbers: Numbers
    all_but: bool = False

    @classmethod
    def everything(cls) -> Selection:
        """Leaves nothing out."""
        return cls(np.empty(0, np.int64), all_but=True)

    def minus(self, numbers: Numbers) -> Selection:
        """Without those as well."""
        if self.all_but:
            return Selection(np.union1d(self.numbers, numbers), all_but=True)
        return Selection(np.setdiff1d(self.numbers, numbers, assume_unique=True))

    def holds(self, numbers: Numbers) -> npt.NDArray[np.bool_]:
        """Which of some numbers, of any shape, it holds."""
        if len(self.numbers) == 0:
            return np.full(numbers.shape, self.all_but)
        at = np.searchsorted(self.numbers, numbers)
        at[at == len(self.numbers)] = 0
        held: npt.NDArray[np.bool_] = (self.numbers[at] == numbers) != self.all_but
        return held


class Searchable(Protocol):
    """What a search by subject needs of an index."""

    def __len__(self) -> int:
        """How many templates can be found."""
        ...

    def search(self, queries: FloatRows, k: int) -> Neighbours:
        """The k nearest templates of each query. It may give more of them, -1 among those that are there."""
        ...


@runtime_checkable
class HoldsRows(Protocol):
    """An index that has the rows as they were added, bit for bit: finalists are scored from them."""

    def rows_of(self, numbers: Numbers) -> FloatRows | None:
        """The rows of templates that can be found, (m, dim); None where this kind does not keep them."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """An index that can take room for what it is going to hold."""

    def expect(self, count: int) -> None:
        """About so many templates will be added, to an index that is empty; it has no other effect."""
        ...


class VectorIndex(Protocol):
    """Proposes the templates nearest to a query. Some kinds are `HoldsRows` as well."""

    kind: str
    """What `gallery info` calls it: "exact", or a FAISS factory string."""

    keeps_removed: bool
    """Its files hold templates that were removed before they were written."""

    def __len__(self) -> int:
        """How many templates can be found."""
        ...

    def add(self, numbers: Numbers, rows: FloatRows) -> None:
        """Adds templates; their numbers ascend and are above all that were added before."""
        ...

    def remove(self, numbers: Numbers) -> None:
        """Hides templates; numbers that are not there are passed over."""
        ...

    def search(self, queries: FloatRows, k: int, among: Selection | None = None) -> Neighbours:
        """The k nearest templates of each query; of those that `among` holds, as if there were no others."""
        ...

    def living(self) -> Iterator[tuple[Numbers, FloatRows]]:
        """What can be found, (numbers, rows) in blocks; the rows as the kind knows them."""
        ...

    def saveable(self) -> bool:
        """False while there is nothing that a file could hold, as before training."""
        ...

    def save(self, path: Path) -> None:
        """Writes a new file, on the disk when it returns. It may hold removed templates still."""
        ...

    def load(self, path: Path) -> None:
        """Takes up what a file holds, in place of what is there; GalleryError when it cannot be read."""
        ...

    def worn(self) -> bool:
        """True when so much was removed that building it anew would serve searches better."""
        ...


@runtime_checkable
class Trained(Protocol):
    """An index that is trained on some of the rows before it can find any quickly."""

    trained_on: int
    """How many templates there were then; 0 before, and for a kind that needs no training."""

    def sample(self, templates: int) -> int:
        """On how many of so many templates it is best trained now; 0 where that is done, or cannot be yet."""
        ...

    def train(self, rows: FloatRows, templates: int) -> None:
        """Trains it on a sample, (m, dim), of so many templates."""
        ...


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a search looks, where the kind has such a thing, else 0.

    cells: how many cells of an IVF; reach: how many candidates a graph keeps in hand (efSearch); refined: how
    many times k are scored again by kinds that refine.
    """

    cells: int = 0
    reach: int = 0
    refined: float = 0


@runtime_checkable
class Tunable(Protocol):
    """An index that can look harder, and find more of the neighbours, or less hard, and be quicker."""

    untold: Effort
    """How hard its searches look until they are told otherwise."""

    def effort(self) -> Effort:
        """How hard its searches look."""
        ...

    def hardest(self) -> Effort:
        """The hardest that is worth it."""
        ...

    def look(self, effort: Effort) -> None:
        """Makes its searches look as hard as that."""
        ...


def keeps_rows(index: VectorIndex) -> bool:
    """Whether `living` gives the rows bit for bit as they were added; a kind without a `lossless` does."""
    return bool(getattr(index, "lossless", True))


def nothing(count: int, k: int) -> Neighbours:
    """The answer of an empty index to `count` queries."""
    return Neighbours(
        np.full((count, k), -1, np.int64),
        np.full((count, k), np.inf, np.float32),
        np.full(count, np.inf),
        np.ones(count, np.bool_),
    )
