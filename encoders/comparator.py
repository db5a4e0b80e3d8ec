"""The learnt comparison of two embeddings that pairwise training leaves behind."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def log_odds(left: Tensor, right: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """bias - sum of weight_j |left_j - right_j|, over the last axis."""
    return bias - ((left - right).abs() * weight).sum(dim=-1)


class Comparator(nn.Module):
    """`log_odds` with its learnt weight (dim,) and bias: the log odds that two embeddings are of one subject.

    The last layer of Koch, Zemel, Salakhutdinov, "Siamese neural networks for one-shot image recognition",
    2015; it starts as a plain L1 distance and learns which numbers matter.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        # The mean |difference| of unit rows falls with the root of dim: all start with the same slope.
        self.weight = nn.Parameter(torch.full((dim,), 6.0 / math.sqrt(dim)))
        self.bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Log odds (...,) of embeddings (..., dim), which may broadcast."""
        return log_odds(left, right, self.weight, self.bias)
