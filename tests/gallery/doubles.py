"""Encoders to test with, the oracle, and ways to look at a gallery from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("cosine", "euclidean")


class Words:
    """Somebody else's encoder: strings of four numbers, "1 0 0 0"; raises RuntimeError for "cursed"."""

    dim = 4
    metric = "cosine"
    fingerprint = "words/1"
    name = "words"
    threshold: float | None = None

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        return np.array([self._one(item) for item in items], np.float32)

    def _one(self, item: Any) -> list[float]:
        if item == "cursed":
            raise RuntimeError("this one is cursed")
        return [float(word) for word in item.split()]


def true_distances(probe: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """The oracle: (m,) float64, straight from the definitions, of rows as the caller gave them."""
    left, right = probe.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((right - left) ** 2).sum(axis=1))
    return 1 - right @ left / (np.linalg.norm(left) * np.linalg.norm(right, axis=1))


def vectors(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Gaussian rows, (count, dim) float32."""
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def seen(answer: Any) -> list[tuple[str, float, int]]:
    """What an Identification says, in bits that can be compared."""
    return [(one.id, one.distance, one.template) for one in answer.candidates]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def in_another_process(code: str, *arguments: object) -> str:
    """What `code` prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
