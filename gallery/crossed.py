"""Pure: how far off a rate of comparisons may be, where probes share subjects and templates share subjects.

A pair of subjects is one, both ways round and with all its shots. Pairs with a subject in common are
correlated, so the variance is over all pairs of such pairs (Aronow, Samii and Assenova 2015; where nobody who
asks is enrolled it is the two-way one of Cameron, Gelbach and Miller 2011). What it is measured from sums to
zero, which makes it too small where subjects are few; how much it would be so if pairs were unrelated can be
computed, and for as many comparisons of each pair it is the same however subjects differ: R / (R - 1) times
C / (C - 1) for R subjects who ask and C who are enrolled, n (n - 1) / ((n - 2) (n - 3)) for n of both kinds.

That estimate is a difference and may come out near zero or below. In truth pairs with a subject in common
never vary less together than apart, so the variance is at least that of one clustering alone: by those who
ask, by those who are enrolled, by pairs. The widest of the four counts. Each has Student's distribution of
its own number of clusters, the two-way one that of the fewer subjects (Cameron and Miller 2015); clusters of
unlike sizes are worth fewer of one size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.vectors import Numbers

Sums = npt.NDArray[np.float32]
"""(r, s) by the subject of the probes and the subject of the templates."""
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Crossed:
    """What is known of a number of errors among comparisons of pairs of subjects."""

    variance: float
    """Wide enough for the normal distribution; +inf where subjects are too few to tell."""
    subjects: int
    """Who ask or who are enrolled, whichever are fewer."""
    pairs: int
    """Different pairs of subjects that were compared, A with B and B with A being one."""


def crossed(off: Sums, counts: Sums, owners: Numbers) -> Crossed:
    """off: errors less what the rate makes expect; counts: comparisons; owners: (r,) the row's subject."""
    sizes = [counts.sum(axis=axis, dtype=np.float64) for axis in (1, 0)]
    one_way = [
        widened(float(np.square(off.sum(axis=axis, dtype=np.float64)).sum()), alike(size))
        for axis, size in zip((1, 0), sizes, strict=True)
    ]
    errors, tried = _each_pair_once(off, owners), _each_pair_once(counts, owners)
    pairs, fewer = int(np.count_nonzero(tried)), min(np.count_nonzero(size) for size in sizes)
    alone = float(_squares(errors, owners).sum()) / 2
    two_way = float(np.square(_shares(errors, owners)).sum()) - alone
    correction = _too_small_by(tried, owners) * student(min(map(alike, sizes)) - 1)
    # Of three subjects against themselves it is always 0, and says nothing.
    corrected = two_way * correction if correction < math.inf else math.inf
    return Crossed(max(*one_way, widened(alone, alike(tried)), corrected), int(fewer), pairs)


def alike(sizes: npt.NDArray[np.floating | np.integer]) -> float:
    """To how many clusters of one size those of such sizes come: the large ones decide (Kish 1965)."""
    squares = float(np.square(sizes, dtype=np.float64).sum())
    return float(sizes.sum(dtype=np.float64)) ** 2 / squares if squares else 0.0


def widened(variance: float, clusters: float) -> float:
    """For few clusters, who say less of their own variance; +inf of one."""
    few = clusters < 1 + 1e-9
    return math.inf if few else variance * clusters / (clusters - 1) * student(clusters - 1)


def student(freedom: float) -> float:
    """By how much a variance has to grow for the normal distribution to be as wide as Student's."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975) / 1.96) ** 2 if freedom > 1e-9 else math.inf


def _each_pair_once(sums: Sums, owners: Numbers) -> Sums:
    """Those of a pair that was compared both ways round together, in one of the two places."""
    at = np.flatnonzero(owners < sums.shape[1])
    mutual = np.ix_(at, owners[at])
    once = sums.copy()
    once[mutual] = np.triu(sums[mutual] + sums[mutual].T)
    return once


def _shares(sums: Sums, owners: Numbers) -> Shares:
    """What each subject has part in, of pairs that are there once."""
    return _by_subject(sums.sum(axis=1, dtype=np.float64), sums.sum(axis=0, dtype=np.float64), owners)


def _squares(sums: Sums, owners: Numbers) -> Shares:
    """The same of squares."""
    return _by_subject(np.einsum("ij,ij->i", sums, sums), np.einsum("ij,ij->j", sums, sums), owners)


def _by_subject(rows: npt.NDArray[np.floating], columns: npt.NDArray[np.floating], owners: Numbers) -> Shares:
    shares = np.zeros(max(len(columns), int(owners.max()) + 1))
    shares[: len(columns)] += columns
    shares[owners] += rows
    return shares


def _too_small_by(tried: Sums, owners: Numbers) -> float:
    """What the two-way variance has to be multiplied by, were pairs unrelated; +inf where it is always 0."""
    total, shares, squares = (
        float(tried.sum(dtype=np.float64)),
        _shares(tried, owners),
        _squares(tried, owners),
    )
    true = float(squares.sum()) / 2
    cubes = float(np.einsum("ij,ij,ij->i", tried, tried, tried).sum(dtype=np.float64))
    near = float(np.square(shares).sum()) - true
    seen = true - 2 * (float(shares @ squares) - cubes) / total + true * near / total**2
    return true / min(seen, true) if seen > 1e-6 * true else math.inf
