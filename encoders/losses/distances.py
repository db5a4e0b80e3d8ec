"""How far apart embeddings are, for losses and miners: differentiable, smaller is nearer.

A distance has `pairs(left (p, d), right (p, d)) -> (p,)` and `table(left (n, d), right (m, d)) -> (n, m)`.
The gradient at two equal rows is finite everywhere.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.errors import TrainingError


class Distance(Protocol):
    """What a loss or a miner is given."""

    def pairs(self, left: Tensor, right: Tensor) -> Tensor: ...

    def table(self, left: Tensor, right: Tensor) -> Tensor: ...


class Euclidean:
    """The true (not squared) L2 distance."""

    def pairs(self, left: Tensor, right: Tensor) -> Tensor:
        return (left - right).square().sum(dim=1).clamp_min(1e-12).sqrt()

    def table(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")


class SquaredEuclidean:
    """The squared L2 distance, in which FaceNet writes its margin; of unit rows 2 (1 - cos)."""

    def pairs(self, left: Tensor, right: Tensor) -> Tensor:
        return (left - right).square().sum(dim=1)

    def table(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square()


class Cosine:
    """1 - cos, in [0, 2]; the rows need not be of unit length."""

    def pairs(self, left: Tensor, right: Tensor) -> Tensor:
        return 1.0 - F.cosine_similarity(left, right, dim=1)

    def table(self, left: Tensor, right: Tensor) -> Tensor:
        return 1.0 - F.normalize(left, dim=1) @ F.normalize(right, dim=1).t()


DISTANCES: dict[str, type[Distance]] = {
    "euclidean": Euclidean,
    "squared": SquaredEuclidean,
    "cosine": Cosine,
}


def named(name: str) -> Distance:
    """The distance called "euclidean", "squared" or "cosine"; TrainingError for another name."""
    if not isinstance(name, str) or name not in DISTANCES:  # a list from JSON has no hash
        raise TrainingError(f"no distance is called {name!r}; there are {', '.join(sorted(DISTANCES))}")
    return DISTANCES[name]()
