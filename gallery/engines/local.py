"""The engine of one machine: a store and an index kept in step, shared by threads and by processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gallery.auditing import Bounds, Everyone
from gallery.engines import index_files, scoring
from gallery.engines.base import Compared, Overlap, State, Whole
from gallery.engines.carrying import carried_over
from gallery.engines.everyone import everyone
from gallery.engines.index_cache import ERASED, INDEX_FILE, INDEX_WISH
from gallery.engines.recall import overlap
from gallery.engines.screening import screened
from gallery.engines.searching import Searching
from gallery.errors import EncoderMismatchError, GalleryError, GalleryLockedError
from gallery.filters import Where
from gallery.findings import Conflict
from gallery.fusion import NEAREST
from gallery.indexes.base import VectorIndex
from gallery.indexes.choice import AUTO
from gallery.processes import check_not_forked
from gallery.records import Candidate, LogEntry, Problem, Subject, Template
from gallery.stores.base import Added, Curation, Generations, Header, NewTemplates, Store, Stored
from gallery.stores.catalog import translation
from gallery.stores.repair import discard_put_aside
from gallery.unpacking import discard_unpacked
from gallery.vectors import FloatRows

PATIENCE = 30.0
"""Seconds that an erasure waits for a migration to finish with the items that it has unpacked."""


class LocalEngine:
    """See `gallery.engines.base.Engine`."""

    def __init__(self, store: Store, index_folder: Path, *, read_only: bool = False) -> None:
        self._store: Store | None = store
        self._folder = index_folder
        self._read_only = read_only
        self._process = os.getpid()
        self._lock = store.shared()
        self._searching = Searching(index_folder, makes=not read_only)
        self._cache = self._searching.cache
        self._last_header = store.header

    @property
    def header(self) -> Header:
        if os.getpid() != self._process:
            return self._last_header
        with self._lock:
            if self._store is not None:
                self._last_header = self._store.header
            return self._last_header

    @contextmanager
    def _open(self) -> Iterator[Store]:
        check_not_forked(self._process, self._folder.parent)
        with self._lock:
            if self._store is None:
                raise GalleryError(f"{self._folder.parent} was closed")
            yield self._store

    @contextmanager
    def _at_one_revision(self, of: Header | None = None) -> Iterator[Store]:
        with self._open() as store, store.snapshot():
            _check_bound(store, of)
            yield store

    # -- changes

    def add(
        self,
        batch: Iterable[NewTemplates],
        of: Header | None = None,
        verb: str = "enroll",
        settings: Mapping[str, str] = MappingProxyType({}),
        different: Iterable[tuple[str, str]] | None = None,
    ) -> tuple[list[Added], int]:
        def put(store: Store) -> list[Added]:
            return store.add(batch) if different is None else carried_over(store, batch, different)

        return self._added(put, of, verb, settings)

    def add_screened(
        self,
        batch: Iterable[NewTemplates],
        bounds: Bounds,
        refuse: bool,
        of: Header | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[list[Added], int, list[Conflict]]:
        noticed: list[Conflict] = []

        def put(store: Store) -> list[Added]:
            whole = list(batch)
            noticed.extend(screened(store, self._searching, whole, bounds, refuse))
            return store.add(whole)

        return (*self._added(put, of, "enroll", settings), noticed)

    def _added(
        self,
        put: Callable[[Store], list[Added]],
        of: Header | None,
        verb: str,
        settings: Mapping[str, str],
    ) -> tuple[list[Added], int]:
        with self._open() as store:
            with store.commit(verb):
                _check_bound(store, of)
                added = put(store)
                for key, value in settings.items():
                    store.set_setting(key, value)
                # The revision rises with the commit, unless there was nothing to add.
                revision = store.revision() + bool(added)
            return added, revision

    def remove_subjects(self, ids: Sequence[str]) -> dict[str, int]:
        with self._open() as store, store.commit("remove"):
            removed: dict[str, int] = {}
            for id in ids:
                # What is no string is not enrolled, and the store says so.
                if not isinstance(id, str) or id not in removed:
                    removed[id] = store.remove_subject(id)
            return removed

    def remove_templates(self, numbers: Sequence[int]) -> int:
        with self._open() as store, store.commit("remove templates"):
            return store.remove_templates(numbers)

    def erase(self) -> None:
        with _not_yet_erased(self._folder):
            with self._open() as store:
                with store.commit("erase"):
                    store.forget_removed()
                    # Tells the engines of other processes to throw away what they hold as well.
                    store.set_setting(ERASED, str(store.revision() + 1))
                    store.set_setting(INDEX_FILE, None)
                self._searching.forget()
                self._drop_index_files()
                discard_put_aside(self._folder.parent)
                store.erase()
                # Once more: whoever read what was removed, to write it to an index file, has finished now.
                self._drop_index_files()
            # Without the lock, which a migration in another thread waits for.
            self._discard_unpacked()

    def _drop_index_files(self) -> None:
        index_files.drop(index_files.files(self._folder))

    def _discard_unpacked(self) -> None:
        """Waits for those that embed items unpacked before the removal; what is unpacked now is of others."""
        mine = discard_unpacked(self._folder.parent)
        end = time.monotonic() + PATIENCE
        while busy := [one for one in discard_unpacked(self._folder.parent) if one in mine]:
            if time.monotonic() > end:
                raise GalleryLockedError(
                    f"items are unpacked in {busy[0]} for a migration that goes on: call compact() after it"
                )
            time.sleep(0.05)

    def set_setting(self, key: str, value: str | None, verb: str | None = None) -> None:
        self.set_settings({key: value}, verb)

    def set_settings(self, settings: Mapping[str, str | None], verb: str | None = None) -> None:
        with self._open() as store, store.commit(verb):
            for key, value in settings.items():
                store.set_setting(key, value)

    def keep_log(self, on: bool) -> None:
        with self._open() as store, store.commit("log on" if on else "log off"):
            store.keep_log(on)

    # -- other encoders

    @contextmanager
    def generations(self) -> Iterator[Generations]:
        with self._at_one_revision() as store:
            yield store.generations

    @contextmanager
    def changed_generations(
        self, verb: str | None, settings: Mapping[str, str] = MappingProxyType({}), switches: bool = False
    ) -> Iterator[Generations]:
        with self._open() as store:
            with store.commit(verb):
                yield store.generations
                for key, value in settings.items():
                    store.set_setting(key, value)
                if switches:
                    store.set_setting(INDEX_FILE, None)
            if switches:
                self._searching.forget()
                index_files.drop_if_possible(self._folder)
                with store.snapshot():
                    # The store's header follows.
                    pass

    # -- putting in order

    @contextmanager
    def curation(self) -> Iterator[Curation]:
        with self._at_one_revision() as store:
            yield store.curation

    @contextmanager
    def changed_curation(self, verb: str) -> Iterator[Curation]:
        with self._open() as store, store.commit(verb):
            yield store.curation

    # -- search

    def nearest(
        self,
        probes: FloatRows,
        k: int,
        of: Header | None = None,
        where: Where | None = None,
        fusion: str = NEAREST,
    ) -> list[list[Candidate]]:
        with self._at_one_revision(of) as store:
            return self._searching.nearest(store, probes, k, where, fusion)

    def within(
        self, probes: FloatRows, radius: float, of: Header | None = None, where: Where | None = None
    ) -> list[list[Candidate]]:
        with self._at_one_revision(of) as store:
            return self._searching.within(store, probes, radius, where)

    def reindex(self, kind: str) -> State:
        with self._open() as store:
            with store.commit("reindex", kind):
                self._cache.ask_for(store, kind)
            self._searching.forget()
            index_files.drop_if_possible(self._folder)
            state = self.state()
            with suppress(GalleryError, OSError):
                self._cache.save_if_worth_it(store)
            return state

    def recall(self, sample: int, k: int, seed: int, goal: float | None = None) -> tuple[State, Overlap]:
        with self._at_one_revision() as store:
            found = overlap(store, self._searching, sample, k, seed, goal)
            # Afterwards, as the index may have been given up meanwhile.
            return self._state(store, self._cache.in_step(store)), found

    def compared(
        self,
        probes: tuple[FloatRows, Sequence[str], Sequence[str | None]] | None,
        sample: int,
        seed: int,
        of: Header | None = None,
        fusion: str = NEAREST,
    ) -> tuple[State, Compared]:
        with self._at_one_revision(of) as store:
            barred = self._searching.barred(store)
            if probes is None:
                asked = scoring.from_the_gallery(store, sample, seed, barred)
            else:
                rows, ids, sources = probes
                asked = scoring.Probes(rows, scoring.owners(store, ids), sources)
            state = self._state(store, self._cache.in_step(store))
            return state, scoring.compared(store, asked, seed, fusion, barred)

    def everyone(self, threshold: float) -> tuple[State, Everyone, dict[int, str]]:
        with self._at_one_revision() as store:
            found = everyone(store, self._searching.barred(store), threshold)
            ids = {number: id for number, (id, _) in store.describe(np.unique(found.owners).tolist()).items()}
            return self._state(store, self._cache.in_step(store)), found, ids

    def embeddings(self, id: str, of: Header | None = None) -> Stored:
        with self._at_one_revision(of) as store:
            return self._searching.embeddings(store, id)

    # -- questions

    def has(self, id: str) -> bool:
        with self._at_one_revision() as store:
            return store.subject(id) is not None

    def ids(self) -> list[str]:
        with self._at_one_revision() as store:
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

    @contextmanager
    def exported(self) -> Iterator[tuple[Curation, Iterator[Whole]]]:
        with self._at_one_revision() as store:
            whole = (
                (id, store.metadata(id), store.templates(id), store.embeddings(id)) for id in store.ids()
            )
            yield store.curation, whole

    def setting(self, key: str) -> str | None:
        with self._open() as store:
            return store.setting(key)

    def state(self) -> State:
        with self._at_one_revision() as store:
            return self._state(store, self._cache.in_step(store))

    def _state(self, store: Store, index: VectorIndex) -> State:
        subjects, templates = store.counts()
        return State(
            revision=store.revision(),
            subjects=subjects,
            templates=templates,
            changes=2 * store.last_template() - templates,
            index=index.kind,
            index_wish=store.setting(INDEX_WISH) or AUTO,
            index_why=self._cache.chosen(store).why,
            in_memory=max(0, len(index) - self._cache.saved),
        )

    def log(self) -> list[LogEntry]:
        with self._at_one_revision() as store:
            return store.log()

    def backup(self, target: Path, progress: Callable[[int, int | None], None] | None = None) -> int:
        with self._open() as store:
            pass
        # Without the lock: it has a connection of its own, and other threads go on meanwhile.
        return store.backup(target, [INDEX_FILE], progress)

    def check(self) -> list[Problem]:
        with self._open() as store:
            return [*store.check(), *self._check_index_file(store)]

    def _check_index_file(self, store: Store) -> list[Problem]:
        stamp = None
        with suppress(GalleryError):
            stamp = index_files.stamp_of(store.setting(INDEX_FILE))
        found = index_files.problems(self._folder, stamp)
        if found:
            self._searching.forget()
        return found

    def close(self) -> None:
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._store is None:
                return
            try:
                # A cache that cannot be written, or not be built, is no reason to fail: the store is whole.
                with suppress(GalleryError, OSError):
                    if not self._read_only:
                        self._cache.save_if_worth_it(self._store)
            finally:
                self._searching.forget()
                self._store.close()
                self._last_header, self._store = self._store.header, None


@contextmanager
def _not_yet_erased(folder: Path) -> Iterator[None]:
    """An erasure that fails says what is done and what is not."""
    done = "what was removed is gone from every search, but its bytes may still be in the files until "
    try:
        yield
    except GalleryError as error:
        raise type(error)(f"{done}compact() succeeds: {error}") from error
    except OSError as error:
        raise GalleryError(f"{done}compact() succeeds: {translation(error, folder)}") from error


def _check_bound(store: Store, of: Header | None) -> None:
    if of is not None and of.generation != store.header.generation:
        raise EncoderMismatchError(
            f"the gallery was migrated from the encoder {of.encoder!r} to {store.header.encoder!r} "
            "meanwhile: open it with that one"
        )
