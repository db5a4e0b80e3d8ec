"""What a batch is made of, and which of its pairs and triplets are worth learning from.

Batches are P subjects x K items; pairs and triplets are index tensors into a batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def squared_distances(embeddings: Tensor) -> Tensor:
    """Squared L2 distances of all rows, (n, n), never negative."""
    return torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist").square()


def all_pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair i < j of a batch: (left, right, mated), each (n(n-1)/2,)."""
    left, right = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    return left, right, labels[left] == labels[right]


def hard_pairs(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All mated pairs and as many of the nearest non-mated ones: (left, right, mated).

    Random non-mated pairs are nearly all far apart already and teach nothing.
    """
    left, right, mated = all_pairs(labels)
    apart = (embeddings.detach()[left] - embeddings.detach()[right]).square().sum(dim=1)
    non_mated = torch.nonzero(~mated).flatten()
    count = min(int(mated.sum()), len(non_mated))
    nearest = non_mated[torch.argsort(apart[non_mated], stable=True)[:count]]
    keep = torch.cat([torch.nonzero(mated).flatten(), nearest])
    return left[keep], right[keep], mated[keep]


def hard_triplets(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batch-hard: per anchor its farthest positive and nearest negative; (anchors, positives, negatives).

    Hermans, Beyer, Leibe, "In defense of the triplet loss", 2017. Anchors without a positive are left out.
    """
    apart = squared_distances(embeddings.detach())
    same = labels[:, None] == labels[None, :]
    positive = apart.masked_fill(~_without_self(same), -torch.inf)
    negative = apart.masked_fill(same, torch.inf)
    usable = torch.isfinite(positive).any(dim=1) & torch.isfinite(negative).any(dim=1)
    anchors = torch.nonzero(usable).flatten()
    return anchors, positive.argmax(dim=1)[anchors], negative.argmin(dim=1)[anchors]


def semi_hard_triplets(
    embeddings: Tensor, labels: Tensor, margin: float = 0.2
) -> tuple[Tensor, Tensor, Tensor]:
    """Per mated (anchor, positive): the nearest negative with d_ap < d_an < d_ap + margin, squared L2.

    Pairs with no such negative are left out; FaceNet (CVPR 2015), section 3.2.
    """
    apart = squared_distances(embeddings.detach())
    same = labels[:, None] == labels[None, :]
    anchors, positives = torch.nonzero(_without_self(same), as_tuple=True)
    near = apart[anchors, positives][:, None]
    row = apart[anchors]
    inside = ~same[anchors] & (row > near) & (row < near + margin)
    keep = inside.any(dim=1)
    negatives = row.masked_fill(~inside, torch.inf).argmin(dim=1)
    return anchors[keep], positives[keep], negatives[keep]


def _without_self(same: Tensor) -> Tensor:
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
