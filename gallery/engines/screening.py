"""Looking at what is going to be enrolled: who else it may be, and what of it is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gallery.auditing import Bounds, nearest_other
from gallery.engines.register import matched
from gallery.engines.searching import Searching
from gallery.errors import ConflictError
from gallery.findings import Conflict
from gallery.pairs import near_pairs
from gallery.stores.base import NewTemplates, Store
from gallery.vectors import FloatRows, Numbers

_AT_A_TIME = 1024
_MOST_OTHERS = 64
"""How many subjects that are known to be different are passed over at most."""

Nearest = tuple[float, str, int]
"""(distance, id, template number) of the nearest other subject."""


def screened(
    store: Store, searching: Searching, batch: Sequence[NewTemplates], bounds: Bounds, refuse: bool
) -> list[Conflict]:
    """What is noticed of a batch before it is added; refuse: ConflictError when anything is."""
    if not batch:
        return []
    first = store.last_template() + 1
    found = Screening(store, searching, batch, bounds).conflicts()
    if not found or not refuse:
        return found
    # None of the numbers was given.
    unnumbered = tuple(
        replace(
            one,
            template=None,
            other_template=None if (one.other_template or 0) >= first else one.other_template,
        )
        for one in found
    )
    more = f", and {len(found) - 1:,} more" if len(found) > 1 else ""
    raise ConflictError(f"{unnumbered[0]}{more}; nothing was written", unnumbered)


class Screening:
    """One batch, before it is added; inside the commit, so that nobody enrols in between."""

    def __init__(self, store: Store, searching: Searching, batch: Sequence[NewTemplates], bounds: Bounds):
        self._store = store
        self._searching = searching
        self._batch = batch
        self._bounds = bounds
        self._next = store.last_template() + 1
        ids = dict.fromkeys(new.id for new in batch)
        # Subjects that are new get numbers of their own below 0.
        self._numbers = {id: store.subject(id) or -1 - at for at, id in enumerate(ids)}
        self._ids = [new.id for new in batch for _ in range(len(new.rows))]
        self._index = [at for new in batch for at in range(len(new.rows))]
        self._rows: FloatRows = np.concatenate([new.rows for new in batch])
        self._owners: Numbers = np.array([self._numbers[id] for id in self._ids], np.int64)
        self._different = store.curation.different_numbers()

    def conflicts(self) -> list[Conflict]:
        """What is noticed, item by item."""
        found = self._duplicates() + self._own()
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def _said(
        self, item: int, kind: str, other: str, template: int, distance: float, bound: float
    ) -> tuple[int, Conflict]:
        number = self._next + item
        return item, Conflict(
            kind, self._ids[item], self._index[item], number, other, template, distance, bound
        )

    def _are_different(self, one: int, other: int) -> bool:
        return (min(one, other), max(one, other)) in self._different

    # -- others

    def _duplicates(self) -> list[tuple[int, Conflict]]:
        nearest: dict[int, Nearest] = {}
        self._in_the_gallery(nearest)
        if len(self._numbers) > 1:
            self._in_the_batch(nearest)
        limit = self._bounds.threshold
        return [
            self._said(item, "duplicate", id, template, distance, limit)
            for item, (distance, id, template) in nearest.items()
        ]

    def _in_the_gallery(self, nearest: dict[int, Nearest]) -> None:
        involved = [pair for pair in self._different if not {*pair}.isdisjoint(self._numbers.values())]
        k = 2 + min(len(involved), _MOST_OTHERS)
        for start in range(0, len(self._rows), _AT_A_TIME):
            found = self._searching.finalists(self._store, self._rows[start : start + _AT_A_TIME], k)
            others = {}
            for item, finalists in enumerate(found, start):
                mine = int(self._owners[item])
                for subject, template, distance in finalists:
                    if distance > self._bounds.threshold:
                        break
                    if subject != mine and not self._are_different(subject, mine):
                        others[item] = distance, subject, template
                        break
            ids = self._store.describe({subject for _, subject, _ in others.values()})
            for item, (distance, subject, template) in others.items():
                nearest[item] = distance, ids[subject][0], template

    def _in_the_batch(self, nearest: dict[int, Nearest]) -> None:
        pairs = near_pairs(self._rows, self._bounds.metric, self._bounds.threshold)
        foreign = self._owners[pairs.left] != self._owners[pairs.right]
        for left, right, distance in zip(
            pairs.left[foreign].tolist(),
            pairs.right[foreign].tolist(),
            pairs.distance[foreign].tolist(),
            strict=True,
        ):
            if self._are_different(int(self._owners[left]), int(self._owners[right])):
                continue
            for item, other in ((left, right), (right, left)):
                one = (distance, self._ids[other], self._next + other)
                if item not in nearest or one < nearest[item]:
                    nearest[item] = one

    # -- its own subject

    def _own(self) -> list[tuple[int, Conflict]]:
        found: list[tuple[int, Conflict]] = []
        for id, subject in self._numbers.items():
            items = np.flatnonzero(self._owners == subject)
            rows, numbers = self._rows[items], self._next + items
            first = 0
            if subject > 0:
                held = matched(self._store.embeddings(id), self._searching.barred(self._store))
                first = len(held.numbers)
                rows = np.concatenate([held.rows, rows])
                numbers = np.concatenate([held.numbers, numbers])
            away, at = nearest_other(rows, self._bounds.metric, first=first)
            lengths = np.sqrt(np.square(self._rows[items].astype(np.float64)).sum(axis=1))
            copies = self._bounds.is_copy(away, lengths)
            for item, distance, place, copy in zip(items.tolist(), away.tolist(), at, copies, strict=True):
                kind, bound = self._kind(distance, bool(copy))
                # Of two copies in one call, the second is one of the first.
                if kind and not (kind.endswith("copy") and numbers[place] > self._next + item):
                    found.append(self._said(item, kind, id, int(numbers[place]), distance, bound))
        return found

    def _kind(self, distance: float, copy: bool) -> tuple[str, float]:
        limit = self._bounds.threshold
        if not np.isfinite(distance):
            return "", limit
        if copy:
            return "copy", self._bounds.near_copy
        if distance <= self._bounds.near_copy:
            return "near copy", self._bounds.near_copy
        return ("unlike", limit) if distance > limit else ("", limit)
