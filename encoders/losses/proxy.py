"""The proxy-anchor loss. Kim et al., "Proxy anchor loss for deep metric learning", CVPR 2020, eq. 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def proxy_anchor(cosines: Tensor, labels: Tensor, margin: float = 0.1, scale: float = 32.0) -> Tensor:
    """The loss of a batch from its cosines (n, classes) with one learnt proxy a class; a scalar.

    Each proxy pulls its own items, weighted by how far they are, and pushes all others; the first part is a
    mean over the proxies that have items in the batch, the second one over all of them.
    """
    own = F.one_hot(labels, cosines.shape[1]).bool()
    pull = _log_one_plus_sum(-scale * (cosines - margin), own)
    push = _log_one_plus_sum(scale * (cosines + margin), ~own)
    return pull.sum() / own.any(dim=0).sum() + push.mean()


def _log_one_plus_sum(logits: Tensor, keep: Tensor) -> Tensor:
    """log(1 + sum of exp(logits)) over the kept rows of each column; (classes,)."""
    kept = logits.masked_fill(~keep, -torch.inf)
    return torch.logsumexp(torch.cat([torch.zeros_like(kept[:1]), kept]), dim=0)


class ProxyAnchor(nn.Module):
    """`proxy_anchor` with learnt `centres`, (classes, dim): (embeddings (n, d), labels (n,)) -> scalar."""

    def __init__(self, dim: int, classes: int, margin: float = 0.1, scale: float = 32.0) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.empty(classes, dim))
        nn.init.kaiming_normal_(self.centres, mode="fan_out")
        self.margin, self.scale = margin, scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = F.normalize(embeddings) @ F.normalize(self.centres).t()
        return proxy_anchor(cosines, labels, self.margin, self.scale)
