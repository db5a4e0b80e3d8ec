"""Made-up pictures for encoders with random weights."""

from __future__ import annotations

import numpy as np


def pictures(count: int = 18, seed: int = 0) -> list[np.ndarray]:
    """Blocks of colour, each picture (height, width, 3) uint8 of another size."""
    random = np.random.default_rng(seed)
    return [
        np.kron(random.integers(0, 256, (4, 5, 3), np.uint8), np.ones((10 + at, 9 + at, 1), np.uint8))
        for at in range(count)
    ]
