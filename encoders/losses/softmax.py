"""Margin softmax losses: a classifier on the unit sphere whose true class has to win by a margin."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.losses.reducers import Reducer, mean


def cosface_terms(cosines: Tensor, labels: Tensor, margin: float = 0.3, scale: float = 24.0) -> Tensor:
    """One term an item: cross entropy over scale * cos, the true class at scale * (cos - margin); (n,).

    `cosines` (n, classes) between embeddings and class centres, in [-1, 1].
    Wang et al., "CosFace", CVPR 2018, eq. 4.
    """
    true = F.one_hot(labels, cosines.shape[1]).to(cosines.dtype)
    return F.cross_entropy(scale * (cosines - margin * true), labels, reduction="none")


def arcface_terms(cosines: Tensor, labels: Tensor, margin: float = 0.3, scale: float = 24.0) -> Tensor:
    """One term an item: cross entropy over scale * cos, the true class at scale * cos(angle + margin); (n,).

    `margin` is in radians. Where angle + margin would pass 180 degrees the true class gets
    cos - margin * sin(margin), so that the loss keeps rising.
    Deng et al., "ArcFace", CVPR 2019, eq. 3.
    """
    own = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-7, 1 - 1e-7)
    turned = torch.cos(torch.acos(own) + margin)
    beyond = own < math.cos(math.pi - margin)
    own = torch.where(beyond, own - margin * math.sin(margin), turned)
    return F.cross_entropy(scale * cosines.scatter(1, labels[:, None], own), labels, reduction="none")


class MarginSoftmax(nn.Module):
    """CosFace with its learnt class centres, (classes, dim): (embeddings (n, d), labels (n,)) -> scalar."""

    terms: ClassVar = staticmethod(cosface_terms)

    def __init__(
        self, dim: int, classes: int, margin: float = 0.3, scale: float = 24.0, reducer: Reducer = mean
    ) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.empty(classes, dim))
        nn.init.normal_(self.centres, std=1.0 / math.sqrt(dim))
        self.margin, self.scale, self.reducer = margin, scale, reducer

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = F.normalize(embeddings) @ F.normalize(self.centres).t()
        return self.reducer(self.terms(cosines, labels, self.margin, self.scale))


class ArcFace(MarginSoftmax):
    """ArcFace with its learnt class centres; the margin is an angle in radians."""

    terms: ClassVar = staticmethod(arcface_terms)
