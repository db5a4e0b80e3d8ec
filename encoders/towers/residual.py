"""A residual tower: the one that `glyph` uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from encoders.errors import EncoderError
from encoders.towers._images import GRID, KINDS, channels_of


class ResidualTower(nn.Module):
    """A stem of stride 2, then stages of residual blocks, each after the first of stride 2.

    (n, c, h, w) -> (n, 9 * widths[-1]). He et al., "Deep residual learning", CVPR 2016, basic blocks.
    """

    takes: ClassVar = KINDS

    def __init__(
        self,
        shape: tuple[int, ...],
        widths: Sequence[int] = (32, 64, 128, 224),
        blocks: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(blocks) != len(widths):
            raise EncoderError(f"{len(widths)} widths and {len(blocks)} block counts: one of each a stage")
        channels = channels_of(shape, len(widths))
        self.stem = _normed(channels, widths[0], 3, 2)
        stages = [
            _stage(i, o, n, k)
            for k, (i, o, n) in enumerate(zip([widths[0], *widths], widths, blocks, strict=False))
        ]
        self.stages = nn.Sequential(*stages)
        self.features = GRID * GRID * widths[-1]

    def forward(self, batch: Tensor) -> Tensor:
        maps = self.stages(F.relu(self.stem(batch)))
        return F.adaptive_avg_pool2d(maps, GRID).flatten(1)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _normed(inputs, outputs, 3, stride)
        self.second = _normed(outputs, outputs, 3, 1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _normed(inputs, outputs, 1, stride)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(maps))) + self.shortcut(maps))


def _stage(inputs: int, outputs: int, blocks: int, position: int) -> nn.Sequential:
    first = Block(inputs, outputs, 1 if position == 0 else 2)
    return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))


def _normed(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


TOWER = ResidualTower
