"""FAISS's float32 search of a segment, and a second look where float32 cannot tell rows apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gallery.indexes import library
from gallery.indexes.first_pass import centre_of
from gallery.indexes.ranking import Costs, Ranking
from gallery.indexes.segments import Segment
from gallery.vectors import FloatRows, Numbers, sum_error

_SPARE, _MOST_SPARE = 8, 32
"""So many more than k are scored exactly, more of them among many rows, which lie closer together."""
_PRODUCTS_AT_A_TIME = 2**20
_FEW_PAIRS = 20_000


def search(segment: Segment, start: int, stop: int, ranking: Ranking, which: Numbers, error: Costs) -> None:
    """Offers the nearest living rows from start to stop to the queries `which`.

    error: (all queries,) how far a cost computed in float32 may be off.
    """
    dead = segment.dead[start:stop]
    total, gone = stop - start, int(dead.sum())
    wanted = min(ranking.k, total - gone)
    if wanted == 0:
        return
    queries = ranking.queries[which]
    spare = min(_MOST_SPARE, _SPARE + total // 4096)
    ask = min(total, ranking.k + spare + min(gone, ranking.k))
    while True:
        distances, rows = library.nearest(queries, segment.rows[start:stop], ask, ranking.metric)
        alive = ~dead[rows]
        if ask == total or int(alive.sum(axis=1).min()) >= wanted:
            break
        ask = min(total, 4 * ask)
    near = alive & _may_be_nearest(
        _cost(distances.astype(np.float64), ranking.metric), alive, wanted + 1, error[which]
    )
    ranking.cut(which[(alive & ~near).any(axis=1)])
    query, place = np.nonzero(near)
    at = rows[query, place] + start
    ranking.offer(which[query], segment.rows, at, segment.numbers[at])
    if ask == total:
        return
    reach = _at_least(distances[:, -1], error[which], ranking.metric)
    unsure = _cost(reach, ranking.metric) <= ranking.limits(which)
    settled = np.zeros_like(unsure)
    if unsure.any():
        settled[unsure] = _looked_again(segment, start, stop, ranking, which[unsure], rows[unsure] + start)
    ranking.cut(which[settled])
    ranking.pass_over(which[~settled], reach[~settled])


def _may_be_nearest(
    costs: Costs, alive: npt.NDArray[np.bool_], count: int, error: Costs
) -> npt.NDArray[np.bool_]:
    """(queries, found) False for what costs more than `count` living ones, whatever float32 did to both.

    costs: (queries, found) rising along each row. Scoring the spare ones exactly would take longer than it
    took to find them.
    """
    last = np.minimum(count, alive.sum(axis=1))
    place = (np.cumsum(alive, axis=1) < last[:, None]).sum(axis=1)
    worst = costs[np.arange(len(costs)), place]
    near: npt.NDArray[np.bool_] = costs <= (worst + 2 * error)[:, None]
    return near


def _looked_again(
    segment: Segment, start: int, stop: int, ranking: Ranking, which: Numbers, known: Numbers
) -> bool:
    """Offers every row whose cost float32 cannot tell from the limit; False where those are too many.

    known: (w, ask) the rows that these queries were offered already.
    """
    centre = centre_of(segment.rows[start:stop])
    exact = ranking.queries[which].astype(np.float64)
    if ranking.metric == "euclidean":
        exact -= centre
    queries = exact.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    seen = np.sort((known + np.arange(len(known))[:, None] * len(segment)).ravel())
    step = max(64, _PRODUCTS_AT_A_TIME // len(which))
    for first in range(start, stop, step):
        last = min(stop, first + step)
        rows = segment.rows[first:last]
        if ranking.metric == "euclidean":
            rows = rows - centre
        limits = ranking.limits(which)
        near = ~(_costs(queries, rows, lengths, ranking.metric) > limits[:, None])
        query, at = np.divmod(np.flatnonzero(near), last - first)
        at += first
        new = ~segment.dead[at] & ~np.isin(query * len(segment) + at, seen)
        query, at = query[new], at[new]
        if len(at) > max(_FEW_PAIRS, (last - first) * (1 + len(which) / 12) / 2):
            return False
        ranking.offer(which[query], segment.rows, at, segment.numbers[at])
    return True


def _costs(
    queries: FloatRows, rows: FloatRows, lengths: Costs, metric: str
) -> npt.NDArray[np.float64 | np.float32]:
    """(queries, rows) the least that each pair can cost, by float32 products: see `ExactIndex._error`."""
    products = queries @ rows.T
    error = sum_error(rows.shape[1] + 24)
    if metric == "cosine":
        return np.float32(1 - error) - products
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    lost = error * np.square(lengths + np.sqrt(squares.max())) + rows.shape[1] * 2.0**-124
    costs: npt.NDArray[np.float64] = squares - 2.0 * products + (np.square(lengths) - lost)[:, None]
    return costs


def _cost(distances: Costs, metric: str) -> Costs:
    return distances if metric == "cosine" else np.square(distances)


def _at_least(distances: npt.NDArray[np.float32], error: Costs, metric: str) -> Costs:
    """The least that distances computed in float32 can truly be."""
    wide = distances.astype(np.float64)
    if metric == "cosine":
        return wide - error
    least: Costs = np.sqrt(np.maximum(np.square(wide) - error, 0))
    return least
