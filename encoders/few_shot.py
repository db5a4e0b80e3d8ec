"""Naming probes by a support set of k items a class: no training, one table of distances. PURE.

The rules: "nearest" takes the class of the nearest item; "mean" the class whose mean embedding is nearest, as
prototypical networks do (Snell et al. 2017). Under cosine rows of any length count the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from encoders.evaluation import LONGEST, AnyFloats, Floats, Wide, directions, distances, too_long
from encoders.spec import METRICS

NOWHERE = 1e-12
RULES = ("mean", "nearest")


def prototypes(support: AnyFloats, labels: Sequence[Any], metric: str, rule: str) -> tuple[Wide, Any]:
    """(rows, the class of each row, one of the classes in order): what a probe is compared with.

    support: (n, dim) embeddings. labels: n of them. ValueError for none, for numbers that do not fit
    together, for NaN, for zeros under cosine, and for a rule or metric that is not known.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is none of {', '.join(RULES)}")
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is none of {', '.join(METRICS)}")
    rows, names = _wide(support), np.asarray(labels)
    if rows.ndim != 2 or names.shape != rows.shape[:1] or not len(rows):
        raise ValueError(
            f"embeddings of shape {rows.shape} with labels of shape {names.shape}: (n, dim) with (n,), n > 0"
        )
    _check(rows, metric)
    if rule == "nearest":
        return rows, names
    if metric == "cosine":  # a long row of a class counts no more than a short one
        rows = directions(rows)
    classes, member = np.unique(names, return_inverse=True)
    means = np.zeros((len(classes), rows.shape[1]))
    np.add.at(means, member, rows)
    means /= np.bincount(member)[:, None]
    if metric == "cosine":  # of opposite rows only rounding is left, which points nowhere
        means[np.linalg.norm(means, axis=1) < NOWHERE] = 0.0
    return means, classes


def named(probes: AnyFloats, rows: Wide, names: Any, metric: str) -> tuple[Any, Floats]:
    """(the class, its distance) of each probe (m, dim); a tie goes to the row that comes first.

    ValueError for probes of another length than the rows, and for one that holds NaN or, under cosine, zeros.
    """
    asked = _wide(probes)
    if not len(asked):
        return names[:0], np.empty(0, np.float32)
    if asked.ndim != 2 or asked.shape[1] != rows.shape[1]:
        raise ValueError(f"embeddings of shape {asked.shape}: (n, {rows.shape[1]}) are needed, as in the fit")
    _check(asked, metric)
    apart = distances(asked, rows, metric)
    nearest = apart.argmin(axis=1)
    return names[nearest], apart[np.arange(len(apart)), nearest]


def _wide(rows: Any) -> Wide:
    """float64, for those who bring numbers of their own with more digits than float32 holds."""
    return np.asarray(rows, np.float64)


def _check(rows: Wide, metric: str) -> None:
    """ValueError that names the first row that cannot be compared."""
    if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
        raise ValueError(
            f"row {bad[0]} holds NaN or infinity, as do {len(bad)} of {len(rows)}: leave them out"
        )
    if len(bad := too_long(rows, metric)):
        raise ValueError(
            f"row {bad[0]} is longer than {LONGEST:.0g}, as are {len(bad)} of {len(rows)}: scale down"
        )
    if metric == "cosine" and len(bad := np.flatnonzero(~rows.any(axis=1))):
        raise ValueError(
            f"row {bad[0]} is all zeros, as are {len(bad)} of {len(rows)}: they have no direction under "
            "cosine, leave them out"
        )
