"""Searching among some templates only: the right way for how many they are, kept while the revision lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gallery.indexes.base import Neighbours, Searchable, Selection, VectorIndex
from gallery.indexes.exact import ExactIndex
from gallery.vectors import FloatRows, Numbers

_FEW = 20_000
"""So many rows are searched exactly in a millisecond or two."""
_SHARE = 8
"""One eighth of all at most is copied to be searched by itself."""
_MOST = 0.9
"""Where so large a share is left, all are searched and the others passed over."""
_KEPT = 4
"""Copies at most, and together no more rows than the largest one may have, or twice the share."""
_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Among:
    """An index, told among which templates to search."""

    index: VectorIndex
    among: Selection

    def __len__(self) -> int:
        return len(self.among.numbers)

    def search(self, queries: FloatRows, k: int) -> Neighbours:
        return self.index.search(queries, k, self.among)


class Views:
    """What a filter leaves of an index, to be searched. Whoever holds it keeps other threads away."""

    def __init__(self) -> None:
        self._copies: dict[str, tuple[tuple[int, int], ExactIndex]] = {}

    def forget(self) -> None:
        """Lets go of every copy."""
        self._copies.clear()

    def of(
        self,
        index: VectorIndex,
        where: str,
        numbers: Numbers,
        at: tuple[int, int],
        rows_of: Callable[[Numbers], FloatRows],
        shape: tuple[int, str],
    ) -> tuple[Searchable, ExactIndex | None]:
        """What is searched, and the copy of the rows where there is one.

        where: the filter, as text. numbers: the templates that it leaves. at: the (generation, revision)
        they are of. shape: (dim, metric).
        """
        if isinstance(index, ExactIndex) and _MOST * len(index) < len(numbers):
            # As when a few are in quarantine: no copy is worth it.
            return Among(index, Selection(numbers)), None
        if len(numbers) <= max(_FEW, len(index) // _SHARE):
            most = max(_FEW, 2 * len(index) // _SHARE)
            copy = self._copy(where, numbers, at, rows_of, shape, most)
            return copy, copy
        return Among(index, Selection(numbers)), None

    def _copy(
        self,
        where: str,
        numbers: Numbers,
        at: tuple[int, int],
        rows_of: Callable[[Numbers], FloatRows],
        shape: tuple[int, str],
        most: int,
    ) -> ExactIndex:
        of, copy = self._copies.get(where, (None, None))
        if copy is not None and of == at:
            return copy
        # Before the new one is made, so that they are never in memory together.
        self._copies = {key: kept for key, kept in self._copies.items() if kept[0] == at and key != where}
        while len(self._copies) >= _KEPT or (self._copies and self._held() + len(numbers) > most):
            self._copies.pop(next(iter(self._copies)))
        copy = ExactIndex(*shape)
        for start in range(0, len(numbers), _ROWS):
            some = numbers[start : start + _ROWS]
            copy.add(some, rows_of(some))
        self._copies[where] = at, copy
        return copy

    def _held(self) -> int:
        return sum(len(copy) for _, copy in self._copies.values())
