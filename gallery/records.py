"""The frozen results: what a verb answers. They can be questioned and printed and never change anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gallery.findings import Conflict
from gallery.tables import counted


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """One enrolled embedding's provenance; it stands for its number wherever a number is asked for."""

    template: int
    id: str
    enrolled: datetime
    """UTC."""
    source: str | None = None
    """The path of the item, where the item was a path."""

    def __index__(self) -> int:
        return self.template

    __int__ = __index__

    def __eq__(self, other: object) -> bool:
        return hasattr(other, "__index__") and self.template == int(other)

    def __hash__(self) -> int:
        return hash(self.template)


@dataclass(frozen=True, slots=True)
class Subject:
    """An enrolled subject, as `gallery list` shows it."""

    id: str
    templates: int
    """How many."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {"id": self.id, "templates": self.templates, "metadata": dict(self.metadata)}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One item that was left out, and why."""

    id: str
    index: int
    """Its position among the subject's items."""
    reason: str
    template: int | None = None
    """In a migration: the template that went with it."""


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What one `enroll` has written."""

    id: str
    templates: tuple[int, ...]
    created: bool
    """True when the subject was not enrolled before."""
    revision: int
    refused: tuple[Refusal, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    flagged: tuple[Refusal, ...] = ()
    """Enrolled, though the gallery's quality gate has something against them."""

    def __str__(self) -> str:
        state = "new" if self.created else "known"
        return f"{self.id} ({state}), {_enrolled(len(self.templates), self.refused, self.flagged)}"


@dataclass(frozen=True, slots=True)
class BulkEnrollment:
    """What one `enroll_many` has written."""

    subjects: int
    templates: int
    created: int
    """How many of the subjects were not enrolled before."""
    revision: int
    refused: tuple[Refusal, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    flagged: tuple[Refusal, ...] = ()
    """Enrolled, though the gallery's quality gate has something against them."""

    def __str__(self) -> str:
        subjects = counted(self.subjects, "subject")
        return f"{subjects} ({self.created:,} new), {_enrolled(self.templates, self.refused, self.flagged)}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject near a probe, by its nearest template."""

    id: str
    distance: float
    """Smaller is nearer. cosine: 0 to 2; euclidean: not squared."""
    template: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {
            "id": self.id,
            "distance": self.distance,
            "template": self.template,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer to *who is this?*

    decision    "match" (someone is within the threshold), "ambiguous" (someone is, and somebody else is
                nearly as near: too close to call), "unknown" (no one is), or "undecided" (no threshold is
                known, so the nearest are ranked and nothing is decided)
    candidates  the subjects within the threshold, nearest first; all k nearest when undecided
    nearest     the nearest subject whatever the threshold, None in an empty gallery: how near "unknown" was
    rival       when ambiguous: the second subject, within the threshold or not
    margin      how far the second has to be behind for a match; None where no adopted calibration says
    probability of the nearest being the right one, where a prior was stated; else None
    prior       the stated probability that whoever is asked about is enrolled at all
    quality     what the gallery's quality gate has against the item, where it flags and does not refuse
    """

    decision: str
    candidates: tuple[Candidate, ...]
    threshold: float | None
    nearest: Candidate | None = None
    rival: Candidate | None = None
    margin: float | None = None
    probability: float | None = None
    prior: float | None = None
    quality: str | None = None

    @property
    def best(self) -> Candidate | None:
        """The nearest candidate, None when there is none."""
        return self.candidates[0] if self.candidates else None

    def __str__(self) -> str:
        if self.nearest is None:
            return f"{self.decision}: the gallery is empty"
        limit = "no threshold" if self.threshold is None else f"threshold {self.threshold:.4f}"
        said = f"{self.decision}: nearest is {self.nearest.id} at {self.nearest.distance:.4f} ({limit})"
        if self.rival is not None:
            said += f", {self.rival.id} at {self.rival.distance:.4f} is within the margin {self.margin:.4f}"
        if self.probability is not None:
            said += f"; right with probability {self.probability:.3g} at prior {self.prior:g}"
        if self.quality is not None:
            said += f"; the item is poor: {self.quality}"
        return said


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to *is this the subject it claims to be?* Truthy when accepted."""

    id: str
    accepted: bool
    distance: float
    threshold: float
    template: int
    """The subject's template that was nearest."""
    quality: str | None = None
    """What the gallery's quality gate has against the item, where it flags and does not refuse."""

    def __bool__(self) -> bool:
        return self.accepted

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {
            "id": self.id,
            "accepted": self.accepted,
            "distance": self.distance,
            "threshold": self.threshold,
            "template": self.template,
        } | ({} if self.quality is None else {"quality": self.quality})

    def __str__(self) -> str:
        verdict, sign = ("accepted", "<=") if self.accepted else ("rejected", ">")
        said = f"{self.id} {verdict}: distance {self.distance:.4f} {sign} threshold {self.threshold:.4f}"
        return said if self.quality is None else f"{said}; the item is poor: {self.quality}"


@dataclass(frozen=True, slots=True)
class Generation:
    """The embeddings that one encoder made of what is enrolled."""

    generation: int
    """Counts the encoders that the gallery was bound to."""
    state: str
    """"current", "staged" (by a migration that is not finished) or "previous" (kept for a rollback)."""
    encoder: str
    fingerprint: str
    dim: int
    metric: str
    templates: int
    """How many have an embedding of it."""
    created: datetime

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"created": self.created.isoformat()}

    def __str__(self) -> str:
        what = f"{self.encoder}, dim {self.dim}, {self.metric}"
        return f"generation {self.generation} ({what}): {counted(self.templates, 'template')}"


@dataclass(frozen=True, slots=True)
class Migration:
    """What one `migrate` has done: the gallery answers by another encoder since."""

    encoder_before: str
    fingerprint_before: str
    encoder: str
    fingerprint: str
    generation: int
    templates: int
    """How many have an embedding of the new encoder, which is all there are."""
    refused: tuple[Refusal, ...] = ()
    """Items that the new encoder could not embed; their templates were removed."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {
            "refused": [
                {"id": one.id, "index": one.index, "template": one.template, "reason": one.reason}
                for one in self.refused
            ]
        }

    def __str__(self) -> str:
        said = f"{counted(self.templates, 'template')} migrated from {self.encoder_before} to {self.encoder}"
        return f"{said}, {len(self.refused):,} refused and removed" if self.refused else said


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the audit log: one commit that changed what is enrolled."""

    entry: int
    revision: int
    at: datetime
    """UTC."""
    actor: str
    verb: str
    templates: int
    """How many were added or removed."""
    subjects: tuple[str, ...]
    """Their ids; "#" and a keyed hash for those that were erased."""
    note: str
    hash: str
    """SHA-256 over this entry and the hash before it, in hexadecimal."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {
            "entry": self.entry,
            "revision": self.revision,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "verb": self.verb,
            "templates": self.templates,
            "subjects": list(self.subjects),
            "note": self.note,
            "hash": self.hash,
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `check` found damaged."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Repair:
    """What `repair` has saved, and the list of what it could not. Truthy when nothing is lost."""

    subjects: int
    """How many are enrolled now."""
    templates: int
    lost: tuple[Problem, ...] = ()
    damaged: str | None = None
    """The folder with the files as they were, which `compact` deletes; None when nothing was replaced."""

    def __bool__(self) -> bool:
        return not self.lost

    def __str__(self) -> str:
        saved = f"{counted(self.subjects, 'subject')}, {counted(self.templates, 'template')} saved"
        kept = "" if self.damaged is None else f"; the damaged files are in {self.damaged}"
        return f"{saved}, {'nothing' if not self.lost else len(self.lost)} lost{kept}"


def _enrolled(templates: int, refused: tuple[Refusal, ...], flagged: tuple[Refusal, ...]) -> str:
    said = f"{counted(templates, 'template')} enrolled"
    if flagged:
        said += f", {len(flagged):,} of them of doubtful quality"
    return f"{said}, {counted(len(refused), 'item')} refused" if refused else said
