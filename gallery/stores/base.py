"""The contract of a store: the only truth of a gallery, and its one commit point.

Conventions
- A template's number and a subject's number count up from 1 and are never used again, not even after erasure.
- Embeddings come in and go out as `vectors.prepare` left them: float32, bit for bit.
- `snapshot()` makes several reads see one revision. `commit()` is one atomic, durable change: when it has
  returned the change survives a crash, when it raises nothing has changed. They do not nest.
- Every commit that changes something raises the revision by one.
- A store raises only the gallery's own errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gallery.findings import Operation, Quarantined
from gallery.records import Generation, LogEntry, Problem, Subject, Template
from gallery.vectors import FloatRows, Numbers


@dataclass(frozen=True, slots=True)
class Header:
    """What a gallery is, and the encoder it is bound to. Only a migration changes it."""

    dim: int
    metric: str
    encoder: str
    fingerprint: str
    created: datetime
    identity: str
    """A random name that no other gallery has."""
    generation: int = 1
    """Counts the encoders that the gallery was bound to."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What the encoder said it is made of: hashes of weights and preprocessing, versions."""


class NewTemplates(NamedTuple):
    """Embeddings to enrol under one id. rows: (n, dim); sources: n paths or None.

    metadata: or the text of it that `gallery.metadata.checked_json` made. enrolled: when, n times in
    microseconds UTC; None is now. originals: n items to keep, each (kind, bytes) as `gallery.originals` packs
    them, or None; gone through once, one at a time.
    """

    # A tuple, because a bulk makes a million of them, and a frozen dataclass takes three times as long.
    id: str
    rows: FloatRows
    sources: Sequence[str | None]
    metadata: Mapping[str, Any] | str | None = None
    enrolled: Sequence[int] | None = None
    originals: Iterable[tuple[str, bytes] | None] | None = None
    quarantined: Sequence[str | None] | None = None


class Added(NamedTuple):
    """What one subject's part of a commit came to."""

    id: str
    templates: tuple[int, ...]
    created: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """Embeddings read back. numbers, subjects: (m,) int64; rows: (m, dim) float32; all in step."""

    numbers: Numbers
    subjects: Numbers
    rows: FloatRows


class Generations(Protocol):
    """The embeddings of other encoders beside those in use: a migration staged, and what it replaced.

    A generation's number is never used again. Templates that are removed go from every generation.
    """

    def listing(self) -> list[Generation]:
        """Every generation, oldest first."""
        ...

    def header_of(self, generation: int) -> Header:
        """What the gallery is under a generation; GalleryError when there is none of that number."""
        ...

    def begin(self, header: Header) -> Header:
        """Stages a generation without templates for the encoder of `header`, inside `commit`: its header.

        header: its `generation` and `identity` are not looked at. GalleryError when one is staged already.
        """
        ...

    def lacking(self, generation: int, after: int = 0, most: int = 256) -> list[Template]:
        """Templates above `after` that have no embedding in `generation` yet, by number, at most `most`."""
        ...

    def count_lacking(self, generation: int) -> int:
        """How many templates have no embedding in `generation`."""
        ...

    def embedded(self, generation: int, numbers: Sequence[int]) -> set[int]:
        """Those of `numbers` that have an embedding in `generation`."""
        ...

    def original(self, template: int) -> tuple[str, bytes] | None:
        """The item that was kept, as (kind, bytes), or None; CorruptGalleryError."""
        ...

    def stage(self, generation: int, numbers: Sequence[int], rows: FloatRows) -> int:
        """Notes embeddings of a staged generation, inside `commit`: how many were not there before.

        Numbers that are not enrolled any more are passed over. GalleryError when it is not staged any more.
        """
        ...

    def switch(self, generation: int, refused: Sequence[int] = ()) -> int:
        """Binds the gallery to a staged generation, inside `commit`: how many templates it has.

        Templates `refused` are removed before. GalleryError, and nothing is changed, when others lack an
        embedding. What belongs to one encoder (`OF_ENCODER`) is put away until a rollback.
        """
        ...

    def rollback(self, force: bool = False) -> Header:
        """Binds the gallery to the generation before, inside `commit`, and drops the present one: its header.

        GalleryError when there is none, or when templates were enrolled since, which it does not have; with
        `force` those are removed.
        """
        ...

    def drop_previous(self) -> int:
        """Drops every generation that was replaced, inside `commit`: how many there were."""
        ...

    def abandon(self) -> bool:
        """Drops what is staged, inside `commit`: whether anything was."""
        ...


class Curation(Protocol):
    """What is put in order by hand: who is who, what is never matched, who is different.

    Changes are made inside `commit`, one in each, and can be undone. ConflictError: what the gallery knows
    speaks against it.
    """

    def quarantined(self) -> list[Quarantined]:
        """The templates that are kept and never matched, by number."""
        ...

    def in_quarantine(self) -> Numbers:
        """Their numbers, ascending."""
        ...

    def different(self) -> list[tuple[str, str]]:
        """Pairs of ids that are remembered as different."""
        ...

    def different_numbers(self) -> set[tuple[int, int]]:
        """The same by the subjects' numbers, the lower one first."""
        ...

    def operations(self) -> list[Operation]:
        """What was done, oldest first, as far as it is not forgotten."""
        ...

    def rename(self, old: str, new: str) -> Operation:
        """Gives a subject another id, which is free; UnknownSubjectError."""
        ...

    def merge(self, into: str, others: Sequence[str]) -> Operation:
        """Hands the templates of `others` to `into`; the others are gone. UnknownSubjectError."""
        ...

    def split(
        self, id: str, templates: Sequence[int], new_id: str, metadata: Mapping[str, Any] | None
    ) -> Operation:
        """Hands some templates to a new subject, remembered as different; UnknownSubjectError."""
        ...

    def quarantine(self, templates: Sequence[int], reason: str) -> Operation:
        """Keeps templates from being matched; InvalidItemError when one is not enrolled."""
        ...

    def release(self, templates: Sequence[int]) -> Operation:
        """Lets them be matched again; InvalidItemError when one is not in quarantine."""
        ...

    def differ(self, one: str, other: str, different: bool) -> Operation:
        """Remembers two subjects as different, or forgets it; UnknownSubjectError."""
        ...

    def undo(self, operation: int) -> Operation:
        """Takes an operation back; ConflictError when what it changed has changed since."""
        ...

    def carry_over(self, reasons: Mapping[int, str], different: Iterable[tuple[str, str]]) -> None:
        """Notes what came with an import: {template: why it is in quarantine}, pairs of ids."""
        ...


REGROUPED = "regrouped"
"""The setting with the last revision that templates changed hands by."""

OF_ENCODER = ("threshold", "recall", "index_effort")
"""Settings that mean nothing under another encoder."""


def canary_setting(generation: int) -> str:
    """Under which name the store keeps the canary of one encoder."""
    return f"canary_{generation}"


class Store(Protocol):
    """Keeps subjects, templates and settings, durably; for one thread at a time."""

    @property
    def header(self) -> Header:
        """What the gallery is, as of the last transaction."""
        ...

    @property
    def generations(self) -> Generations:
        """The embeddings of other encoders than the one in use."""
        ...

    @property
    def curation(self) -> Curation:
        """What is put in order by hand."""
        ...

    def shared(self) -> AbstractContextManager[bool]:
        """A lock for those who share the store: a thread holds it while it uses the store, from now on.

        A fork waits for it. The same thread may take it more than once.
        """
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads inside see one revision."""
        ...

    def commit(self, verb: str | None = None, note: str = "") -> AbstractContextManager[None]:
        """Changes inside are one commit; GalleryLockedError when another writer does not finish in time.

        verb: what the audit log says was done; None is housekeeping, of which it says nothing. note: what it
        says besides.
        """
        ...

    def revision(self) -> int:
        """How many commits there were."""
        ...

    def last_template(self) -> int:
        """The highest template number that was ever given, 0 before the first."""
        ...

    def counts(self) -> tuple[int, int]:
        """(subjects, templates) enrolled now."""
        ...

    def add(self, batch: Iterable[NewTemplates]) -> list[Added]:
        """Adds templates, inside `commit`: their numbers, and whether each subject is new.

        metadata, when given, is merged into what the subject has; the new value of a key wins.
        """
        ...

    def remove_subject(self, id: str) -> int:
        """Removes a subject and its templates, inside `commit`: how many; UnknownSubjectError."""
        ...

    def remove_templates(self, numbers: Sequence[int]) -> int:
        """Removes templates, inside `commit`; a subject without templates goes too.

        InvalidItemError, and nothing removed, when one of them is not enrolled.
        """
        ...

    def forget_removed(self) -> None:
        """Drops the ids of removed subjects and what could be undone, inside `commit`."""
        ...

    def erase(self) -> None:
        """Leaves no byte of what was removed in the store's files. Outside `commit`."""
        ...

    def ids(self) -> list[str]:
        """The subjects' ids in order of first enrolment."""
        ...

    def listing(self) -> list[Subject]:
        """Every subject with its number of templates and metadata, in order of first enrolment."""
        ...

    def subject(self, id: str) -> int | None:
        """The subject's number, or None."""
        ...

    def templates(self, id: str) -> list[Template]:
        """The subject's templates by number; UnknownSubjectError."""
        ...

    def metadata(self, id: str) -> dict[str, Any]:
        """The subject's metadata; UnknownSubjectError."""
        ...

    def embeddings(self, id: str) -> Stored:
        """The subject's embeddings by number; UnknownSubjectError."""
        ...

    def fetch(self, numbers: Iterable[int]) -> Stored:
        """The embeddings of those of `numbers` that are enrolled, by number."""
        ...

    def describe(self, subjects: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
        """{subject number: (id, metadata)}; CorruptGalleryError when one of them is not there."""
        ...

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(subject number, metadata) of every subject, by number; CorruptGalleryError when one is damaged."""
        ...

    def owners(self, after: int = 0) -> tuple[Numbers, Numbers]:
        """(template numbers above `after`, ascending; whose each is), without reading an embedding.

        A whole listing that does not agree with what the subjects and the commits count is refused with
        CorruptGalleryError. Inside `snapshot`.
        """
        ...

    def scan(self, after: int = 0, block: int = 8192) -> Iterator[Stored]:
        """Every template with a number above `after`, by number, in blocks. Inside `snapshot`.

        A whole scan that does not come to what the commits add up to ends in CorruptGalleryError.
        """
        ...

    def numbers_of(self, subjects: Iterable[int]) -> Numbers:
        """The numbers of all templates of those subjects, ascending."""
        ...

    def subject_numbers(self) -> Numbers:
        """The numbers of all subjects, ascending."""
        ...

    def sources_of(self, numbers: Iterable[int]) -> dict[int, str]:
        """{template: the path it came from} of those of `numbers` that came from one."""
        ...

    def templates_from(self, sources: Sequence[str]) -> dict[int, str]:
        """{template: path} of all templates that came from one of these paths."""
        ...

    def removed_since(self, revision: int) -> Numbers:
        """Numbers of the templates removed by commits after `revision`."""
        ...

    def setting(self, key: str) -> str | None:
        """A stored setting."""
        ...

    def set_setting(self, key: str, value: str | None) -> None:
        """Stores a setting, inside `commit`; None deletes it."""
        ...

    def log(self) -> list[LogEntry]:
        """The audit log, oldest entry first."""
        ...

    def keep_log(self, on: bool) -> None:
        """Switches the audit log on or off, inside `commit`, of which the log tells in either case."""
        ...

    def check(self) -> list[Problem]:
        """Reads everything and reports what is damaged."""
        ...

    def backup(
        self, target: Path, without: Iterable[str], progress: Callable[[int, int | None], None] | None
    ) -> int:
        """Makes the folder `target` with a store of the present revision: how many templates it has.

        without: settings to leave out. May be called by any thread, while others read and write.
        """
        ...

    def close(self) -> None:
        """Lets go of files and locks. Closing twice is harmless."""
        ...
