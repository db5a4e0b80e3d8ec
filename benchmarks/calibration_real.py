"""Real embeddings as a model of people: some are enrolled and calibrated on, all others are the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_simulated import Truth, scores_of
from gallery.calibration import Scores

COPY = 1e-6
"""Distance up to which two embeddings are of one picture, of which some sets have two."""


@dataclass(frozen=True, slots=True)
class _Others:
    """What the people who are not enrolled are like."""

    pairs: NDArray[np.float32]
    """Distances between different ones of them, sorted."""
    nearest: NDArray[np.float32]
    """Of each of their items to the gallery, sorted."""

    def fmr(self, threshold: float) -> float:
        return float(np.searchsorted(self.pairs, np.float32(threshold), "right") / len(self.pairs))

    def fpir(self, threshold: float) -> float:
        return float(np.searchsorted(self.nearest, np.float32(threshold), "right") / len(self.nearest))


@dataclass(frozen=True, slots=True)
class Embedded:
    """rows: (n, dim) of length 1; owners: (n,) subjects; enrolled: how many are drawn to be calibrated on.

    others: how many of the rest are measured on, at most; each: templates of a subject, at most.
    """

    rows: NDArray[np.float32]
    owners: NDArray[np.int64]
    enrolled: int
    others: int
    each: int

    def drawn(self, chance: np.random.Generator) -> tuple[Scores, Truth]:
        """See `benchmarks.calibration_simulated.Model`."""
        people = chance.permutation(np.unique(self.owners))
        mine = self._items_of(people[: self.enrolled], chance)
        theirs = self._items_of(people[self.enrolled : self.enrolled + self.others], chance)
        scores = leave_one_out(self.rows[mine], self.owners[mine])
        pairs = leave_one_out(self.rows[theirs], self.owners[theirs]).distances
        across = _apart(self.rows[theirs], self.rows[mine]).min(axis=1)
        return scores, _Others(np.sort(pairs[np.isfinite(pairs)]), np.sort(across))

    def _items_of(self, people: NDArray[np.int64], chance: np.random.Generator) -> NDArray[np.int64]:
        """Positions of up to `each` items a subject, by subject."""
        shuffled = chance.permutation(len(self.owners))
        order = shuffled[np.argsort(self.owners[shuffled], kind="stable")]
        subject, start = np.unique(self.owners[order], return_index=True)
        place = np.arange(len(order)) - start[np.searchsorted(subject, self.owners[order])]
        some: NDArray[np.int64] = order[(place < self.each) & np.isin(self.owners[order], people)]
        return some


def leave_one_out(rows: NDArray[np.float32], owners: NDArray[np.int64]) -> Scores:
    """Every template against every subject's nearest other one; rows are in order of their owners."""
    _, starts, column = np.unique(owners, return_index=True, return_inverse=True)
    fused = np.minimum.reduceat(_apart(rows, rows), starts, axis=1)
    at = np.arange(len(rows))
    own = np.where(np.isfinite(fused[at, column]), fused[at, column], np.nan)
    fused[at, column] = np.inf
    return scores_of(fused, own, column)


def _apart(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(p, m) cosine distances, copies at +inf."""
    away = 1 - some @ others.T
    away[away < COPY] = np.inf
    return away
