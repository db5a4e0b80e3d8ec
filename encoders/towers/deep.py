"""The large residual tower, of about 10 million parameters: for thousands of subjects and a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from encoders.towers.residual import ResidualTower


class DeepTower(ResidualTower):
    """A residual tower with two blocks a stage: (n, c, h, w) -> (n, 9 * widths[-1])."""

    def __init__(
        self,
        shape: tuple[int, ...],
        widths: Sequence[int] = (64, 128, 256, 480),
        blocks: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__(shape, widths, blocks)


TOWER = DeepTower
