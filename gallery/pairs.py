"""Every pair of rows within a threshold of each other: exact, in blocks, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery import workers
from gallery.errors import InvalidItemError
from gallery.shadows import MANY, Shadow, cast
from gallery.vectors import FloatRows, distances_of_pairs

ROWS, COLUMNS = 512, 1024  # one block of products is 2 MiB, which stays in the cache of a core
MOST_PAIRS = 50_000_000  # 600 MB: far more than any useful threshold gives
_BLOCKS_AT_A_TIME = 16
_CANDIDATES = 2**18
Ints = npt.NDArray[np.int32]
Places = npt.NDArray[np.intp]


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

    Products of shadows (see `shadows.cast`) propose pairs with a margin for their rounding, and
    `vectors.distances` decides, so neither the blocks nor the BLAS can change the answer. Raises
    InvalidItemError for more than `most` pairs.
    """
    shadow = cast(rows, metric, threshold)
    done: list[Pairs] = []
    total = 0

    def beside_all(start: int) -> Pairs:
        room = most - total
        parts = []
        for left, right in _proposed(shadow, start):
            exact = distances_of_pairs(rows[start : start + ROWS], left - start, rows, right, metric)
            found = Pairs(left.astype(np.int32), right.astype(np.int32), exact)
            parts.append(found.within(threshold))
            room -= len(parts[-1])
            if room < 0:
                break
        return _sorted(joined(parts))

    starts = range(0, len(rows), ROWS)
    for first in range(0, len(starts), _BLOCKS_AT_A_TIME):
        done += _each(len(rows))(beside_all, starts[first : first + _BLOCKS_AT_A_TIME])
        total = sum(map(len, done))
        if total > most:
            raise InvalidItemError(
                f"more than {most:,} pairs are within the threshold {threshold:g}: it is too loose for these "
                f"{len(rows):,} items; lower it"
            )
    return joined(done)


def joined(parts: list[Pairs]) -> Pairs:
    """Several lists of pairs as one, in the order given."""
    return Pairs(
        np.concatenate([np.empty(0, np.int32), *(p.left for p in parts)]),
        np.concatenate([np.empty(0, np.int32), *(p.right for p in parts)]),
        np.concatenate([np.empty(0, np.float32), *(p.distance for p in parts)]),
    )


def _each(rows: int) -> Callable[[Callable[[int], Pairs], Iterable[int]], list[Pairs]]:
    """What does the blocks: threads only where they pay for being started, and torch for being imported."""
    if rows < MANY:
        return lambda work, starts: [work(start) for start in starts]
    return workers.each


def _proposed(shadow: Shadow, start: int) -> Iterator[tuple[Places, Places]]:
    """(left, right) with left < right that may be near, of ROWS from `start`: all, in bounded numbers."""
    found: list[tuple[Places, Places]] = []
    held = 0
    room = np.empty(ROWS * COLUMNS, np.float32)
    for low in range(start, len(shadow.vectors), COLUMNS):
        scores = shadow.scores(slice(start, start + ROWS), slice(low, low + COLUMNS), room)
        hits = np.flatnonzero(scores >= shadow.least)  # ten times as fast as nonzero
        if len(hits):
            left, right = np.divmod(hits, scores.shape[1])
            left, right = left + start, right + low
            later = left < right
            found.append((left[later], right[later]))
            held += len(found[-1][0])
        if held > _CANDIDATES:
            yield _together(found)
            found, held = [], 0
    yield _together(found)


def _together(found: list[tuple[Places, Places]]) -> tuple[Places, Places]:
    nothing = np.empty(0, np.intp)
    left, right = zip((nothing, nothing), *found, strict=True)
    return np.concatenate(left), np.concatenate(right)


def _sorted(pairs: Pairs) -> Pairs:
    order = np.lexsort((pairs.right, pairs.left))
    return Pairs(pairs.left[order], pairs.right[order], pairs.distance[order])
