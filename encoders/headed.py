"""A tower with its head: from the arrays of items to embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from encoders import towers
from encoders.errors import EncoderError


class Headed(nn.Module):
    """Tower, then a linear head with batch norm: (n, *shape) -> (n, dim), of unit length if `unit`.

    A tower that says it is `bare` has no head: its features are the embedding.
    """

    def __init__(
        self, shape: tuple[int, ...], tower: str, tower_args: dict[str, Any], dim: int, unit: bool
    ) -> None:
        super().__init__()
        self.tower = towers.build(tower, shape, **tower_args)
        bare = getattr(self.tower, "bare", False)
        if bare and self.tower.features != dim:
            raise EncoderError(
                f"the features of tower {tower} are the embedding as it is: dim must be "
                f"{self.tower.features}, not {dim}"
            )
        self.head = nn.Identity() if bare else nn.Linear(self.tower.features, dim, bias=False)
        self.norm = nn.Identity() if bare else nn.BatchNorm1d(dim)
        self.unit = unit

    def forward(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.norm(self.head(self.tower(batch)))
        return F.normalize(embeddings, dim=1) if self.unit else embeddings
