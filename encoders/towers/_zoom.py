"""One picture read at several magnifications."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from encoders.errors import EncoderError
from encoders.numeric import number, shown

LEAST, LARGEST, MOST = 0.25, 4.0, 16


class Zoom(nn.Module):
    """Pictures `factor` times as large about their centre, on a frame that stays: (n, c, h, w) -> the same.

    Bilinear; what comes in from outside is 0: paper, or the mean of pictures that are standardised.
    """

    def __init__(self, shape: tuple[int, ...], factor: float) -> None:
        super().__init__()
        # By matrices: products can be exported anywhere, resampling cannot.
        self.register_buffer("rows", _magnifying(shape[1], factor), persistent=False)
        self.register_buffer("columns", _magnifying(shape[2], factor).T.contiguous(), persistent=False)
        self.rows: Tensor
        self.columns: Tensor

    def forward(self, batch: Tensor) -> Tensor:
        return self.rows @ batch @ self.columns


def check_zooms(zooms: Any, shape: tuple[int, ...]) -> list[float]:
    """The magnifications as a list; EncoderError for what is none, or a `shape` of what is no picture."""
    some = isinstance(zooms, list | tuple) and 1 <= len(zooms) <= MOST
    if not some or not all(number(one) and LEAST <= one <= LARGEST for one in zooms):
        raise EncoderError(
            f"zooms are {shown(zooms)}: 1 to {MOST} numbers from {LEAST:g} to {LARGEST:g} are needed"
        )
    if len(shape) != 3:
        raise EncoderError(f"zooms are for pictures, not for items of shape {shape}: leave them out")
    return [float(one) for one in zooms]


def _magnifying(side: int, factor: float) -> Tensor:
    """The matrix (side, side) that magnifies a column of pixels about its middle."""
    middle = (side - 1) / 2
    at = (torch.arange(side, dtype=torch.float64) - middle) / factor + middle
    # A triangle around each place that is read: bilinear interpolation.
    return (1.0 - (at[:, None] - torch.arange(side)[None, :]).abs()).clamp_min(0.0).float()
