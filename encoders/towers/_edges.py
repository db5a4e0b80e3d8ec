"""What the towers without learnt filters share: the edges of a picture at several sizes, by direction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.errors import EncoderError

SHARPNESS = 4  # cos^4: an edge halfway between two of 8 directions counts 0.73 for each
TINY = 1e-8


class Edges(nn.Module):
    """Strength of the edges of each direction: (n, c, h, w) -> (n, directions, y - 2, x - 2) for each size.

    `sides` are the (y, x) that the picture is brought to. The gradient of every pixel of the mean channel is
    shared out to `directions` (of 360 degrees) by the fourth power of the cosine.
    """

    def __init__(self, shape: tuple[int, ...], sides: Sequence[tuple[int, int]], directions: int) -> None:
        super().__init__()
        self.count = len(sides)
        angles = 2 * torch.pi * torch.arange(directions) / directions
        self.register_buffer("cosines", torch.cos(angles)[:, None, None], persistent=False)
        self.register_buffer("sines", torch.sin(angles)[:, None, None], persistent=False)
        self.cosines: Tensor
        self.sines: Tensor
        # By matrices: products can be exported anywhere, resizing cannot.
        for k, (height, width) in enumerate(sides):
            self.register_buffer(f"rows{k}", _resizing(shape[1], height), persistent=False)
            self.register_buffer(f"columns{k}", _resizing(shape[2], width).T.contiguous(), persistent=False)

    def forward(self, batch: Tensor) -> list[Tensor]:
        # Of several channels the mean: edges of brightness.
        grey = batch.mean(dim=1, keepdim=True)
        return [self._directed(grey, k) for k in range(self.count)]

    def _directed(self, grey: Tensor, size: int) -> Tensor:
        grey = self.get_buffer(f"rows{size}") @ grey @ self.get_buffer(f"columns{size}")
        across = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
        down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
        # A bound, no summand: exporting to ONNX leaves out one so small, and blank places become NaN.
        strength = torch.sqrt((across * across + down * down).clamp_min(TINY))
        along = F.relu(across * self.cosines + down * self.sines) / strength
        return along**SHARPNESS * strength


def sides_of(shape: tuple[int, ...], sizes: Sequence[float], least: int) -> list[tuple[int, int]]:
    """Height and width of a picture (c, h, w) at each of `sizes`, which are shares of its own sides.

    EncoderError where one of them is less than `least` pixels.
    """
    sides = [(round(share * shape[1]), round(share * shape[2])) for share in sizes]
    if min(map(min, sides)) < least:
        share = min(sizes)
        first = math.ceil((least - 0.5) / share)
        # Halves are rounded to even numbers; beside a tiny share one pixel more is lost in rounding.
        tried = (first, first + 1, math.ceil(least / share))
        side = next(side for side in tried if round(share * side) >= least)
        raise EncoderError(f"sizes {list(sizes)} need images of {side} pixels, not {min(shape[1:])}")
    return sides


def _resizing(before: int, after: int) -> Tensor:
    """The matrix (after, before) that resizes a column of pixels, bilinear with antialiasing."""
    if before == after:
        return torch.eye(before)
    # One picture a pixel. Two columns: torch 2.13 takes pictures one column wide for another memory layout.
    each = torch.eye(before)[:, None, :, None].expand(-1, 1, -1, 2).contiguous()
    resized: Tensor = F.interpolate(each, size=[after, 2], mode="bilinear", antialias=True)
    return resized[:, 0, :, 0].T.contiguous()
