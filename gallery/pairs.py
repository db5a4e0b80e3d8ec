"""Every pair of rows within a threshold of each other: exact, in blocks, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.errors import InvalidItemError
from gallery.vectors import FloatRows, distances

ROWS, COLUMNS = 1024, 8192  # one block of products is 32 MiB
MOST_PAIRS = 50_000_000  # 600 MB: far more than any useful threshold gives
Ints = npt.NDArray[np.int32]
Spans = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pairs:
    """p pairs of rows, `left` < `right` (p,) int32, `distance` (p,) float32; sorted by left, then right."""

    left: Ints
    right: Ints
    distance: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left)

    def within(self, threshold: float) -> Pairs:
        """Those at a distance <= threshold."""
        keep = self.distance <= np.float64(threshold)  # as a number, not rounded to float32
        return Pairs(self.left[keep], self.right[keep], self.distance[keep])


def near_pairs(rows: FloatRows, metric: str, threshold: float, *, most: int = MOST_PAIRS) -> Pairs:
    """All pairs of `rows` (n, d), as `vectors.prepare` leaves them, at an exact distance <= threshold.

    A matrix product proposes pairs with a margin for its rounding and `vectors.distances` decides, so neither
    the blocks nor the BLAS can change the answer. Raises InvalidItemError for more than `most` pairs.
    """
    found: list[Pairs] = []
    total = 0
    for start in range(0, len(rows), ROWS):
        pairs = _exact(rows, metric, threshold, _proposed(rows, metric, threshold, start))
        total += len(pairs)
        if total > most:
            raise InvalidItemError(
                f"more than {most:,} pairs are within the threshold {threshold:g}: it is too loose for these "
                f"{len(rows):,} items; lower it"
            )
        found.append(pairs)
    return joined(found)


def joined(parts: list[Pairs]) -> Pairs:
    """Several lists of pairs as one, in the order given."""
    return Pairs(
        np.concatenate([np.empty(0, np.int32), *(p.left for p in parts)]),
        np.concatenate([np.empty(0, np.int32), *(p.right for p in parts)]),
        np.concatenate([np.empty(0, np.float32), *(p.distance for p in parts)]),
    )


def _proposed(rows: FloatRows, metric: str, threshold: float, start: int) -> Iterator[tuple[int, Ints]]:
    """(row, later rows that may be near it) for the block of rows from `start` on."""
    block = rows[start : start + ROWS]
    hits = [
        _hits(block, rows[low : low + COLUMNS], metric, threshold, start, low)
        for low in _columns(rows, start)
    ]
    left = np.concatenate([h[0] for h in hits])
    right = np.concatenate([h[1] for h in hits])
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    starts = np.flatnonzero(np.r_[True, left[1:] != left[:-1]]) if len(left) else np.empty(0, np.int64)
    for group in np.split(np.arange(len(left)), starts[1:]) if len(left) else []:
        yield int(left[group[0]]), right[group]


def _columns(rows: FloatRows, start: int) -> range:
    return range(start, len(rows), COLUMNS)


def _hits(
    block: FloatRows, others: FloatRows, metric: str, threshold: float, start: int, low: int
) -> tuple[Ints, Ints]:
    products = block @ others.T
    # The rounding error of a float32 dot product of d terms is below d * eps * |a| * |b|.
    slack = np.float32(block.shape[1] * np.finfo(np.float32).eps)
    if metric == "cosine":
        near = products >= np.float32(1.0 - threshold) - 4 * slack
    else:
        norms = np.square(block).sum(axis=1)[:, None] + np.square(others).sum(axis=1)[None, :]
        near = norms - 2 * products <= np.float32(threshold) ** 2 * (1 + 4 * slack) + 4 * slack * norms
    left, right = np.divmod(np.flatnonzero(near), len(others))  # ten times as fast as nonzero
    left, right = left + start, right + low
    later = left < right
    return left[later].astype(np.int32), right[later].astype(np.int32)


def _exact(rows: FloatRows, metric: str, threshold: float, proposed: Iterator[tuple[int, Ints]]) -> Pairs:
    parts = []
    for row, others in proposed:
        exact = distances(rows[row], rows[others], metric)
        left = np.full(len(others), row, np.int32)
        parts.append(Pairs(left, others, exact).within(threshold))
    return joined(parts)
