"""A mixture of Gaussians with diagonal covariances, fitted to rows by expectation and maximisation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROUNDS = 12  # of k-means, and again of expectation and maximisation
WIDTH = 0.3  # variance of a Gaussian at the start, as a share of that of all rows
FLOOR = 0.01  # of the variance of all rows, below which none falls: one of few rows would be a spike
LEAST = 1e-6
PART = 16_384  # rows at a time


class Mixture(NamedTuple):
    """`means` and `variances` (k, d), and `shares` (k,), how much of all each Gaussian makes out."""

    means: Tensor
    variances: Tensor
    shares: Tensor


def fitted(rows: Tensor, count: int) -> Mixture:
    """The mixture of `count` Gaussians in rows (n, d) float32, starting from k-means.

    Dempster, Laird and Rubin, "Maximum likelihood from incomplete data", 1977. Where it starts is drawn by
    torch's generator. ValueError where there are fewer rows than Gaussians.
    """
    if len(rows) < count:
        raise ValueError(f"{len(rows):,} rows are too few for a mixture of {count:,} Gaussians")
    spread = rows.var(dim=0, correction=0)
    floor = (FLOOR * spread).clamp_min(LEAST)
    start = torch.maximum(WIDTH * spread, floor).expand(count, -1)
    mixture = Mixture(_centres(rows, count), start, torch.full((count,), 1.0 / count))
    for _ in range(ROUNDS):
        mixture = _improved(mixture, rows, floor)
    return mixture


def logits_of(mixture: Mixture) -> tuple[Tensor, Tensor]:
    """(matrix (k, 2 d), constant (k,)): their product with a row beside its squares, and sum, is log density.

    That of each Gaussian times its share, but for a constant that is the same for all: softmax gives the
    posteriors.
    """
    means, variances, shares = mixture
    matrix = torch.cat([means / variances, -0.5 / variances], dim=1)
    constant = torch.log(shares) - 0.5 * (torch.log(variances) + means * means / variances).sum(dim=1)
    return matrix, constant


def _improved(mixture: Mixture, rows: Tensor, floor: Tensor) -> Mixture:
    """One round: who each row belongs to, then the moments of what belongs to each."""
    matrix, constant = logits_of(mixture)
    count, width = mixture.means.shape
    held, sums = torch.zeros(count).double(), torch.zeros(count, 2 * width).double()
    for part in torch.split(rows, PART):
        both = torch.cat([part, part * part], dim=1)
        belongs = torch.softmax(both @ matrix.T + constant, dim=1)
        held += belongs.sum(dim=0)
        sums += belongs.T @ both
    moments = sums / held.clamp_min(LEAST)[:, None]
    means, squares = moments[:, :width], moments[:, width:]
    # A Gaussian that nothing belongs to stays where it was.
    alive = (held > LEAST)[:, None]
    kept = torch.where(alive, means.float(), mixture.means)
    variances = torch.where(alive, (squares - means * means).float(), mixture.variances)
    return Mixture(kept, torch.maximum(variances, floor), (held / len(rows)).float().clamp_min(LEAST))


def _centres(rows: Tensor, count: int) -> Tensor:
    """Centres (count, d) of k-means; one that is nearest to no row is drawn anew."""
    centres = rows[torch.randperm(len(rows))[:count]]
    for _ in range(ROUNDS):
        nearest = torch.cat([_nearest(part, centres) for part in torch.split(rows, PART)])
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        drawn = rows[torch.randint(len(rows), (count,))]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), drawn)
    return centres


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    return ((centres * centres).sum(dim=1) - 2 * rows @ centres.T).argmin(dim=1)
