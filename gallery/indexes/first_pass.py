"""The contract of a first pass, and the one certificate that all of them share.

A first pass holds a rounded copy of the rows, with fewer bytes each or faster to multiply, and tells which
rows of a block may still be among the nearest of a query. It may name too many, never too few.

The certificate. A row x' = x - c (c: a centre, so that what all rows have in common costs no digits) is kept
as x^ with a residual of known length, |x' - x^| <= residual; a query p likewise as p^. By Cauchy and Schwarz

    |<p, x'> - <p^, x^>| = |<p - p^, x^> + <p, x' - x^>| <= |p - p^| |x^| + |p| |x' - x^|

and `error_of` adds what float32 arithmetic may lose on top. With p = q under cosine, p = q - c under
euclidean, a cost at most `limit` means

    cosine      1 - <q, x> <= limit      <=>   <p, x'>            >= 1 - limit - <q, c>
    euclidean   |q - x|^2  <= limit      <=>   <p, x'> - |x'|^2/2 >= (|p|^2 - limit) / 2

so a row whose computed score is below that by more than the error cannot be one of the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gallery.indexes.ranking import Costs
from gallery.vectors import FloatRows, Numbers

Survivors = tuple[Numbers, Numbers, Costs]
"""(which query of those asked, row of the segment, the least that the pair can cost), each (pairs,)."""

GROUP = 8
"""Blocks are a multiple of so many rows: the largest score of each group is looked at first."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows start to stop of a segment as a first pass holds them, and what that rounding cost."""

    start: int
    stop: int
    residual: float
    """No row is further from what is kept of it."""
    length: float
    """Nothing kept is longer."""
    offset: float
    """The largest |x'|^2 / 2 under euclidean, 0 under cosine."""
    held: Any
    """What the pass keeps of the rows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Some queries as a first pass takes them."""

    which: Numbers
    """(m,) which of all queries these are."""
    lengths: npt.NDArray[np.float64]
    """(m,) |p|."""
    residuals: npt.NDArray[np.float64]
    """(m,) at least |p - p^|."""
    shifts: npt.NDArray[np.float64]
    """(m,) <q, c> under cosine, |p|^2 under euclidean."""
    held: Any
    """What the pass makes of the queries."""


class FirstPass(Protocol):
    """Tells which rows may be among the nearest."""

    name: str
    spans: list[tuple[int, int]]
    """(start, stop) of the rows of every block that there will be."""
    blocks: list[Block]
    """What it can answer about: rows from the first on, without a gap."""
    side_by_side: bool
    """Several threads may ask at once, and gain by it."""

    def grow(self, blocks: int) -> None:
        """Takes up so many more blocks of rows, if there are as many."""
        ...

    def ask(self, queries: FloatRows) -> list[Asked]:
        """The queries, in portions that are answered together."""
        ...

    def survivors(self, asked: Asked, block: Block, limits: Costs, most: int) -> Survivors | None:
        """Every pair that may cost `limits` (m,) or less.

        None when they are more than about `most`, or when nothing can be said.
        """
        ...


def centre_of(rows: FloatRows) -> FloatRows:
    """(dim,) about the mean of the rows; any vector would be right, a good one makes residuals short."""
    some = rows[:: max(1, len(rows) // 4096)]
    mean: FloatRows = some.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def spans(count: int, size: int) -> list[tuple[int, int]]:
    """Rows 0 to `count` in blocks of about equal size, of at most `size` and a multiple of GROUP."""
    parts = -(-count // size)
    step = -(-count // parts)
    step += -step % GROUP
    return [(start, min(count, start + step)) for start in range(0, count, step)]


def growing_spans(count: int, first: int, most: int) -> list[tuple[int, int]]:
    """Rows 0 to `count` in blocks, multiples of GROUP: of `first` rows, then 8 times more each, up to `most`.

    What is found in a small block bounds what is looked for in the larger ones, and few large ones keep a GPU
    busy.
    """
    found, start, size = [], 0, first + -first % GROUP
    while start < count:
        found.append((start, min(count, start + size)))
        start, size = start + size, max(size, min(8 * size, most - most % GROUP))
    return found


def centred(queries: FloatRows, centre: FloatRows, metric: str) -> tuple[FloatRows, Costs, Costs]:
    """(p in float32, |p|, shifts) of queries (m, dim)."""
    exact = queries.astype(np.float64)
    if metric == "cosine":
        return queries, _lengths(exact), exact @ centre.astype(np.float64)
    exact -= centre
    lengths = _lengths(exact)
    return exact.astype(np.float32), lengths, np.square(lengths)


def residuals_of(p: FloatRows, lengths: Costs, kept: npt.NDArray[np.float32]) -> Costs:
    """(m,) at least |p - p^|, where `p` is rounded to float32 already and `kept` is p^."""
    lost: Costs = _lengths(p.astype(np.float64) - kept) + 2.0**-23 * lengths
    return lost


def error_of(asked: Asked, block: Block, arithmetic: float) -> Costs:
    """(m,) how far a computed score may be off.

    arithmetic: how far the pass's own sums may be off, as a share of the magnitudes |p| |x'| they add up.
    """
    magnitudes = (asked.lengths + asked.residuals) * (block.length + block.residual)
    error: Costs = asked.residuals * block.length + asked.lengths * block.residual
    error += arithmetic * magnitudes + 2.0**-19 * (magnitudes + block.offset)
    return error


def least_scores(asked: Asked, limits: Costs, error: Costs, metric: str) -> Costs:
    """(m,) the least computed score of a row that costs `limits` (m,) or less."""
    if metric == "cosine":
        # Rows and queries are of unit length but for a few 2^-24, which 2^-20 covers.
        return 1 - limits - asked.shifts - error - 2.0**-20
    scores: Costs = (asked.shifts * (1 - 2.0**-48) - limits) / 2 - error
    return scores


def least_costs(asked: Asked, which: Numbers, scores: Costs, error: Costs, metric: str) -> Costs:
    """(pairs,) the least that pairs with these computed scores can cost: `least_scores` turned around."""
    most = scores + error[which]
    if metric == "cosine":
        return 1 - most - asked.shifts[which] - 2.0**-20
    costs: Costs = asked.shifts[which] * (1 - 2.0**-48) - 2 * most
    return costs


def _lengths(rows: npt.NDArray[np.float64]) -> Costs:
    lengths: Costs = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths
