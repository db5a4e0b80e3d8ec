"""PURE: which of the templates that an index proposes can be part of the answer, before any is scored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gallery.vectors import Numbers


def shortlist(
    owners: Numbers, distances: npt.NDArray[np.float32], k: int, error: float
) -> npt.NDArray[np.bool_]:
    """(q, m) True for what may be the nearest template of one of the k nearest subjects of its query.

    owners, distances: (q, m) whose each template is, -1 for none, and how far it is, nearest first.
    error: how far a distance may be off at most. With 0 exactly the first template of each subject is left,
    nearest first, and perhaps more after the k-th subject.
    """
    width = owners.shape[1]
    left = np.zeros(owners.shape, np.bool_)
    if not owners.size:
        return left
    # Subject by subject, nearest first, nobody before all: a number that says both, as that sorts quickly.
    keys = np.sort((owners + 1) * width + np.arange(width), axis=1)
    subjects, columns = np.divmod(keys, width)
    away = np.take_along_axis(distances, columns, axis=1).astype(np.float64)
    first = np.ones(owners.shape, np.bool_)
    first[:, 1:] = subjects[:, 1:] != subjects[:, :-1]
    first &= subjects > 0
    # How far the nearest template of the same subject is, for each.
    starts = np.maximum.accumulate(np.where(first, np.arange(width), 0), axis=1)
    nearest = np.take_along_axis(away, starts, axis=1)
    kept = first | ((subjects > 0) & (away < nearest + 2 * error))
    limits = _kth(np.where(first, away, np.inf), k) + 2 * error
    kept &= away <= limits[:, None]
    np.put_along_axis(left, columns, kept, axis=1)
    return left


def _kth(values: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
    """(q,) the k-th smallest of each row, +inf where there are fewer."""
    if k > values.shape[1]:
        return np.full(len(values), np.inf)
    smallest: npt.NDArray[np.float64] = np.partition(values, k - 1, axis=1)[:, k - 1]
    return smallest
