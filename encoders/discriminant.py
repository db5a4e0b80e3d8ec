"""Discriminant analysis and whitening of a tower's features: where a linear head may start from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from encoders.errors import TrainingError

COMPONENTS = 900  # principal components that are looked at, at most
TRUSTED = 250  # past so many of them the variance of the next one is added to each, the leading ones too
DEAD = 1e-5  # of the largest deviation: what varies less is rounding, as of constant features and copies
SHRINKAGE = 0.1  # share of the within-subject covariance that is replaced by its mean variance
ROUNDS, SPARE = 3, 50  # of the randomised search for the principal components
LEAST = 1e-6


def discriminant(
    features: Tensor, labels: NDArray[np.int64], dim: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """(matrix (f, dim), mean (f,)): `(features - mean) @ matrix` tells subjects apart.

    `features` (n, f) float32, `labels` (n,). The principal components are whitened, then the directions
    found in which items of one subject vary least (Fisher 1936; Swets and Weng, PAMI 1996); each is scaled by
    the root of its variance between subjects over that within, so that the sum of products of two items
    weighs the directions as it should. Past TRUSTED components a ridge keeps the faint ones from being taken
    at their word (Friedman, "Regularized discriminant analysis", JASA 1989). Subjects with one item count
    towards the components only. TrainingError where there are too few items for `dim`.
    """
    count = directions("discriminant", features.shape[1], labels)[0]
    _check(count, dim, features, labels, "discriminant")
    mapping, within, mean = _analysed(features, labels, count, seed)
    return mapping[:, :dim] * torch.sqrt((1.0 - within) / within)[:dim].float(), mean


def whitening(features: Tensor, labels: NDArray[np.int64], dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(matrix (f, dim), mean (f,)): in `(features - mean) @ matrix` a subject varies alike in all directions.

    `dim` leading principal components, divided by how much the items of one subject vary along them (within-
    class covariance normalisation, Hatch, Kajarekar and Stolcke, Interspeech 2006): for few subjects with
    many items, which tell what to overlook and too little of what to look at. The ridge and the refusal are
    those of `discriminant`.
    """
    count = directions("whitening", features.shape[1], labels)[0]
    _check(count, dim, features, labels, "whitening")
    mapping, within, mean = _analysed(features, labels, dim, seed)
    return mapping * torch.rsqrt(within).float(), mean


def directions(analysis: str, features: int, labels: NDArray[np.int64]) -> tuple[int, int]:
    """How many directions of so many features an analysis can find, and the items more than subjects."""
    spare = _spare(labels)
    most = min(features, spare // 2)
    return min(most, COMPONENTS) if analysis == "discriminant" else most, spare


def _spare(labels: NDArray[np.int64]) -> int:
    """How many items there are more than subjects."""
    return len(labels) - len(np.unique(labels))


def _check(count: int, dim: int, features: Tensor, labels: NDArray[np.int64], start: str) -> None:
    if count >= dim:
        return
    spare = _spare(labels)
    raise TrainingError(
        f"start {start}: {spare:,} items more than subjects and {features.shape[1]:,} features "
        f"decide {count} directions at most: --dim {count} or less"
        if count >= 2
        else f"start {start}: {spare:,} items more than subjects are too few, 4 are the least"
    )


def _analysed(
    features: Tensor, labels: NDArray[np.int64], count: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(matrix (f, count), variances (count,), mean): directions of variance 1, and that within subjects.

    By rising variance within, which lies strictly between 0 and 1.
    """
    mean = features.mean(dim=0)
    basis, deviations = _principal(features, mean, count, seed)
    alive = deviations > DEAD * deviations[0] + 1e-12
    if not alive.any():
        raise TrainingError("the features of all items are the same: there is nothing to tell them apart by")
    basis, deviations = basis[:, alive], deviations[alive]
    whitened = ((features @ basis - mean @ basis) / deviations).double()
    within = _shrunk(_within(whitened, labels))
    ridge = _ridge(deviations.double())
    # In units in which the variance of each component, with its ridge, is 1 again.
    units = torch.rsqrt(1.0 + ridge)
    within = units[:, None] * (within + torch.diag(ridge * within.diagonal().mean())) * units
    variances, directions = torch.linalg.eigh(within)
    mapping = (basis / deviations) @ (units[:, None] * directions).float()
    dead = count - len(deviations)
    mapping, variances = F.pad(mapping, (0, dead)), F.pad(variances, (0, dead), value=1.0)
    return mapping, variances.clamp(LEAST, 1.0 - LEAST), mean


def _ridge(deviations: Tensor) -> Tensor:
    """What is added to the variance of each component, as a share of it; 0 where all are trusted."""
    if len(deviations) <= TRUSTED:
        return torch.zeros_like(deviations)
    return (deviations[TRUSTED] / deviations).square()


def _principal(features: Tensor, mean: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(components (f, count), deviations along them): Halko, Martinsson and Tropp, SIAM Review 2011."""
    chance = torch.Generator().manual_seed(seed)
    width = min(count + SPARE, *features.shape)

    def onto(matrix: Tensor) -> Tensor:  # of the centred features, which are never copied
        return features @ matrix - mean @ matrix

    def back(matrix: Tensor) -> Tensor:
        return features.T @ matrix - torch.outer(mean, matrix.sum(dim=0))

    found = torch.linalg.qr(onto(torch.randn(features.shape[1], width, generator=chance)))[0]
    for _ in range(ROUNDS):
        found = torch.linalg.qr(onto(back(found)))[0]
    left, lengths, _ = torch.linalg.svd(back(found), full_matrices=False)
    deviations = lengths[:count] / max(1, len(features) - 1) ** 0.5
    return left[:, :count], deviations


def _within(rows: Tensor, labels: NDArray[np.int64]) -> Tensor:
    """The covariance of rows (n, c) around the mean of their subject, by subjects with two rows or more."""
    _, subject, counts = np.unique(labels, return_inverse=True, return_counts=True)
    of, sizes = torch.from_numpy(subject), torch.from_numpy(counts)
    means = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype).index_add(0, of, rows)
    apart = rows - (means / sizes[:, None])[of]
    # Each subject's own covariance is unbiased, and counts as often as it has items.
    weights = (sizes / (sizes - 1).clamp_min(1))[of]
    return (apart * weights[:, None]).T @ apart / sizes[sizes > 1].sum()


def _shrunk(covariance: Tensor) -> Tensor:
    spread = torch.eye(len(covariance), dtype=covariance.dtype) * covariance.diagonal().mean()
    return torch.lerp(covariance, spread, SHRINKAGE)
