"""The gallery: every verb encodes, asks the engine and lets the pure functions decide."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from gallery import hdf5
from gallery.bulk import Progress, Spool, checked_id, fill, source_of
from gallery.calibrating import Calibrating
from gallery.canary import new_canary
from gallery.curating import Curating, Screen
from gallery.encoder import Encoder, check_same, embed
from gallery.engines.base import Engine
from gallery.errors import EncoderMismatchError, GalleryError, InvalidItemError
from gallery.evaluating import Evaluating
from gallery.findings import Conflict
from gallery.folders import absolute_path
from gallery.info import Info, gathered
from gallery.metadata import check_keys
from gallery.migration import Migrating
from gallery.originals import KEEP_ITEMS
from gallery.processes import check_not_forked
from gallery.quality import Gate, gatekeeper
from gallery.records import (
    BulkEnrollment,
    Enrollment,
    LogEntry,
    Problem,
    Subject,
    Template,
)
from gallery.searching import Searching
from gallery.stores.base import Added, Header, NewTemplates, canary_setting

_FEW = 64
"""Items that are enrolled without a spool."""


class Gallery(Calibrating, Searching, Curating, Evaluating, Migrating):
    """Enrolled templates under ids, in a folder that survives crashes. Made by `gallery.open` or `create`.

    May be shared by threads; other processes may read and write the same folder at the same time.
    """

    def __init__(
        self,
        location: Path,
        engine: Engine,
        encoder: Encoder | None,
        *,
        read_only: bool,
        quality: Gate | None = None,
        on_quality: str = "refuse",
    ) -> None:
        self.location = location
        self.encoder = encoder
        self.read_only = read_only
        self._engine = engine
        self._quality = gatekeeper(quality, on_quality)
        self._canary_is_settled = False
        self._keeps_items: bool | None = None
        self._binding = threading.RLock()
        self._process = os.getpid()
        self._replaced = {}

    # -- enrolling

    def enroll(
        self,
        id: str,
        items: Any,
        metadata: Mapping[str, Any] | None = None,
        *,
        on_error: str = "raise",
        on_conflict: str = "ignore",
    ) -> Enrollment:
        """Adds a template for each item under `id`, in one commit; durable when it returns.

        id         any non-empty Unicode string; a known one gets more templates
        metadata   about the subject, anything JSON can hold; merged into what is there, new values win
        on_error   "raise": one unusable item and nothing is written; "skip": the others are enrolled and the
                   refused ones listed in the result
        on_conflict  "ignore": enrolled without a look, which is fastest; "warn": enrolled, and `conflicts` of
                   the result says which items may be another subject, are unlike the subject's other
                   templates, or copies of one (see `Conflict`); "refuse": ConflictError when there is any

        Raises InvalidItemError naming the item and the reason, GalleryLockedError; NotCalibratedError for a
        look at conflicts without a threshold.
        """
        screen = self._screen(on_conflict)
        quick = on_error == "raise" and screen is None
        ready = self._without_spool(id, items, metadata) if quick else None
        if ready is not None:
            (one,), revision = ready
            return Enrollment(one.id, one.templates, one.created, revision)
        bulk, added = self._enroll([(id, items, metadata)], on_error, None, None, screen)
        if not added:
            refusal = bulk.refused[0]
            raise InvalidItemError(
                f"{id!r}: none of the {len(bulk.refused)} items can be used; "
                f"item {refusal.index}: {refusal.reason}; nothing was written",
                refusal.index,
            )
        one = added[0]
        return Enrollment(
            one.id, one.templates, one.created, bulk.revision, bulk.refused, bulk.conflicts, bulk.flagged
        )

    def enroll_many(
        self,
        subjects: Iterable[Any],
        *,
        on_error: str = "raise",
        progress: Progress | None = None,
        total: int | None = None,
        on_conflict: str = "ignore",
    ) -> BulkEnrollment:
        """Enrols every (id, items) or (id, items, metadata) of an iterable in one commit: all or nothing.

        Items are encoded in batches and spooled to a temporary file, so memory stays bounded and the gallery
        is locked only while the commit is written. progress(done, total) is called after every batch; total
        is the number of items, if you know it. on_conflict: see `enroll`; the items are looked at beside each
        other as well, and all embeddings are in memory meanwhile.
        """
        return self._enroll(subjects, on_error, progress, total, self._screen(on_conflict))[0]

    def _enroll(
        self,
        subjects: Iterable[Any],
        on_error: str,
        progress: Progress | None,
        total: int | None,
        screen: Screen | None,
    ) -> tuple[BulkEnrollment, list[Added]]:
        self._check_writable()
        encoder, header = self._bound()
        spool = Spool(encoder, on_error, progress, total, self._keeps(), self._quality)
        try:
            fill(spool, subjects)
            settings = self._canary_settings(encoder, header, spool.first)
            if screen is None:
                added, revision = self._engine.add(spool.batches(), header, settings=settings)
                noticed: list[Conflict] = []
            else:
                added, revision, noticed = self._engine.add_screened(
                    spool.batches(), screen.bounds, screen.refuse, header, settings
                )
        finally:
            spool.close()
        # Not before the commit: one that failed has stored no canary.
        self._canary_is_settled |= bool(added)
        return _summary(added, revision, spool, noticed), added

    def _without_spool(
        self, id: str, items: Any, metadata: Mapping[str, Any] | None
    ) -> tuple[list[Added], int] | None:
        """The short way for a few good items; None, and nothing written, where the spool has to look."""
        if not isinstance(items, list) or not 0 < len(items) <= _FEW or self._keeps() or self._quality:
            return None
        self._check_writable()
        encoder, header = self._bound()
        if metadata is not None:
            check_keys(id, metadata)
        rows, bad = embed(encoder, items)
        if bad:
            return None
        new = NewTemplates(checked_id(id), rows, [source_of(item) for item in items], metadata)
        done = self._engine.add([new], header, settings=self._canary_settings(encoder, header, items[0]))
        self._canary_is_settled = True
        return done

    def _keeps(self) -> bool:
        """Whether the enrolled items themselves are kept too, which a gallery is made with."""
        if self._keeps_items is None:
            self._keeps_items = self._engine.setting(KEEP_ITEMS) is not None
        return self._keeps_items

    def _canary_settings(self, encoder: Encoder, header: Header, first: Any) -> dict[str, str]:
        """The canary to store with the first items that are enrolled; nothing once there is one."""
        if self._canary_is_settled or first is None:
            return {}
        key = canary_setting(header.generation)
        canary = None if self._engine.setting(key) is not None else new_canary(encoder, first)
        return {} if canary is None else {key: canary.to_json()}

    # -- removing

    def remove(self, id: str, erase: bool = False) -> int:
        """Removes a subject: how many templates went. Gone from the very next search, in every process.

        erase: also leave no byte of it in any file of the gallery; rewrites the catalog, so it takes time in
        proportion to the gallery. Raises UnknownSubjectError.
        """
        return self.remove_many([id], erase)[id]

    def remove_many(self, ids: Iterable[str], erase: bool = False) -> dict[str, int]:
        """Removes several subjects in one commit: {id: how many templates went}.

        Raises UnknownSubjectError, and removes nothing, when one of them is not enrolled.
        """
        self._check_writable()
        if isinstance(ids, str):
            raise InvalidItemError("expected a list of ids, got one string; nothing was removed")
        removed = self._engine.remove_subjects(list(ids))
        if erase:
            self._engine.erase()
        return removed

    def remove_templates(self, templates: Iterable[int | Template], erase: bool = False) -> int:
        """Removes single templates by number, in one commit; a subject whose last one goes, goes with it.

        Raises InvalidItemError, and removes nothing, when one of them is not enrolled.
        """
        self._check_writable()
        removed = self._engine.remove_templates([_number(template) for template in templates])
        if erase:
            self._engine.erase()
        return removed

    def compact(self) -> None:
        """Leaves no byte of anything removed so far in the gallery's files, and gives the space back."""
        self._check_writable()
        self._engine.erase()

    # -- looking

    def __len__(self) -> int:
        """How many subjects are enrolled."""
        return self._engine.counts()[0]

    def __bool__(self) -> bool:
        """A gallery is a gallery, also while it is empty."""
        return True

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self._engine.has(id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids())

    @property
    def template_count(self) -> int:
        """How many templates are enrolled."""
        return self._engine.counts()[1]

    def ids(self) -> list[str]:
        """The ids in order of first enrolment."""
        return self._engine.ids()

    def subjects(self) -> list[Subject]:
        """Every subject with its number of templates and metadata, in order of first enrolment."""
        return self._engine.listing()

    def templates(self, id: str) -> list[Template]:
        """A subject's templates by number; UnknownSubjectError."""
        return self._engine.templates(id)

    def metadata(self, id: str) -> dict[str, Any]:
        """A subject's metadata; UnknownSubjectError."""
        return self._engine.metadata(id)

    def info(self) -> Info:
        """What the gallery is and how it stands."""
        return gathered(self._engine, self.location, self.threshold, self._threshold_source())

    def _threshold_source(self) -> str:
        if self._engine.setting("threshold") is not None:
            return "gallery"
        return "encoder" if getattr(self.encoder, "threshold", None) is not None else "none"

    def log(self) -> list[LogEntry]:
        """Who did what when, oldest first; each entry is chained to the one before it by its hash."""
        return self._engine.log()

    def keep_log(self, on: bool) -> None:
        """Switches the audit log on or off; it tells of that itself."""
        self._check_writable()
        self._engine.keep_log(on)

    def check(self) -> list[Problem]:
        """Reads everything and compares it with its checksums: what is damaged, empty when all is well."""
        return self._engine.check()

    def export(self, path: str | os.PathLike[str]) -> int:
        """Writes everything enrolled to a new, self-describing HDF5 file: how many templates.

        Raises GalleryExistsError when the file is there already, GalleryError for one in this folder.
        """
        return hdf5.write(self._engine, self._outside(path))

    def backup(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> int:
        """Makes a new folder with a gallery of the present revision, while others write: how many templates.

        What was removed is in no byte of it, erased or not. progress(done, total) is called with bytes.
        Raises GalleryExistsError when something is there already, CorruptGalleryError when this gallery is
        damaged, GalleryError for a folder in this one.
        """
        return self._engine.backup(self._outside(path), progress)

    def _outside(self, path: str | os.PathLike[str]) -> Path:
        target = absolute_path(path)
        # Unlike `resolve`, this goes round no loop of links.
        real = Path(os.path.realpath(target.parent), target.name)
        if Path(os.path.realpath(self.location)) in real.parents:
            raise GalleryError(
                f"{target} is inside the gallery {self.location}, where no erasure would find it: choose "
                "another place"
            )
        return target

    def import_file(self, path: str | os.PathLike[str]) -> BulkEnrollment:
        """Adds everything in an exported HDF5 file, in one commit; known ids get more templates.

        Raises EncoderMismatchError when another encoder made it, CorruptGalleryError; then it writes nothing.
        """
        self._check_writable()
        header = self._engine.header
        different = hdf5.read_different(path)
        rows = hdf5.read(path, header)
        added, revision = self._engine.add(rows, header, verb="import", different=different)
        return _summary(added, revision)

    # -- ending

    def close(self) -> None:
        """Lets go of the files; what was enrolled is safe without it, only the next opening is faster."""
        self._engine.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise GalleryError(
            f"{self.location} is open here, and cannot be sent to another process or copied: "
            "open it in the worker"
        )

    def __repr__(self) -> str:
        header = self._engine.header
        return f"<Gallery {str(self.location)!r} of {header.encoder!r}, dim {header.dim}, {header.metric}>"

    def _bound(self) -> tuple[Encoder, Header]:
        """The encoder, after it was found to be still the one that the gallery is bound to."""
        check_not_forked(self._process, self.location)
        with self._binding:
            encoder, header = self.encoder, self._engine.header
        if encoder is None:
            raise EncoderMismatchError(
                f"{self.location} was opened without an encoder, so nothing can be embedded: "
                f"open it with the encoder it was filled by, {header.encoder!r}"
            )
        # An encoder is somebody's object, which may have changed since the gallery was opened.
        check_same(encoder, header, header.encoder, str(self.location))
        return encoder, header

    def _check_writable(self) -> None:
        if self.read_only:
            raise GalleryError(f"{self.location} was opened read-only; nothing was written")


def _summary(
    added: list[Added], revision: int, spool: Spool | None = None, conflicts: Sequence[Conflict] = ()
) -> BulkEnrollment:
    return BulkEnrollment(
        subjects=len({one.id for one in added}),
        templates=sum(len(one.templates) for one in added),
        created=sum(one.created for one in added),
        revision=revision,
        refused=tuple(spool.refused) if spool else (),
        conflicts=tuple(conflicts),
        flagged=tuple(spool.flagged) if spool else (),
    )


def _number(template: Any) -> int:
    try:
        if isinstance(template, bool):
            raise TypeError
        return operator.index(template)
    except TypeError as error:
        raise InvalidItemError(
            f"expected template numbers, got the {type(template).__name__} {template!r}; nothing was removed"
        ) from error
