"""What a batch is made of: P subjects x K items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from encoders.errors import TrainingError

Ints = NDArray[np.int64]


class PKSampler:
    """Draws batches of P different subjects with K items each, from one seeded generator.

    `labels` (n,) integers. Subjects are drawn uniformly, whatever their number of items; one with fewer
    than K items gives each of them before any is repeated. Subjects with one item are never drawn.
    """

    def __init__(self, labels: Ints, subjects: int, items: int, rng: np.random.Generator) -> None:
        order = np.argsort(labels, kind="stable")
        _, starts = np.unique(labels[order], return_index=True)
        self._members = [m for m in np.split(order, starts[1:]) if len(m) >= 2]
        if subjects < 2 or items < 2:
            raise TrainingError(f"a batch needs P >= 2 subjects and K >= 2 items, not {subjects} x {items}")
        if len(self._members) < 2:
            raise TrainingError(
                f"{len(self._members)} subject(s) with two items or more: at least 2 are needed"
            )
        self._p, self._k, self._rng = min(subjects, len(self._members)), items, rng

    def draw(self) -> Ints:
        """Indexes of one batch, (P * K,), the items of a subject side by side."""
        chosen = self._rng.choice(len(self._members), self._p, replace=False)
        return np.concatenate([self._pick(self._members[c]) for c in chosen])

    def _pick(self, members: Ints) -> Ints:
        rounds = -(-self._k // len(members))
        return np.concatenate([self._rng.permutation(members) for _ in range(rounds)])[: self._k]
