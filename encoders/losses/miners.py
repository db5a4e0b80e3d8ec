"""Which pairs and triplets of a batch are worth learning from: index tensors, without gradients.

A pair miner maps (embeddings (n, d), labels (n,), distance) to (left, right, mated), a triplet miner to
(anchors, positives, negatives). Ties go to the smaller index. Every miner may find nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from encoders.errors import TrainingError
from encoders.losses.distances import Distance

Mined = tuple[Tensor, Tensor, Tensor]
Miner = Callable[[Tensor, Tensor, Distance], Mined]


def all_pairs(embeddings: Tensor, labels: Tensor, distance: Distance) -> Mined:
    """Every pair i < j of a batch: (left, right, mated), each (n(n-1)/2,)."""
    left, right = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    return left, right, labels[left] == labels[right]


def hard_pairs(embeddings: Tensor, labels: Tensor, distance: Distance) -> Mined:
    """All mated pairs and as many of the nearest non-mated ones.

    Random non-mated pairs are nearly all far apart already and teach nothing.
    """
    left, right, mated = all_pairs(embeddings, labels, distance)
    with torch.no_grad():
        apart = distance.pairs(embeddings[left], embeddings[right])
    non_mated = torch.nonzero(~mated).flatten()
    count = min(int(mated.sum()), len(non_mated))
    nearest = non_mated[torch.argsort(apart[non_mated], stable=True)[:count]]
    keep = torch.cat([torch.nonzero(mated).flatten(), nearest])
    return left[keep], right[keep], mated[keep]


def all_triplets(embeddings: Tensor, labels: Tensor, distance: Distance) -> Mined:
    """Every (a, p, n) with a and p different items of one subject and n of another one."""
    same = labels[:, None] == labels[None, :]
    return torch.nonzero(_without_self(same)[:, :, None] & ~same[:, None, :], as_tuple=True)  # type: ignore[return-value]


@torch.no_grad()
def hard_triplets(embeddings: Tensor, labels: Tensor, distance: Distance) -> Mined:
    """Batch-hard: per anchor its farthest positive and nearest negative.

    Hermans, Beyer, Leibe, "In defense of the triplet loss", 2017. Anchors without either are left out.
    """
    apart = distance.table(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    positive = apart.masked_fill(~_without_self(same), -torch.inf)
    negative = apart.masked_fill(same, torch.inf)
    usable = torch.isfinite(positive).any(dim=1) & torch.isfinite(negative).any(dim=1)
    anchors = torch.nonzero(usable).flatten()
    return anchors, positive.argmax(dim=1)[anchors], negative.argmin(dim=1)[anchors]


@torch.no_grad()
def semi_hard_triplets(embeddings: Tensor, labels: Tensor, distance: Distance, margin: float = 0.2) -> Mined:
    """Per mated (anchor, positive): the nearest negative with d_ap < d_an < d_ap + margin.

    Pairs with no such negative are left out; FaceNet (CVPR 2015), section 3.2.
    """
    apart = distance.table(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    anchors, positives = torch.nonzero(_without_self(same), as_tuple=True)
    near = apart[anchors, positives][:, None]
    row = apart[anchors]
    inside = ~same[anchors] & (row > near) & (row < near + margin)
    keep = inside.any(dim=1)
    negatives = row.masked_fill(~inside, torch.inf).argmin(dim=1)
    return anchors[keep], positives[keep], negatives[keep]


PAIR_MINERS: dict[str, Miner] = {"all": all_pairs, "hard": hard_pairs}
TRIPLET_MINERS = ("all", "hard", "semi-hard")


def of_pairs(name: str) -> Miner:
    """The pair miner called "all" or "hard"; TrainingError for another name."""
    if name not in PAIR_MINERS:
        raise TrainingError(f"no mining of pairs is called {name!r}; there are {', '.join(PAIR_MINERS)}")
    return PAIR_MINERS[name]


def of_triplets(name: str, margin: float) -> Miner:
    """The triplet miner called "all", "hard" or "semi-hard" (within `margin`); TrainingError for another."""
    kinds: dict[str, Miner] = {
        "all": all_triplets,
        "hard": hard_triplets,
        "semi-hard": partial(semi_hard_triplets, margin=margin),
    }
    if name not in kinds:
        raise TrainingError(f"no mining of triplets is called {name!r}; there are {', '.join(kinds)}")
    return kinds[name]


def _without_self(same: Tensor) -> Tensor:
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
