"""Intervals from resampling whole subjects, since comparisons that share a subject are not independent.

Each resample draws as many subjects as there are, with replacement. What is about one subject counts as often
as it was drawn; a comparison of two subjects as often as both were, multiplied.

The spread over the resamples says how many independent trials the rate is worth, fewer where few subjects
say how large it is, and the exact binomial interval is taken at that number (Korn and Graubard 1998):
quantiles of the resamples have no width where nobody differs, and are too narrow where few errors were seen.
Where all trials came out alike nothing tells how alike those of one subject are: each subject counts once.
PURE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from encoders.evaluation import Rate

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ints = NDArray[np.int64]
TIMES = 400
FEWEST = 3  # subjects: two make one pair, and differ from each other in one way only


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
    """`value` with its interval, from `measure` of every draw; it gives None where a draw leaves nothing.

    `count` is the number of trials behind the value. With fewer than three subjects it is [0, 1].
    """
    found = [v for drawn in draws(subjects, rng) if (v := measure(drawn)) is not None]
    return bounded(value, count, subjects, found)


def bounded(value: float, count: int, subjects: int, resampled: Sequence[float] | Wide) -> Rate:
    """`value` with the exact interval of as many trials as the values of the resamples say it is worth."""
    if subjects < FEWEST:
        return Rate(value, 0.0, 1.0, count, subjects)
    worth = float(min(subjects, count))
    spread = float(np.var(resampled)) * subjects / (subjects - 1) if len(resampled) else 0.0
    if 0 < value < 1 and spread > 0:
        worth = min(float(count), value * (1 - value) / spread * _known(subjects))
    low, high = exact_interval(value * worth, worth) if worth >= 1 else (0.0, 1.0)
    return Rate(value, min(value, low), max(value, high), count, subjects)


def _known(subjects: int) -> float:
    """How much a spread seen among so few subjects is worth: (normal / Student's t quantile) squared."""
    from scipy.special import ndtri, stdtrit

    return float((ndtri(0.975) / stdtrit(subjects - 1, 0.975)) ** 2)


def exact_interval(errors: float, trials: float) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a binomial rate (1934); neither number needs to be whole."""
    from scipy.special import betaincinv

    low = 0.0 if errors <= 0 else float(betaincinv(errors, trials - errors + 1, 0.025))
    high = 1.0 if errors >= trials else float(betaincinv(errors + 1, trials - errors, 0.975))
    return low, high


def mean(values: Wide, about: Ints, rng: np.random.Generator) -> Rate:
    """The mean of `values` (n,), each about the subject `about` (n,), with its interval."""
    return means(values[None], about, rng)[0]


def means(values: Wide, about: Ints, rng: np.random.Generator) -> list[Rate]:
    """The mean of each row of `values` (k, n), its columns about the subjects `about` (n,)."""
    names, member = np.unique(about, return_inverse=True)
    sums = np.stack([np.bincount(member, weights=row, minlength=len(names)) for row in values])
    counts = np.bincount(member, minlength=len(names)).astype(np.float64)
    drawn = np.array([sums @ one / (counts @ one) for one in draws(len(names), rng)])
    return [bounded(float(row.mean()), len(about), len(names), drawn[:, k]) for k, row in enumerate(values)]


def pair_weights(drawn: Wide, left: Ints, right: Ints) -> Wide:
    """How often a pair counts: as often as its subject was drawn, or as both were, multiplied."""
    return np.where(left == right, drawn[left], drawn[left] * drawn[right])


def independent(left: Ints, right: Ints) -> int:
    """What pairs of subjects are worth where all come out alike: no more than subjects, or pairs of them."""
    most = 1 + int(max(left.max(), right.max()))
    pairs = np.unique(np.minimum(left, right).astype(np.int64) * most + np.maximum(left, right))
    return min(len(pairs), len(np.unique(np.concatenate([pairs // most, pairs % most]))))
