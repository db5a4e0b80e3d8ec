"""The index in memory, kept in step with the store; its file is read and written through `index_files`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from gallery.engines import index_files
from gallery.engines.base import EFFORT, RECALL
from gallery.engines.drawing import drawn
from gallery.engines.index_files import MappedFile, Stamp
from gallery.errors import CorruptGalleryError, GalleryError
from gallery.indexes.base import Effort, Expecting, Trained, Tunable, UnfitIndex, VectorIndex
from gallery.indexes.choice import AUTO, EXACT, SOON, Choice, choose, new_index
from gallery.stores.base import Store
from gallery.vectors import Numbers

ERASED = "erased"
INDEX_FILE = "index_file"
INDEX_WISH = "index"


_OUTGROWN = 4
"""An index is trained anew when there are so many times the templates it was trained for."""
_MANY = 8192
"""Fewer are added to what there is, however few that are."""


class IndexCache:
    """One index of one gallery. Whoever holds it keeps other threads away."""

    def __init__(self, folder: Path, makes: bool = True) -> None:
        """makes: it writes files, so that what takes long to build need not be built at every opening."""
        self.folder = folder
        self._makes = makes
        self.saved = 0
        """How many templates the file in use holds."""
        self._index: VectorIndex | None = None
        self._file: MappedFile | None = None
        self._generation = 0
        self._revision = 0
        self._last_template = 0
        self._unfit: dict[str, str] = {}
        """{kind: why it cannot be used}, as far as it was found out here."""

    def in_step(self, store: Store) -> VectorIndex:
        """The index, brought up to the store's present revision. Inside a snapshot."""
        try:
            return self._brought_up(store)
        except UnfitIndex as error:
            self.give_up(error)
            return self._brought_up(store)

    def give_up(self, error: UnfitIndex) -> None:
        """An exact index stands in from now on for a kind that fails with these data."""
        self._unfit[error.kind] = str(error)
        self.forget()
        warnings.warn(
            f"{self.folder.parent}: {error}; an exact search stands in, until another kind is asked for "
            "by reindex()",
            RuntimeWarning,
            stacklevel=2,
        )

    def ask_for(self, store: Store, kind: str) -> None:
        """Another kind of index from now on, "auto" among them. Inside a commit."""
        if kind != (store.setting(INDEX_WISH) or AUTO):
            # What was found out about the one before; it would come back with that kind.
            store.set_setting(EFFORT, None)
            store.set_setting(RECALL, None)
        store.set_setting(INDEX_WISH, None if kind == AUTO else kind)
        store.set_setting(INDEX_FILE, None)
        self._unfit.clear()

    def _brought_up(self, store: Store) -> VectorIndex:
        try:
            revision = store.revision()
            self._drop_what_is_void(store, revision)
            if self._is_dwarfed(store):
                self.forget()
            if self._index is None:
                self._index = self._loaded(store)
            elif revision != self._revision:
                _look(store, self._index)
                self._catch_up(store, self._index, store.removed_since(self._revision))
                if len(self._index) != store.counts()[1]:
                    self._index = self.rebuilt(store)
            # One that takes long to build is built anew at an opening, and not while somebody waits.
            if self._index.worn() and not (self._is_trained() and store.counts()[1] > SOON):
                self._index = self.rebuilt(store)
            self._revision = revision
        except BaseException:
            # What stopped half-way would be taken for complete by the next search.
            self.forget()
            raise
        return self._index

    def _drop_what_is_void(self, store: Store, revision: int) -> None:
        if self._index is None:
            return
        # Reading on in a mapped file that somebody cut short would end the process, and in one that somebody
        # wrote to give wrong answers.
        void = self._file is not None and not self._file.is_untouched()
        if revision != self._revision:
            void |= store.header.generation != self._generation or erased_at(store) > self._revision
            void |= self._index.kind != self.chosen(store).kind
        if void:
            self.forget()

    def chosen(self, store: Store) -> Choice:
        """The kind of index for the store at its present revision. Inside a snapshot."""
        stamp = _stamp(store)
        there = stamp.kind if stamp is not None else None if self._index is None else self._index.kind
        wish = store.setting(INDEX_WISH) or AUTO
        choice = choose(wish, store.counts()[1], store.header.dim, there, self._makes)
        if choice.kind in self._unfit:
            return Choice(EXACT, f"{choice.why}, but {self._unfit[choice.kind]}; an exact search stands in")
        lacking = getattr(self._index, "lacking", 0)
        if lacking and self._index is not None and self._index.kind == choice.kind:
            stands_in = f"an exact search stands in until there are {lacking:,} more templates to train on"
            return Choice(choice.kind, f"{choice.why}; {stands_in}")
        return choice

    def _loaded(self, store: Store) -> VectorIndex:
        """The index of the file, with what came since; built anew when none fits, or that serves better."""
        index, stamp = self._empty(store), _stamp(store)
        if stamp is None:
            return self.rebuilt(store)
        if self._makes and stamp.trained_on and store.counts()[1] > _OUTGROWN * stamp.trained_on:
            return self.rebuilt(store)
        self._file = index_files.load(self.folder, index, stamp)
        if self._file is None:
            return self.rebuilt(store)
        self._last_template, self.saved = stamp.last_template, stamp.templates
        if isinstance(index, Trained):
            index.trained_on = stamp.trained_on
        _look(store, index)
        # A file of some kinds holds templates that were removed before it was written.
        self._catch_up(store, index, store.removed_since(0 if index.keeps_removed else stamp.revision))
        if len(index) != store.counts()[1] or (self._makes and index.worn()):
            return self.rebuilt(store)
        return index

    def rebuilt(self, store: Store) -> VectorIndex:
        """The index, built anew from the store alone; CorruptGalleryError where that is not complete."""
        self.forget()
        index = self._empty(store)
        _look(store, index)
        if isinstance(index, Expecting):
            index.expect(store.counts()[1])
        self._catch_up(store, index, store.removed_since(0))
        if len(index) != store.counts()[1]:
            raise CorruptGalleryError(
                f"{self.folder.parent} holds {len(index)} templates that can be read of "
                f"{store.counts()[1]}; run `gallery check {self.folder.parent}`"
            )
        self._index, self._revision = index, store.revision()
        return index

    def _catch_up(self, store: Store, index: VectorIndex, removed: Numbers) -> None:
        if isinstance(index, Trained):
            _train(store, index)
        for stored in store.scan(after=self._last_template):
            index.add(stored.numbers, stored.rows)
        self._last_template = store.last_template()
        index.remove(removed)

    def _is_dwarfed(self, store: Store) -> bool:
        """Whether more came than the index holds: room for all is better taken once, or a file read."""
        held = 0 if self._index is None else len(self._index)
        return isinstance(self._index, Expecting) and store.counts()[1] - held > max(_MANY, held)

    def _empty(self, store: Store) -> VectorIndex:
        header = store.header
        self._generation = header.generation
        return new_index(self.chosen(store).kind, header.dim, header.metric)

    def _is_trained(self) -> bool:
        return isinstance(self._index, Trained)

    def forget(self) -> None:
        """Starts anew at the next search."""
        if self._file is not None:
            self._file.close()
        self._index, self._file = None, None
        self._revision = self._last_template = self.saved = 0

    def save_if_worth_it(self, store: Store) -> None:
        """Writes a file where the next opening gains by it. Outside a transaction."""
        if not worth_saving(store.counts()[1], self.saved, self._index is not None):
            return
        with store.commit():
            pass  # Refused where another folder took the place: nothing of this gallery is written into it.
        with store.snapshot():
            index = self.in_step(store)
            if not index.saveable() or not worth_saving(len(index), self.saved, True):
                return
            before = index_files.files(self.folder)
            stamp = index_files.save(
                self.folder, index, self._generation, self._revision, self._last_template
            )
        written = self.folder / stamp.file
        try:
            with store.commit():
                if self._is_void(store, stamp):
                    raise GalleryError("another process erased or migrated while this one wrote")
                store.set_setting(INDEX_FILE, stamp.to_json())
        except BaseException:
            index_files.drop([written])
            raise
        index_files.drop(before)

    def _is_void(self, store: Store, stamp: Stamp) -> bool:
        return erased_at(store) > stamp.revision or store.header.generation != stamp.generation


def erased_at(store: Store) -> int:
    """The revision of the last erasure, 0 before the first."""
    return int(store.setting(ERASED) or 0)


def _stamp(store: Store) -> Stamp | None:
    """What is said of the file in use; None when there is none, or none for the present encoder."""
    stamp = index_files.stamp_of(store.setting(INDEX_FILE))
    return stamp if stamp is not None and stamp.generation == store.header.generation else None


def _look(store: Store, index: VectorIndex) -> None:
    """Makes it look as hard as was found to be enough for its kind, else as it does by itself."""
    if not isinstance(index, Tunable):
        return
    known = store.setting(EFFORT)
    effort = {} if known is None else json.loads(known)
    same = effort.pop("index", None) == index.kind
    index.look(Effort(**effort) if same else index.untold)


def _train(store: Store, index: Trained) -> None:
    """Trains it on templates drawn from all there are, and not on the first that were enrolled."""
    templates = store.counts()[1]
    wanted = index.sample(templates)
    if wanted:
        index.train(drawn(store, wanted, seed=0)[1].rows, templates)


def worth_saving(templates: int, saved: int, known: bool) -> bool:
    """Whether reading `templates` from the store at the next opening costs more than a file now.

    saved: how many the present file holds; known: whether that was looked at.
    """
    unsaved = abs(templates - saved)
    return unsaved > max(1000, saved // 20) if known else templates > 1000
