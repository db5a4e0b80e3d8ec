"""Batched augmentation: float tensors in, float tensors of the same shape out, one seeded generator.

Every recipe is a function (batch, generator) -> batch, found by its name in `RECIPES`.
Image batches are (n, c, h, w); ink batches have values in [0, 1], 1 being ink and 0 the background.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from encoders.distortions import audio, sequence, speech, text
from encoders.errors import TrainingError

Recipe = Callable[[Tensor, Generator], Tensor]


def nothing(batch: Tensor, generator: Generator) -> Tensor:
    """The batch as it is."""
    return batch


def affine(batch: Tensor, generator: Generator) -> Tensor:
    """Small rotation, scale, shear and shift of every image."""
    return _sample(batch, _affine_grid(batch, generator))


def ink(batch: Tensor, generator: Generator) -> Tensor:
    """What handwriting varies in: pose, elastic form, stroke width, blur, resolution, contrast."""
    warped = _sample(batch, _affine_grid(batch, generator) + _elastic_field(batch, generator))
    stroked = _stroke(warped, generator)
    low = _some(batch, 0.15, generator)
    stroked[low] = _low_resolution(stroked[low], generator)
    return _gamma(stroked, generator).clamp_(0.0, 1.0)


def noise(batch: Tensor, generator: Generator) -> Tensor:
    """Gaussian noise of 0.05 standard deviations: for feature vectors that are already standardised."""
    return batch + 0.05 * torch.randn(batch.shape, generator=generator)


def photo(batch: Tensor, generator: Generator) -> Tensor:
    """What photographs of one thing vary in: framing, light, sharpness; half are mirrored, some covered.

    For batches that are standardised: brightness and contrast change by about a third of a deviation.
    """
    mirrored = _some(batch, 0.5, generator)
    batch = torch.where(mirrored.view(-1, 1, 1, 1), batch.flip(3), batch)
    grid = _affine_grid(batch, generator)
    moved = F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)
    gain = torch.exp(_uniform(len(batch), -0.3, 0.3, generator)).view(-1, 1, 1, 1)
    moved = moved * gain + _uniform(len(batch), -0.3, 0.3, generator).view(-1, 1, 1, 1)
    soft = _some(batch, 0.25, generator).view(-1, 1, 1, 1)
    moved = torch.where(soft, F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), "replicate"), 3, 1), moved)
    return _covered(moved, generator)


def _covered(batch: Tensor, generator: Generator) -> Tensor:
    """Half of the images with a rectangle of up to a third a side set to 0 (Zhong et al., 2020)."""
    covered = torch.ones(len(batch), 1, *batch.shape[2:], dtype=torch.bool)
    for axis, side in ((2, batch.shape[2]), (3, batch.shape[3])):
        width = _uniform(len(batch), 0.1, 0.34, generator) * side
        start = torch.rand(len(batch), generator=generator) * (side - width)
        places = torch.arange(side)[None, :]
        inside = (places >= start[:, None]) & (places < (start + width)[:, None])
        covered = covered & (inside[:, None, :, None] if axis == 2 else inside[:, None, None, :])
    gone = covered & _some(batch, 0.5, generator).view(-1, 1, 1, 1)
    return batch.masked_fill(gone, 0.0)


_IMAGES = ("ink", "strokes", "grey", "rgb")
SUITS: dict[str, tuple[str, ...]] = {  # the kinds of preprocessing that a recipe is for
    "affine": _IMAGES,
    "photo": _IMAGES,
    "ink": ("ink", "strokes"),
    "noise": ("vector",),
    "sequence": ("sequence",),
    "audio": ("audio",),
    "speech": ("audio",),
    "text": ("text",),
}
RECIPES: dict[str, Recipe] = {
    "none": nothing,
    "affine": affine,
    "ink": ink,
    "photo": photo,
    "noise": noise,
    "sequence": sequence,
    "audio": audio,
    "speech": speech,
    "text": text,
}


def recipe(name: str, kind: str) -> Recipe:
    """The recipe of that name, for arrays of that kind of preprocessing; TrainingError where it has none."""
    if name not in RECIPES:
        raise TrainingError(f"no augmentation is called {name!r}; there are {', '.join(sorted(RECIPES))}")
    if kind not in SUITS.get(name, (kind,)):
        fitting = [other for other, kinds in SUITS.items() if kind in kinds]
        raise TrainingError(
            f"augmentation {name} is not for {kind}; for that there are {', '.join(fitting)}, none"
        )
    return RECIPES[name]


def _uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _some(batch: Tensor, share: float, generator: Generator) -> Tensor:
    return torch.rand(len(batch), generator=generator) < share


def _affine_grid(batch: Tensor, generator: Generator) -> Tensor:
    n = len(batch)
    turn = 0.14 * torch.randn(n, generator=generator).clamp(-2.5, 2.5)
    shear = _uniform(n, -0.22, 0.22, generator)
    wide = torch.exp(_uniform(n, -0.2, 0.15, generator))
    tall = wide * torch.exp(_uniform(n, -0.16, 0.16, generator))
    cos, sin = torch.cos(turn), torch.sin(turn)
    shift = 0.16 * (torch.rand(n, 2, generator=generator) - 0.5)
    rows = [torch.stack([cos / wide, (shear - sin) / wide, shift[:, 0]], 1)]
    rows.append(torch.stack([sin / tall, (cos + shear * sin) / tall, shift[:, 1]], 1))
    return F.affine_grid(torch.stack(rows, 1), list(batch.shape), align_corners=False)


def _elastic_field(batch: Tensor, generator: Generator) -> Tensor:
    """Two octaves of smooth random displacement, (n, h, w, 2) in the units of a sampling grid."""
    size = (batch.shape[2], batch.shape[3])
    total = torch.zeros(len(batch), 2, *size)
    for knots, reach in ((4, 0.075), (7, 0.035)):
        strength = _uniform(len(batch), 0.2, 1.4, generator).view(-1, 1, 1, 1)
        coarse = torch.randn(len(batch), 2, knots, knots, generator=generator).clamp_(-2, 2)
        total += F.interpolate(reach * strength * coarse, size=size, mode="bicubic", align_corners=True)
    return total.permute(0, 2, 3, 1)


def _sample(batch: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _stroke(batch: Tensor, generator: Generator) -> Tensor:
    """Thicker or thinner strokes by a random share of one 3 x 3 dilation or erosion; 30 % stay."""
    amount = _uniform(len(batch), -0.45, 1.0, generator) * ~_some(batch, 0.3, generator)
    amount = amount.view(-1, 1, 1, 1)
    thick = F.max_pool2d(batch, 3, 1, 1) - batch
    thin = batch + F.max_pool2d(-batch, 3, 1, 1)
    return batch + amount.clamp_min(0.0) * thick + amount.clamp_max(0.0) * thin


def _low_resolution(batch: Tensor, generator: Generator) -> Tensor:
    """A broad pen on few pixels: dilate, shrink to 7 to 20 pixels a side, enlarge again."""
    if not len(batch):
        return batch
    side = int(torch.randint(7, 21, (1,), generator=generator))
    passes = int(torch.randint(0, 3 if side > 12 else 5, (1,), generator=generator))
    for _ in range(passes):
        batch = F.max_pool2d(batch, 3, 1, 1)
    small = F.interpolate(batch, size=(side, side), mode="area")
    peak = small.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)
    return F.interpolate(small / peak, size=batch.shape[2:], mode="bilinear", align_corners=False)


def _gamma(batch: Tensor, generator: Generator) -> Tensor:
    power = torch.exp(_uniform(len(batch), -0.5, 0.5, generator)).view(-1, 1, 1, 1)
    return batch.clamp(0.0, 1.0) ** power
