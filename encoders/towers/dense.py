"""A tower of fully connected layers, for feature vectors (and for very small images, flattened)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn


class DenseTower(nn.Module):
    """Linear, batch norm and ReLU for each width: (n, ...) -> (n, widths[-1])."""

    takes: ClassVar = ("vector", "ink", "strokes", "grey", "rgb")

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        sizes = [math.prod(shape), *widths]
        layers = [_layer(i, o) for i, o in zip(sizes, widths, strict=False)]
        self.body = nn.Sequential(nn.Flatten(), *layers)
        self.features = widths[-1]

    def forward(self, batch: Tensor) -> Tensor:
        features: Tensor = self.body(batch)
        return features


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())


TOWER = DenseTower
