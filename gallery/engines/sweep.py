"""Going through all rows for the nearest subjects, whatever the number of templates each has.

A pass over the rows costs about as much as a search of all of them for one template, and a subject with ten
thousand templates no more than any other. What float32 leaves open is settled in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.decisions import nearest_for_each_probe
from gallery.engines.register import Register, members
from gallery.vectors import FloatRows, Numbers, distances_of_pairs, sum_error

Blocks = Callable[[], Iterable[tuple[Numbers, FloatRows]]]
"""Gives all rows that are looked at, (numbers, rows) in blocks."""
RowsOf = Callable[[Numbers], FloatRows]
"""Gives the rows of some templates, as they were added."""
Ranked = tuple[npt.NDArray[np.intp], Numbers, Numbers, npt.NDArray[np.float32]]
"""(probe, subject, template, distance), (m,) each: probe by probe, nearest first."""

_CELLS = 2**24
"""Subjects times probes that are held at once: 64 MiB."""
_SCORES = 2**19
"""Rows times probes that are scored at once, however many rows come in a block."""
_LEAST_ROWS = 256
"""With fewer of them at a time a matrix product is slow: no more probes are taken than leave room."""
_ROWS = 2**14
"""Rows that are read at once when the nearest are settled."""
_PENDING = 2**19
"""Pairs that are kept, besides those that are wanted so far, before they are ranked."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """One way of going through the rows of one revision."""

    register: Register
    metric: str
    blocks: Blocks
    rows_of: RowsOf
    among: Numbers | None = None
    """The templates that are looked at, ascending; None is all."""

    def nearest(self, probes: FloatRows, k: int) -> Ranked:
        """The k nearest subjects of each probe, exactly, ties by template number."""
        return self._chunks(probes, _Nearest(k))

    def within(self, probes: FloatRows, radius: float) -> Ranked:
        """Every subject whose distance is at most `radius`, exactly."""
        return self._chunks(probes, _Within(radius))

    def _chunks(self, probes: FloatRows, wanted: _Nearest | _Within) -> Ranked:
        step = max(1, min(_CELLS // max(1, len(self.register.subjects)), _SCORES // _LEAST_ROWS))
        parts = [_no_one()]
        for start in range(0, len(probes), step):
            some = slice(start, start + step)
            found = self._chunk(probes[some], wanted)
            parts.append((found[0] + start, *found[1:]))
        return _joined(parts)

    def _chunk(self, probes: FloatRows, wanted: _Nearest | _Within) -> Ranked:
        scale = _Scale(self.metric, probes)
        best = self._minima(probes, scale)
        slack = 2 * scale.error()
        chosen = best <= wanted.limits(best, scale) + slack
        return self._settled(probes, scale, chosen, best + slack, wanted)

    def _minima(self, probes: FloatRows, scale: _Scale) -> npt.NDArray[np.float32]:
        """(subjects, probes): the least score of each subject's templates, about; +inf where it has none."""
        best = np.full((len(self.register.subjects), len(probes)), np.inf, np.float32)
        for numbers, rows in self.blocks():
            if self.among is not None:
                chosen = members(numbers, self.among)
                numbers, rows = numbers[chosen], rows[chosen]
            if len(numbers) == 0:
                continue
            for part in _parts(len(numbers), len(probes)):
                _lower(best, self.register.slots_of(numbers[part]), scale.scores(probes, rows[part]))
        return best

    def _settled(
        self,
        probes: FloatRows,
        scale: _Scale,
        chosen: npt.NDArray[np.bool_],
        limits: npt.NDArray[np.float32],
        wanted: _Nearest | _Within,
    ) -> Ranked:
        """The wanted subjects, by exact distances of all templates that may be a chosen one's nearest."""
        numbers = self.register.templates_of(self.register.subjects[chosen.any(axis=1)])
        if self.among is not None:
            numbers = numbers[members(numbers, self.among)]
        found = _Ranking(wanted)
        for start in range(0, len(numbers), _ROWS):
            some = numbers[start : start + _ROWS]
            rows = self.rows_of(some)
            for part in _parts(len(some), len(probes)):
                scores = scale.scores(probes, rows[part])
                slots = self.register.slots_of(some[part])
                at, which = np.nonzero(chosen[slots] & (scores <= limits[slots]))
                if len(at):
                    # By their places: a copy of its row for each pair can be many times all rows.
                    exact = distances_of_pairs(probes, which, rows[part], at, self.metric)
                    found.add((which, self.register.subjects[slots[at]], some[part][at], exact))
        return found.ranked()


def _parts(rows: int, probes: int) -> Iterator[slice]:
    """Rows that are scored at once, beside so many probes."""
    step = max(1, _SCORES // max(1, probes))
    return (slice(start, start + step) for start in range(0, rows, step))


def _lower(
    best: npt.NDArray[np.float32], slots: npt.NDArray[np.intp], scores: npt.NDArray[np.float32]
) -> None:
    """Takes up what is less than the best so far; slots: of each row of `scores` its subject's in `best`."""
    if (np.diff(slots) < 0).any():
        order = np.argsort(slots, kind="stable")
        slots, scores = slots[order], scores[order]
    starts = np.flatnonzero(np.diff(slots, prepend=-1))
    least = np.minimum.reduceat(scores, starts, axis=0)
    best[slots[starts]] = np.minimum(best[slots[starts]], least)


def _no_one() -> Ranked:
    nobody = np.empty(0, np.int64)
    return np.empty(0, np.intp), nobody, nobody, np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class _Nearest:
    """The k nearest subjects."""

    k: int

    def limits(self, best: npt.NDArray[np.float32], scale: _Scale) -> npt.NDArray[np.float32]:
        """(probes,): the k-th least score of each, +inf where there are no more than k."""
        del scale
        if self.k >= len(best):
            return np.full(best.shape[1], np.inf, np.float32)
        least: npt.NDArray[np.float32] = np.partition(best, self.k - 1, axis=0)[self.k - 1]
        return least

    def inside(self, which: npt.NDArray[np.intp], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which of the ranked are wanted."""
        return _rank_in(which) < self.k


@dataclass(frozen=True, slots=True)
class _Within:
    """The subjects within a distance."""

    radius: float

    def limits(self, best: npt.NDArray[np.float32], scale: _Scale) -> npt.NDArray[np.float32]:
        """(probes,): the score of the radius."""
        with np.errstate(over="ignore"):
            return np.full(best.shape[1], scale.of(self.radius), np.float32)

    def inside(self, which: npt.NDArray[np.intp], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which of the ranked are wanted; compared in float64, as a decision does it."""
        near: npt.NDArray[np.bool_] = scores.astype(np.float64) <= self.radius
        return near


class _Ranking:
    """What is wanted of all pairs that come, with room for that and a few more.

    Whoever is passed over when others are nearer stays so: those only come nearer by what follows.
    """

    def __init__(self, wanted: _Nearest | _Within) -> None:
        self._wanted = wanted
        self._ranked = _no_one()
        self._pending: list[Ranked] = []
        self._held = 0

    def add(self, pairs: Ranked) -> None:
        """More of them, in any order."""
        self._pending.append(pairs)
        self._held += len(pairs[0])
        # As many as there are already at least, so that each is ranked a few times only.
        if self._held > max(_PENDING, len(self._ranked[0])):
            self.ranked()

    def ranked(self) -> Ranked:
        """The wanted subjects so far, one template of each."""
        if self._pending:
            which, owners, numbers, scores = _joined([self._ranked, *self._pending])
            order = nearest_for_each_probe(which, scores, numbers, owners)
            order = order[self._wanted.inside(which[order], scores[order])]
            self._ranked = which[order], owners[order], numbers[order], scores[order]
            self._pending, self._held = [], 0
        return self._ranked


def _joined(parts: list[Ranked]) -> Ranked:
    which, subjects, numbers, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    return which, subjects, numbers, scores


class _Scale:
    """Scores that a matrix product gives, smaller is nearer: 1 - cos, or the square of a distance."""

    def __init__(self, metric: str, probes: FloatRows) -> None:
        self._metric = metric
        self._dim = probes.shape[1]
        self._squares = np.einsum("ij,ij->i", probes, probes, dtype=np.float64)
        self._largest = 1.0 if metric == "cosine" else 0.0

    def scores(self, probes: FloatRows, rows: FloatRows) -> npt.NDArray[np.float32]:
        """(rows, probes)."""
        products: npt.NDArray[np.float32] = rows @ probes.T
        if self._metric == "cosine":
            np.subtract(np.float32(1), products, out=products)
            return products
        squares = np.einsum("ij,ij->i", rows, rows)
        self._largest = max(self._largest, float(squares.max()))
        products *= -2
        products += squares[:, None]
        products += self._squares.astype(np.float32)
        return products

    def of(self, distance: float) -> float:
        """The score of a distance."""
        return distance if self._metric == "cosine" else distance * distance

    def error(self) -> npt.NDArray[np.float32]:
        """(probes,): how far a score may be from the truth, after all rows have been scored.

        By `sum_error`; a few u more for the rest.
        """
        norms = np.sqrt(self._squares) + np.sqrt(1.001 * self._largest)
        share = sum_error(self._dim + 12)
        worst = np.full(len(norms), share) if self._metric == "cosine" else share * np.square(norms)
        # What underflows is less than that.
        return np.nextafter((worst + 2.0**-120).astype(np.float32), np.float32(np.inf))


def _rank_in(groups: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """0, 1, 2, ... within each run of equal values."""
    everything = np.arange(len(groups))
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    lengths = np.diff(np.append(starts, len(groups)))
    ranks: npt.NDArray[np.intp] = everything - np.repeat(starts, lengths)
    return ranks
