"""Made copies: from photographs to altered versions of them, the mated pairs of an encoder that finds copies.

A copy is what happens to a picture on its way through the world: resizing, recompression (by Pillow's own
JPEG), cropping, a small turn, brightness, contrast, colour, blur, noise, text and logos laid over it. A
mirrored picture is *not* a copy here. Two photographs of the same thing are not copies of each other either.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor
from torch.nn import functional as F

from encoders.images import Item, read_image

SIDE = 80  # pixels a side of the pictures that copies of 64 pixels are made from: room for a crop


def pictures(items: Sequence[Item], side: int = SIDE) -> Tensor:
    """Items as a uint8 tensor (n, 3, side, side), aspect not kept. ImageError for the first bad one."""
    rows = [read_image(item).resize((side, side), Image.Resampling.BILINEAR) for item in items]
    return torch.from_numpy(np.stack([np.asarray(row).transpose(2, 0, 1) for row in rows]))


class CopyMaker:
    """Makes one copy of each picture: uint8 (n, 3, side, side) -> float (n, 3, size, size) in [0, 1].

    size: side of the copies. untouched: share of the pictures that only get resized, so that originals are
    mated with copies and not only copies with copies. All chance comes from `generator`.
    """

    def __init__(self, size: int, generator: Generator, overlays: int = 128) -> None:
        self.size, self.generator = size, generator
        self._overlays = torch.stack([_overlay(size, generator) for _ in range(overlays)])

    def __call__(self, batch: Tensor, untouched: float = 0.0) -> Tensor:
        g = self.generator
        views = batch.float() / 255
        out = F.interpolate(views, size=(self.size, self.size), mode="bilinear", antialias=True)
        altered = torch.nonzero(torch.rand(len(batch), generator=g) >= untouched).flatten()
        if len(altered):
            out[altered] = self._altered(views[altered])
        return out

    def _altered(self, pictures: Tensor) -> Tensor:
        g = self.generator
        views = self._overlaid(_moved(pictures, self.size, g))
        views = _recoloured(views, g)
        views = _for_some(views, 0.3, g, _blurred)
        views = _for_some(views, 0.3, g, _shrunk)
        views = _for_some(views, 0.15, g, _noisy)
        return _for_some(views, 0.35, g, _recompressed)

    def _overlaid(self, views: Tensor) -> Tensor:
        def lay(some: Tensor, g: Generator) -> Tensor:
            chosen = torch.randint(len(self._overlays), (len(some),), generator=g)
            overlay = self._overlays[chosen]
            alpha = overlay[:, 3:] * _uniform(some, 0.5, 1.0, g)
            return some * (1 - alpha) + overlay[:, :3] * alpha

        return _for_some(views, 0.3, self.generator, lay)


def nt_xent(left: Tensor, right: Tensor, temperature: float = 0.1) -> Tensor:
    """Normalised temperature-scaled cross entropy of n mated pairs of unit rows, (n, d) and (n, d).

    Each of the 2n views has its partner to find among the 2n - 1 others.
    Chen et al., "A simple framework for contrastive learning" (SimCLR), ICML 2020, eq. 1.
    """
    n = len(left)
    views = torch.cat([left, right])
    logits = (views @ views.t() / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n, device=views.device).roll(n)
    return F.cross_entropy(logits, partner)


def _uniform(batch: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(len(batch), 1, 1, 1, generator=generator)


def _for_some(views: Tensor, share: float, generator: Generator, change: object) -> Tensor:
    chosen = torch.nonzero(torch.rand(len(views), generator=generator) < share).flatten()
    if len(chosen):
        views[chosen] = change(views[chosen], generator)  # type: ignore[operator]
    return views


def _moved(views: Tensor, size: int, generator: Generator) -> Tensor:
    """Crops to 72 to 104 % a side, half of them turned by up to 12 degrees; corners black or stretched."""
    n = len(views)
    sides = torch.exp(torch.empty(n, 1).uniform_(math.log(0.72), math.log(1.04), generator=generator))
    sides = sides * torch.exp(torch.empty(n, 2).uniform_(-0.06, 0.06, generator=generator))
    turned = torch.rand(n, generator=generator) < 0.5
    angle = torch.randn(n, generator=generator).mul(5).clamp(-12, 12).deg2rad() * turned
    shift = (1 - sides).abs() * torch.empty(n, 2).uniform_(-1, 1, generator=generator)
    cos, sin = angle.cos(), angle.sin()
    rows = [torch.stack([sides[:, 0] * cos, -sides[:, 1] * sin, shift[:, 0]], 1)]
    rows.append(torch.stack([sides[:, 0] * sin, sides[:, 1] * cos, shift[:, 1]], 1))
    grid = F.affine_grid(torch.stack(rows, 1), [n, 3, size, size], align_corners=False)
    padding = "border" if float(torch.rand(1, generator=generator)) < 0.5 else "zeros"
    return F.grid_sample(views, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _recoloured(views: Tensor, generator: Generator) -> Tensor:
    g = generator
    bright = views * torch.exp(_uniform(views, -0.5, 0.5, g))
    middle = bright.mean(dim=(1, 2, 3), keepdim=True)
    contrast = middle + (bright - middle) * torch.exp(_uniform(views, -0.4, 0.4, g))
    grey = contrast.mean(dim=1, keepdim=True)
    colour = grey + (contrast - grey) * _uniform(views, 0.2, 1.6, g)
    cast = torch.exp(torch.empty(len(views), 3, 1, 1).uniform_(-0.1, 0.1, generator=g))
    return (colour * cast).clamp(1e-4, 1).pow(torch.exp(_uniform(views, -0.25, 0.25, g)))


def _blurred(views: Tensor, generator: Generator) -> Tensor:
    sigma = 0.3 + 1.2 * float(torch.rand(1, generator=generator))
    reach = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (reach / sigma).square())
    kernel = (kernel / kernel.sum()).repeat(3, 1)
    wide = F.conv2d(F.pad(views, (3, 3, 0, 0), "replicate"), kernel[:, None, None, :], groups=3)
    return F.conv2d(F.pad(wide, (0, 0, 3, 3), "replicate"), kernel[:, None, :, None], groups=3)


def _shrunk(views: Tensor, generator: Generator) -> Tensor:
    """To a quarter to three quarters of its side and back."""
    side = int(torch.randint(views.shape[2] // 4, views.shape[2] * 3 // 4, (1,), generator=generator))
    small = F.interpolate(views, size=(side, side), mode="area")
    return F.interpolate(small, size=views.shape[2:], mode="bilinear", align_corners=False)


def _noisy(views: Tensor, generator: Generator) -> Tensor:
    noise = torch.randn(views.shape, generator=generator) * _uniform(views, 0.01, 0.07, generator)
    return (views + noise).clamp(0, 1)


def _recompressed(views: Tensor, generator: Generator) -> Tensor:
    qualities = torch.randint(20, 85, (len(views),), generator=generator).tolist()
    pixels = (views * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    copies = [_jpeg(row, quality) for row, quality in zip(pixels, qualities, strict=True)]
    return torch.from_numpy(np.stack(copies)).permute(0, 3, 1, 2).float() / 255


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held).convert("RGB"))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _overlay(side: int, generator: Generator) -> Tensor:
    """A caption, a logo or a bar: RGBA in [0, 1], (4, side, side)."""

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    layer = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    x, y = pick(0, side * 3 // 4), pick(0, side * 7 // 8)
    ink = (pick(0, 256), pick(0, 256), pick(0, 256), 255) if pick(0, 2) else (255, 255, 255, 255)
    match pick(0, 4):
        case 0:
            draw.rectangle((0, y, side, y + pick(side // 12, side // 5)), fill=ink)
        case 1:
            width = pick(side // 8, side // 3)
            draw.ellipse((x, y, x + width, y + width), fill=ink)
        case _:
            text = "".join(chr(97 + pick(0, 26)) if pick(0, 5) else " " for _ in range(pick(4, 16)))
            draw.text((x // 2, y), text, fill=ink, font=_font(pick(side // 10, side // 4)))
    return torch.from_numpy(np.asarray(layer).transpose(2, 0, 1).copy()).float() / 255
