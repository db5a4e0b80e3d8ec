"""What a gallery answers besides "who is this?": everybody near, and how well an index finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gallery.decisions import checked_threshold
from gallery.encoder import Encoder, embed_probes, listed
from gallery.engines.base import Engine
from gallery.filters import Where, checked_where
from gallery.records import Candidate
from gallery.stores.base import Header


class Searching:
    """The part of `gallery.Gallery` that searches without deciding."""

    location: Path
    _engine: Engine

    def within(self, item: Any, radius: float, where: Where | None = None) -> list[Candidate]:
        """Every subject with a template at `radius` or nearer, nearest first, however many there are.

        radius is a distance, as a threshold is; where: see `identify`. With an approximate index every
        candidate that it finds on its way there.
        """
        return self.within_batch([item], radius, where)[0]

    def within_batch(
        self, items: Sequence[Any], radius: float, where: Where | None = None
    ) -> list[list[Candidate]]:
        """`within` for every item, all of one revision."""
        encoder, header = self._bound()
        limit = checked_threshold(radius)
        filter = None if where is None else checked_where(where)
        blocks = list(embed_probes(encoder, listed(items)))
        return self._engine.within(np.concatenate(blocks), limit, header, filter) if blocks else []

    def _bound(self) -> tuple[Encoder, Header]:
        raise NotImplementedError
