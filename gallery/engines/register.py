"""Whose each template is and what is known of the subjects, in memory, kept in step with the store.

An index knows templates by their numbers alone; a search by subject, or among some of them, needs these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.errors import CorruptGalleryError
from gallery.filters import Where, text_of, texts_of
from gallery.metadata import as_json
from gallery.stores.base import REGROUPED, Store, Stored
from gallery.vectors import Numbers

_CHANGED_AT_MOST = 4096
_SELECTIONS = 8
_WORTH_A_TABLE = 64
"""Looking up more than one template in so many, it pays to have all owners by their numbers."""


def members(numbers: Numbers, among: Numbers) -> npt.NDArray[np.bool_]:
    """Whether each of `numbers` is one of `among`, which ascends."""
    if len(among) == 0:
        return np.zeros(numbers.shape, np.bool_)
    at = np.searchsorted(among, numbers)
    at[at == len(among)] = 0
    found: npt.NDArray[np.bool_] = among[at] == numbers
    return found


def matched(stored: Stored, barred: Numbers) -> Stored:
    """Those that are not in quarantine; `barred` ascends."""
    if len(barred) == 0:
        return stored
    kept = ~members(stored.numbers, barred)
    return Stored(stored.numbers[kept], stored.subjects[kept], stored.rows[kept])


class OutOfStep(CorruptGalleryError):
    """An index proposes templates that the store cannot give."""


def lost(number: int, place: Path) -> OutOfStep:
    """What is said of a template of the gallery at `place` that an index proposes and nothing else knows."""
    return OutOfStep(
        f"template {number} of {place} is enrolled, but cannot be found; run `gallery check {place}`"
    )


@dataclass(slots=True)
class _Column:
    """One key of the metadata: the code of each subject's value, -1 where it lacks the key."""

    codes: npt.NDArray[np.int32]
    of: dict[str, int] = field(default_factory=dict)

    def code(self, metadata: dict[str, Any], key: str) -> int:
        if key not in metadata:
            return -1
        return self.of.setdefault(text_of(metadata[key]), len(self.of))


class Register:
    """See the module. Whoever holds it keeps other threads away; all is of the revision of `bring_up`."""

    def __init__(self, place: Path) -> None:
        """place: of the gallery, for what is said of damage."""
        self._place = place
        self.forget()

    def forget(self) -> None:
        """Starts anew."""
        self._at: tuple[int, int] | None = None
        """(generation, revision) that all is of."""
        self._last_template = 0
        self.numbers: Numbers = np.empty(0, np.int64)
        """Every enrolled template's, ascending."""
        self.owners: Numbers = np.empty(0, np.int64)
        """Whose each is."""
        self._forget_groups()
        self._columns: dict[str, _Column] = {}
        self._selections: dict[str, Numbers] = {}

    def _forget_groups(self) -> None:
        self._by_number: Numbers | None = None
        self._subjects: Numbers | None = None
        self._slots: npt.NDArray[np.int32] | None = None
        self._grouped: tuple[Numbers, npt.NDArray[np.intp]] | None = None
        """All numbers, subject by subject, and where each subject's begin."""

    def is_loaded(self, store: Store) -> bool:
        """True when bringing it up to date costs little."""
        return self._at is not None and self._at[0] == store.header.generation

    def bring_up(self, store: Store) -> None:
        """Brings it to the store's revision, inside a snapshot."""
        now = store.header.generation, store.revision()
        if self._at == now:
            return
        before, self._at = self._at, None
        if before is None or before[0] != now[0] or _regrouped_at(store) > before[1]:
            self.forget()
            self.numbers, self.owners = store.owners()
        else:
            self._follow(store, before[1])
        self._last_template, self._at = store.last_template(), now

    def _follow(self, store: Store, revision: int) -> None:
        numbers, owners = store.owners(after=self._last_template)
        removed = store.removed_since(revision)
        gone = np.isin(self.numbers, removed, assume_unique=True)
        changed = np.unique(np.concatenate([self.owners[gone], owners]))
        if len(removed) and removed[-1] > self._last_template:
            # It came and went since, and whose metadata came with it is not known.
            self._columns, self._selections = {}, {}
        if len(changed) == 0:
            return
        before = self.subjects if self._columns else None
        self.numbers = np.concatenate([self.numbers[~gone], numbers])
        self.owners = np.concatenate([self.owners[~gone], owners])
        self._selections = {}
        self._forget_groups()
        if before is None:
            return
        if len(changed) > _CHANGED_AT_MOST:
            self._columns = {}
        else:
            self._describe_anew(store, before, changed)

    def _describe_anew(self, store: Store, before: Numbers, changed: Numbers) -> None:
        known = store.describe(np.intersect1d(changed, self.subjects, assume_unique=True))
        kept = np.searchsorted(self.subjects, np.intersect1d(before, self.subjects, assume_unique=True))
        was = np.isin(before, self.subjects, assume_unique=True)
        for key, column in self._columns.items():
            codes = np.full(len(self.subjects), -1, np.int32)
            codes[kept] = column.codes[was]
            for subject, (_, metadata) in known.items():
                codes[np.searchsorted(self.subjects, subject)] = column.code(metadata, key)
            column.codes = codes

    @property
    def subjects(self) -> Numbers:
        """Every enrolled subject's number, ascending."""
        if self._subjects is None:
            # They nearly ascend already: a tenth of the time of `np.unique`, which hashes.
            ordered = np.sort(self.owners, kind="stable")
            self._subjects = ordered[np.diff(ordered, prepend=-1) > 0]
        return self._subjects

    def of(self, numbers: Numbers) -> Numbers:
        """Whose templates these are, in any shape, -1 of those below 0; OutOfStep for one not enrolled."""
        if self._by_number is None and numbers.size * _WORTH_A_TABLE < len(self.numbers):
            found = np.where(members(numbers, self.numbers), self._next_to(numbers), -1)
        else:
            table = self._table()
            found = table[np.clip(numbers, -1, len(table) - 1)]
        lacking = (found < 0) & (numbers >= 0)
        if lacking.any():
            raise lost(int(numbers[lacking][0]), self._place)
        return found

    def _next_to(self, numbers: Numbers) -> Numbers:
        at = np.searchsorted(self.numbers, numbers)
        at[at == len(self.numbers)] = 0
        found: Numbers = self.owners[at]
        return found

    def _table(self) -> Numbers:
        """The owner by template number, -1 of those that are not enrolled, and once more at the end."""
        if self._by_number is None:
            self._by_number = np.full(int(self.numbers.max(initial=0)) + 2, -1, np.int64)
            self._by_number[self.numbers] = self.owners
        return self._by_number

    def slots_of(self, numbers: Numbers) -> npt.NDArray[np.intp]:
        """Where in `subjects` the owner of each enrolled template stands."""
        if self._slots is None:
            self._slots = np.searchsorted(self.subjects, self.owners).astype(np.int32)
        found: npt.NDArray[np.intp] = self._slots[np.searchsorted(self.numbers, numbers)].astype(np.intp)
        return found

    def templates_of(self, subjects: Numbers) -> Numbers:
        """The templates of these subjects, ascending."""
        if self._grouped is None:
            order = np.argsort(self.owners, kind="stable")
            starts = np.searchsorted(self.owners[order], self.subjects)
            self._grouped = self.numbers[order], np.append(starts, len(order))
        numbers, starts = self._grouped
        slots = np.searchsorted(self.subjects, subjects)
        counts = starts[slots + 1] - starts[slots]
        # Of each subject its first place, repeated, plus 0, 1, 2, ...
        steps = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(numbers[np.repeat(starts[slots], counts) + steps])

    def selected(self, store: Store, where: Where) -> Numbers:
        """The templates of the subjects whose metadata `where` holds for, ascending. Inside a snapshot."""
        name = as_json(where)
        if name not in self._selections:
            chosen = np.ones(len(self.subjects), np.bool_)
            for key, texts in texts_of(where).items():
                column = self._column(store, key)
                codes = [column.of[text] for text in texts if text in column.of]
                chosen &= np.isin(column.codes, codes)
            while len(self._selections) >= _SELECTIONS:
                self._selections.pop(next(iter(self._selections)))
            self._selections[name] = self.numbers[chosen[self.slots_of(self.numbers)]]
        return self._selections[name]

    def _column(self, store: Store, key: str) -> _Column:
        if key not in self._columns:
            column = _Column(np.empty(0, np.int32))
            # By number, as `subjects` is.
            codes = [column.code(metadata, key) for _, metadata in store.records()]
            column.codes = np.array(codes, np.int32)
            self._columns[key] = column
        return self._columns[key]


def _regrouped_at(store: Store) -> int:
    """The revision at which templates last changed hands, 0 before the first time."""
    return int(store.setting(REGROUPED) or 0)
