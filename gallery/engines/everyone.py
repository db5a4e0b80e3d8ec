"""A whole gallery's templates beside each other, for an audit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gallery.auditing import Everyone, nearest_other
from gallery.engines.register import matched
from gallery.pairs import near_pairs
from gallery.stores.base import Store, Stored
from gallery.vectors import FloatRows, Numbers


def everyone(store: Store, barred: Numbers, threshold: float) -> Everyone:
    """Every two templates within a threshold, by blocks of products, with room for all embeddings.

    Inside a snapshot. InvalidItemError where there are more pairs than memory is for.
    """
    parts = [store.fetch([]), *(matched(one, barred) for one in store.scan())]
    whole = Stored(*(np.concatenate([getattr(one, name) for one in parts]) for name in Stored.__slots__))
    metric = store.header.metric
    return Everyone(
        numbers=whole.numbers,
        owners=whole.subjects,
        pairs=near_pairs(whole.rows, metric, threshold),
        own=_own(whole.rows, whole.subjects, metric),
        different=frozenset(store.curation.different_numbers()),
    )


def _own(rows: FloatRows, owners: Numbers, metric: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    away = np.full(len(rows), np.inf, np.float32)
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(order)]):
        if end - start > 1:
            mine = order[start:end]
            away[mine] = nearest_other(rows[mine], metric, copies=False)[0]
    return away
