"""The frozen results of putting a gallery in order: what was done, set aside, noticed and found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that was put in order, in one commit; `Gallery.undo` takes it back.

    It stands for its number wherever one is asked for.
    """

    operation: int
    """The revision that its commit came to."""
    verb: str
    """"rename", "merge", "split", "quarantine", "release", "differ", "alike" or "undo"."""
    at: datetime
    """UTC."""
    subjects: tuple[str, ...]
    """The ids that it is about."""
    templates: int
    """How many templates were moved or marked."""
    undone: int | None = None
    """The operation that took it back."""

    def __index__(self) -> int:
        return self.operation

    __int__ = __index__

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {
            "operation": self.operation,
            "verb": self.verb,
            "at": self.at.isoformat(),
            "subjects": list(self.subjects),
            "templates": self.templates,
            "undone": self.undone,
        }

    def __str__(self) -> str:
        about = ", ".join(self.subjects)
        undone = "" if self.undone is None else f", undone by {self.undone}"
        many = "1 template" if self.templates == 1 else f"{self.templates:,} templates"
        return f"operation {self.operation}: {self.verb} {about} ({many}){undone}"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A template that is kept and never matched."""

    template: int
    id: str
    reason: str
    at: datetime
    """UTC."""

    def __index__(self) -> int:
        return self.template

    __int__ = __index__

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {
            "template": self.template,
            "id": self.id,
            "reason": self.reason,
            "at": self.at.isoformat(),
        }

    def __str__(self) -> str:
        return f"template {self.template} of {self.id}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Conflict:
    """What was noticed of one item at its enrolment."""

    kind: str
    """"duplicate" (within the threshold of another subject), "unlike" (of none of its own subject's other
    templates), "near copy" or "copy" (of one of them)."""
    id: str
    index: int
    """The item's position among the subject's items that could be used."""
    template: int | None
    """Its number; None where it was refused, so that it has none."""
    other_id: str
    """Whose template it was compared with, the nearest one of its kind."""
    other_template: int | None
    """None for an item of the same call that was refused."""
    distance: float
    bound: float
    """What the distance was compared with: for "unlike" it is above, else at most that."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        sign = ">" if self.kind == "unlike" else "<="
        what = {
            "duplicate": f"may be {self.other_id!r}",
            "unlike": f"is unlike the others of {self.id!r}",
            "near copy": f"is nearly a copy of one of {self.other_id!r}",
            "copy": f"is a copy of one of {self.other_id!r}",
        }[self.kind]
        nearest = "" if self.other_template is None else f", template {self.other_template}"
        return (
            f"item {self.index} of {self.id!r} {what} ({self.distance:.4g} {sign} {self.bound:.4g}{nearest})"
        )
