"""The frozen results of putting a gallery in order: what was done, set aside, noticed and found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gallery.tables import counted


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
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"at": self.at.isoformat(), "subjects": list(self.subjects)}

    def __str__(self) -> str:
        about = ", ".join(self.subjects)
        undone = "" if self.undone is None else f", undone by {self.undone}"
        many = counted(self.templates, "template")
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
        return {name: getattr(self, name) for name in self.__slots__} | {"at": self.at.isoformat()}

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


@dataclass(frozen=True, slots=True)
class LikelySame:
    """Two subjects that are within the threshold of each other."""

    id: str
    other_id: str
    distance: float
    """Of their nearest two templates."""
    template: int
    other_template: int
    pairs: int
    """How many pairs of their templates are within the threshold."""

    def __str__(self) -> str:
        return f"{self.id} and {self.other_id}: {self.distance:.4f}, {self.pairs:,} pairs of templates"


@dataclass(frozen=True, slots=True)
class Mislabelled:
    """A template that is within the threshold of another subject, and nearer to it than to its own."""

    template: int
    id: str
    own_distance: float
    """To the nearest other template of its own subject that is no copy."""
    other_id: str
    other_template: int
    other_distance: float

    def __str__(self) -> str:
        return (
            f"template {self.template} of {self.id}: {self.own_distance:.4f} to its own, "
            f"{self.other_distance:.4f} to {self.other_id}"
        )


@dataclass(frozen=True, slots=True)
class Animal:
    """A subject with more errors than chance explains."""

    id: str
    hits: int
    trials: int
    expected: float
    """How many hits there would be if all subjects were alike."""
    p_value: float
    """How likely as many are by chance, corrected for the number of subjects that were tested (Holm)."""

    def __str__(self) -> str:
        return f"{self.id}: {self.hits:,} of {self.trials:,}, {self.expected:.3g} expected"


@dataclass(frozen=True, slots=True)
class Audit:
    """What seems to be wrong with a gallery. `Gallery.audit` changes nothing."""

    subjects: int
    templates: int
    """How many were compared, which are those that are not in quarantine."""
    quarantined: int
    threshold: float
    same: tuple[LikelySame, ...]
    """Subjects that are probably the same, the nearest first; without those remembered as different."""
    same_found: int
    """How many there are, listed or not."""
    expected: float | None
    """At most how many pairs of different subjects are expected within the threshold by coincidence, at the
    adopted calibration's FMR; None without one of this threshold."""
    expected_low: float | None
    expected_high: float | None
    """By the 95 % interval of the FMR."""
    mislabelled: tuple[Mislabelled, ...]
    """The clearest first."""
    mislabelled_found: int
    goats: tuple[Animal, ...]
    """Whose templates do not match each other."""
    lambs: tuple[Animal, ...]
    """That others are taken for."""
    wolves: tuple[Animal, ...]
    """That are taken for others."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        coincidences = "how many by coincidence is not known: calibrate and adopt"
        if self.expected is not None:
            between = f"{self.expected_low:.3g} to {self.expected_high:.3g}"
            coincidences = f"at most about {self.expected:.3g} ({between}) expected by coincidence"
        return (
            f"{self.subjects:,} subjects, {self.templates:,} templates, threshold {self.threshold:.4f}: "
            f"{counted(self.same_found, 'pair')} of subjects may be the same, {coincidences}; "
            f"{counted(self.mislabelled_found, 'template')} may be mislabelled; "
            f"{len(self.goats):,} goats, {len(self.lambs):,} lambs, {len(self.wolves):,} wolves"
        )
