"""What a local engine answers searches from: the index, whose each template is, what is known of a subject.

All of it is a cache, brought up to the store's revision before each answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from gallery.engines import fusing
from gallery.engines.filtering import Views
from gallery.engines.index_cache import IndexCache
from gallery.engines.register import OutOfStep, Register, lost, matched, members
from gallery.engines.seeking import Finalists, Seeker, as_finalists
from gallery.engines.sweep import Blocks, Sweep
from gallery.errors import QuarantinedError
from gallery.filters import Where
from gallery.fusion import CENTROID, NEAREST
from gallery.indexes.base import HoldsRows, Searchable, Selection, UnfitIndex, VectorIndex, keeps_rows
from gallery.indexes.exact import ExactIndex
from gallery.metadata import as_json
from gallery.records import Candidate
from gallery.stores.base import Store, Stored
from gallery.tables import counted
from gallery.vectors import FloatRows, Numbers

_REGISTER_COSTS = 16
"""Loading it takes as long as reading one in so many embeddings from the store."""
_KNOWN_AT_MOST = 2**17
_SELECTIONS = 8


class Searching:
    """Whoever holds it keeps other threads away."""

    def __init__(self, folder: Path, makes: bool) -> None:
        """makes: index files, for later openings too; see `IndexCache`."""
        self.cache = IndexCache(folder, makes)
        self._register = Register(folder.parent)
        self._views = Views()
        self._read = 0
        """How many embeddings were read from the store since the register was last forgotten."""
        self._known: dict[int, tuple[str, dict[str, Any], bool]] = {}
        """(id, metadata, whether anything lies inside a value of it) by subject number."""
        self._known_at = (0, 0)
        self._barred: Numbers = np.empty(0, np.int64)
        self._allowed: dict[str, Numbers] = {}
        """By filter, the templates that may be found, where some are in quarantine."""
        self._barred_at = (0, -1)

    def forget(self) -> None:
        """Starts anew at the next search."""
        self.cache.forget()
        self._register.forget()
        self._views.forget()
        self._known.clear()
        self._barred_at = (0, -1)
        self._read = 0

    def nearest(
        self, store: Store, probes: FloatRows, k: int, where: Where | None, fusion: str = NEAREST
    ) -> list[list[Candidate]]:
        """See `gallery.engines.base.Engine.nearest`. Inside a snapshot, as everything here."""
        if fusion == NEAREST:
            return self._candidates(store, self.finalists(store, probes, k, where))
        if fusion == CENTROID:
            found = fusing.by_centroid(store, probes, k, self._selected(store, where), self.barred(store))
        else:
            found = fusing.ranked(
                store,
                probes,
                k,
                fusion,
                lambda some, most: self.finalists(store, some, most, where),
                self.barred(store),
            )
        return self._candidates(store, found)

    def finalists(
        self, store: Store, probes: FloatRows, k: int, where: Where | None = None
    ) -> list[Finalists]:
        """The k nearest subjects of each probe."""
        try:
            return self._seeker(store, self.cache.in_step(store), where).nearest(probes, k)
        except OutOfStep:
            self.forget()
            return self._seeker(store, self.cache.rebuilt(store), where).nearest(probes, k)
        except UnfitIndex as error:
            self.forget()
            self.cache.give_up(error)
            return self._seeker(store, self.cache.in_step(store), where).nearest(probes, k)

    def swept(self, store: Store, probes: FloatRows, k: int) -> list[Finalists]:
        """`finalists`, by going through every row, whatever the kind of index."""
        index = self.cache.in_step(store)
        sweep = self._sweep(store, index, self._blocks(store, index), self._selected(store, None))
        k = min(k, store.counts()[0])
        return as_finalists(sweep.nearest(probes, k), len(probes)) if k else [[] for _ in probes]

    def within(
        self, store: Store, probes: FloatRows, radius: float, where: Where | None
    ) -> list[list[Candidate]]:
        """Every subject within a distance, nearest first."""
        index = self.cache.in_step(store)
        numbers = self._selected(store, where)
        copy = None if numbers is None else self._view(store, index, where, numbers)[1]
        blocks = self._blocks(store, index) if copy is None else copy.living
        found = self._sweep(store, index, blocks, numbers).within(probes, radius)
        return self._candidates(store, as_finalists(found, len(probes)))

    def _seeker(self, store: Store, index: VectorIndex, where: Where | None) -> Seeker:
        numbers = self._selected(store, where)
        searched: Searchable = index
        blocks = self._blocks(store, index) if keeps_rows(index) else None
        copy = None
        if numbers is not None:
            searched, copy = self._view(store, index, where, numbers)
            blocks = blocks if copy is None else copy.living
        return Seeker(
            index=searched,
            whole=index,
            among=Selection.everything() if numbers is None else Selection(numbers),
            certain=copy is not None or isinstance(index, ExactIndex),
            metric=store.header.metric,
            fetched=lambda wanted: self._stored(store, index, wanted),
            register=lambda: self._loaded(store),
            at_hand=self._loaded(store) if self._register.is_loaded(store) else None,
            sweep=lambda: None if blocks is None else self._sweep(store, index, blocks, numbers),
            subjects=store.counts()[0],
        )

    # -- parts

    def _loaded(self, store: Store) -> Register:
        self._register.bring_up(store)
        return self._register

    def barred(self, store: Store) -> Numbers:
        """The templates in quarantine, which are never matched, ascending."""
        at = store.header.generation, store.revision()
        if at != self._barred_at:
            self._barred, self._barred_at, self._allowed = store.curation.in_quarantine(), at, {}
        return self._barred

    def embeddings(self, store: Store, id: str) -> Stored:
        """What may be matched of a subject; UnknownSubjectError, QuarantinedError when nothing may."""
        stored = store.embeddings(id)
        left = matched(stored, self.barred(store))
        if not len(left.numbers):
            why = {one.template: one.reason for one in store.curation.quarantined()}
            first = int(stored.numbers[0])
            raise QuarantinedError(
                f"all {counted(len(stored.numbers), 'template')} of {id!r} are in quarantine "
                f"(template {first}: {why[first]}): release some, or enrol others"
            )
        return left

    def _selected(self, store: Store, where: Where | None) -> Numbers | None:
        """The templates that may be found; None when that is all of them."""
        barred = self.barred(store)
        if len(barred) == 0:
            return self._loaded(store).selected(store, where) if where else None
        name = as_json(where or {})
        if name not in self._allowed:
            register = self._loaded(store)
            numbers = register.selected(store, where) if where else register.numbers
            while len(self._allowed) >= _SELECTIONS:
                self._allowed.pop(next(iter(self._allowed)))
            self._allowed[name] = numbers[~members(numbers, barred)]
        return self._allowed[name]

    def _view(
        self, store: Store, index: VectorIndex, where: Where | None, numbers: Numbers
    ) -> tuple[Searchable, ExactIndex | None]:
        header = store.header
        return self._views.of(
            index,
            as_json(where or {}),
            numbers,
            (header.generation, store.revision()),
            lambda some: self._stored(store, index, some).rows,
            (header.dim, header.metric),
        )

    def _blocks(self, store: Store, index: VectorIndex) -> Blocks:
        if keeps_rows(index):
            return index.living
        return lambda: ((stored.numbers, stored.rows) for stored in store.scan())

    def _sweep(self, store: Store, index: VectorIndex, blocks: Blocks, among: Numbers | None) -> Sweep:
        return Sweep(
            register=self._loaded(store),
            metric=store.header.metric,
            blocks=blocks,
            rows_of=lambda numbers: self._stored(store, index, numbers).rows,
            among=among,
        )

    def _stored(self, store: Store, index: VectorIndex, numbers: Numbers) -> Stored:
        """Their embeddings, all of them: a template that cannot be found must not be passed over.

        From the index, which has them bit for bit, where that pays; its file was compared with its checksum.
        """
        if self._register_pays(store, len(numbers)) and isinstance(index, HoldsRows):
            rows = index.rows_of(numbers)
            if rows is not None and len(rows) == len(numbers):
                return Stored(numbers, self._loaded(store).of(numbers), rows)
        self._read += len(numbers)
        stored = store.fetch(numbers.tolist())
        if len(stored.numbers) < len(numbers):
            raise lost(np.setdiff1d(numbers, stored.numbers)[0], self.cache.folder.parent)
        return stored

    def _register_pays(self, store: Store, more: int) -> bool:
        return self._register.is_loaded(store) or (self._read + more) * _REGISTER_COSTS > store.counts()[1]

    def _candidates(self, store: Store, found: list[Finalists]) -> list[list[Candidate]]:
        known = self._descriptions(store, {subject for finalists in found for subject, _, _ in finalists})
        answers: list[list[Candidate]] = []
        for finalists in found:
            answers.append(ranked := [])
            for subject, template, distance in finalists:
                id, metadata, is_deep = known[subject]
                # A copy of its own for each answer, which somebody may change.
                fresh = deepcopy(metadata) if is_deep else metadata.copy()
                ranked.append(Candidate(id, distance, template, fresh))
        return answers

    def _descriptions(
        self, store: Store, subjects: Iterable[int]
    ) -> dict[int, tuple[str, dict[str, Any], bool]]:
        at = store.header.generation, store.revision()
        if at != self._known_at or len(self._known) > _KNOWN_AT_MOST:
            self._known, self._known_at = {}, at
        new = [subject for subject in subjects if subject not in self._known]
        if new:
            for subject, (id, metadata) in store.describe(new).items():
                is_deep = any(isinstance(value, (dict, list)) for value in metadata.values())
                self._known[subject] = id, metadata, is_deep
        return self._known
