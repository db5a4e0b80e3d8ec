"""Made-up pictures for encoders with random weights, and the contract of those that take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.encoders.adapters.contract import AdapterContract


def pictures(count: int = 18, seed: int = 0) -> list[np.ndarray]:
    """Blocks of colour, each picture (height, width, 3) uint8 of another size."""
    random = np.random.default_rng(seed)
    return [
        np.kron(random.integers(0, 256, (4, 5, 3), np.uint8), np.ones((10 + at, 9 + at, 1), np.uint8))
        for at in range(count)
    ]


class PicturesContract(AdapterContract):
    """`AdapterContract` with made-up pictures."""

    @pytest.fixture(scope="class")
    @classmethod
    def items(cls) -> list[Any]:
        return pictures()

    @pytest.fixture
    def bad(self) -> list[tuple[Any, str]]:
        return [(b"no picture", "image"), (7, "int")]
