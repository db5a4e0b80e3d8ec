"""The only door for arrays: what comes in as a vector is checked here, and distances are defined here.

Every public distance is computed by `distances`, row by row in float64 and rounded to float32 once, so that
a score does not depend on the batch it was computed in, on the index that proposed it or on the BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.errors import InvalidItemError

FloatRows = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

METRICS = ("cosine", "euclidean")

_PAIRS_AT_A_TIME = 64
"""So many that what is computed from them stays in the cache of a core."""

LONGEST = 1e18
"""Euclidean rows are no longer than this: float32 holds squares up to (1.8e19)^2, and sums of them."""


def as_rows(array: Any, dim: int) -> FloatRows:
    """`array` as a C-contiguous (n, dim) float32 array; refuses other shapes and what is not a number.

    Values are not looked at here: see `faults`.
    """
    if (
        isinstance(array, np.ndarray)
        and array.dtype == np.float32
        and array.ndim == 2
        and array.shape[1] == dim
        and array.flags.c_contiguous
    ):
        return array
    try:
        rows = np.asarray(array)
    except ValueError as error:
        raise InvalidItemError(f"the vectors have different lengths; each needs {dim} values") from error
    if rows.dtype.kind not in "fiub":
        raise InvalidItemError(f"vectors must hold real numbers, these hold {rows.dtype}")
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidItemError(
            f"expected vectors of shape (n, {dim}), got an array of shape {rows.shape}: "
            f"an item is one vector of {dim} numbers"
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, dtype=np.float32)


def faults(rows: FloatRows, metric: str) -> dict[int, str]:
    """What is wrong with which row: {row: reason}, empty when every row can be used."""
    bad: dict[int, str] = {}
    finite = np.isfinite(rows)
    for row in np.flatnonzero(~finite.all(axis=1)):
        nans = int(np.isnan(rows[row]).sum())
        infinite = int(np.isinf(rows[row]).sum())
        bad[int(row)] = f"its embedding holds {nans} NaN and {infinite} infinite values of {rows.shape[1]}"
    if metric == "cosine":
        for row in np.flatnonzero(~rows.any(axis=1)):
            bad[int(row)] = "its embedding is all zeros, which has no direction under the cosine metric"
    else:
        lengths = np.sqrt(np.square(np.where(finite, rows, 0).astype(np.float64)).sum(axis=1))
        for row in np.flatnonzero(lengths > LONGEST):
            bad.setdefault(
                int(row), f"its embedding has length {lengths[row]:.3g}, over {LONGEST:.0g}: scale it down"
            )
    return bad


def prepare(rows: FloatRows, metric: str) -> FloatRows:
    """Rows as they are stored and searched: of unit length under cosine, unchanged under euclidean."""
    if metric == "euclidean":
        return rows
    exact = rows.astype(np.float64)
    return _scaled(exact, np.einsum("ij,ij->i", exact, exact))


def prepared_if_sound(rows: FloatRows, metric: str) -> FloatRows | None:
    """`prepare`, where `faults` would find nothing; None where it has to look. In one pass."""
    if len(rows) == 0:
        return rows
    exact = rows.astype(np.float64)
    # The squares of float32 stay inside float64. A NaN is neither below nor above anything.
    squares = np.einsum("ij,ij->i", exact, exact)
    if not squares.max() <= LONGEST**2:
        return None
    if metric == "euclidean":
        return rows
    return _scaled(exact, squares) if squares.min() > 0 else None


def _scaled(exact: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]) -> FloatRows:
    exact /= np.sqrt(squares)[:, None]
    return exact.astype(np.float32)


def sum_error(terms: int) -> float:
    """How far a float32 sum of so many products may be off, in any order, as a share of their magnitudes.

    n products are off by at most n u / (1 - n u) times the sum of their magnitudes, u = 2^-24 (Higham,
    Accuracy and Stability of Numerical Algorithms, 3.1). Callers count a few terms more for other roundings.
    """
    return 1.01 * terms * 2.0**-24


def distances(probe: FloatRows, rows: FloatRows, metric: str) -> npt.NDArray[np.float32]:
    """Exact distances from one probe (dim,) to rows (m, dim): (m,) float32.

    cosine: 1 - cos in [0, 2], as half the squared difference of the unit vectors, which is 0 for equal rows
    and loses no digits for near ones. euclidean: the L2 distance, not squared.
    """
    return paired_distances(probe[None], rows, metric)


def paired_distances(probes: FloatRows, rows: FloatRows, metric: str) -> npt.NDArray[np.float32]:
    """The same from each probe, (m, dim) or (1, dim), to the row beside it, with the same bits: (m,)."""
    everything = np.arange(len(rows))
    which = everything if len(probes) == len(rows) else np.zeros(len(rows), np.intp)
    return distances_of_pairs(probes, which, rows, everything, metric)


def distances_of_pairs(
    probes: FloatRows,
    which: npt.NDArray[np.intp],
    rows: FloatRows,
    at: npt.NDArray[np.intp],
    metric: str,
) -> npt.NDArray[np.float32]:
    """The same from probes[which[i]] to rows[at[i]], with the same bits: (m,)."""
    left = probes.astype(np.float64)
    if metric == "cosine":
        left /= np.sqrt(np.einsum("ij,ij->i", left, left))[:, None]
    scores = np.empty(len(at), np.float32)
    for start in range(0, len(at), _PAIRS_AT_A_TIME):
        pairs = slice(start, start + _PAIRS_AT_A_TIME)
        right = rows[at[pairs]].astype(np.float64)
        if metric == "cosine":
            right /= np.sqrt(np.einsum("ij,ij->i", right, right))[:, None]
        right -= left[which[pairs]]
        squares = np.einsum("ij,ij->i", right, right)
        scores[pairs] = squares / 2 if metric == "cosine" else np.sqrt(squares)
    return scores
