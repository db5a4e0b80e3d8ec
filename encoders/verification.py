"""How well distances tell mated from non-mated comparisons: pure numpy, every comparison with a weight.

Weights are how often a comparison counts: 1 as it was measured, 0, 1, 2, ... in a resample of subjects.
A comparison is accepted when its distance is at most the threshold. Rates are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Weights = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Curve:
    """False match and false non-match rates at rising thresholds, each (n,)."""

    thresholds: Floats
    fmr: Wide
    fnmr: Wide


class Comparisons:
    """Mated and non-mated distances, sorted once, asked with as many weights as one likes."""

    def __init__(self, mated: Floats, non_mated: Floats) -> None:
        if not len(mated) or not len(non_mated):
            raise ValueError(
                f"{len(mated)} mated and {len(non_mated)} non-mated pairs: one of each is needed"
            )
        self.mated, self.non_mated = np.asarray(mated, np.float32), np.asarray(non_mated, np.float32)
        self._orders = [np.argsort(part, kind="stable") for part in (self.mated, self.non_mated)]
        self.thresholds = np.unique(np.concatenate([self.mated, self.non_mated]))
        self._ends = [
            np.searchsorted(part[order], self.thresholds, side="right")
            for part, order in zip((self.mated, self.non_mated), self._orders, strict=True)
        ]

    def curve(self, mated_weights: Weights | None = None, non_mated_weights: Weights | None = None) -> Curve:
        """The rates at every distance that occurs."""
        accepted = self._accepted(0, mated_weights)
        return Curve(self.thresholds, self._accepted(1, non_mated_weights), 1.0 - accepted)

    def _accepted(self, part: int, weights: Weights | None) -> Wide:
        """The weighted share at or below each threshold."""
        count = len(self._orders[part])
        held = np.ones(count) if weights is None else np.asarray(weights, np.float64)[self._orders[part]]
        sums = np.concatenate([[0.0], np.cumsum(held)])
        if sums[-1] <= 0:
            raise ValueError("every comparison has weight 0")
        share: Wide = sums[self._ends[part]] / sums[-1]
        return share


def eer(curve: Curve) -> tuple[float, float]:
    """(equal error rate, its threshold): the mean of FMR and FNMR where they are nearest to each other."""
    best = int(np.argmin(np.abs(curve.fmr - curve.fnmr)))
    return float((curve.fmr[best] + curve.fnmr[best]) / 2), float(curve.thresholds[best])


def tar_at(curve: Curve, far: float) -> float:
    """The true accept rate at the largest threshold whose FMR is at most `far`; 0 where there is none."""
    within = np.flatnonzero(curve.fmr <= far + 1e-12)
    return float(1.0 - curve.fnmr[within[-1]]) if len(within) else 0.0


def best_accuracy(curve: Curve) -> tuple[float, float]:
    """(accuracy, its threshold) where both kinds of pair count the same and the threshold is the best."""
    right = 1.0 - (curve.fmr + curve.fnmr) / 2
    best = int(np.argmax(right))
    return float(right[best]), float(curve.thresholds[best])


def d_prime(mated: Floats, non_mated: Floats) -> float:
    """|difference of the means| over the root of the mean variance (Green and Swets 1966; Daugman 2000).

    0 where neither varies and the means are equal; infinite where they are not.
    """
    apart = abs(float(np.mean(non_mated, dtype=np.float64) - np.mean(mated, dtype=np.float64)))
    spread = float(np.sqrt((np.var(mated, dtype=np.float64) + np.var(non_mated, dtype=np.float64)) / 2))
    if spread > 0:
        return apart / spread
    return 0.0 if apart == 0 else float("inf")


def probit(rate: Wide, least: float = 1e-6) -> Wide:
    """Rates on the scale of a DET plot: normal deviates, in which two Gaussians give a straight line."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(min(1 - least, max(least, float(r)))) for r in rate])


def thinned(curve: Curve, points: int = 400) -> Curve:
    """The curve with at most so many points, evenly in the logarithm of FMR and in FNMR, ends included."""
    if len(curve.thresholds) <= points:
        return curve
    low = max(float(curve.fmr[curve.fmr > 0].min()), 1e-9)
    marks = np.searchsorted(curve.fmr, np.geomspace(low, 1.0, points // 2))
    falls = len(curve.fnmr) - 1 - np.searchsorted(curve.fnmr[::-1], np.linspace(0, 1, points // 2))
    kept = np.unique(np.clip([0, *marks, *falls, len(curve.fmr) - 1], 0, len(curve.fmr) - 1))
    return Curve(curve.thresholds[kept], curve.fmr[kept], curve.fnmr[kept])
