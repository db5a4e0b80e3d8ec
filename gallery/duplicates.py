"""PURE: which pictures are near which -> groups of duplicates, and the record that answers questions.

Groups are centred on a keeper. In the order of preference (most pixels, then most bytes, then path) a picture
becomes a keeper unless an earlier keeper is within the threshold; every other one joins the nearest of the
keepers before it. So each member is within the threshold of its own keeper: a chain of small steps can't
join pictures that differ (no single linkage), and the groups don't depend on the order of the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from encoders.names import printable
from gallery.folders import Unreadable
from gallery.pairs import Pairs
from gallery.tables import table


@dataclass(frozen=True, slots=True)
class Picture:
    """A readable image file: its path, its size in bytes, and its size in pixels as it is shown."""

    path: str
    size: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class DuplicateMember:
    """A picture that its group's keeper could stand for."""

    path: str
    distance: float
    """To the keeper; 0 for the same bytes, though not only for them."""
    identical: bool
    """True when its bytes are the keeper's."""


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """A keeper and the pictures that are near it, nearest first."""

    keeper: str
    members: tuple[DuplicateMember, ...]

    @property
    def weakest(self) -> DuplicateMember:
        """The member farthest from the keeper: the one to look at first."""
        return self.members[-1]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a scan has seen, enough to group again.

    pictures: one of each set of equal files, in order of preference. pairs: theirs within the scan's
    threshold, as positions in `pictures`. copies: {position: the other files with those bytes}, by path.
    """

    pictures: tuple[Picture, ...]
    pairs: Pairs
    copies: Mapping[int, tuple[Picture, ...]]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The answer to *what is in here twice?* It reports and never deletes.

    groups      by their keepers' paths
    unreadable  files left out, and why
    threshold   the largest distance of a member to its keeper
    scanned     how many image files were found, the unreadable ones too
    """

    groups: tuple[DuplicateGroup, ...]
    unreadable: tuple[Unreadable, ...]
    threshold: float
    scanned: int
    evidence: Evidence

    @property
    def duplicates(self) -> int:
        """How many files are members of a group: those that a keeper could stand for."""
        return sum(len(group.members) for group in self.groups)

    @property
    def duplicate_ratio(self) -> float:
        """The share of the scanned files that are members of a group, in [0, 1]."""
        return self.duplicates / self.scanned if self.scanned else 0.0

    def rethreshold(self, threshold: float) -> Duplicates:
        """The answer at a smaller threshold, the same as a new scan would give, without one.

        Raises ValueError for a larger one: the pairs beyond this scan's threshold were not kept.
        """
        if not 0 <= threshold <= self.threshold:
            raise ValueError(
                f"this scan knows distances from 0 to {self.threshold:g}, not {threshold:g}: "
                "for a larger threshold scan again"
            )
        return replace(self, groups=grouped(self.evidence, threshold), threshold=float(threshold))

    def pictures(self) -> dict[str, Picture]:
        """{path: picture} of every readable file, copies included."""
        known = [*self.evidence.pictures, *(p for same in self.evidence.copies.values() for p in same)]
        return {picture.path: picture for picture in known}

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON: the groups with their keepers and members, and the unreadable files."""
        return {
            "groups": [
                {
                    "keeper": group.keeper,
                    "members": [{"path": m.path, "distance": m.distance} for m in group.members],
                }
                for group in self.groups
            ],
            "unreadable": [{"path": item.path, "reason": item.reason} for item in self.unreadable],
        }

    def summary(self) -> str:
        """One line of counts."""
        groups = f"{len(self.groups):,} group{'' if len(self.groups) == 1 else 's'}"
        return (
            f"{self.duplicates:,} of {self.scanned:,} files ({self.duplicate_ratio:.1%}) are duplicates, "
            f"in {groups}, at threshold {self.threshold:.4f}; {len(self.unreadable):,} unreadable"
        )

    def __str__(self) -> str:
        rows = [row for number, group in enumerate(self.groups, 1) for row in _rows(number, group)]
        lines = [table(("group", "", "distance", "path"), rows)] if rows else []
        lines += [f"unreadable: {item}" for item in self.unreadable]
        return "\n".join([*lines, self.summary()])


def preference(picture: Picture) -> tuple[int, int, int, str]:
    """The sort key by which a keeper is chosen: most pixels, most bytes, shortest path, first path.

    The shortest, because copies are called "copy of x" and "x (1)".
    """
    return -picture.width * picture.height, -picture.size, len(picture.path), picture.path


def grouped(evidence: Evidence, threshold: float) -> tuple[DuplicateGroup, ...]:
    """The groups at a threshold that is not larger than the scan's, sorted by keeper."""
    near = evidence.pairs.within(threshold)
    keeper, distance = assigned(len(evidence.pictures), near)
    members: dict[int, list[DuplicateMember]] = {}
    for at in np.flatnonzero(keeper != np.arange(len(keeper))).tolist():
        centre = int(keeper[at])
        same = [evidence.pictures[at], *evidence.copies.get(at, ())]
        away = float(distance[at])
        members.setdefault(centre, []).extend(DuplicateMember(p.path, away, False) for p in same)
    for at, same_bytes in evidence.copies.items():
        if keeper[at] == at:
            members.setdefault(at, []).extend(DuplicateMember(p.path, 0.0, True) for p in same_bytes)
    groups = [_group(evidence.pictures[at].path, found) for at, found in members.items()]
    return tuple(sorted(groups, key=lambda group: group.keeper))


def assigned(count: int, near: Pairs) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(keeper, distance) of `count` items in order of preference: the position of each item's keeper, its
    own when it is one or is alone, and how far it is.

    `near` holds the pairs within the threshold, sorted by left, then right, left being preferred.
    """
    is_keeper = np.ones(count, bool)
    for low, high in _runs(near.left):
        if is_keeper[near.left[low]]:
            is_keeper[near.right[low:high]] = False
    keeper, distance = np.arange(count), np.zeros(count, np.float32)
    usable = is_keeper[near.left] & ~is_keeper[near.right]
    left, right, away = near.left[usable], near.right[usable], near.distance[usable]
    order = np.lexsort((left, away, right))
    first = np.r_[True, np.diff(right[order]) != 0] if len(order) else np.empty(0, bool)
    chosen = order[first]
    keeper[right[chosen]], distance[right[chosen]] = left[chosen], away[chosen]
    return keeper, distance


def _runs(values: np.ndarray[Any, Any]) -> Sequence[tuple[int, int]]:
    """(start, end) of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(pairwise(edges)) if len(values) else []


def _group(keeper: str, members: list[DuplicateMember]) -> DuplicateGroup:
    return DuplicateGroup(keeper, tuple(sorted(members, key=lambda m: (not m.identical, m.distance, m.path))))


def _rows(number: int, group: DuplicateGroup) -> list[tuple[Any, ...]]:
    members = [
        ("", "same bytes" if member.identical else "near", member.distance, printable(member.path))
        for member in group.members
    ]
    return [(str(number), "keep", None, printable(group.keeper)), *members]
