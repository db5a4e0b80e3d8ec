"""PURE: what putting a gallery in order changes, as states before and after that can be turned round.

A change says of everything it touches how it was and how it is going to be. So it is refused where something
is not as it was, and taken back by applying it the other way round.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gallery.errors import ConflictError, InvalidItemError
from gallery.metadata import as_json

Pair = tuple[int, int]
"""Two subjects' numbers, the lower one first."""


@dataclass(frozen=True, slots=True)
class Known:
    """A subject as it is enrolled: its number, id, metadata as text, and template numbers, ascending."""

    number: int
    id: str
    metadata: str
    templates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What a change knows of a subject's record; what is None is neither compared nor changed."""

    id: str
    metadata: str | None = None
    held: int | None = None
    """`held` of its templates."""

    def differs(self, now: Known) -> str | None:
        """What is not as it is here, in words."""
        if self.id != now.id:
            return f"{self.id!r} is called {now.id!r}"
        if self.metadata is not None and self.metadata != now.metadata:
            return f"the metadata of {self.id!r} were changed"
        if self.held is not None and self.held != held(now.templates):
            return f"templates of {self.id!r} came or went"
        return None


@dataclass(frozen=True, slots=True)
class SubjectChange:
    """One subject's record; None is no subject of that number."""

    number: int
    before: Look | None
    after: Look | None


@dataclass(frozen=True, slots=True)
class Move:
    """Templates that change hands."""

    templates: tuple[int, ...]
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A template's quarantine: the reason, None when there is none."""

    template: int
    before: str | None
    after: str | None
    since: int | None = None
    """When the quarantine that it begins or ends began, in microseconds; operations of before have none."""

    def differs(self, now: tuple[str, int] | None) -> bool:
        """Whether the quarantine that there is, (reason, since), is not the one that this begins with."""
        if now is None:
            return self.before is not None
        return now[0] != self.before or self.since not in (None, now[1])


@dataclass(frozen=True, slots=True)
class PairChange:
    """Whether two subjects are remembered as different."""

    one: int
    other: int
    before: bool
    after: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that one operation changes. subjects: the ids that it is about."""

    about: tuple[str, ...]
    subjects: tuple[SubjectChange, ...] = ()
    moves: tuple[Move, ...] = ()
    marks: tuple[Mark, ...] = ()
    pairs: tuple[PairChange, ...] = ()

    def turned_round(self) -> Change:
        """The change that takes this one back."""
        return Change(
            self.about,
            tuple(SubjectChange(one.number, one.after, one.before) for one in self.subjects),
            tuple(Move(one.templates, one.after, one.before) for one in self.moves),
            tuple(Mark(one.template, one.after, one.before, one.since) for one in self.marks),
            tuple(PairChange(one.one, one.other, one.after, one.before) for one in self.pairs),
        )

    @property
    def templates(self) -> int:
        """How many templates it moves or marks."""
        return sum(len(one.templates) for one in self.moves) + len(self.marks)

    @property
    def regroups(self) -> bool:
        """Whether it is another's template, or other metadata, that is found under a number afterwards."""
        return bool(self.moves) or any(
            one.before is None or one.after is None or one.before.metadata != one.after.metadata
            for one in self.subjects
        )

    def to_json(self) -> str:
        """As text; `from_json` reads it."""
        return json.dumps(
            {
                "about": self.about,
                "subjects": [[one.number, _plain(one.before), _plain(one.after)] for one in self.subjects],
                "moves": [[one.templates, one.before, one.after] for one in self.moves],
                "marks": [[one.template, one.before, one.after, one.since] for one in self.marks],
                "pairs": [[one.one, one.other, one.before, one.after] for one in self.pairs],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Change:
        """What `to_json` wrote; ValueError, KeyError or TypeError for anything else."""
        plain = json.loads(text)
        return cls(
            tuple(plain["about"]),
            tuple(SubjectChange(number, _look(one), _look(two)) for number, one, two in plain["subjects"]),
            tuple(Move(tuple(numbers), one, two) for numbers, one, two in plain["moves"]),
            tuple(Mark(*fields) for fields in plain["marks"]),
            tuple(PairChange(*fields) for fields in plain["pairs"]),
        )


def _plain(look: Look | None) -> list[Any] | None:
    return None if look is None else [look.id, look.metadata, look.held]


def _look(plain: list[Any] | None) -> Look | None:
    return None if plain is None else Look(*plain)


def held(templates: Iterable[int]) -> int:
    """A CRC-32 that tells sets of template numbers apart."""
    return zlib.crc32(",".join(map(str, sorted(templates))).encode())


def pair_of(one: int, other: int) -> Pair:
    """Two numbers, the lower one first."""
    return (one, other) if one < other else (other, one)


def renamed(subject: Known, new: str) -> Change:
    """A subject under another id."""
    return Change((subject.id, new), (SubjectChange(subject.number, Look(subject.id), Look(new)),))


def merged(into: Known, others: Sequence[Known], different: Iterable[Pair]) -> Change:
    """All templates of `others` under `into`; its metadata win, then those of the first of the others.

    different: the pairs that are remembered. What another was different from, `into` is then. ConflictError
    when two of the merged ones are.
    """
    known = set(different)
    merging = {one.number: one.id for one in (into, *others)}
    for one, other in sorted(known):
        if one in merging and other in merging:
            raise ConflictError(
                f"{merging[one]!r} and {merging[other]!r} are remembered as different: undo that first, or "
                "forget it with differ(..., different=False); nothing was merged"
            )
    metadata: dict[str, Any] = {}
    for subject in (*reversed(others), into):
        metadata |= json.loads(subject.metadata)
    text = as_json(metadata) if metadata else "{}"
    if metadata == json.loads(into.metadata):
        text = into.metadata
    everything = [*into.templates, *(number for one in others for number in one.templates)]
    before = Look(into.id, into.metadata, held(into.templates))
    return Change(
        about=(into.id, *(one.id for one in others)),
        subjects=(
            SubjectChange(into.number, before, Look(into.id, text, held(everything))),
            *(
                SubjectChange(one.number, Look(one.id, one.metadata, held(one.templates)), None)
                for one in others
            ),
        ),
        moves=tuple(Move(one.templates, one.number, into.number) for one in others),
        pairs=_handed_on(into.number, {one.number for one in others}, known),
    )


def _handed_on(into: int, others: set[int], known: set[Pair]) -> tuple[PairChange, ...]:
    gone = {pair for pair in known if pair[0] in others or pair[1] in others}
    new = {pair_of(into, one if other in others else other) for one, other in gone} - known
    return (
        *(PairChange(*pair, True, False) for pair in sorted(gone)),
        *(PairChange(*pair, False, True) for pair in sorted(new)),
    )


def split(subject: Known, templates: Sequence[int], new: Known) -> Change:
    """Some templates under a new subject, which is remembered as different from the old one.

    new: its number, id and metadata. InvalidItemError for templates of others, for none and for all.
    """
    wanted = tuple(sorted(set(templates)))
    foreign = sorted(set(wanted) - set(subject.templates))
    if foreign:
        raise InvalidItemError(
            f"template {foreign[0]} is not one of {subject.id!r}, which has {_some(subject.templates)}; "
            "nothing was split"
        )
    if not wanted:
        raise InvalidItemError("no templates were given to split off; nothing was split")
    if len(wanted) == len(subject.templates):
        raise InvalidItemError(
            f"these are all templates of {subject.id!r}: rename it instead; nothing was split"
        )
    left = [number for number in subject.templates if number not in set(wanted)]
    return Change(
        about=(subject.id, new.id),
        subjects=(
            SubjectChange(
                subject.number,
                Look(subject.id, None, held(subject.templates)),
                Look(subject.id, None, held(left)),
            ),
            SubjectChange(new.number, None, Look(new.id, new.metadata, held(wanted))),
        ),
        moves=(Move(wanted, subject.number, new.number),),
        pairs=(PairChange(*pair_of(subject.number, new.number), False, True),),
    )


def _some(numbers: Sequence[int], most: int = 8) -> str:
    said = ", ".join(map(str, numbers[:most]))
    return said if len(numbers) <= most else f"{said} and {len(numbers) - most:,} more"
