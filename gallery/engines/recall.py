"""How many of the nearest subjects an index finds, on the gallery's own templates."""

from __future__ import annotations

import numpy as np

from gallery.engines.base import Overlap
from gallery.engines.drawing import drawn
from gallery.engines.searching import Searching
from gallery.stores.base import Store

_AT_A_TIME = 256


def overlap(store: Store, searching: Searching, sample: int, k: int, seed: int) -> Overlap:
    """Asks the index and every row for the k nearest other subjects of `sample` enrolled templates.

    A template's own subject does not count: it is found too easily. Inside a snapshot.
    """
    _, asked = drawn(store, sample, seed)
    found, wanted = [], []
    for start in range(0, len(asked.rows), _AT_A_TIME):
        some = slice(start, start + _AT_A_TIME)
        truths = searching.swept(store, asked.rows[some], k + 1)
        answers = searching.finalists(store, asked.rows[some], k + 1)
        for truth, answer, owner in zip(truths, answers, asked.subjects[some].tolist(), strict=True):
            right = set([subject for subject, _, _ in truth if subject != owner][:k])
            wanted.append(len(right))
            found.append(len(right & {subject for subject, _, _ in answer}))
    return Overlap(np.array(found, np.int64), np.array(wanted, np.int64))
