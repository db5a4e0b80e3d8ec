"""A plain convolutional tower: small, quick to train, for a first encoder on one's own images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from encoders.towers._images import GRID, KINDS, channels_of


class ConvTower(nn.Module):
    """Stages of convolution, batch norm, ReLU and 2 x 2 pooling: (n, c, h, w) -> (n, 9 * widths[-1])."""

    takes: ClassVar = KINDS

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int] = (32, 64, 96)) -> None:
        super().__init__()
        channels = channels_of(shape, len(widths))
        stages = [_stage(i, o) for i, o in zip([channels, *widths], widths, strict=False)]
        self.body = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())
        self.features = GRID * GRID * widths[-1]

    def forward(self, batch: Tensor) -> Tensor:
        features: Tensor = self.body(batch)
        return features


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


TOWER = ConvTower
