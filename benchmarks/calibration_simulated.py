"""Scores whose truth is known: two models of people, and what a calibration makes of a sample of each.

`Lively`   a distance is 5, moved by what the probe's subject and the template's subject are each off by
           (Doddington's goats, lambs and wolves), and by chance; nothing is the same both ways round.
`Points`   subjects are points in space and items lie around them; everything enrolled is compared with
           everything else, so that what A is to B, B is to A, and those in the middle resemble everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gallery.calibration import Scores
from gallery.engines.scoring import ranks

Floats = NDArray[np.float64]

STRANGERS = 4000
"""Who are asked about to know the FPIR of a gallery; its error is a tenth of what is measured."""


class Truth(Protocol):
    """What is true of the people behind a sample of scores, at any threshold."""

    def fmr(self, threshold: float) -> float:
        """Of two different people drawn from all there are."""
        ...

    def fpir(self, threshold: float) -> float:
        """Of a stranger, in the very gallery that was measured."""
        ...


class Model(Protocol):
    """People to draw from."""

    def drawn(self, chance: np.random.Generator) -> tuple[Scores, Truth]:
        """A gallery, each template of it compared with all others, and the truth about it."""
        ...


def scores_of(distances: Floats, mated: Floats, owners: NDArray[np.int64]) -> Scores:
    """distances: (p, s), +inf where nothing is compared; mated: (p,), NaN where there is none."""
    kept = distances.astype(np.float32)
    two = np.sort(np.partition(kept, 1, axis=1)[:, :2], axis=1)
    found = np.where(np.isfinite(two[:, 0]), kept.argmin(axis=1), -1)
    own = mated.astype(np.float32)
    return Scores(kept, own, two[:, 0], two[:, 1], found, ranks(own, kept), owners, kept.shape[1])


@dataclass(frozen=True, slots=True)
class _LivelyTruth:
    spread: float
    moved: Floats

    def fmr(self, threshold: float) -> float:
        return float(stats.norm.cdf((threshold - 5) / np.sqrt(1 + 2 * self.spread**2)))

    def fpir(self, threshold: float) -> float:
        at, weight = np.polynomial.hermite_e.hermegauss(60)
        beyond = threshold - 5 - self.spread * at[:, None] - self.moved[None, :]
        nobody = np.exp(stats.norm.logsf(beyond).sum(axis=1))
        return float(1 - (weight * nobody).sum() / weight.sum())


@dataclass(frozen=True, slots=True)
class Lively:
    """See above. spread: of what subjects are off by; the chance of one comparison has spread 1."""

    subjects: int
    each: int
    spread: float

    def drawn(self, chance: np.random.Generator) -> tuple[Scores, Truth]:
        """See `Model`."""
        moved = chance.normal(0, self.spread, self.subjects)
        owner = np.repeat(np.arange(self.subjects), self.each)
        noise = chance.normal(0, 1, (len(owner), self.subjects))
        distances = 5 + moved[owner][:, None] + moved[None, :] + noise
        distances[np.arange(len(owner)), owner] = np.inf
        mated = 2.5 + moved[owner] + chance.normal(0, 1, len(owner))
        return scores_of(distances, mated, owner), _LivelyTruth(self.spread, moved)


@dataclass(frozen=True, slots=True)
class _PointsTruth:
    dim: int
    each: int
    noise: float
    nearest: Floats
    """(STRANGERS,) to the gallery, sorted."""
    pairs: Floats
    """Distances of a stranger to subjects drawn anew, sorted; empty with one template, where it is known."""

    def fmr(self, threshold: float) -> float:
        if self.each == 1:
            return float(stats.chi2.cdf(threshold**2 / (2 * (1 + self.noise**2)), self.dim))
        return float(np.searchsorted(self.pairs, threshold, "right") / len(self.pairs))

    def fpir(self, threshold: float) -> float:
        return float(np.searchsorted(self.nearest, threshold, "right") / len(self.nearest))


@dataclass(frozen=True, slots=True)
class Points:
    """See above. dim: of the space; noise: of items around their subject, whose own spread is 1."""

    subjects: int
    each: int
    dim: int
    noise: float
    pairs: Floats

    @classmethod
    def of(cls, subjects: int, each: int, dim: int, noise: float) -> Points:
        """The model, with distances enough of independent pairs to know its FMR to a few percent at 1e-4."""
        if each == 1:
            return cls(subjects, each, dim, noise, np.empty(0))
        chance = np.random.default_rng(20_000_000 + each)
        parts = []
        for _ in range(80):
            probe = np.sqrt(1 + noise**2) * chance.normal(0, 1, (50_000, 1, dim))
            subject = chance.normal(0, 1, (50_000, 1, dim))
            items = subject + noise * chance.normal(0, 1, (50_000, each, dim))
            parts.append(np.sqrt(np.square(probe - items).sum(axis=2).min(axis=1)))
        return cls(subjects, each, dim, noise, np.sort(np.concatenate(parts)))

    def drawn(self, chance: np.random.Generator) -> tuple[Scores, Truth]:
        """See `Model`."""
        owner = np.repeat(np.arange(self.subjects), self.each)
        people = chance.normal(0, 1, (self.subjects, self.dim))
        items = people[owner] + self.noise * chance.normal(0, 1, (len(owner), self.dim))
        away = between(items, items)
        np.fill_diagonal(away, np.inf)
        fused = away.reshape(len(owner), self.subjects, self.each).min(axis=2)
        rows = np.arange(len(owner))
        mated = np.where(np.isfinite(fused[rows, owner]), fused[rows, owner], np.nan)
        fused[rows, owner] = np.inf
        strangers = np.sqrt(1 + self.noise**2) * chance.normal(0, 1, (STRANGERS, self.dim))
        nearest = np.sort(between(strangers, items).min(axis=1))
        truth = _PointsTruth(self.dim, self.each, self.noise, nearest, self.pairs)
        return scores_of(fused, mated, owner), truth


def between(some: Floats, others: Floats) -> Floats:
    """(p, m) euclidean distances."""
    squares = np.square(some).sum(axis=1)[:, None] + np.square(others).sum(axis=1)[None, :]
    away: Floats = np.sqrt(np.maximum(squares - 2 * some @ others.T, 0))
    return away
