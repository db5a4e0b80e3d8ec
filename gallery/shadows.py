"""PURE: short vectors that are never farther apart than the long ones they stand for.

A row is turned onto the leading axes of the data, and all that is left of it becomes one number, its length.
Two rows' remainders are at least as far apart as their lengths differ, so two rows within a threshold have
shadows within it: comparing shadows finds every near pair, and some that are not. Where the threshold is
small, as for copies, a few axes are enough to tell nearly all others apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.vectors import LONGEST, FloatRows, sum_error

MANY = 20_000
"""Among so many rows shorter ones are worth looking for."""
_WIDTHS = (16, 32, 64, 128, 256)
_SAMPLE = 4096
_AT_A_TIME = 8192
_SCAN, _SCAN_TERM, _CHECK, _CHECK_TERM = 0.5, 0.03, 750.0, 4.0
"""Nanoseconds: to make and look at a score, for each of its terms; an exact distance, each of its terms."""

Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shadow:
    """What stands for n rows.

    vectors  (n, w + 2) float32: the shadow, 1, and minus half its square
    least    the score of two rows within the threshold is at least this
    """

    vectors: FloatRows
    least: np.float32

    @property
    def width(self) -> int:
        """How many numbers stand for a row."""
        return int(self.vectors.shape[1]) - 2

    def scores(self, rows: slice, others: slice, room: FloatRows) -> FloatRows:
        """(rows, others) minus half the squared distance of their shadows, about; written into `room`."""
        left, right = self.vectors[rows].copy(), self.vectors[others]
        left[:, -2:] = left[:, [-1, -2]]
        products = room[: len(left) * len(right)].reshape(len(left), len(right))
        if len(self.vectors) < MANY:
            return np.matmul(left, right.T, out=products)
        import torch

        # On a worker's one core; numpy's own would start threads of its own in each.
        torch.mm(torch.from_numpy(left), torch.from_numpy(right).T, out=torch.from_numpy(products))
        return products


def cast(rows: FloatRows, metric: str, threshold: float) -> Shadow:
    """The shadows of `rows` (n, d), as `vectors.prepare` leaves them, for pairs within `threshold`."""
    # Unit vectors at a cosine distance t are sqrt(2 t) apart.
    reach = 2.0 * threshold if metric == "cosine" else min(float(threshold), 2.1 * LONGEST) ** 2
    sample = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE].astype(np.float64)
    centre = sample.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    # The axes take longer to find the longer the rows are, and save the more the more rows there are.
    worth = len(rows) >= max(MANY, 40 * rows.shape[1])
    axes = _axes(sample - centre, reach) if worth else None
    width = rows.shape[1] if axes is None else axes.shape[1] + 1
    vectors = np.empty((len(rows), width + 2), np.float32)
    longest = 0.0
    for start in range(0, len(rows), _AT_A_TIME):
        some = rows[start : start + _AT_A_TIME] - centre
        squares = np.einsum("ij,ij->i", some, some)
        longest = max(longest, float(squares.max()))
        into = vectors[start : start + _AT_A_TIME]
        into[:, :width] = some if axes is None else _turned(some, squares, axes)
        into[:, width] = 1
        into[:, width + 1] = -squares / 2
    # Each score is a sum of products, none of which is larger than the longest row's square.
    slack = 2 * sum_error(rows.shape[1] + 24) * longest + (1e-6 if metric == "cosine" else 0.0)
    return Shadow(vectors, np.nextafter(np.float32(-reach / 2 - slack), np.float32(-np.inf)))


def _turned(some: Wide, squares: Wide, axes: Wide) -> Wide:
    """(n, w + 1) along the axes, and the length of the rest.

    The rest is a difference that float64 knows to a share of the square only; `cast` allows for that.
    """
    along = some @ axes
    rest = np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", along, along), 0.0))
    return np.concatenate([along, rest[:, None]], axis=1)


def _axes(sample: Wide, reach: float) -> Wide | None:
    """(d, w) the axes that make comparing all rows cheapest; None where whole rows are as cheap."""
    dim = sample.shape[1]
    _, turned = np.linalg.eigh(sample.T @ sample)
    leading = turned[:, ::-1]
    check = _CHECK + _CHECK_TERM * dim
    costs = {
        width: _SCAN + _SCAN_TERM * (width + 1) + check * share
        for width, share in _left_over(sample @ leading, reach)
    }
    best = min(costs, key=costs.__getitem__)
    return leading[:, :best] if costs[best] < 0.8 * costs[dim] else None


def _left_over(turned: Wide, reach: float) -> Iterator[tuple[int, float]]:
    """(width, the share of the pairs of a sample that their shadows do not tell apart) for every width."""
    one, other = turned[::8], turned[1::2]
    dim = turned.shape[1]
    for width in (*(one for one in _WIDTHS if one < dim - 1), dim):
        near = _apart(one, other, width) <= reach
        yield width, float(near.mean())


def _apart(one: Wide, other: Wide, width: int) -> Wide:
    """(one, other) squared distances of shadows of that width."""

    def shadow(rows: Wide) -> Wide:
        rest = np.linalg.norm(rows[:, width:], axis=1, keepdims=True)
        return np.concatenate([rows[:, :width], rest], axis=1)

    left, right = shadow(one), shadow(other)
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None, :]
    apart: Wide = squares - 2 * left @ right.T
    return apart
