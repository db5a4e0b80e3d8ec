"""Small untrained encoders for tests that are not about accuracy."""

from __future__ import annotations

from typing import Any

import torch

from encoders import preprocess
from encoders.network import SiameseNetwork
from encoders.siamese import SiameseEncoder
from encoders.spec import Spec


def encoder(seed: int = 0, card: str = "", **changes: Any) -> SiameseEncoder:
    """A conv encoder of 8 numbers on 24 x 24 ink, its weights from `seed`."""
    settings = preprocess.settings_of(preprocess.InkPreprocess(size=24))
    fields: dict[str, Any] = {"name": "made", "tower": "conv", "tower_args": {"widths": [4, 6]}}
    spec = Spec(**(fields | {"preprocess": settings, "dim": 8} | changes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SiameseNetwork(spec)
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    return SiameseEncoder(spec, network, card, "cpu")
