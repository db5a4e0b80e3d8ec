"""A tower without learnt filters: Fisher vectors of small patches, for few and aligned pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.batches import CHUNK
from encoders.errors import EncoderError, TrainingError
from encoders.mixture import LEAST, Mixture, fitted, logits_of
from encoders.towers._edges import Edges, sides_of
from encoders.towers._images import KINDS, check_shape

CELLS = 4  # a patch has 4 x 4 cells
CLIPPED = 0.2  # one strong edge must not decide a patch alone
PLACED = 4.0  # how much the place, a share of the side, weighs beside components of mean deviation 1
PICTURES, PATCHES = 800, 64_000  # at most, that principal components and mixture come from
AT_ONCE = 8192  # patches of a picture, in whole rows of them: 16 pictures take about 0.5 GB so
TINY = 1e-8


class FisherTower(nn.Module):
    """How the patches of a picture differ from those of all: (n, c, h, w) -> (n, 2 * gaussians * (m + 2)).

    Patches of 4 x 4 cells of `cell` pixels, every `step` pixels in each of `sizes` (shares of the picture's
    own sides), are described by how strong the edges of `directions` (of 360 degrees) are in each cell:
    scaled to unit length, clipped (Lowe, IJCV 2004), and the root taken of their shares (Arandjelovic and
    Zisserman, CVPR 2012). Of that `components` = m principal components are kept, and the place is added. The
    picture's features are the gradients of the likelihood of its patches by means and variances of a mixture
    of `gaussians`, with signed roots, of unit length (Sanchez, Perronnin, Mensink and Verbeek, IJCV 2013;
    faces: Simonyan, Parkhi, Vedaldi and Zisserman, BMVC 2013). With `mirrored` a picture and its mirror image
    give the same features.

    Components and mixture are found in the training items (`look_at`), without labels; before that they are
    random. What decides is the linear head, best started by discriminant analysis (the setting
    start="discriminant"); beside it only `gain` is learnt, the weights of means and variances.
    """

    takes: ClassVar = KINDS

    def __init__(
        self,
        shape: tuple[int, ...],
        sizes: Sequence[float] = (1.0, 0.8, 0.63, 0.5),
        cell: int = 5,
        step: int = 2,
        directions: int = 8,
        components: int = 64,
        gaussians: int = 128,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        check_shape(shape, "Fisher tower")
        if not sizes or min(sizes) <= 0 or min(cell, step, directions, components, gaussians) < 1:
            raise EncoderError(
                "sizes, cell, step, directions, components and gaussians of a Fisher tower must be positive"
            )
        numbers = CELLS**2 * directions
        if components > numbers:
            raise EncoderError(
                f"components {components}: patches of {directions} directions have {numbers} numbers"
            )
        self.cell, self.step, self.gaussians, self.mirrored = cell, step, gaussians, mirrored
        sides = sides_of(shape, sizes, CELLS * cell + 2)
        self.edges = Edges(shape, sides, directions)
        places = [self._places(height, width) for height, width in sides]
        for k, each in enumerate(places):
            self.register_buffer(f"places{k}", each, persistent=False)
        self.patches = sum(each.shape[1] for each in places)
        self._begin(numbers, components)
        self.gain = nn.Parameter(torch.ones(2))
        self.features = 2 * gaussians * (components + 2)

    def _begin(self, numbers: int, components: int) -> None:
        """Random components and Gaussians, for patches of so many numbers."""
        width = components + 2
        found = {
            "mean": torch.full((numbers,), numbers**-0.5),
            "basis": torch.linalg.qr(torch.randn(numbers, components))[0] * numbers**0.5,
            "means": torch.randn(self.gaussians, width),
            "variances": torch.ones(self.gaussians, width),
            "shares": torch.full((self.gaussians,), 1.0 / self.gaussians),
        }
        for name, value in found.items():
            self.register_buffer(name, value)
        self.mean: Tensor
        self.basis: Tensor
        self.means: Tensor
        self.variances: Tensor
        self.shares: Tensor

    @torch.no_grad()
    def look_at(self, items: Tensor) -> None:
        """Takes components and mixture from patches of the training items (n, *shape).

        Which ones is drawn by torch's generator. TrainingError where there are fewer than Gaussians.
        """
        patches, places = self._drawn(items)
        if len(patches) < self.gaussians:
            raise TrainingError(
                f"gaussians {self.gaussians:,}: the training items have {len(patches):,} patches, give fewer"
            )
        mean, basis = principal(patches, self.basis.shape[1])
        rows = torch.cat([(patches - mean) @ basis, PLACED * places], dim=1)
        for name, value in {"mean": mean, "basis": basis, **fitted(rows, self.gaussians)._asdict()}.items():
            self.get_buffer(name).copy_(value)

    def forward(self, batch: Tensor) -> Tensor:
        with torch.autocast(batch.device.type, enabled=False):
            found = self._vectors(batch.float())
            return found + self._vectors(batch.float().flip(3)) if self.mirrored else found

    def _vectors(self, batch: Tensor) -> Tensor:
        """The Fisher vectors (n, features)."""
        mixture = Mixture(self.means, self.variances, self.shares)
        held, sums = self._statistics(batch, mixture)
        held, (means, variances, shares) = held[:, :, None], mixture
        first, second = sums.chunk(2, dim=2)
        weights = torch.rsqrt(shares)[:, None]
        by_mean = (first - held * means) * torch.rsqrt(variances) * weights
        by_variance = (second - 2 * means * first + held * means * means) / variances - held
        both = torch.stack([by_mean, by_variance * weights * 0.5**0.5], dim=1)
        # The signed root; the bound is for a gradient at 0.
        rooted = both * torch.rsqrt(both.abs().clamp_min(TINY))
        return F.normalize(rooted.flatten(1), dim=1) * self.gain.repeat_interleave(self.features // 2)

    def _statistics(self, batch: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
        """What belongs to each Gaussian, as shares of all patches, and its sums of numbers and of squares.

        (n, gaussians) and (n, gaussians, 2 (m + 2)); some patches after the others, for the memory.
        """
        matrix, constant = logits_of(mixture)
        parts, count = [], 0
        for patches, places in self._patches(batch):
            kept = self.basis.T @ (patches - self.mean[:, None])
            rows = torch.cat([kept, (PLACED * places).expand(batch.shape[0], -1, -1)], dim=1)
            both = torch.cat([rows, rows * rows], dim=1)
            belongs = torch.softmax(matrix @ both + constant[:, None], dim=1)
            parts.append((belongs.sum(dim=2), belongs @ both.transpose(1, 2)))
            count += places.shape[1]
        held, sums = (torch.stack(each).sum(dim=0) / count for each in zip(*parts, strict=True))
        return held, sums

    def _patches(self, batch: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Descriptions (n, 16 * directions, p) and places (2, p) of patches, of one size after the other."""
        corners = [(down * self.cell, across * self.cell) for down in range(CELLS) for across in range(CELLS)]
        far, step = (CELLS - 1) * self.cell, self.step
        for k, maps in enumerate(self.edges(batch)):
            cells = F.avg_pool2d(F.avg_pool2d(maps, (self.cell, 1), 1), (1, self.cell), 1)
            height, width = cells.shape[2] - far, cells.shape[3] - far
            places, across = self.get_buffer(f"places{k}"), -(-width // step)
            strip = step * max(1, AT_ONCE // across)
            for top in range(0, height, strip):
                rows = [(y + top, y + min(top + strip, height), x) for y, x in corners]
                parts = [cells[:, :, y:end:step, x : x + width : step] for y, end, x in rows]
                joined = torch.cat(parts, dim=1).flatten(2)
                clipped = F.normalize(joined, dim=1).clamp(max=CLIPPED)
                first = top // step * across
                described = torch.sqrt(F.normalize(clipped, p=1.0, dim=1))
                yield described, places[:, first : first + described.shape[2]]

    def _places(self, height: int, width: int) -> Tensor:
        """The middles (2, p) of all patches, as shares of the sides, from -0.5 to 0.5."""
        half = CELLS * self.cell // 2
        middles = [
            (torch.arange(0, side - CELLS * self.cell - 1, self.step) + half + 1) / side - 0.5
            for side in (height, width)
        ]
        return torch.stack(torch.meshgrid(*middles, indexing="ij")).flatten(1)

    def _drawn(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptions (m, 16 * directions) and places (m, 2) of as many patches of each of some pictures."""
        chosen = items[torch.randperm(len(items))[:PICTURES]]
        each = max(1, PATCHES // len(chosen))
        found, placed = [], []
        for part in torch.split(chosen, max(1, CHUNK * AT_ONCE // max(AT_ONCE, self.patches))):
            sizes = list(self._patches(part.to(self.mean.device).float()))
            patches = torch.cat([one for one, _ in sizes], dim=2).transpose(1, 2)
            places = torch.cat([one for _, one in sizes], dim=1).T
            at = torch.rand(patches.shape[:2]).argsort(dim=1)[:, :each].to(patches.device)
            found += [rows[some] for rows, some in zip(patches, at, strict=True)]
            placed += [places[some] for some in at]
        return torch.cat(found).cpu(), torch.cat(placed).cpu()


def principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(mean (d,), basis (d, count)) of rows (n, d): the leading components, all by one scale.

    Their mean deviation is 1 then.
    """
    mean = rows.mean(dim=0)
    apart = (rows - mean).double()
    variances, directions = torch.linalg.eigh(apart.T @ apart / len(rows))
    deviations = variances.flip(0)[:count].clamp_min(0.0).sqrt()
    basis = directions.flip(1)[:, :count] / deviations.mean().clamp_min(LEAST)
    return mean, basis.float()


TOWER = FisherTower
