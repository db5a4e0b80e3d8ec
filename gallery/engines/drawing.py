"""Enrolled templates drawn by chance, the same ones for the same seed."""

from __future__ import annotations

import numpy as np

from gallery.stores.base import Store, Stored
from gallery.vectors import Numbers


def drawn(store: Store, sample: int, seed: int) -> tuple[Numbers, Stored]:
    """(numbers, templates) of up to `sample` enrolled ones, drawn without replacement. Inside a snapshot."""
    chance = np.random.default_rng(seed)
    numbers = chance.permutation(store.last_template()) + 1
    parts = [store.fetch([])]
    held = 0
    # Numbers that were removed are drawn too, and pass.
    for start in range(0, len(numbers), sample):
        stored = store.fetch(np.sort(numbers[start : start + sample]))
        left = slice(sample - held)
        parts.append(Stored(stored.numbers[left], stored.subjects[left], stored.rows[left]))
        held += len(parts[-1].numbers)
        if held >= sample:
            break
    whole = Stored(*(np.concatenate([getattr(one, name) for one in parts]) for name in Stored.__slots__))
    return whole.numbers, whole
