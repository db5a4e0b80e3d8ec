"""The pairs that an encoder gets most wrong: one subject far apart, two subjects close together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import evaluation
from encoders.datasets import LabelledSet
from encoders.names import written

Floats = NDArray[np.float32]
SHOWN, MOST_ITEMS = 8, 4000


@dataclass(frozen=True, slots=True)
class Mistake:
    """Two items (their row numbers), whether they are of one subject, and their distance."""

    left: int
    right: int
    mated: bool
    distance: float


def worst(embeddings: Floats, data: LabelledSet, metric: str, threshold: float) -> list[Mistake]:
    """The farthest mated pairs above the threshold, then the nearest non-mated ones within it; 8 of each.

    Every item is shown at most once in each half, so that one bad item does not fill it. Of a large set the
    first 4,000 items are looked at.
    """
    rows, labels = embeddings[:MOST_ITEMS], data.labels[:MOST_ITEMS]
    apart = evaluation.distances(rows, rows, metric)
    left, right = np.triu_indices(len(rows), 1)
    same, far = labels[left] == labels[right], apart[left, right]
    found = []
    for mated, chosen in ((True, same & (far > threshold)), (False, ~same & (far <= threshold))):
        pairs = np.flatnonzero(chosen)
        order = pairs[np.argsort(-far[pairs] if mated else far[pairs], kind="stable")]
        seen: set[int] = set()
        kept: list[Mistake] = []
        for pair in order.tolist():
            ends = {int(left[pair]), int(right[pair])}
            if seen.isdisjoint(ends):
                kept.append(Mistake(int(left[pair]), int(right[pair]), mated, float(far[pair])))
                seen |= ends
            if len(kept) == SHOWN:
                break
        found += kept
    return found


def records(found: list[Mistake], data: LabelledSet) -> list[dict[str, Any]]:
    """The pairs as plain JSON values, with the names of items and subjects as text for any file."""

    def told(row: int) -> dict[str, str]:
        name = data.names[row] if data.names else f"item {row}"
        return {"item": written(name), "subject": written(data.subjects[data.labels[row]])}

    return [
        {
            "mated": one.mated,
            "distance": round(one.distance, 6),
            "left": told(one.left),
            "right": told(one.right),
        }
        for one in found
    ]
