"""Several encoders side by side, as one: what `encoders join` makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from encoders.errors import EncoderError
from encoders.headed import Headed
from encoders.numeric import number

PARTS = {"tower", "tower_args", "dim"}


class JoinedTower(nn.Module):
    """The unit embeddings of all members beside one another: (n, *shape) -> (n, sum of their dims).

    Each member is {"tower": name, "tower_args": {...}, "dim": n} and reads the same arrays. A member's row is
    scaled by the root of its share of `weights`, so that rows are of unit length and the cosine distance of
    two is the weighted mean of the members' distances: the sum rule (Kittler et al., "On combining
    classifiers", PAMI 1998).
    """

    takes: ClassVar = ("ink", "strokes", "grey", "rgb", "vector", "sequence", "audio", "text")
    bare: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, ...],
        members: Sequence[dict[str, Any]] = (),
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        shares = _shares(members, weights)
        self.members = nn.ModuleList(
            Headed(shape, one["tower"], one["tower_args"], one["dim"], unit=True) for one in members
        )
        self.scales = [math.sqrt(share) for share in shares]
        self.features = sum(one["dim"] for one in members)

    def forward(self, batch: Tensor) -> Tensor:
        rows = [scale * member(batch) for scale, member in zip(self.scales, self.members, strict=True)]
        return torch.cat(rows, dim=1)


def _shares(members: Sequence[dict[str, Any]], weights: Sequence[float] | None) -> list[float]:
    """The weights as shares of 1; EncoderError for what are no two members or more, or no weights of them."""
    if len(members) < 2 or not all(isinstance(one, dict) and set(one) == PARTS for one in members):
        raise EncoderError(
            f"a joined tower needs two members or more, each with {', '.join(sorted(PARTS))}: "
            "encoders join makes it of trained encoders"
        )
    given = [1.0] * len(members) if weights is None else list(weights)
    if len(given) != len(members):
        raise EncoderError(f"{len(given)} weights for {len(members)} members: one each is needed")
    if not all(number(one) and 0 < one < math.inf for one in given):
        raise EncoderError(f"weights are {given}: each must be a number above 0")
    return [one / math.fsum(given) for one in given]


TOWER = JoinedTower
