"""The contract of an engine: it holds the templates and finds the nearest; it decides nothing.

Conventions
- Embeddings come as `vectors.prepare` left them.
- Every answer is of one revision, and of the newest that was committed when the call began.
- Distances in an answer are exact (`vectors.distances`), whatever index proposed the candidates.
- An engine may be shared by threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from gallery.auditing import Bounds, Everyone
from gallery.calibration import Scores
from gallery.filters import Where
from gallery.findings import Conflict
from gallery.fusion import NEAREST
from gallery.records import Candidate, LogEntry, Problem, Subject, Template
from gallery.stores.base import Added, Curation, Generations, Header, NewTemplates, Stored
from gallery.vectors import FloatRows, Numbers

Whole = tuple[str, dict[str, Any], list[Template], Stored]
"""A subject's id, metadata, templates and embeddings."""


EFFORT = "index_effort"
"""The setting that keeps how hard an index looks: {"index": its kind, "cells", "reach", "refined"}."""
RECALL = "recall"
"""The setting that keeps what was measured of it."""


@dataclass(frozen=True, slots=True)
class State:
    """How things stand at one revision."""

    revision: int
    subjects: int
    templates: int
    changes: int
    """Templates that were ever added or removed."""
    index: str
    """The kind in use."""
    index_wish: str
    """The kind that was asked for: "auto" or the same."""
    index_why: str
    """Why it is that kind."""
    in_memory: int
    """Templates that the index file does not hold yet."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """For each probe how many of the nearest subjects were found, and how many there are: (m,) each.

    effort: how hard the index was made to look for it, to be kept as the setting `EFFORT`; None: as before.
    """

    found: Numbers
    wanted: Numbers
    effort: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Distances of p probes to s subjects, and who they are."""

    scores: Scores
    columns: tuple[str, ...]
    """(s,) ids"""
    metadata: tuple[Mapping[str, Any], ...]
    """(s,) of those subjects"""
    probe_metadata: tuple[Mapping[str, Any] | None, ...]
    """(p,) of the probes' own subjects; None where that is not enrolled"""
    templates: Numbers
    """(s,) how many each of those subjects has"""
    own_templates: Numbers
    """(p,) how many the probe's own subject has, besides the probe; 0 where that is not enrolled"""


class Engine(Protocol):
    """Holds templates, durably, and finds the nearest subjects."""

    @property
    def header(self) -> Header:
        """What the gallery is, and the encoder that it is bound to."""
        ...

    def add(
        self,
        batch: Iterable[NewTemplates],
        of: Header | None = None,
        verb: str = "enroll",
        settings: Mapping[str, str] = MappingProxyType({}),
        different: Iterable[tuple[str, str]] | None = None,
    ) -> tuple[list[Added], int]:
        """Adds everything in one commit: what was added, and the revision.

        of: the header that the embeddings were made for; EncoderMismatchError when the gallery was bound to
        another encoder since. verb: what the audit log calls it. settings: to be stored with it. different:
        ids to remember as different; where it is given, the batch comes with its quarantine too.
        """
        ...

    def add_screened(
        self,
        batch: Iterable[NewTemplates],
        bounds: Bounds,
        refuse: bool,
        of: Header | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[list[Added], int, list[Conflict]]:
        """`add`, after a look at whom the items resemble: what was noticed as well.

        refuse: ConflictError, and nothing is added, when anything was. Holds the whole batch in memory.
        """
        ...

    def remove_subjects(self, ids: Sequence[str]) -> dict[str, int]:
        """Removes subjects in one commit: how many templates each. UnknownSubjectError: none is removed."""
        ...

    def remove_templates(self, numbers: Sequence[int]) -> int:
        """Removes templates in one commit; InvalidItemError when one is not enrolled."""
        ...

    def erase(self) -> None:
        """Leaves no byte of what was removed in any file."""
        ...

    def nearest(
        self,
        probes: FloatRows,
        k: int,
        of: Header | None = None,
        where: Where | None = None,
        fusion: str = NEAREST,
    ) -> list[list[Candidate]]:
        """For each probe the k nearest subjects by their fused distance, ties by template number.

        A candidate's template is the nearest one. fusion: one of `gallery.fusion.FUSIONS`.

        of: the header that the probes were embedded for, as in `add`. where: only subjects whose metadata
        match (`gallery.filters`), as if no others were enrolled.
        """
        ...

    def within(
        self, probes: FloatRows, radius: float, of: Header | None = None, where: Where | None = None
    ) -> list[list[Candidate]]:
        """For each probe every subject at `radius` or nearer, ranked as by `nearest`."""
        ...

    def reindex(self, kind: str) -> State:
        """Changes the kind of index, "auto" among them, and builds it: how things stand then."""
        ...

    def recall(self, sample: int, k: int, seed: int, goal: float | None = None) -> tuple[State, Overlap]:
        """How much of the truth the index finds on the gallery's own data: see `Gallery.recall`."""
        ...

    def compared(
        self,
        probes: tuple[FloatRows, Sequence[str], Sequence[str | None]] | None,
        sample: int,
        seed: int,
        of: Header | None = None,
        fusion: str = NEAREST,
    ) -> tuple[State, Compared]:
        """Every probe against every subject: how things stand, the distances, and who they are.

        probes: (rows, the id of each, the path of each or None); without them up to `sample` enrolled
        templates are compared with all others. fusion: any of `gallery.fusion.FUSIONS`.
        """
        ...

    def everyone(self, threshold: float) -> tuple[State, Everyone, dict[int, str]]:
        """All templates beside each other, for an audit: how things stand, and {subject number: id}."""
        ...

    def embeddings(self, id: str, of: Header | None = None) -> Stored:
        """A subject's embeddings that may be matched; UnknownSubjectError, QuarantinedError when none may.

        of: as in `nearest`.
        """
        ...

    def templates(self, id: str) -> list[Template]:
        """A subject's templates by number; UnknownSubjectError."""
        ...

    def metadata(self, id: str) -> dict[str, Any]:
        """A subject's metadata; UnknownSubjectError."""
        ...

    def ids(self) -> list[str]:
        """The ids in order of first enrolment."""
        ...

    def listing(self) -> list[Subject]:
        """Every subject with its number of templates and metadata."""
        ...

    def has(self, id: str) -> bool:
        """True when a subject of that id is enrolled."""
        ...

    def counts(self) -> tuple[int, int]:
        """(subjects, templates)."""
        ...

    def exported(self) -> AbstractContextManager[tuple[Curation, Iterator[Whole]]]:
        """Everything, subject by subject, with what was put in order; all of one revision."""
        ...

    def setting(self, key: str) -> str | None:
        """A stored setting."""
        ...

    def set_setting(self, key: str, value: str | None, verb: str | None = None) -> None:
        """Stores a setting in one commit; None deletes it. verb: what the audit log calls it."""
        ...

    def set_settings(self, settings: Mapping[str, str | None], verb: str | None = None) -> None:
        """The same for several, in one commit."""
        ...

    def generations(self) -> AbstractContextManager[Generations]:
        """The embeddings of other encoders, to look at; all of one revision. The engine waits meanwhile."""
        ...

    def changed_generations(
        self, verb: str | None, settings: Mapping[str, str] = MappingProxyType({}), switches: bool = False
    ) -> AbstractContextManager[Generations]:
        """The embeddings of other encoders, to change in one commit. The engine waits meanwhile.

        verb: what the audit log calls it; None is nothing. settings: to be stored with it. switches: the
        gallery is bound to another generation by it, and answers from that one when this has returned.
        """
        ...

    def curation(self) -> AbstractContextManager[Curation]:
        """What was put in order by hand, to look at; all of one revision. The engine waits meanwhile."""
        ...

    def changed_curation(self, verb: str) -> AbstractContextManager[Curation]:
        """The same to change, in one commit. verb: what the audit log calls it."""
        ...

    def log(self) -> list[LogEntry]:
        """The audit log, oldest entry first."""
        ...

    def keep_log(self, on: bool) -> None:
        """Switches the audit log on or off, in one commit that the log tells of."""
        ...

    def state(self) -> State:
        """How things stand."""
        ...

    def backup(self, target: Path, progress: Callable[[int, int | None], None] | None = None) -> int:
        """Makes the folder `target` with a gallery of the present revision: how many templates it has.

        progress: called with the bytes written and about how many there will be.
        """
        ...

    def check(self) -> list[Problem]:
        """Reads everything and reports what is damaged."""
        ...

    def close(self) -> None:
        """Brings the index files up to date where that is worth it, and lets go of everything."""
        ...
