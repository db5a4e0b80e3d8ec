"""A tower without learnt filters: directions of edges, and colours, for few and aligned pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.errors import EncoderError
from encoders.towers._edges import Edges, sides_of
from encoders.towers._images import KINDS, check_shape

CLIPPED = 0.2  # one strong edge must not decide a block alone
TINT = 1.5  # how much a difference of two channels weighs beside a histogram


class GradientsTower(nn.Module):
    """Histograms of oriented gradients at several sizes of the picture: (n, c, h, w) -> (n, features).

    In each size the gradient of every pixel is shared out to `directions` (of 360 degrees), averaged over
    cells of `cell` pixels every `step` pixels, and four cells around a corner are scaled to unit length,
    clipped, and scaled again (Dalal and Triggs, CVPR 2005). `sizes` are shares of the picture's own sides.
    `colours` adds how red, and how blue beside both, the places of a `colours` x `colours` grid are (of rgb
    pictures; 0: nothing is added). With `mirrored` a picture and its mirror image give the same features: for
    faces.

    The descriptor is fixed but for `gain`, the weight of each size and of the colours, so that it needs few
    pictures; what decides is the linear head, best started by discriminant analysis (the setting
    start="discriminant").
    """

    takes: ClassVar = KINDS

    def __init__(
        self,
        shape: tuple[int, ...],
        sizes: Sequence[float] = (1.0, 0.67, 0.44),
        cell: int = 6,
        step: int = 3,
        directions: int = 8,
        colours: int = 0,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        check_shape(shape, "tower of gradients")
        if not sizes or min(sizes) <= 0 or min(cell, step, directions) < 1:
            raise EncoderError("sizes, cell, step and directions of a tower of gradients must be positive")
        if not 0 <= colours <= min(shape[1:]) or (colours and shape[0] != 3):
            raise EncoderError(
                f"colours {colours}: rgb pictures and at most {min(shape[1:])} places a side are needed, "
                f"of items of shape {shape}"
            )
        self.cell, self.step, self.colours, self.mirrored = cell, step, colours, mirrored
        self.between = max(1, round(cell / step))  # cells of a block lie side by side
        sides = sides_of(shape, sizes, cell + step * self.between + 2)
        self.edges = Edges(shape, sides, directions)
        self.gain = nn.Parameter(torch.ones(len(sizes) + bool(colours)))
        edges = sum(4 * directions * self._places(h) * self._places(w) for h, w in sides)
        self.features = edges + 2 * colours**2

    def forward(self, batch: Tensor) -> Tensor:
        found = self._described(batch)
        return found + self._described(batch.flip(3)) if self.mirrored else found

    def _described(self, batch: Tensor) -> Tensor:
        parts = [self._blocks(maps) for maps in self.edges(batch)]
        if self.colours:
            parts.append(self._tints(batch))
        return torch.cat([gain * part for gain, part in zip(self.gain, parts, strict=True)], dim=1)

    def _blocks(self, maps: Tensor) -> Tensor:
        cells = F.avg_pool2d(maps, self.cell, self.step)
        b = self.between
        rows_of = cells[..., :-b, :], cells[..., b:, :]
        corners = torch.cat([part for row in rows_of for part in (row[..., :-b], row[..., b:])], dim=1)
        blocks: Tensor = F.normalize(F.normalize(corners, dim=1).clamp(max=CLIPPED), dim=1)
        return blocks.flatten(1)

    def _tints(self, batch: Tensor) -> Tensor:
        """The differences of channels, red less green and blue less both, by place of the grid."""
        red, green, blue = (batch[:, k : k + 1] for k in range(3))
        pairs = torch.cat([red - green, blue - (red + green) / 2], dim=1)
        return (TINT * F.adaptive_avg_pool2d(pairs, self.colours)).flatten(1)

    def _places(self, side: int) -> int:
        """How many blocks lie along a side."""
        return (side - 2 - self.cell) // self.step + 1 - self.between


TOWER = GradientsTower
