"""Several encoders side by side, as one: what `encoders join` makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.errors import EncoderError
from encoders.headed import Headed
from encoders.numeric import number, shown
from encoders.spec import MOST_NUMBERS
from encoders.towers._zoom import Zoom, check_zooms

PARTS = {"tower": str, "tower_args": dict, "dim": int}
LEAST, MOST = 1e-6, 1e6  # of a weight: a share is above 0 beside any other, and their sum is a number


class JoinedTower(nn.Module):
    """The unit embeddings of all members beside one another: (n, *shape) -> (n, sum of their dims).

    Each member is {"tower": name, "tower_args": {...}, "dim": n} and reads the same arrays. A member's row is
    scaled by the root of its share of `weights`, so that rows are of unit length and the cosine distance of
    two is the weighted mean of the members' distances: the sum rule (Kittler et al., "On combining
    classifiers", PAMI 1998). With `zooms` every picture is read at each of these magnifications, and a
    member's row is the mean of those that it gives, brought to unit length: it takes as many times as long.
    """

    takes: ClassVar = ("ink", "strokes", "grey", "rgb", "vector", "sequence", "audio", "text")
    bare: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, ...],
        members: Sequence[dict[str, Any]] = (),
        weights: Sequence[float] | None = None,
        zooms: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_members(members)
        read = [] if zooms is None else check_zooms(zooms, shape)
        self.zooms = nn.ModuleList(Zoom(shape, factor) for factor in read)
        given = shares(len(members), weights)
        self.members = nn.ModuleList(
            Headed(shape, one["tower"], one["tower_args"], one["dim"], unit=True) for one in members
        )
        self.scales = [math.sqrt(share) for share in given]
        self.features = sum(one["dim"] for one in members)

    def forward(self, batch: Tensor) -> Tensor:
        views = [zoom(batch) for zoom in self.zooms]
        rows = [_row(member, views) if views else member(batch) for member in self.members]
        return torch.cat([scale * row for scale, row in zip(self.scales, rows, strict=True)], dim=1)


def _row(member: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """The mean direction of the unit rows (n, d) that a member gives for each view."""
    return F.normalize(torch.stack([member(view) for view in views]).sum(dim=0), dim=1)


def check_members(members: Any) -> None:
    """EncoderError for what are no two members or more; before any is built, as a record may say anything."""
    if not isinstance(members, list | tuple) or len(members) < 2 or not all(map(_whole, members)):
        raise EncoderError(
            f"a joined tower needs two members or more, each with {', '.join(sorted(PARTS))}: "
            "encoders join makes it of trained encoders"
        )
    for place, one in enumerate(members):
        if not 1 <= one["dim"] <= MOST_NUMBERS:
            raise EncoderError(
                f"member {place} of the joined tower has dim {one['dim']}: "
                f"an embedding has 1 to {MOST_NUMBERS:,} numbers"
            )


def _whole(member: Any) -> bool:
    if not isinstance(member, dict) or set(member) != set(PARTS):
        return False
    return all(type(member[name]) is kind for name, kind in PARTS.items())


def shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """The weights of `count` members as shares of 1, equal when None; EncoderError for no such weights."""
    given: Any = [1.0] * count if weights is None else weights
    if not isinstance(given, list | tuple) or not all(number(one) and LEAST <= one <= MOST for one in given):
        raise EncoderError(f"weights are {shown(given)}: each must be a number from {LEAST:f} to {MOST:,.0f}")
    if len(given) != count:
        words = f"{len(given)} weight{'s' * (len(given) != 1)}"
        raise EncoderError(f"{words} for {count} members: one each is needed")
    return [one / math.fsum(given) for one in given]


TOWER = JoinedTower
