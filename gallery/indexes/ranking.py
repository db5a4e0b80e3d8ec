"""The nearest found so far: exact distances of proposed rows, and a bound on all the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gallery.vectors import FloatRows, Numbers

_AT_A_TIME = 128
"""Pairs scored in one go: small enough for the buffers to stay in a core's own cache."""
_WIDER = 1 + 2.0**-22
"""The rounding of a distance to float32, and of the arithmetic around it."""

Costs = npt.NDArray[np.float64]
"""What distances are compared by: 1 - cos under cosine, the squared distance under euclidean."""


class Ranking:
    """The k nearest of each of m queries, from any number of offers, in any order, by several threads.

    Distances are computed in float64 and rounded once, ties go to the lower number.
    """

    def __init__(self, queries: FloatRows, k: int, metric: str) -> None:
        """queries (m, dim), as `vectors.prepare` left them; k >= 1."""
        self.queries = queries
        self.k = k
        self.metric = metric
        self.numbers = np.full((len(queries), k), -1, np.int64)
        self.distances = np.full((len(queries), k), np.inf, np.float32)
        self._exact = queries.astype(np.float64)
        if metric == "cosine":
            self._exact /= np.sqrt(np.einsum("ij,ij->i", self._exact, self._exact))[:, None]
        self._bound = np.full(len(queries), np.inf)
        self._cut = np.zeros(len(queries), np.bool_)
        self._left_out = np.full(len(queries), np.inf)
        self._lock = threading.Lock()

    def limits(self, which: Numbers) -> Costs:
        """A row that costs more than this is none of the k nearest of its query, whatever comes yet: (w,)."""
        with self._lock:
            farthest = self.distances[which, -1].astype(np.float64) * _WIDER
            costs: Costs = np.minimum(self._bound[which], _costs(farthest, self.metric))
        return costs

    def promise(self, which: Numbers, rows: FloatRows, at: Numbers) -> None:
        """Says that k of the pairs (which, rows[at]) of each query will be offered: they bound the answer."""
        distances = self._distances(which, rows, at).astype(np.float64) * _WIDER
        worst = np.zeros(len(self.queries))
        np.maximum.at(worst, which, distances)
        known = np.bincount(which, minlength=len(self.queries)) >= self.k
        bound = np.where(known, _costs(worst, self.metric), np.inf)
        with self._lock:
            np.minimum(self._bound, bound, out=self._bound)

    def cut(self, which: Numbers) -> None:
        """Says that rows of these queries were passed over because they cost more than their limit."""
        with self._lock:
            self._cut[which] = True

    def pass_over(self, which: Numbers, nearest: npt.NDArray[np.float64]) -> None:
        """Says that rows of these queries were passed over, none of them truly nearer than `nearest`."""
        with self._lock:
            self._left_out[which] = np.minimum(self._left_out[which], nearest)

    def offer(self, which: Numbers, rows: FloatRows, at: Numbers, numbers: Numbers) -> None:
        """Takes what is near enough of the pairs (query `which`, `rows[at]`); each pair comes once.

        which, at, numbers: (pairs,) the query, the row, and the number of the template in that row.
        """
        if len(which) == 0:
            return
        near = self._may_be_near(which, rows, at)
        if not near.all():
            self.cut(np.unique(which[~near]))
            which, at, numbers = which[near], at[near], numbers[near]
        if len(which):
            self._take(which, numbers, self._distances(which, rows, at))

    def floor(self) -> npt.NDArray[np.float64]:
        """(m,) no row that is not in the answer is nearer than this."""
        last = self.distances[:, -1].astype(np.float64) / _WIDER
        floor: Costs = np.minimum(self._left_out, np.where(self._cut, last, np.inf))
        return floor

    def _take(self, which: Numbers, numbers: Numbers, distances: npt.NDArray[np.float32]) -> None:
        with self._lock:
            touched = np.unique(which)
            held = self.numbers[touched] >= 0
            whose = np.concatenate([np.repeat(touched, self.k)[held.ravel()], which])
            numbers = np.concatenate([self.numbers[touched][held], numbers])
            distances = np.concatenate([self.distances[touched][held], distances])
            order = np.lexsort((numbers, distances, whose))
            whose, numbers, distances = whose[order], numbers[order], distances[order]
            group = np.searchsorted(touched, whose)
            place = np.arange(len(whose)) - np.searchsorted(whose, touched)[group]
            first_out = place == self.k
            self._left_out[whose[first_out]] = np.minimum(
                self._left_out[whose[first_out]], distances[first_out] / _WIDER
            )
            kept = place < self.k
            self.numbers[touched], self.distances[touched] = -1, np.inf
            self.numbers[whose[kept], place[kept]] = numbers[kept]
            self.distances[whose[kept], place[kept]] = distances[kept]

    def _may_be_near(self, which: Numbers, rows: FloatRows, at: Numbers) -> npt.NDArray[np.bool_]:
        """(pairs,) False where float32 arithmetic, its error allowed for, already shows a row too far."""
        limits = self.limits(np.arange(len(self.queries)))[which]
        if np.isinf(limits).all():
            return np.ones(len(which), np.bool_)
        costs = np.empty(len(which), np.float32)
        for part, left, right in self._pairs(which, rows, at):
            if self.metric == "cosine":
                costs[part] = np.float32(1) - np.einsum("ij,ij->i", left, right)
            else:
                np.subtract(left, right, out=left)
                costs[part] = np.einsum("ij,ij->i", left, left)
        # A sum of n products in float32, in any order, is off by less than n 2^-23 of their magnitudes.
        # One below 2^-126 may be taken for 0.
        error = (rows.shape[1] + 32) * 2.0**-23
        if self.metric == "cosine":
            most = limits + error
        else:
            most = limits * (1 + error) + rows.shape[1] * 2.0**-124
        near: npt.NDArray[np.bool_] = costs <= most
        return near

    def _distances(self, which: Numbers, rows: FloatRows, at: Numbers) -> npt.NDArray[np.float32]:
        """(pairs,) as `vectors.distances` defines them."""
        found = np.empty(len(which), np.float32)
        wide = np.empty((min(_AT_A_TIME, len(which)), rows.shape[1]))
        for part, _, right in self._pairs(which, rows, at):
            exact = wide[: len(right)]
            exact[:] = right
            if self.metric == "cosine":
                exact /= np.sqrt(np.einsum("ij,ij->i", exact, exact))[:, None]
            exact -= self._exact[which[part]]
            squares = np.einsum("ij,ij->i", exact, exact)
            found[part] = squares / 2 if self.metric == "cosine" else np.sqrt(squares)
        return found

    def _pairs(
        self, which: Numbers, rows: FloatRows, at: Numbers
    ) -> Iterator[tuple[slice, FloatRows, FloatRows]]:
        """(which pairs, their queries, their rows), some at a time, in the same two buffers."""
        shape = min(_AT_A_TIME, len(which)), rows.shape[1]
        left, right = np.empty(shape, np.float32), np.empty(shape, np.float32)
        # As bytes: FAISS's files have the rows at odd addresses, and of such floats `take` copies all first.
        values, into = rows.view(np.uint8), right.view(np.uint8)
        for start in range(0, len(which), _AT_A_TIME):
            part = slice(start, min(len(which), start + _AT_A_TIME))
            count = part.stop - start
            # "clip" is the mode that writes into the buffer itself; no index is out of range.
            np.take(self.queries, which[part], axis=0, out=left[:count], mode="clip")
            np.take(values, at[part], axis=0, out=into[:count], mode="clip")
            yield part, left[:count], right[:count]


def _costs(distances: Costs, metric: str) -> Costs:
    return distances if metric == "cosine" else np.square(distances)
