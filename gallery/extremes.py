"""Pure: what lies beyond the data, by extreme-value theory.

The smallest of many distances follow a generalized Pareto distribution under weak conditions (Pickands 1975;
ISO/IEC 5152 uses it for error rates that are too rare to be counted). It is an assumption, not a measurement,
and whoever uses it says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SHARE = 0.05
"""Of the distances, the smallest, that make the tail."""
FEWEST = 100
"""Distances that a tail needs."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The chance that a distance is `d` or less, for `d` up to `start`."""

    start: float
    share: float
    """Of all distances that are up to `start`."""
    scale: float
    shape: float

    def rate(self, distance: float) -> float:
        """The share of distances up to `distance`."""
        beyond = (self.start - distance) / self.scale
        if abs(self.shape) < 1e-9:
            return self.share * math.exp(-beyond)
        inside = 1 + self.shape * beyond
        # A tail of negative shape ends where nothing is inside any more.
        return float(self.share * math.pow(inside, -1 / self.shape)) if inside > 0 else 0.0

    def quantile(self, rate: float) -> float:
        """The distance up to which there is a share `rate`, 0 < rate <= share."""
        ratio = rate / self.share
        if abs(self.shape) < 1e-9:
            return self.start + self.scale * math.log(ratio)
        return self.start - self.scale * (math.pow(ratio, -self.shape) - 1) / self.shape


def fitted(distances: npt.NDArray[np.float64]) -> Tail:
    """The tail of the smallest of `distances`, by probability-weighted moments (Hosking and Wallis 1987).

    ValueError for fewer than `FEWEST` in the tail.
    """
    count = max(FEWEST, int(_SHARE * len(distances)))
    if len(distances) <= count:
        raise ValueError(f"a tail takes more than {count} distances, there are {len(distances)}")
    smallest = np.sort(np.partition(distances, count)[: count + 1])
    start = float(smallest[-1])
    over = np.sort(start - smallest[:-1])
    mean = float(over.mean())
    places = (np.arange(1, count + 1) - 0.35) / count
    weighted = float(((1 - places) * over).mean())
    if not mean > 2 * weighted > 0:
        raise ValueError("the smallest distances are all alike: no tail can be fitted to them")
    shape = 2 - mean / (mean - 2 * weighted)
    scale = 2 * mean * weighted / (mean - 2 * weighted)
    return Tail(start, count / len(distances), scale, shape)
