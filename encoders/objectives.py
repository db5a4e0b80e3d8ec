"""Losses by name, each with its mining: modules from (embeddings (n, d), labels (n,)) to a scalar loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoders import losses, sampling
from encoders.errors import TrainingError

MINING = {
    "margin": ("none",),
    "triplet": ("semi-hard", "hard"),
    "contrastive": ("hard", "none"),
    "bce": ("hard", "none"),
}


class TripletObjective(nn.Module):
    """Triplet loss of the mined triplets of a batch; 0 (with a gradient of 0) when there are none."""

    def __init__(self, mining: str, margin: float) -> None:
        super().__init__()
        self.mining, self.margin = mining, margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.mining == "hard":
            a, p, n = sampling.hard_triplets(embeddings, labels)
        else:
            a, p, n = sampling.semi_hard_triplets(embeddings, labels, self.margin)
        if not len(a):
            return embeddings.sum() * 0.0
        return losses.triplet(embeddings[a], embeddings[p], embeddings[n], self.margin)


class PairObjective(nn.Module):
    """A loss of pairs: of the mined ones, or with mining "none" of every pair in the batch."""

    def __init__(self, mining: str, loss: nn.Module) -> None:
        super().__init__()
        self.mining, self.loss = mining, loss

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        hard = self.mining == "hard"
        left, right, mated = sampling.hard_pairs(embeddings, labels) if hard else sampling.all_pairs(labels)
        result: Tensor = self.loss(losses.pair_distances(embeddings[left], embeddings[right]), mated)
        return result


class _Contrastive(nn.Module):
    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, distances: Tensor, mated: Tensor) -> Tensor:
        return losses.contrastive(distances, mated, self.margin)


def build(loss: str, mining: str | None, margin: float | None, dim: int, classes: int) -> nn.Module:
    """The objective called `loss`; None takes the first mining of `MINING` and the usual margin."""
    if loss not in MINING:
        raise TrainingError(f"no loss is called {loss!r}; there are {', '.join(MINING)}")
    how = mining or MINING[loss][0]
    if how not in MINING[loss]:
        raise TrainingError(f"{loss} has no mining {how!r}; it has {', '.join(MINING[loss])}")
    if loss == "margin":
        return losses.MarginSoftmax(dim, classes, 0.3 if margin is None else margin)
    if loss == "triplet":
        return TripletObjective(how, 0.2 if margin is None else margin)
    pair = losses.PairwiseBCE() if loss == "bce" else _Contrastive(1.0 if margin is None else margin)
    return PairObjective(how, pair)


def finite(loss: Tensor, step: int) -> float:
    """The loss as a number; TrainingError when it is NaN or infinite."""
    value = float(loss.detach())
    if not torch.isfinite(loss.detach()):
        raise TrainingError(f"the loss became {value} at step {step}: lower the learning rate (--lr)")
    return value
