"""A tower without learnt filters: directions of edges, and colours, for few and aligned pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.errors import EncoderError
from encoders.towers._images import KINDS

CLIPPED = 0.2  # one strong edge must not decide a block alone
SHARPNESS = 4  # cos^4: an edge halfway between two of 8 directions counts 0.73 for each
TINY = 1e-8
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
        if len(shape) != 3:
            raise EncoderError(
                f"a tower of gradients takes items of shape (channels, height, width), not {shape}"
            )
        if not sizes or min(sizes) <= 0 or min(cell, step, directions) < 1:
            raise EncoderError("sizes, cell, step and directions of a tower of gradients must be positive")
        if not 0 <= colours <= min(shape[1:]) or (colours and shape[0] != 3):
            raise EncoderError(
                f"colours {colours}: rgb pictures and at most {min(shape[1:])} places a side are needed, "
                f"of items of shape {shape}"
            )
        self.cell, self.step, self.colours, self.mirrored = cell, step, colours, mirrored
        self.sides = [tuple(round(share * side) for side in shape[1:]) for share in sizes]
        self.between = max(1, round(cell / step))  # cells of a block lie side by side
        least = cell + step * self.between + 2
        if min(map(min, self.sides)) < least:
            side = math.ceil((least - 0.5) / min(sizes))
            raise EncoderError(f"sizes {list(sizes)} need images of {side} pixels, not {min(shape[1:])}")
        angles = 2 * torch.pi * torch.arange(directions) / directions
        self.register_buffer("cosines", torch.cos(angles)[:, None, None], persistent=False)
        self.register_buffer("sines", torch.sin(angles)[:, None, None], persistent=False)
        self.cosines: Tensor
        self.sines: Tensor
        # By matrices: products can be exported anywhere, resizing cannot.
        for k, (height, width) in enumerate(self.sides):
            self.register_buffer(f"rows{k}", _resizing(shape[1], height), persistent=False)
            self.register_buffer(f"columns{k}", _resizing(shape[2], width).T.contiguous(), persistent=False)
        self.gain = nn.Parameter(torch.ones(len(sizes) + bool(colours)))
        edges = sum(4 * directions * self._places(h) * self._places(w) for h, w in self.sides)
        self.features = edges + 2 * colours**2

    def forward(self, batch: Tensor) -> Tensor:
        found = self._described(batch)
        return found + self._described(batch.flip(3)) if self.mirrored else found

    def _described(self, batch: Tensor) -> Tensor:
        # Of several channels the mean: edges of brightness.
        grey = batch.mean(dim=1, keepdim=True)
        parts = [self._blocks(grey, *self._resizers(k)) for k in range(len(self.sides))]
        if self.colours:
            parts.append(self._tints(batch))
        return torch.cat([gain * part for gain, part in zip(self.gain, parts, strict=True)], dim=1)

    def _resizers(self, size: int) -> tuple[Tensor, Tensor]:
        """What resizes the rows (from the left) and the columns (from the right) of a picture."""
        return self.get_buffer(f"rows{size}"), self.get_buffer(f"columns{size}")

    def _blocks(self, grey: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        grey = rows @ grey @ columns
        across = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
        down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
        # A bound, no summand: exporting to ONNX leaves out one so small, and blank places become NaN.
        strength = torch.sqrt((across * across + down * down).clamp_min(TINY))
        along = F.relu(across * self.cosines + down * self.sines) / strength
        cells = F.avg_pool2d(along**SHARPNESS * strength, self.cell, self.step)
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


def _resizing(before: int, after: int) -> Tensor:
    """The matrix (after, before) that resizes a column of pixels, bilinear with antialiasing."""
    if before == after:
        return torch.eye(before)
    # One picture a pixel. Two columns: torch 2.13 takes pictures one column wide for another memory layout.
    each = torch.eye(before)[:, None, :, None].expand(-1, 1, -1, 2).contiguous()
    resized: Tensor = F.interpolate(each, size=[after, 2], mode="bilinear", antialias=True)
    return resized[:, 0, :, 0].T.contiguous()


TOWER = GradientsTower
