"""Intervals from resampling whole subjects, since comparisons that share a subject are not independent.

Each resample draws as many subjects as there are, with replacement. What is about one subject counts as often
as it was drawn; a comparison of two subjects as often as both were, multiplied. PURE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from encoders.evaluation import Rate

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ints = NDArray[np.int64]
TIMES = 400


def draws(subjects: int, rng: np.random.Generator, times: int = TIMES) -> Iterator[Wide]:
    """`times` vectors (subjects,): how often each was drawn."""
    for _ in range(times):
        yield np.bincount(rng.integers(0, subjects, subjects), minlength=subjects).astype(np.float64)


def interval(
    value: float,
    count: int,
    subjects: int,
    measure: Callable[[Wide], float | None],
    rng: np.random.Generator,
) -> Rate:
    """`value` with the middle 95 % of `measure` over the draws; it gives None where a draw leaves nothing.

    `count` is the number of trials behind the value. With fewer than two subjects it is [0, 1].
    """
    if subjects < 2:
        return Rate(value, 0.0, 1.0, count)
    found = [v for drawn in draws(subjects, rng) if (v := measure(drawn)) is not None]
    low, high = np.quantile(found, [0.025, 0.975]) if found else (0.0, 1.0)
    return Rate(value, float(low), float(high), count)


def mean(values: Wide, about: Ints, rng: np.random.Generator) -> Rate:
    """The mean of `values` (n,), each about the subject `about` (n,), with its interval."""
    names, member = np.unique(about, return_inverse=True)
    sums = np.bincount(member, weights=values, minlength=len(names))
    counts = np.bincount(member, minlength=len(names)).astype(np.float64)

    def measure(drawn: Wide) -> float | None:
        return float(drawn @ sums / (drawn @ counts))

    return interval(float(np.mean(values)), len(values), len(names), measure, rng)
