"""The losses of Siamese training: pure functions of embeddings and labels.

Embeddings are (n, d) float tensors, labels (n,) integer tensors; every loss is a scalar tensor, the mean
over what it counts. Pair labels follow one convention: 1 for a mated pair (same subject), 0 for non-mated.
Hadsell's paper writes it the other way round (Y = 0 for similar pairs).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def contrastive(distances: Tensor, mated: Tensor, margin: float = 1.0) -> Tensor:
    """Contrastive loss of pairs: d^2 / 2 if mated, max(0, margin - d)^2 / 2 if not.

    `distances` (p,) are true (not squared) L2 distances, `mated` (p,) is 1 or 0.
    Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006.
    """
    near = distances.square()
    far = F.relu(margin - distances).square()
    return (0.5 * torch.where(mated.bool(), near, far)).mean()


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.2) -> Tensor:
    """Triplet loss max(0, |a - p|^2 - |a - n|^2 + margin), each argument (t, d).

    Squared L2 distances. Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, eq. 2.
    """
    near = (anchor - positive).square().sum(dim=1)
    far = (anchor - negative).square().sum(dim=1)
    return F.relu(near - far + margin).mean()


def pairwise_bce(distances: Tensor, mated: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Binary cross entropy of pairs with logit = bias - scale * distance; both scalars are learnt.

    A mated pair is the positive class. The learnt distance head of Koch, Zemel, Salakhutdinov,
    "Siamese neural networks for one-shot image recognition", ICML workshop 2015, with one weight.
    """
    return F.binary_cross_entropy_with_logits(bias - scale * distances, mated.to(distances.dtype))


def margin_softmax(cosines: Tensor, labels: Tensor, margin: float = 0.3, scale: float = 24.0) -> Tensor:
    """Large-margin cosine loss (CosFace): softmax over s * cos, the true class at s * (cos - margin).

    `cosines` (n, classes) between embeddings and class centres, in [-1, 1].
    Wang et al., "CosFace", CVPR 2018, eq. 4.
    """
    true = F.one_hot(labels, cosines.shape[1]).to(cosines.dtype)
    return F.cross_entropy(scale * (cosines - margin * true), labels)


def pair_distances(left: Tensor, right: Tensor) -> Tensor:
    """True L2 distance of each row of `left` (p, d) to the same row of `right`; (p,), differentiable at 0."""
    return (left - right).square().sum(dim=1).clamp_min(1e-12).sqrt()


class MarginSoftmax(nn.Module):
    """`margin_softmax` with its learnt class centres, (classes, dim); called with (embeddings, labels)."""

    def __init__(self, dim: int, classes: int, margin: float = 0.3, scale: float = 24.0) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.empty(classes, dim))
        nn.init.normal_(self.centres, std=1.0 / math.sqrt(dim))
        self.margin, self.scale = margin, scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = F.normalize(embeddings) @ F.normalize(self.centres).t()
        return margin_softmax(cosines, labels, self.margin, self.scale)


class PairwiseBCE(nn.Module):
    """`pairwise_bce` with its two learnt scalars; called with (distances, mated)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, distances: Tensor, mated: Tensor) -> Tensor:
        return pairwise_bce(distances, mated, self.scale, self.bias)
