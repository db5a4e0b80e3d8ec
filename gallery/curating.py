"""Putting a gallery in order: who is who, what is set aside, and taking it back."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gallery.auditing import (
    Bounds,
    Count,
    Everyone,
    Wrong,
    animals,
    goat_counts,
    lamb_counts,
    likely_mislabelled,
    likely_same,
    sampled,
    wolf_counts,
)
from gallery.bulk import checked_id
from gallery.decisions import checked_threshold
from gallery.engines.base import Engine
from gallery.errors import InvalidItemError, NotCalibratedError
from gallery.findings import Animal, Audit, LikelySame, Mislabelled, Operation, Quarantined
from gallery.fusion import NEAREST
from gallery.options import checked_seed
from gallery.records import Template
from gallery.searching import THRESHOLD


@dataclass(frozen=True, slots=True)
class Screen:
    """How an enrolment is looked at."""

    bounds: Bounds
    refuse: bool


class Curating:
    """The part of `gallery.Gallery` that is put in order by hand. Each verb is one commit."""

    location: Path
    _engine: Engine

    def rename(self, old: str, new: str) -> Operation:
        """Gives a subject another id; its templates and metadata stay.

        Raises UnknownSubjectError, and ConflictError when `new` is enrolled already.
        """
        self._check_writable()
        with self._engine.changed_curation("rename") as curation:
            return curation.rename(old, checked_id(new))

    def merge(self, into: str, others: Iterable[str]) -> Operation:
        """Hands all templates of `others` to `into`: they were the same all along.

        Templates keep their numbers. Of metadata that differ, those of `into` stay, then those of the first
        of the others. Raises UnknownSubjectError, and ConflictError when two of them are remembered as
        different.
        """
        self._check_writable()
        if isinstance(others, str) or not isinstance(others, Iterable):
            got = "one string" if isinstance(others, str) else repr(others)
            raise InvalidItemError(f"expected a list of ids to merge, got {got}; nothing was merged")
        theirs = list(others)
        with self._engine.changed_curation("merge") as curation:
            return curation.merge(into, theirs)

    def split(
        self,
        id: str,
        templates: Iterable[int | Template],
        new_id: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> Operation:
        """Hands some of a subject's templates to a new subject, which is remembered as different from it.

        metadata: about the new subject; it gets none of the old one's. Raises UnknownSubjectError,
        ConflictError when `new_id` is enrolled already, InvalidItemError for templates of others, for none
        and for all.
        """
        self._check_writable()
        numbers = _numbers(templates, "split")
        with self._engine.changed_curation("split") as curation:
            return curation.split(id, numbers, checked_id(new_id), metadata)

    def quarantine(self, what: str | int | Template | Iterable[int | Template], reason: str) -> Operation:
        """Keeps templates from being matched: they stay, are listed and exported, and nobody finds them.

        what    an id, which is every template that it has now, a template or its number, or several of those
        reason  what `quarantined` says of them

        `identify`, `verify`, `within`, `calibrate` and the looks for conflicts pass them over. Raises
        UnknownSubjectError, InvalidItemError for a template that is not enrolled, ConflictError for one that
        is in quarantine already.
        """
        self._check_writable()
        if not isinstance(reason, str) or not reason.strip() or "\0" in reason:
            raise InvalidItemError(f"a reason is a text, not {reason!r}; nothing was changed")
        checked_id(reason)
        numbers = self._meant(what, within=None)
        with self._engine.changed_curation("quarantine") as curation:
            return curation.quarantine(numbers, reason)

    def release(self, what: str | int | Template | Iterable[int | Template]) -> Operation:
        """Lets templates be matched again; what: as for `quarantine`, of an id all that are in it.

        Raises UnknownSubjectError, and InvalidItemError for a template that is not in quarantine.
        """
        self._check_writable()
        numbers = self._meant(what, within={one.template for one in self.quarantined()})
        with self._engine.changed_curation("release") as curation:
            return curation.release(numbers)

    def quarantined(self) -> list[Quarantined]:
        """The templates that are kept and never matched, with the reason, by number."""
        with self._engine.curation() as curation:
            return curation.quarantined()

    def _meant(self, what: Any, within: set[int] | None) -> list[int]:
        if isinstance(what, str):
            theirs = [one.template for one in self._engine.templates(what)]
            chosen = theirs if within is None else [number for number in theirs if number in within]
            if not chosen:
                raise InvalidItemError(f"no template of {what!r} is in quarantine; nothing was released")
            return chosen
        one = isinstance(what, Template) or hasattr(what, "__index__")
        return _numbers([what] if one else what, "changed")

    def differ(self, one: str, other: str, *, different: bool = True) -> Operation:
        """Remembers that two subjects are different, however alike they look; different=False forgets it.

        Conflicts at enrolment and `audit` do not report them against each other, and `merge` refuses them.
        Raises UnknownSubjectError, ConflictError when it is remembered, or not, already.
        """
        self._check_writable()
        with self._engine.changed_curation("differ" if different else "alike") as curation:
            return curation.differ(one, other, different)

    def different(self) -> list[tuple[str, str]]:
        """The pairs of ids that are remembered as different."""
        with self._engine.curation() as curation:
            return curation.different()

    def audit(self, threshold: float | None = None, *, most: int = 1000, seed: int = 0) -> Audit:
        """Looks for subjects that are probably the same, templates that are mislabelled, and the zoo.

        threshold  a distance; None: the gallery's own, else the one the encoder recommends
        most       how many of each list are given; the counts are of all
        seed       which template of each subject is compared with all others for lambs and wolves

        Compares every template with every other, in blocks, and takes room for all embeddings. Changes
        nothing. Raises NotCalibratedError, and InvalidItemError for a threshold that 50 million pairs are
        within.
        """
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise ValueError(f"most is how many of each list to give, 0 or more, not {most!r}")
        checked_seed(seed)
        limit = self._needed(threshold)
        state, found, ids = self._engine.everyone(limit)
        same, wrong = likely_same(found), likely_mislabelled(found)
        zoo = sampled(found, seed)
        comparisons = len(found.numbers) * (len(ids) - 1) / 2
        rate = self._rate_of_false_matches(limit)
        low, value, high = (None, None, None) if rate is None else (comparisons * one for one in rate)
        return Audit(
            subjects=len(ids),
            templates=len(found.numbers),
            quarantined=state.templates - len(found.numbers),
            threshold=limit,
            same=tuple(LikelySame(ids[one[0]], ids[one[1]], *one[2:]) for one in same[:most]),
            same_found=len(same),
            expected=value,
            expected_low=low,
            expected_high=high,
            mislabelled=tuple(_wrong(one, found, ids) for one in wrong[:most]),
            mislabelled_found=len(wrong),
            goats=_named(goat_counts(found.owners, found.own, limit), ids),
            lambs=_named(lamb_counts(zoo), ids),
            wolves=_named(wolf_counts(zoo), ids),
        )

    def _to_nearest(self) -> dict[str, Any]:
        """What the adopted calibration says of one template against one; empty where it says nothing."""
        stored: dict[str, Any] = json.loads(self._engine.setting(THRESHOLD) or "{}")
        return stored if stored.get("fusion", NEAREST) == NEAREST else stored.get("to_nearest") or {}

    def _rate_of_false_matches(self, threshold: float) -> tuple[float, float, float] | None:
        """(low, value, high) of the FMR that was measured for the threshold; None where none was."""
        stored = self._to_nearest()
        rate = stored.get("fmr")
        if not isinstance(rate, dict) or stored.get("threshold") != threshold or rate.get("value") is None:
            return None
        return float(rate["low"]), float(rate["value"]), float(rate["high"])

    def undo(self, operation: int | Operation) -> Operation:
        """Takes an operation back, as `operations` lists them; that can be undone too.

        Raises ConflictError with the reason when what it changed has changed since, and InvalidItemError when
        nothing is known of it any more: `compact` and an erasure forget what could be undone.
        """
        self._check_writable()
        (number,) = _numbers([operation], "undone")
        with self._engine.changed_curation("undo") as curation:
            return curation.undo(number)

    def operations(self) -> list[Operation]:
        """What was put in order, oldest first, as far as it can still be undone."""
        with self._engine.curation() as curation:
            return curation.operations()

    @property
    def threshold(self) -> float | None:
        raise NotImplementedError

    def _screen(self, on_conflict: str) -> Screen | None:
        """How to look at what is enrolled; None is not at all."""
        if on_conflict not in ("ignore", "warn", "refuse"):
            raise ValueError(f"on_conflict must be 'ignore', 'warn' or 'refuse', not {on_conflict!r}")
        if on_conflict == "ignore":
            return None
        return Screen(Bounds(self._needed(None), self._engine.header.metric), on_conflict == "refuse")

    def _needed(self, threshold: float | None) -> float:
        """The one that was given, else the gallery's for one template against one; NotCalibratedError."""
        if threshold is not None:
            return checked_threshold(threshold)
        limit = self.threshold
        if self._engine.setting(THRESHOLD) is not None:
            limit = self._to_nearest().get("threshold")
            if limit is None:
                raise NotCalibratedError(
                    f"{self.location} has a threshold for fused distances only, and templates are compared "
                    "one by one here: calibrate and adopt again"
                )
        if limit is None:
            raise NotCalibratedError(
                f"{self.location} has no threshold and its encoder recommends none, so nobody can say who "
                "resembles whom: calibrate and adopt one"
            )
        return limit

    def _check_writable(self) -> None:
        raise NotImplementedError


def _numbers(given: Iterable[Any], what: str) -> list[int]:
    """Whole numbers, for anything that stands for one."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InvalidItemError(f"expected a list of template numbers, got {given!r}; nothing was {what}")
    numbers = []
    for one in given:
        try:
            if isinstance(one, bool):
                raise TypeError
            numbers.append(operator.index(one))
        except TypeError as error:
            raise InvalidItemError(
                f"expected numbers, got the {type(one).__name__} {one!r}; nothing was {what}"
            ) from error
    return numbers


def _wrong(one: Wrong, found: Everyone, ids: Mapping[int, str]) -> Mislabelled:
    at, own, other, away = one
    return Mislabelled(
        int(found.numbers[at]),
        ids[int(found.owners[at])],
        own,
        ids[int(found.owners[other])],
        int(found.numbers[other]),
        away,
    )


def _named(counts: Iterable[Count], ids: Mapping[int, str]) -> tuple[Animal, ...]:
    return tuple(
        Animal(ids[one.subject], one.hits, one.trials, one.expected, value) for one, value in animals(counts)
    )
