"""The pairs that an encoder gets most wrong: one subject far apart, two subjects close together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import evaluation, pictures
from encoders.datasets import LabelledSet
from encoders.names import written

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
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
    return among(apart[left, right], labels[left] == labels[right], left, right, threshold)


def among(far: Floats, same: NDArray[np.bool_], left: Ints, right: Ints, threshold: float) -> list[Mistake]:
    """The same of pairs (p,) that are known: their distances, which are mated, and the items of each."""
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


def shown(found: list[Mistake], encoder: Any, data: LabelledSet) -> list[tuple[str, str]]:
    """Both items of each pair as pieces of HTML, for a page."""

    def seen(row: int) -> str:
        return pictures.shown(getattr(encoder, "preprocess", None), data.items[row])

    return [(seen(one.left), seen(one.right)) for one in found]
