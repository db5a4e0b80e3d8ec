"""The FPIR of galleries of other sizes: predicted from a calibration, and measured on held-out strangers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_real import leave_one_out
from gallery.calibration import predicted_fpir, threshold_for_fpir

SIZES = (100, 200, 500, 1000, 2000, 4000)
CALIBRATED = (500, 1000, 2000)
"""People whom the calibration sees; what is larger is extrapolated."""
REQUESTED = 0.1
_STRANGERS = 1200
_AT_A_TIME = 500


def measured(rows: NDArray[np.float32], owners: NDArray[np.int64], rounds: int) -> dict[str, Any]:
    """{calibrated on: {size: figures}}: one item a person; nobody is enrolled and a stranger in one round."""
    found: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for number in range(rounds):
        chance = np.random.default_rng([5, number])
        shuffled = chance.permutation(len(owners))
        people = shuffled[np.unique(owners[shuffled], return_index=True)[1]]
        people = chance.permutation(people)
        strangers, enrolled = people[:_STRANGERS], people[_STRANGERS : _STRANGERS + max(SIZES)]
        if len(enrolled) < max(SIZES):
            raise ValueError(f"there are {len(people):,} people; it takes {_STRANGERS + max(SIZES):,}")
        nearest = _nearest(rows[strangers], rows[enrolled])
        for some in CALIBRATED:
            # Of those enrolled, as a gallery calibrates itself.
            whose = enrolled[-some:]
            scores = leave_one_out(rows[whose], np.arange(some))
            threshold = threshold_for_fpir(scores, REQUESTED)
            for size, away in zip(SIZES, nearest, strict=True):
                is_true = float((away <= np.float32(threshold)).mean())
                independent = 1 - (1 - _fmr(scores.distances, threshold)) ** size
                found.setdefault((some, size), []).append(
                    (predicted_fpir(scores, threshold, size), is_true, independent)
                )
    said: dict[str, Any] = {}
    for (some, size), each in found.items():
        said.setdefault(str(some), {})[str(size)] = _figures(np.array(each))
    return said


def _nearest(strangers: NDArray[np.float32], enrolled: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """For each size the distance of each stranger to the nearest of the first so many."""
    running = np.full(len(strangers), np.inf, np.float32)
    at = {}
    steps = sorted({*SIZES, *range(_AT_A_TIME, max(SIZES), _AT_A_TIME)})
    for start, stop in zip([0, *steps], steps, strict=False):
        away = 1 - strangers @ enrolled[start:stop].T
        running = np.minimum(running, away.min(axis=1))
        at[stop] = running
    return [at[size] for size in SIZES]


def _fmr(distances: NDArray[np.float32], threshold: float) -> float:
    compared = np.isfinite(distances)
    return float((distances <= np.float32(threshold)).sum() / compared.sum())


def _figures(each: NDArray[np.float64]) -> dict[str, Any]:
    ratio = each[:, 0] / np.maximum(each[:, 1], 1e-9)
    return {
        "predicted": round(float(each[:, 0].mean()), 4),
        "measured": round(float(each[:, 1].mean()), 4),
        "if_comparisons_were_independent": round(float(each[:, 2].mean()), 4),
        "predicted_over_measured": [round(float(q), 3) for q in np.quantile(ratio, [0.025, 0.5, 0.975])],
    }
