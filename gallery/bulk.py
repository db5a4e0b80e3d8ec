"""Bulk enrolment in bounded memory: encode batch by batch, spool to disk, hand over in one go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any

import numpy as np

from gallery.encoder import Encoder, embed, listed
from gallery.errors import GalleryError, InvalidItemError
from gallery.metadata import checked_json
from gallery.originals import Packed, is_file, pack
from gallery.quality import Gatekeeper
from gallery.records import Refusal
from gallery.stores.base import NewTemplates
from gallery.vectors import FloatRows

Progress = Callable[[int, int | None], None]
"""Called with (items done, items in all or None when that is not known)."""

_IN_MEMORY = 64 * 2**20
_BATCH = 1024


def checked_id(id: Any) -> str:
    """An id that can be stored: a non-empty string of whole Unicode characters."""
    if not isinstance(id, str) or not id:
        raise InvalidItemError(f"an id is a non-empty string, not {id!r}")
    try:
        id.encode()
    except UnicodeEncodeError as error:
        raise InvalidItemError(f"the id {id!r} is not valid Unicode: {error.reason}") from error
    return id


def source_of(item: Any) -> str | None:
    """The path of an item that is a path, as provenance; a string is one when a file is there."""
    if not isinstance(item, os.PathLike) and not (isinstance(item, str) and is_file(item)):
        return None
    path = os.fspath(item)
    if isinstance(path, bytes):
        return path.decode("utf-8", "backslashreplace")
    # A name that is not UTF-8 comes as lone surrogates, which no database takes.
    return path.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class _Subject:
    id: str
    metadata: str | None
    """The text that is stored."""
    items: int
    sources: list[str | None]
    originals: list[tuple[str, int]] | None
    """(kind, length) of every item, where they are kept."""


class Spool:
    """Embeddings on their way to one commit: written once, read once, in memory while they are few.

    keep: the items themselves go the same way, in a file of their own. quality: looks at the items first.
    """

    def __init__(
        self,
        encoder: Encoder,
        on_error: str,
        progress: Progress | None,
        total: int | None,
        keep: bool = False,
        quality: Gatekeeper | None = None,
    ) -> None:
        self._encoder = encoder
        self._skip = skips(on_error)
        self._progress = progress
        self._total = total
        self._quality = quality
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._kept = SpooledTemporaryFile(max_size=_IN_MEMORY) if keep else None  # noqa: SIM115
        self._subjects: list[_Subject] = []
        self._waiting: list[tuple[_Subject, int, Any]] = []
        self._done = 0
        self.first: Any = None
        """The first item that could be used."""
        self.refused: list[Refusal] = []
        self.flagged: list[Refusal] = []
        """Enrolled all the same."""

    def take(self, id: str, items: Any, metadata: Mapping[str, Any] | None = None) -> None:
        """Adds a subject's items; those before may be encoded now."""
        text = None if metadata is None else checked_json(id, metadata)
        try:
            all_items = listed(items)
        except InvalidItemError as error:
            raise InvalidItemError(f"{id!r}: {error}; nothing was written") from error
        if len(all_items) == 0:
            raise InvalidItemError(f"{id!r}: the list of items is empty; nothing was written")
        kept = None if self._kept is None else list[tuple[str, int]]()
        subject = _Subject(checked_id(id), text, len(all_items), [], kept)
        self._subjects.append(subject)
        for index, item in enumerate(all_items):
            self._waiting.append((subject, index, item))
            if len(self._waiting) >= _BATCH:
                self._encode()

    def finish(self) -> None:
        """Encodes what is left."""
        self._encode()

    def _encode(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        rows, bad = embed(self._encoder, [item for _, _, item in waiting])
        objections = self._objections(waiting, bad)
        with _room_for("embeddings"):
            unkept = objections | self._keep(waiting, bad | objections)
            if unkept:
                used = [position for position in range(len(waiting)) if position not in bad]
                rows = rows[[position not in unkept for position in used]]
            self._file.write(rows.tobytes())
        bad |= unkept
        for position in sorted(bad):
            subject, index, _ = waiting[position]
            self._refuse(Refusal(subject.id, index, bad[position]), subject.items)
        for position, (subject, _, item) in enumerate(waiting):
            if position in bad:
                continue
            if self.first is None:
                self.first = item
            subject.sources.append(None if type(item) is np.ndarray else source_of(item))
        self._done += len(waiting)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _keep(self, waiting: list[tuple[_Subject, int, Any]], bad: Mapping[int, str]) -> dict[int, str]:
        """Spools the usable items, one at a time, where they are kept: {position: why one cannot be}."""
        unkept: dict[int, str] = {}
        if self._kept is None:
            return unkept
        for position, (subject, _, item) in enumerate(waiting):
            if position in bad:
                continue
            try:
                kind, content = pack(item)
            except InvalidItemError as error:
                unkept[position] = str(error)
            else:
                self._kept.write(content)
                assert subject.originals is not None
                subject.originals.append((kind, len(content)))
        return unkept

    def _objections(self, waiting: list[tuple[_Subject, int, Any]], bad: Mapping[int, str]) -> dict[int, str]:
        """{position: what the quality gate has against it}, of those that are not enrolled for that."""
        if self._quality is None:
            return {}
        found = self._quality.objections([item for _, _, item in waiting], bad)
        if not self._quality.flags:
            return found
        for position, reason in found.items():
            subject, index, _ = waiting[position]
            self.flagged.append(Refusal(subject.id, index, reason))
        return {}

    def _refuse(self, refusal: Refusal, items: int) -> None:
        if not self._skip:
            raise InvalidItemError(
                f"{refusal.id!r}: item {refusal.index} of {items} cannot be used: {refusal.reason}; "
                "nothing was written (on_error skip enrols the others)",
                refusal.index,
            )
        self.refused.append(refusal)

    def batches(self) -> Iterator[NewTemplates]:
        """What to add, subject by subject; one whose items were all refused is left out."""
        self._file.seek(0)
        rows, used, start = self._rows(0), 0, 0
        for subject in self._subjects:
            count = len(subject.sources)
            if count > len(rows) - used:
                more = self._rows(max(_BATCH, count))
                rows, used = np.concatenate([rows[used:], more]), 0
            if count:
                mine = rows[used : used + count]
                originals = None if subject.originals is None else self._originals(subject.originals, start)
                yield NewTemplates(subject.id, mine, subject.sources, subject.metadata, None, originals)
                used += count
            if subject.originals is not None:
                start += sum(length for _, length in subject.originals)

    def _originals(self, kept: list[tuple[str, int]], start: int) -> Iterator[Packed]:
        """Reads them back, one at a time, when they are asked for."""
        assert self._kept is not None
        for kind, length in kept:
            self._kept.seek(start)
            yield kind, self._kept.read(length)
            start += length

    def _rows(self, count: int) -> FloatRows:
        """The next `count` embeddings, or those that are left."""
        content = self._file.read(4 * count * self._encoder.dim)
        return np.frombuffer(content, np.float32).reshape(-1, self._encoder.dim)

    def close(self) -> None:
        """Deletes what was spooled."""
        self._file.close()
        if self._kept is not None:
            self._kept.close()


@contextmanager
def _room_for(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GalleryError(
            f"no room for {what} in {gettempdir()}, where they wait for the commit "
            f"({error.strerror or error}); nothing was written"
        ) from error


def skips(on_error: str) -> bool:
    """True for "skip", False for "raise"."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    return on_error == "skip"


def fill(spool: Spool, subjects: Iterable[Any]) -> None:
    """Takes every (id, items) or (id, items, metadata) of an iterable."""
    for position, subject in enumerate(subjects):
        if not isinstance(subject, (tuple, list)) or len(subject) not in (2, 3):
            raise InvalidItemError(
                f"subject {position}: expected (id, items) or (id, items, metadata), "
                f"got {type(subject).__name__}"
            )
        spool.take(*subject)
    spool.finish()
