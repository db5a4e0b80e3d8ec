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
    left = np.zeros(owners.shape, np.bool_)
    subjects = np.full((len(owners), k), -2, np.int64)
    nearest = np.full((len(owners), k), np.inf)
    have = np.zeros(len(owners), np.int64)
    limits = np.full(len(owners), np.inf)
    rows, slack = np.arange(len(owners)), 2 * error
    for at in range(owners.shape[1]):
        owner, distance = owners[rows, at], distances[rows, at].astype(np.float64)
        # All that follow are as far or farther.
        inside = (owner >= 0) & (distance <= limits[rows])
        rows, owner, distance = rows[inside], owner[inside], distance[inside]
        if len(rows) == 0:
            break
        same = subjects[rows] == owner[:, None]
        first = np.where(same, nearest[rows], np.inf).min(axis=1)
        # Another template of a subject counts where it may be nearer than the one that came first.
        new = np.isinf(first)
        left[rows, at] = new | (distance < first + slack)
        fresh = new & (have[rows] < k)
        rows_of, place = rows[fresh], have[rows[fresh]]
        subjects[rows_of, place], nearest[rows_of, place] = owner[fresh], distance[fresh]
        have[rows_of] += 1
        full = have[rows_of] == k
        limits[rows_of[full]] = distance[fresh][full] + slack
    return left
