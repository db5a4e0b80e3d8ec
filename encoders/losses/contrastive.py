"""The contrastive loss of pairs.

Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006, eq. 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.losses.distances import Distance, Euclidean
from encoders.losses.miners import Miner, hard_pairs
from encoders.losses.reducers import Reducer, mean


def contrastive_terms(
    distances: Tensor, *, mated: Tensor | None = None, y: Tensor | None = None, margin: float = 1.0
) -> Tensor:
    """One term a pair: d^2 / 2 for a mated pair, max(0, margin - d)^2 / 2 for a non-mated one; (p,).

    The labels (p,) must be named, since papers number them both ways: `mated` is 1 for the same subject;
    `y` is Hadsell's Y, 0 for the same subject, so the terms are (1 - Y) d^2 / 2 + Y max(0, margin - d)^2 / 2.
    ValueError unless exactly one of the two is given. `distances` (p,) are true (not squared) L2 distances.
    """
    if (mated is None) == (y is None):
        raise ValueError("give either mated (1: same subject) or y (0: same subject, as Hadsell has it)")
    same = mated.bool() if mated is not None else ~y.bool()  # type: ignore[union-attr]
    return 0.5 * torch.where(same, distances.square(), F.relu(margin - distances).square())


class Contrastive(nn.Module):
    """The contrastive loss of a batch: (embeddings (n, d), labels (n,)) -> scalar."""

    def __init__(
        self,
        margin: float = 1.0,
        distance: Distance | None = None,
        miner: Miner = hard_pairs,
        reducer: Reducer = mean,
    ) -> None:
        super().__init__()
        self.margin, self.distance = margin, distance or Euclidean()
        self.miner, self.reducer = miner, reducer

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        left, right, mated = self.miner(embeddings, labels, self.distance)
        apart = self.distance.pairs(embeddings[left], embeddings[right])
        return self.reducer(contrastive_terms(apart, mated=mated, margin=self.margin))
