"""A gallery whose contents at revision r are a function of r: what one writer does, and many can check."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import gallery
from tests.gallery.doubles import true_distances, vectors

DIM = 12
_AT_ONCE = 4096


def encoder() -> gallery.Precomputed:
    return gallery.Precomputed(DIM, "euclidean", threshold=4.0)


@lru_cache
def _block(number: int) -> np.ndarray:
    return vectors(_AT_ONCE, DIM, seed=1000 + number)


def row_of(template: int) -> np.ndarray:
    """The embedding of a template, (DIM,): its number says which."""
    return _block(template // _AT_ONCE)[template % _AT_ONCE]


@dataclass(frozen=True)
class Subject:
    templates: tuple[int, ...]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """All that is enrolled at one revision."""

    revision: int
    subjects: dict[str, Subject]
    next_template: int

    def ranked(self, probe: np.ndarray, k: int) -> list[tuple[str, int, float]]:
        """(id, template, distance) of the k nearest subjects, by brute force."""
        if not self.subjects:
            return []
        owners = [(id, number) for id, one in self.subjects.items() for number in one.templates]
        scores = true_distances(probe, np.stack([row_of(number) for _, number in owners]), "euclidean")
        nearest: dict[str, tuple[str, int, float]] = {}
        for at in np.argsort(scores, kind="stable"):
            id, number = owners[at]
            nearest.setdefault(id, (id, number, float(scores[at])))
            if len(nearest) == k:
                break
        return list(nearest.values())

    def nearest_of(self, id: str, probe: np.ndarray) -> tuple[int, float]:
        """(template, distance) of the subject's nearest template."""
        numbers = self.subjects[id].templates
        scores = true_distances(probe, np.stack([row_of(number) for number in numbers]), "euclidean")
        return numbers[int(scores.argmin())], float(scores.min())


@dataclass(frozen=True)
class Step:
    """What the commit after a moment does: `verb`, and what it is given."""

    verb: str
    given: list[Any]


def step_after(now: Moment) -> Step:
    """What is done next: bulk enrolments, single ones, more templates, new metadata, removals."""
    dice = random.Random(now.revision)
    known = [*now.subjects]
    kind = dice.choice(["enroll", "bulk", "more", "metadata", "remove", "remove", "template", "several"])
    if not known or (kind in ("enroll", "bulk") and len(known) < 150):
        count = dice.randint(5, 30) if kind == "bulk" else 1
        return Step("enroll", [(f"s{now.revision}-{n}", dice.randint(1, 3)) for n in range(count)])
    if kind in ("more", "metadata"):
        return Step("enroll", [(dice.choice(known), 1)])
    if kind == "template":
        return Step("remove templates", [dice.choice(now.subjects[dice.choice(known)].templates)])
    return Step(
        "remove", dice.sample(known, min(len(known), dice.randint(5, 25) if kind == "several" else 1))
    )


def after(now: Moment) -> Moment:
    """The moment one commit later."""
    step, subjects, following = step_after(now), dict(now.subjects), now.next_template
    for given in step.given:
        if step.verb == "enroll":
            id, count = given
            before = subjects.get(id, Subject((), {}))
            numbers = tuple(range(following, following + count))
            subjects[id] = Subject(before.templates + numbers, before.metadata | {"at": now.revision})
            following += count
        elif step.verb == "remove":
            del subjects[given]
        else:
            id = next(id for id, one in subjects.items() if given in one.templates)
            left = tuple(number for number in subjects[id].templates if number != given)
            if left:
                subjects[id] = Subject(left, subjects[id].metadata)
            else:
                del subjects[id]
    return Moment(now.revision + 1, subjects, following)


def take(people: gallery.Gallery, now: Moment) -> None:
    """Does in a gallery what comes after a moment."""
    step = step_after(now)
    if step.verb == "remove":
        people.remove_many(step.given)
    elif step.verb == "remove templates":
        people.remove_templates(step.given)
    else:
        number, subjects = now.next_template, []
        for id, count in step.given:
            subjects.append((id, [row_of(number + n) for n in range(count)], {"at": now.revision}))
            number += count
        if len(subjects) == 1:
            people.enroll(*subjects[0])
        else:
            people.enroll_many(subjects)


class History:
    """The moments, worked out as far as they are asked for; old ones are forgotten."""

    def __init__(self) -> None:
        self._moments = deque([Moment(0, {}, 1)], maxlen=20_000)

    def between(self, first: int, last: int) -> list[Moment]:
        """The moments of revisions first to last."""
        while self._moments[-1].revision < last:
            self._moments.append(after(self._moments[-1]))
        start = first - self._moments[0].revision
        assert start >= 0
        return [self._moments[at] for at in range(start, last - self._moments[0].revision + 1)]
