"""The engine of one machine: a store and an index kept in step, shared by threads and by processes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from gallery.decisions import nearest_template_of_each
from gallery.engines import index_files
from gallery.engines.base import Added, State
from gallery.errors import GalleryError
from gallery.indexes.base import VectorIndex
from gallery.indexes.exact import ExactIndex
from gallery.indexes.faiss import FaissIndex
from gallery.records import Candidate, Problem, Subject, Template
from gallery.stores.base import NewTemplates, Store, Stored
from gallery.vectors import FloatRows, Numbers, distances

Finalists = list[tuple[int, int, float]]
"""(subject number, template number, distance), nearest first."""

_FIRST_ASK = 16
_ROWS_AT_A_TIME = 2**16
_ERASED = "erased"
_INDEX_FILE = "index_file"


class LocalEngine:
    """See `gallery.engines.base.Engine`."""

    def __init__(self, store: Store, index_folder: Path, *, read_only: bool = False) -> None:
        self.header = store.header
        self._store: Store | None = store
        self._folder = index_folder
        self._read_only = read_only
        self._lock = threading.RLock()
        self._index: VectorIndex | None = None
        self._revision = 0
        self._last_template = 0
        self._saved = 0

    @contextmanager
    def _open(self) -> Iterator[Store]:
        with self._lock:
            if self._store is None:
                raise GalleryError(f"{self._folder.parent} was closed")
            yield self._store

    @contextmanager
    def _at_one_revision(self) -> Iterator[Store]:
        with self._open() as store, store.snapshot():
            yield store

    # -- changes

    def add(self, batch: Iterable[NewTemplates]) -> tuple[list[Added], int]:
        added = []
        with self._open() as store:
            with store.commit():
                for new in batch:
                    numbers, created = store.add(new)
                    added.append(Added(new.id, tuple(numbers), created))
                # The revision rises with the commit, unless there was nothing to add.
                revision = store.revision() + bool(added)
            return added, revision

    def remove_subjects(self, ids: Sequence[str]) -> dict[str, int]:
        with self._open() as store, store.commit():
            removed: dict[str, int] = {}
            for id in ids:
                # What is no string is not enrolled, and the store says so.
                if not isinstance(id, str) or id not in removed:
                    removed[id] = store.remove_subject(id)
            return removed

    def remove_templates(self, numbers: Sequence[int]) -> int:
        with self._open() as store, store.commit():
            return store.remove_templates(numbers)

    def erase(self) -> None:
        with self._open() as store:
            with store.commit():
                # Tells the engines of other processes to throw away what they hold as well.
                store.set_setting(_ERASED, str(store.revision() + 1))
                store.set_setting(_INDEX_FILE, None)
            index_files.drop(index_files.files(self._folder))
            self._forget()
            store.erase()

    def set_setting(self, key: str, value: str | None) -> None:
        with self._open() as store, store.commit():
            store.set_setting(key, value)

    # -- search

    def nearest(self, probes: FloatRows, k: int) -> list[list[Candidate]]:
        with self._at_one_revision() as store:
            index = self._in_step(store)
            found = self._finalists(store, index, probes, k)
            known = store.describe({subject for finalists in found for subject, _, _ in finalists})
            return [
                [
                    Candidate(known[subject][0], distance, template, known[subject][1])
                    for subject, template, distance in finalists
                ]
                for finalists in found
            ]

    def _finalists(self, store: Store, index: VectorIndex, probes: FloatRows, k: int) -> list[Finalists]:
        """Asks for more templates until k different subjects are certain, for each probe."""
        answers: list[Finalists] = [[] for _ in probes]
        pending = list(range(len(probes)))
        ask = min(max(_FIRST_ASK, 2 * k), len(index))
        while pending and len(index):
            step = max(1, _ROWS_AT_A_TIME // ask)
            unsure = []
            for start in range(0, len(pending), step):
                unsure += self._settle(store, index, probes, pending[start : start + step], k, ask, answers)
            pending = unsure
            if pending:
                # No more subjects than there are can be waited for.
                k = min(k, store.counts()[0])
                ask = min(4 * ask, len(index))
        return answers

    def _settle(
        self,
        store: Store,
        index: VectorIndex,
        probes: FloatRows,
        which: list[int],
        k: int,
        ask: int,
        answers: list[Finalists],
    ) -> list[int]:
        """Fills in the answers that `ask` templates make certain; returns the probes that need more."""
        found = index.search(probes[which], ask)
        stored = store.fetch(np.unique(found.numbers[found.numbers >= 0]))
        unsure = []
        for row, probe in enumerate(which):
            ranked = _ranked(probes[probe], stored, found.numbers[row], self.header.metric)
            certain = len(ranked) >= k and ranked[k - 1][2] < found.floor[row]
            if certain or found.exhausted[row]:
                answers[probe] = ranked[:k]
            else:
                unsure.append(probe)
        return unsure

    def embeddings(self, id: str) -> Stored:
        with self._at_one_revision() as store:
            return store.embeddings(id)

    # -- the index in step with the store

    def _in_step(self, store: Store) -> VectorIndex:
        """The index, brought up to the store's present revision. Inside a snapshot."""
        try:
            revision = store.revision()
            if self._index is not None and revision != self._revision:
                if _erased(store) > self._revision:
                    self._forget()
                else:
                    self._catch_up(store, self._index, store.removed_since(self._revision))
            if self._index is None:
                self._index = self._loaded(store)
            if self._index.worn():
                self._index = self._rebuilt(store)
            self._revision = revision
        except BaseException:
            # What stopped half-way would be taken for complete by the next search.
            self._forget()
            raise
        return self._index

    def _loaded(self, store: Store) -> VectorIndex:
        """The index of the file, with what came since; built anew when none fits."""
        index = self._empty(store)
        stamp = index_files.stamp_of(store.setting(_INDEX_FILE))
        if stamp is None or not index_files.load(self._folder, index, stamp):
            return self._rebuilt(store)
        self._last_template, self._saved = stamp.last_template, stamp.templates
        # A file may hold templates that were removed before it was written.
        self._catch_up(store, index, store.removed_since(0))
        return index if len(index) == store.counts()[1] else self._rebuilt(store)

    def _rebuilt(self, store: Store) -> VectorIndex:
        index = self._empty(store)
        self._last_template = self._saved = 0
        self._catch_up(store, index, np.empty(0, np.int64))
        return index

    def _catch_up(self, store: Store, index: VectorIndex, removed: Numbers) -> None:
        for stored in store.scan(after=self._last_template):
            index.add(stored.numbers, stored.rows)
        self._last_template = store.last_template()
        index.remove(removed)

    def _empty(self, store: Store) -> VectorIndex:
        kind = choose(store.setting("index") or "auto")
        if kind == "exact":
            return ExactIndex(self.header.dim, self.header.metric)
        return FaissIndex(self.header.dim, self.header.metric, kind)

    def _forget(self) -> None:
        self._index = None
        self._revision = self._last_template = self._saved = 0

    # -- questions

    def has(self, id: str) -> bool:
        with self._open() as store:
            return store.subject(id) is not None

    def ids(self) -> list[str]:
        with self._open() as store:
            return store.ids()

    def listing(self) -> list[Subject]:
        with self._at_one_revision() as store:
            return store.listing()

    def templates(self, id: str) -> list[Template]:
        with self._at_one_revision() as store:
            return store.templates(id)

    def metadata(self, id: str) -> dict[str, Any]:
        with self._at_one_revision() as store:
            return store.metadata(id)

    def counts(self) -> tuple[int, int]:
        with self._open() as store:
            return store.counts()

    def subjects(self) -> Iterator[tuple[str, dict[str, Any], list[Template], Stored]]:
        with self._at_one_revision() as store:
            for id in store.ids():
                yield id, store.metadata(id), store.templates(id), store.embeddings(id)

    def setting(self, key: str) -> str | None:
        with self._open() as store:
            return store.setting(key)

    def state(self) -> State:
        with self._at_one_revision() as store:
            wish = store.setting("index") or "auto"
            subjects, templates = store.counts()
            index = self._in_step(store)
            return State(
                store.revision(), subjects, templates, index.kind, wish, max(0, len(index) - self._saved)
            )

    def check(self) -> list[Problem]:
        with self._open() as store:
            return store.check()

    def close(self) -> None:
        with self._lock:
            if self._store is None:
                return
            try:
                # A cache that cannot be written, or not be built, is no reason to fail: the store is whole.
                with suppress(GalleryError, OSError):
                    if not self._read_only:
                        self._save_if_worth_it(self._store)
            finally:
                self._store.close()
                self._store, self._index = None, None

    def _save_if_worth_it(self, store: Store) -> None:
        with store.snapshot():
            if not worth_saving(store.counts()[1], self._saved, self._index is not None):
                return
            index = self._in_step(store)
            if not index.saveable() or not worth_saving(len(index), self._saved, True):
                return
            before = index_files.files(self._folder)
            stamp = index_files.save(self._folder, index, self._revision, self._last_template)
        written = self._folder / stamp.file
        try:
            with store.commit():
                if _erased(store) > self._revision:
                    raise GalleryError("another process erased while this one wrote what it still held")
                store.set_setting(_INDEX_FILE, stamp.to_json())
        except BaseException:
            index_files.drop([written])
            raise
        index_files.drop(before)


def _erased(store: Store) -> int:
    """The revision of the last erasure, 0 before the first."""
    return int(store.setting(_ERASED) or 0)


def choose(wish: str) -> str:
    """The kind of index for a wish: "auto" is exact, which is certain, until something faster is needed."""
    return "exact" if wish == "auto" else wish


def worth_saving(templates: int, saved: int, known: bool) -> bool:
    """Whether reading `templates` from the store at the next opening costs more than a file now.

    saved: how many the present file holds; known: whether that was looked at.
    """
    unsaved = abs(templates - saved)
    return unsaved > max(1000, saved // 20) if known else templates > 1000


def _ranked(probe: FloatRows, stored: Stored, numbers: Numbers, metric: str) -> Finalists:
    at = np.flatnonzero(np.isin(stored.numbers, numbers))
    scores = distances(probe, stored.rows[at], metric)
    order = nearest_template_of_each(scores, stored.numbers[at], stored.subjects[at])
    return [
        (int(stored.subjects[at[row]]), int(stored.numbers[at[row]]), float(scores[row])) for row in order
    ]
