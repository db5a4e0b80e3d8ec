"""Naming probes by a support set of k items a class: no training, one table of distances. PURE.

The rules: "nearest" takes the class of the nearest item; "mean" the class whose mean embedding is nearest, as
prototypical networks do (Snell et al. 2017), brought back to unit length under cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.evaluation import distances
from encoders.spec import METRICS

Floats = NDArray[np.float32]
RULES = ("mean", "nearest")


def prototypes(support: Floats, labels: Sequence[Any], metric: str, rule: str) -> tuple[Floats, Any]:
    """(rows, the class of each row, one of the classes in order): what a probe is compared with.

    support: (n, dim) embeddings. labels: n of them. ValueError for none, for numbers that do not fit
    together, for NaN, and for a rule or metric that is not known.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is none of {', '.join(RULES)}")
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is none of {', '.join(METRICS)}")
    rows, names = np.asarray(support, np.float32), np.asarray(labels)
    if rows.ndim != 2 or names.shape != rows.shape[:1] or not len(rows):
        raise ValueError(
            f"embeddings of shape {rows.shape} with labels of shape {names.shape}: (n, dim) with (n,), n > 0"
        )
    if not np.isfinite(rows).all():
        raise ValueError(
            f"row {int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])} holds NaN or infinity"
        )
    if rule == "nearest":
        return rows, names
    classes, member = np.unique(names, return_inverse=True)
    means = np.zeros((len(classes), rows.shape[1]))
    np.add.at(means, member, rows.astype(np.float64))
    means /= np.bincount(member)[:, None]
    if metric == "cosine":
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        means /= np.where(lengths > 0, lengths, 1.0)
    return means.astype(np.float32), classes


def named(probes: Floats, rows: Floats, names: Any, metric: str) -> tuple[Any, Floats]:
    """(the class, its distance) of each probe (m, dim); a tie goes to the row that comes first."""
    if not len(probes):
        return names[:0], np.empty(0, np.float32)
    apart = distances(np.asarray(probes, np.float32), rows, metric)
    nearest = apart.argmin(axis=1)
    return names[nearest], apart[np.arange(len(apart)), nearest]
