"""The supervised contrastive loss. Khosla et al., "Supervised contrastive learning", NeurIPS 2020, eq. 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoders.losses.distances import Cosine, Distance
from encoders.losses.reducers import Reducer, mean


def supcon_terms(apart: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """One term an anchor that has a positive: the mean of -log softmax over its positives; (anchors,).

    `apart` (n, n) are distances within the batch; the logits are -apart / temperature over all the other
    items, and 1 - cos gives what the paper has, since the constant cancels.
    """
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == labels[None, :]) & others
    logits = (-apart / temperature).masked_fill(~others, -torch.inf)
    surprise = torch.logsumexp(logits, dim=1, keepdim=True) + apart / temperature
    count = positive.sum(dim=1)
    terms = surprise.masked_fill(~positive, 0.0).sum(dim=1) / count.clamp_min(1)
    return terms[count > 0]


class SupervisedContrastive(nn.Module):
    """Every item against all others of the batch: (embeddings (n, d), labels (n,)) -> scalar."""

    def __init__(
        self, temperature: float = 0.1, distance: Distance | None = None, reducer: Reducer = mean
    ) -> None:
        super().__init__()
        self.temperature, self.distance, self.reducer = temperature, distance or Cosine(), reducer

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        apart = self.distance.table(embeddings, embeddings)
        return self.reducer(supcon_terms(apart, labels, self.temperature))
